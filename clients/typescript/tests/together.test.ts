/** Calls in the air together travel together, and no caller can tell. */

import assert from "node:assert/strict";
import { beforeEach, test } from "node:test";
import OpenAIBatching, { type BatchingOptions } from "@miko/openaibatching";
import OpenAI, { APIConnectionError, APIConnectionTimeoutError, APIUserAbortError } from "openai";
import { tenants } from "./support.js";
import { until, Wire } from "./wire.js";

const BULK = "/v1/requests";
const CHAT = "/v1/chat/completions";
const CALLS = 40;
const FEW = 3; // HTTP requests
const TEXTS = Array.from({ length: CALLS }, (_, n) => `together ${n}`);
const tenant = tenants();
let wire: Wire;
let together: OpenAIBatching;

beforeEach(() => {
  wire = new Wire();
  together = clientOf();
});

/** A client of a real server, on a wire that counts. */
function clientOf(
  options: BatchingOptions<false> = {},
  server: "prompt" | "patient" = "prompt",
): OpenAIBatching {
  return new OpenAIBatching({
    ...(tenant.options(server) as BatchingOptions<false>),
    fetch: wire.fetch,
    maxRetries: 0,
    ...options,
  });
}

function asking(
  client: OpenAIBatching<boolean>,
  text: string,
  options: OpenAI.RequestOptions = {},
) {
  const messages = [{ role: "user" as const, content: text }];
  return client.chat.completions.create({ model: "gpt-4o", messages }, options);
}

function allOf(client: OpenAIBatching<boolean>, texts: string[]) {
  return Promise.all(texts.map((text) => asking(client, text)));
}

function said(answers: Awaited<ReturnType<typeof asking>>[]): (string | null | undefined)[] {
  return answers.map(({ choices }) => choices[0]?.message.content);
}

/** Resolves when the server has so many requests of this test. */
async function arrived(count: number): Promise<void> {
  while ((await tenant.requests()) < count);
}

/** What each call threw, or undefined. */
async function thrown(calls: PromiseLike<unknown>[]): Promise<any[]> {
  const results = await Promise.allSettled(calls);
  return results.map((result) => (result.status === "rejected" ? result.reason : undefined));
}

test("a call that is alone is sent as it is", async () => {
  await asking(together, "alone");
  assert.deepEqual(wire.paths, [CHAT]);
});

test("many calls are one request, and each has its own answer", async () => {
  const pending = await allOf(together, TEXTS);
  assert.ok(!pending.some(({ hasCompleted }) => hasCompleted));
  assert.equal(new Set(pending.map(({ batching }) => batching.id)).size, CALLS);
  assert.deepEqual(wire.paths, [BULK]);
  await tenant.finish();
  const answers = await allOf(together, TEXTS);
  assert.deepEqual(
    said(answers),
    TEXTS.map((text) => `You said: ${text}`),
  );
});

test("thousands of calls that wait hold a handful of connections", async () => {
  await tenant.finish();
  const texts = Array.from({ length: 5000 }, (_, n) => `waiting ${n}`);
  const answers = await allOf(together.withOptions({ wait: true }), texts);
  assert.deepEqual(
    said(answers),
    texts.map((text) => `You said: ${text}`),
  );
  assert.ok(wire.mostAtOnce <= FEW, `${wire.mostAtOnce}`);
});

test("calls that wait and come one by one hold few connections", async () => {
  const waiting = together.withOptions({ wait: true });
  const calls: Promise<unknown>[] = [];
  for (const text of TEXTS) {
    calls.push(Promise.resolve(asking(waiting, text)));
    await new Promise(setImmediate);
  }
  await arrived(CALLS);
  await tenant.finish();
  await Promise.all(calls);
  assert.ok(wire.mostAtOnce <= 10, `${wire.paths}`);
});

test("copies of a client travel together", async () => {
  const copies = TEXTS.map((_, n) => together.withOptions({ timeout: 90_000 + n }));
  await Promise.all(copies.map((copy, n) => asking(copy, `copy ${n}`)));
  assert.deepEqual(wire.paths, [BULK]);
});

test("every resource travels along", async () => {
  const messages = [{ role: "user" as const, content: "together" }];
  const ask = () =>
    Promise.all([
      together.responses.create({ model: "gpt-4o", input: "together" }),
      together.responses.create({ model: "gpt-4o", messages }),
      together.completions.create({ model: "gpt-3.5-turbo-instruct", prompt: "together" }),
      together.embeddings.create({ model: "text-embedding-3-small", input: "together" }),
      together.moderations.create({ model: "omni-moderation-latest", input: "together" }),
      together.images.generate({ model: "gpt-image-1", prompt: "together" }),
    ]);
  assert.ok(!(await ask()).some(({ hasCompleted }) => hasCompleted));
  assert.deepEqual(wire.paths, [BULK]);
  await tenant.finish();
  const [response, chat, completion, embedding, moderation, images] = await ask();
  assert.deepEqual(wire.paths, [BULK, BULK]);
  assert.equal(response.output_text, "You said: together");
  assert.equal(chat.choices[0]?.message.content, "You said: together");
  assert.ok(completion.choices[0]?.text);
  assert.ok(embedding.data[0]?.embedding);
  assert.ok(moderation.results.length > 0);
  assert.ok(images.data!.length > 0);
});

