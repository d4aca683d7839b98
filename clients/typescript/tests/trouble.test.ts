/** What happens on the way to the server is not the answer: a call that waits is asked again. */

import assert from "node:assert/strict";
import { createServer, type Socket } from "node:net";
import { after, test } from "node:test";
import OpenAIBatching from "@miko/openaibatching";
import { APIUserAbortError } from "openai";
import { scripted } from "./support.js";

const { Patience, PAUSE_S_MAX, Way, wayOf } = await import(
  new URL("./patience.js", import.meta.resolve("@miko/openaibatching")).href
);
const HI = { model: "m", input: "Hi" };
const DONE = { id: "r", object: "response", output: [], status: "completed", has_completed: true };
const ANSWER = JSON.stringify(DONE);
const NO = { error: { message: "no", type: "t", param: null, code: "c" } };
const server = await scripted();

const page = (status: string) =>
  `HTTP/1.1 ${status}\r\ncontent-type: text/html\r\ncontent-length: 6\r\nconnection: close\r\n\r\n<html>`;
const whole = `HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: ${ANSWER.length}\r\nconnection: close\r\n\r\n${ANSWER}`;
const HALF = whole.slice(0, -10);
const RESET = "reset";

/** A way on which each connection meets the next of `replies`; the last one is the answer. */
async function troubled(...replies: string[]) {
  let connections = 0;
  const way = createServer((socket: Socket) => {
    socket.on("error", () => undefined);
    socket.once("data", () => {
      const reply = replies[connections++] ?? whole;
      if (reply === RESET) socket.resetAndDestroy();
      else socket.end(reply);
    });
  });
  after(() => way.close());
  await new Promise<void>((done) => way.listen(0, "127.0.0.1", done));
  const { port } = way.address() as { port: number };
  const url = `http://127.0.0.1:${port}`;
  return { url, connections: () => connections };
}

test("cuts, resets, half replies and pages of a proxy are asked again", async () => {
  const way = await troubled("", page("504 Gateway Time-out"), HALF, RESET);
  const client = new OpenAIBatching({
    batchServerUrl: way.url,
    batchServerApiKey: "k",
    wait: true,
  });
  assert.equal((await client.responses.create(HI)).hasCompleted, true);
  assert.equal(way.connections(), 5); // The official client's own retries do not multiply with ours.
});

test("what is final ends at once", async () => {
  for (const [status, headers] of [
    [401, {}],
    [404, {}],
    [502, { "x-should-retry": "false" }],
    [504, { "x-batching-status": "failed" }],
    [429, { "x-should-retry": "false" }],
  ] as const) {
    const client = server.client([[status, NO, headers]], { wait: true, maxRetries: 2 });
    await assert.rejects(client.responses.create(HI), { status });
    assert.equal(server.asked.length, 1);
  }
});

test("a signal is the caller's deadline, also where nobody listens", async () => {
  const client = new OpenAIBatching({
    batchServerUrl: "http://127.0.0.1:1",
    batchServerApiKey: "k",
    wait: true,
  });
  const signal = AbortSignal.timeout(100);
  await assert.rejects(client.responses.create(HI, { signal }), APIUserAbortError);
});

test("pauses grow, to a bound, and Retry-After is kept to", () => {
  const patience = new Patience(new Way(), () => 1);
  const pauses = Array.from({ length: 12 }, () => patience.afterTrouble(new Error("no"), 0));
  assert.deepEqual(pauses.slice(0, 4), [0.5, 1, 2, 4]);
  assert.equal(pauses.at(-1), PAUSE_S_MAX);
});

test("a cut is remembered, and holds grow below it", () => {
  const way = new Way();
  way.cut(0.2, 0); // A reset of a server that restarts.
  assert.equal(way.allows(0), Number.POSITIVE_INFINITY);
  for (let n = 0; n < 100; n++) way.cut(60, 10); // By each of the calls in the air.
  assert.equal(way.allows(10), 30);
  way.held(5); // A shorter one says nothing.
  assert.equal(way.allows(10), 30);
  for (let n = 0; n < 100; n++) way.held(Math.floor(way.allows(10)));
  assert.ok(way.allows(10) > 40 && way.allows(10) <= 48);
  way.allows(3_700_000);
  way.held(48);
  assert.ok(way.allows(3_700_000) > 48);
});

test("the copies of a client share what it has learned", () => {
  const client = new OpenAIBatching({ batchServerUrl: "http://h", batchServerApiKey: "k" });
  const of = (some: OpenAIBatching) =>
    wayOf((some as unknown as { _options: { fetch: object } })._options.fetch);
  assert.equal(of(client), of(client.withOptions({ maxRetries: 1 })));
});
