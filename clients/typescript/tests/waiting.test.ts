/** `wait: true`: a call returns when its request is finished, and never spins on the way there. */

import assert from "node:assert/strict";
import { test } from "node:test";
import OpenAIBatching from "@miko/openaibatching";
import { APIUserAbortError } from "openai";
import { scripted, tenants } from "./support.js";

const { DEFAULT_PAUSE_S, HOLD_MAX_S, Hold } = await import(
  new URL("./hold.js", import.meta.resolve("@miko/openaibatching")).href
);
const tenant = tenants();
const server = await scripted();
const HI = { model: "m", input: "Hi" };
const PENDING = {
  id: "r",
  object: "response",
  output: [],
  status: "queued",
  has_completed: false,
  batching: { id: "r", status: "queued" },
};
const DONE = { ...PENDING, status: "completed", has_completed: true };
const SOON = { "retry-after": "0.01" };

test("a waiting call returns the answer once it is there", async () => {
  const client = new OpenAIBatching({ ...tenant.options(), wait: true });
  // Whichever comes first, the call or the end of its request: the answer is the same.
  const finishing = tenant.finish();
  const done = await client.responses.create({ model: "gpt-4o", input: "Hi" });
  await finishing;
  assert.equal(done.output_text, "You said: Hi");
});

test("a call is asked again through as many held replies as it takes", async () => {
  const replies: unknown[] = [];
  const client = new OpenAIBatching({
    ...tenant.options(),
    wait: true,
    defaultHeaders: { Prefer: "wait=1" },
    fetch: async (url, init) => {
      const reply = await fetch(url, init);
      replies.push([reply.status, reply.headers.get("preference-applied")]);
      if (replies.length === 2) await tenant.finish();
      return reply;
    },
  });
  const done = await client.responses.create({ model: "gpt-4o", input: "Hi" });
  assert.equal(done.output_text, "You said: Hi");
  assert.deepEqual(replies, [
    [202, "wait"],
    [202, "wait"],
    [200, "wait"],
  ]);
});

test("a call is asked again as it was, after the pause that the server names", async () => {
  const waiting = server.client(
    [
      [202, PENDING, SOON],
      [202, PENDING, SOON],
      [200, DONE],
    ],
    {
      wait: true,
    },
  );
  const answer = await waiting.responses.create(HI, { headers: { "Idempotency-Key": "once" } });
  assert.equal(answer.hasCompleted, true);
  const [first, ...again] = server.asked;
  assert.equal(first!.headers.prefer, "wait=270");
  assert.equal(again.length, 2);
  for (const asked of again) {
    assert.deepEqual([asked.path, asked.body], [first!.path, first!.body]);
    assert.equal(asked.headers["idempotency-key"], "once");
  }
});

test("an image edit is asked again whole", async () => {
  const waiting = server.client(
    [
      [202, PENDING, SOON],
      [200, DONE],
    ],
    { wait: true },
  );
  await waiting.images.edit({ model: "m", prompt: "p", image: new File(["\x89PNG"], "a.png") });
  assert.equal(server.asked.length, 2);
  assert.deepEqual(server.asked[0]!.body, server.asked[1]!.body);
});

test("one call can wait, and one call of a waiting client need not", async () => {
  const hasty = server.client([
    [202, PENDING, SOON],
    [200, DONE],
  ]);
  assert.equal((await hasty.responses.create(HI, { wait: true })).hasCompleted, true);
  assert.equal(server.asked.length, 2);

  const waiting = server.client([[202, PENDING]], { wait: true });
  const pending = await waiting.responses.create(HI, { wait: false });
  assert.equal(pending.hasCompleted, false);
  assert.equal(server.asked[0]!.headers.prefer, undefined);
  assert.deepEqual(server.asked[0]!.body, HI);
});

test("a retrieval can wait as well", async () => {
  const client = server.client([
    [202, PENDING, SOON],
    [200, DONE],
  ]);
  assert.equal((await client.responses.retrieve("r", {}, { wait: true })).hasCompleted, true);
  assert.deepEqual(
    server.asked.map(({ path }) => path),
    ["/v1/responses/r", "/v1/responses/r"],
  );
});

test("the raw reply of a waiting call is the last one, unread", async () => {
  const waiting = server.client(
    [
      [202, PENDING, SOON],
      [200, DONE],
    ],
    { wait: true },
  );
  const raw = await waiting.responses.create(HI).asResponse();
  assert.deepEqual([raw.status, raw.bodyUsed], [200, false]);
  assert.deepEqual(await raw.json(), DONE);
});

test("an error while waiting is raised, and retried only as the official client would", async () => {
  const failed = { error: { message: "no", type: "t", param: null, code: "c" } };
  const options = { wait: true, maxRetries: 2 };
  const final = server.client([[500, failed, { "x-should-retry": "false" }]], options);
  await assert.rejects(final.responses.create(HI), { status: 500, code: "c" });
  assert.equal(server.asked.length, 1);
  const passing = server.client(
    [
      [202, PENDING, SOON],
      [503, failed],
      [200, DONE],
    ],
    options,
  );
  assert.equal((await passing.responses.create(HI)).hasCompleted, true);
});

test("a preference of the caller's own is left alone", async () => {
  const waiting = server.client([[200, DONE]], { wait: true });
  await waiting.responses.create(HI, { headers: { prefer: "wait=5" } });
  assert.equal(server.asked[0]!.headers.prefer, "wait=5");
});

test("the timeout of one call counts more than the client's", async () => {
  const waiting = server.client([[200, DONE]], { wait: true, timeout: 100_000 });
  await waiting.responses.create(HI, { timeout: 20_000 });
  await waiting.responses.create(HI);
  assert.deepEqual(
    server.asked.map(({ headers }) => headers.prefer),
    ["wait=18", "wait=90"],
  );
});

test("a waiting call can be aborted, while it pauses and before it begins", async () => {
  const waiting = server.client([[202, PENDING, { "retry-after": "60" }]], { wait: true });
  const aborting = new AbortController();
  const call = waiting.responses.create(HI, { signal: aborting.signal });
  call.asResponse().catch(() => undefined);
  while (server.asked.length === 0) await new Promise(setImmediate);
  aborting.abort();
  await assert.rejects(call, APIUserAbortError);
  await assert.rejects(
    waiting.responses.create(HI, { signal: aborting.signal }),
    APIUserAbortError,
  );
  assert.equal(server.asked.length, 1);
});

test("the hold is shorter than the client's timeout and than that of Node's fetch", () => {
  const held = (timeoutMs: number) => {
    const headers = new Headers();
    Hold.within(timeoutMs, 0).addTo(headers);
    return headers.get("prefer");
  };
  assert.ok(HOLD_MAX_S < 300);
  assert.deepEqual([10_000_000, 60_000, 2000, 1000].map(held), [
    "wait=270",
    "wait=54",
    "wait=1",
    null,
  ]);
});

test("the pause is what is left of Retry-After", () => {
  const pauses = [
    [54, "60", 0], // held for the whole time: ask again at once
    [0, "10", 10], // not held at all
    [4, "10", 6],
    [20, "10", 0],
    ...[null, "soon", "0", "-3", "nan", "Infinity"].map((text) => [0, text, DEFAULT_PAUSE_S]),
  ];
  for (const [heldS, retryAfter, expected] of pauses) {
    const headers = new Headers(retryAfter === null ? {} : { "retry-after": String(retryAfter) });
    const hold = Hold.within(60_000, 100_000);
    assert.equal(hold.pauseS(headers, 100_000 + 1000 * Number(heldS)), expected, `${retryAfter}`);
  }
});