test("a failure is its own caller's alone, and not retried", async () => {
  const client = clientOf({ maxRetries: 2 });
  const failing = "together [[simulate:status=400]]";
  await asking(client, failing);
  await tenant.finish();
  wire.paths = [];
  const [good, failed, refused, alsoGood] = await thrown([
    asking(client, "together good"),
    asking(client, failing),
    asking(client, "x", { headers: { "Idempotency-Key": "k".repeat(256) } }),
    asking(client, "together good too"),
  ]);
  assert.deepEqual([good, alsoGood], [undefined, undefined]);
  assert.ok(failed instanceof OpenAI.BadRequestError);
  assert.equal(failed.headers.get("x-should-retry"), "false");
  assert.ok(refused instanceof OpenAI.BadRequestError);
  assert.equal(refused.code, "invalid_idempotency_key");
  assert.deepEqual(wire.paths, [BULK]);
});

test("what has nothing to go on from yet is told so once", async () => {
  const client = clientOf({ maxRetries: 2 }, "patient");
  const model = "gpt-4o";
  const { id } = await client.responses.create({ model, input: "go on from here" });
  wire.paths = [];
  const goOn = (input: string) =>
    client.responses.create({ previous_response_id: id, model, input });
  for (const error of await thrown([goOn("one"), goOn("two")])) {
    assert.ok(error instanceof OpenAI.ConflictError);
    assert.equal(error.code, "previous_response_unavailable");
    assert.equal(error.headers.get("x-should-retry"), "false");
  }
  assert.deepEqual(wire.paths, [BULK]);
});

test("a key names its own call", async () => {
  const samples = await Promise.all(
    ["a", "b", "c"].map((key) => asking(together, "s", { headers: { "Idempotency-Key": key } })),
  );
  assert.equal(new Set(samples.map(({ id }) => id)).size, 3);
  assert.deepEqual(wire.paths, [BULK]);
});

test("a reply is the one that the call alone would have had", async () => {
  const ours = [
    ..."content-type content-length x-batching-id x-batching-status retry-after".split(" "),
    ..."preference-applied x-should-retry".split(" "),
  ];
  const texts = ["raw one", "raw ü\u2028\ud800", "raw [[simulate:status=400]]"];
  const held = { headers: { Prefer: "wait=1" } };
  const seen = async (call: ReturnType<typeof asking>) => {
    const reply: Response = await call.asResponse().catch(async (error) => {
      assert.ok(error instanceof OpenAI.BadRequestError);
      const { status = 0, headers } = error;
      return new Response(JSON.stringify(error.error), { status, headers: headers! });
    });
    const headers = ours.map((name) => reply.headers.get(name));
    return [reply.status, headers, Buffer.from(await reply.arrayBuffer())];
  };
  await allOf(together, texts);
  await tenant.finish();
  for (const server of ["patient", "prompt"] as const) {
    const client = clientOf({}, server);
    for (const options of [{}, held]) {
      wire.paths = [];
      const company = await Promise.all(texts.map((text) => seen(asking(client, text, options))));
      assert.deepEqual(wire.paths, [BULK]);
      const alone = texts.map((text) => seen(asking(clientOf({}, server), text, options)));
      assert.deepEqual(company, await Promise.all(alone));
      assert.equal(wire.count(CHAT), texts.length);
    }
  }
});

test("a reply says where it comes from", async () => {
  const client = new OpenAIBatching(tenant.options());
  const replies = ["a", "b"].map((text) => asking(client, text).asResponse());
  for (const { url } of await Promise.all(replies)) assert.ok(url.endsWith(CHAT), url);
});

test("an aborted call leaves its company alone", async () => {
  const waiting = together.withOptions({ wait: true });
  const aborting = new AbortController();
  const calls = TEXTS.slice(0, 5).map((text, n) =>
    asking(waiting, text, n === 2 ? { signal: aborting.signal } : {}),
  );
  const results = thrown(calls);
  await until(() => wire.open > 0);
  aborting.abort();
  await assert.rejects(calls[2]!, APIUserAbortError);
  await arrived(5);
  await tenant.finish();
  const [aborted, ...others] = (await results).sort();
  assert.ok(aborted instanceof APIUserAbortError);
  assert.deepEqual(others, [undefined, undefined, undefined, undefined]);
  assert.deepEqual(wire.count(BULK), wire.paths.length);
});

