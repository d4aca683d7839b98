/** The plain `openai` package, with only the base URL and the key changed: docs/any-sdk.md. */

import assert from "node:assert/strict";
import { test } from "node:test";
import OpenAI from "openai";
import { printed } from "./examples.js";
import { SERVED, tenants } from "./support.js";

const PENDING = "Still in progress.. we should query it again after a few mins.\n";
const ANSWER = "You said: Hello, world!\n";
const MESSAGES = [{ role: "user" as const, content: "Hello, world!" }];
const WAIT = { headers: { Prefer: "wait=270" } };
const tenant = tenants();

function plain(options = {}): OpenAI {
  return new OpenAI({ baseURL: `${SERVED.prompt}/v1`, apiKey: tenant.key, ...options });
}

/** What the server adds, which the types do not know. */
function added(answer: unknown): { has_completed: boolean; batching: { id: string } } {
  return answer as { has_completed: boolean; batching: { id: string } };
}

test("the examples print that it is in progress, and later the answer", async () => {
  assert.equal(await printed("any-sdk-1", SERVED.prompt, tenant.key), PENDING);
  await tenant.finish();
  assert.equal(await printed("any-sdk-1", SERVED.prompt, tenant.key), ANSWER);
  assert.equal(await printed("any-sdk-2", SERVED.prompt, tenant.key), ANSWER + ANSWER);
});

test("a call that has not finished returns an empty object", async () => {
  const client = plain();
  const calls = [
    async () => {
      const answer = await client.chat.completions.create({ model: "gpt-4o", messages: MESSAGES });
      return { content: answer.choices, ...added(answer) };
    },
    async () => {
      const answer = await client.responses.create({ model: "gpt-4o", input: "Hello" });
      return { content: answer.output, ...added(answer) };
    },
    async () => {
      const answer = await client.embeddings.create({ model: "m", input: "Hello" });
      return { content: answer.data, ...added(answer) };
    },
    async () => {
      const answer = await client.images.generate({ model: "gpt-image-1", prompt: "A dot" });
      return { content: answer.data ?? [], ...added(answer) };
    },
  ];
  const ids: string[] = [];
  for (const call of calls) {
    const { content, has_completed, batching } = await call();
    assert.deepEqual([content.length, has_completed], [0, false]);
    ids.push(batching.id);
  }
  await tenant.finish();
  for (const [index, call] of calls.entries()) {
    const { content, has_completed, batching } = await call();
    assert.deepEqual([content.length, has_completed], [1, true]);
    assert.equal(batching.id, ids[index]);
  }
  assert.equal(await tenant.requests(), 4);
});

test("a response is read again by its id", async () => {
  const client = plain();
  const pending = await client.responses.create({ model: "gpt-4o", input: "Hello" });
  assert.ok(["queued", "in_progress"].includes(String(pending.status)));
  assert.equal(pending.output_text, "");
  await tenant.finish();
  const answer = await client.responses.retrieve(pending.id);
  assert.deepEqual([answer.status, answer.output_text], ["completed", "You said: Hello"]);
});

test("a call that waits returns the answer at once", async () => {
  assert.equal(plain().timeout, 600_000);
  await tenant.finish();
  const one = { model: "gpt-4o", messages: MESSAGES };
  const answer = await plain().chat.completions.create(one, WAIT);
  assert.equal(answer.choices[0]?.message.content, "You said: Hello, world!");
  const waiting = plain({ defaultHeaders: WAIT.headers });
  const response = await waiting.responses.create({ model: "gpt-4o", input: "Hello" });
  assert.equal(response.output_text, "You said: Hello");
});

test("a failed call throws the usual error and is not tried again", async () => {
  await tenant.finish();
  const statuses: number[] = [];
  const counting = async (url: string | URL | Request, init?: RequestInit): Promise<Response> => {
    const reply = await fetch(url, init);
    statuses.push(reply.status);
    return reply;
  };
  const client = plain({ fetch: counting });
  for (const [status, kind] of [
    [400, OpenAI.BadRequestError],
    [500, OpenAI.InternalServerError],
  ] as const) {
    const input = `[[simulate:status=${status}]]`;
    await assert.rejects(client.responses.create({ model: "gpt-4o", input }, WAIT), kind);
  }
  assert.deepEqual(statuses, [400, 500]);
});

test("what a batch cannot do is refused", async () => {
  const client = plain();
  const body = { model: "gpt-4o", messages: MESSAGES };
  await assert.rejects(
    client.chat.completions.create({ ...body, stream: true }),
    /Streaming is not supported/,
  );
  await assert.rejects(
    client.responses.create({ model: "gpt-4o", input: "Hello", background: true }),
    OpenAI.BadRequestError,
  );
  assert.equal(await tenant.requests(), 0);
});