test("a call that is aborted before it leaves is not sent", async () => {
  const aborting = new AbortController();
  const [first, second] = ["first", "second"].map((text) =>
    asking(together, text, { signal: aborting.signal }),
  );
  const other = asking(together, "other");
  const results = thrown([first!, second!]);
  // After the calls have come to `fetch`, and before they leave together.
  for (let turn = 0; turn < 100; turn += 1) await Promise.resolve();
  aborting.abort();
  for (const error of await results) assert.ok(error instanceof APIUserAbortError);
  await other;
  assert.deepEqual(wire.paths, [CHAT]);
});

test("a bulk call that nobody waits for any more is hung up", async () => {
  const client = clientOf({}, "patient").withOptions({ wait: true });
  const aborting = new AbortController();
  const { signal } = aborting;
  const results = thrown(TEXTS.slice(0, 5).map((text) => asking(client, text, { signal })));
  await until(() => wire.count(BULK) > 0);
  assert.equal(wire.open, 1);
  aborting.abort();
  for (const error of await results) assert.ok(error instanceof APIUserAbortError);
  await until(() => wire.open === 0);
});

test("a timeout is its own caller's alone", async () => {
  const client = clientOf({}, "patient");
  const slow = { headers: { Prefer: "wait=60" } };
  const calls = [
    asking(client, "slow", { ...slow, timeout: 500 }),
    asking(client, "slow too", { ...slow, timeout: 500 }),
    asking(client, "patient", { headers: { Prefer: "wait=3" }, timeout: 500 }),
    asking(client, "patient too", { headers: { Prefer: "wait=3" } }),
  ];
  const [slow1, slow2, hasty, patient] = await thrown(calls);
  for (const error of [slow1, slow2, hasty]) assert.ok(error instanceof APIConnectionTimeoutError);
  assert.equal(patient, undefined);
  assert.ok(wire.count(BULK) > 0);
});

test("a bulk reply that is cut in the middle is asked for again", async () => {
  await tenant.finish();
  let cuts = 0;
  const cutting: typeof fetch = async (url, init) => {
    const reply = await wire.fetch(url as string, init);
    if (cuts || !String(url).endsWith(BULK)) return reply;
    cuts += 1;
    const content = new Uint8Array(await reply.arrayBuffer());
    const parts = [content.slice(0, content.length / 2)];
    const half = new ReadableStream({
      pull: (stream) =>
        parts.length ? stream.enqueue(parts.pop()!) : stream.error(new Error("the way was cut")),
    });
    return new Response(half, reply);
  };
  const waiting = clientOf({ fetch: cutting }).withOptions({ wait: true });
  assert.deepEqual(
    said(await allOf(waiting, TEXTS)),
    TEXTS.map((text) => `You said: ${text}`),
  );
  assert.equal(cuts, 1);
  assert.equal(await tenant.requests(), CALLS);
});

test("a key alone names a call whose body changes, where the header says so", async () => {
  const headers = { "Idempotency-Key": "of the day", "X-Batching-Body": "first" };
  const [first, second] = await Promise.all(
    ["it is 9:00", "it is 9:01"].map((text) => asking(together, text, { headers })),
  );
  assert.equal(first!.batching.id, second!.batching.id);
});

test("a refusal of the whole is every caller's", async () => {
  const client = clientOf({ batchServerApiKey: "wrong" });
  for (const error of await thrown([asking(client, "a"), asking(client, "b")])) {
    assert.ok(error instanceof OpenAI.AuthenticationError);
    assert.equal(error.code, "invalid_api_key");
  }
  assert.deepEqual(wire.paths, [BULK]);
});

test("a server that is not there is every caller's", async () => {
  const client = clientOf({ batchServerUrl: "http://127.0.0.1:9" });
  for (const error of await thrown([asking(client, "a"), asking(client, "b")])) {
    assert.ok(error instanceof APIConnectionError);
  }
});

test("what does not fit together goes alone", async () => {
  await Promise.all([
    asking(together, "x".repeat(1_100_000)),
    asking(together, "ü".repeat(600_000)),
    asking(together, "with a query", { query: { a: "b" } }),
    asking(together, "one header", { headers: { "X-Mine": "1" } }),
    asking(together, "another header", { headers: { "X-Mine": "2" } }),
    asking(together, "an option of fetch", { fetchOptions: { redirect: "error" } }),
  ]);
  assert.deepEqual(wire.paths, Array(6).fill(CHAT));
});

test("a body that the server cannot read harms no other", async () => {
  const nested = JSON.parse("[".repeat(300) + "]".repeat(300));
  const post = (body: any, headers = {}) => together.post(CHAT.slice(3), { body, headers });
  const [good, deep, broken, alsoGood] = await thrown([
    asking(together, "good"),
    post({ model: "gpt-4o", messages: nested }),
    post('{"model":', { "content-type": "application/json" }),
    asking(together, "also good"),
  ]);
  assert.deepEqual([good, alsoGood], [undefined, undefined]);
  for (const error of [deep, broken]) {
    assert.ok(error instanceof OpenAI.BadRequestError);
    assert.equal(error.code, "invalid_json");
  }
  assert.deepEqual(wire.paths, [BULK, CHAT, CHAT]);
});
