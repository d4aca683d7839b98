/** Who travels with whom, and for how long they wait for each other. */

import assert from "node:assert/strict";
import { test } from "node:test";

const { BODY_BYTES_MAX, BYTES_MAX, bulkInit, LINES_MAX, lingerMs, portions, traveller } =
  await import(new URL("./coalescing.js", import.meta.resolve("@miko/openaibatching")).href);

const URL_OF_CHAT = "http://h/v1/chat/completions";
const JSON_TYPE = { "content-type": "application/json" };

/** A call to `fetch`, with some things changed. */
function asked(url: unknown, { headers = {}, ...changes }: any = {}) {
  const init = { method: "POST", body: "{}", headers: { ...JSON_TYPE, ...headers } };
  return traveller(url, { ...init, ...changes });
}

test("a call that is alone does not linger, and the more are in flight the longer it does", () => {
  const lingers = [0, 1, 2, 3, 4, 5, 6, 7, 1000].map((inFlight) => lingerMs(inFlight, 600_000));
  assert.deepEqual(lingers, [0, 10, 40, 160, 640, 2560, 10_240, 15_000, 15_000]);
  assert.equal(lingerMs(1000, 20_000), 1000, "within its own timeout");
});

test("a call travels with those that go the same way", () => {
  const { company, door } = asked(URL_OF_CHAT);
  assert.equal(door, "http://h/v1/requests");
  const dispatcher = {};
  for (const [same, other] of [
    [asked("http://h/v1/embeddings"), asked("http://i/v1/chat/completions")],
    [asked(URL_OF_CHAT, { headers: { accept: "a" } }), asked(URL_OF_CHAT, { headers: { a: "b" } })],
    [asked(URL_OF_CHAT, { signal: new AbortController().signal }), asked("http://h/v2/responses")],
    [asked(URL_OF_CHAT, { headers: { "Idempotency-Key": "k", "X-Stainless-OS": "o" } })],
    [undefined, asked(URL_OF_CHAT, { dispatcher })],
    [undefined, asked(URL_OF_CHAT, { redirect: "error" })],
  ]) {
    assert.equal(same?.company ?? company, company);
    assert.notEqual(other?.company, company);
  }
  const proxied = asked(URL_OF_CHAT, { dispatcher }).company;
  assert.equal(asked(URL_OF_CHAT, { dispatcher }).company, proxied);
  assert.notEqual(asked(URL_OF_CHAT, { dispatcher: {} }).company, proxied);
});

test("what is no call, or a large one, or has no text, goes alone", () => {
  for (const alone of [
    asked(URL_OF_CHAT, { method: "GET" }),
    asked(`${URL_OF_CHAT}?a=b`),
    asked(`${URL_OF_CHAT}/id`),
    asked(new URL(URL_OF_CHAT)),
    asked("http://h/v1/files"),
    asked(URL_OF_CHAT, { headers: { "content-type": "application/json; a=b" } }),
    asked(URL_OF_CHAT, { body: '{\n"model":"m"}' }),
    asked(URL_OF_CHAT, { body: new Uint8Array() }),
    asked(URL_OF_CHAT, { body: '{"stream":true}' }),
    asked(URL_OF_CHAT, { body: "x".repeat(BODY_BYTES_MAX + 1) }),
    asked(URL_OF_CHAT, { body: "ü".repeat(BODY_BYTES_MAX / 2 + 1) }),
    traveller(URL_OF_CHAT),
  ]) {
    assert.equal(alone, undefined);
  }
  assert.ok(asked(URL_OF_CHAT, { body: "x".repeat(BODY_BYTES_MAX) }));
});

test("calls are shared out by their number and by their bytes", () => {
  const sizes = (count: number, bytes: number) => {
    const calls = Array.from({ length: count }, () => ({ traveller: { bytes } }));
    return [...portions(calls)].map(({ length }) => length);
  };
  assert.deepEqual(sizes(0, 1), []);
  assert.deepEqual(sizes(LINES_MAX, 1), [LINES_MAX]);
  assert.deepEqual(sizes(2 * LINES_MAX + 1, 1), [LINES_MAX, LINES_MAX, 1]);
  assert.deepEqual(sizes(33, BODY_BYTES_MAX), [16, 16, 1]);
  assert.equal(BYTES_MAX, 16 * BODY_BYTES_MAX);
});

test("a line cannot speak for another one, whatever its body is", () => {
  const signal = new AbortController().signal;
  const forged = '{"model":"m"},"custom_id":"0","url":"/v1/files"';
  const headers = { "idempotency-key": 'k"', prefer: "wait=5", "x-mine": "1" };
  const calls = ["{}", forged].map((body) => asked(URL_OF_CHAT, { body, headers }));
  const init = bulkInit(calls, signal);
  const [first, second] = init.body.split("\n").filter(Boolean).map(JSON.parse);
  const own = { method: "POST", url: "/v1/chat/completions", idempotency_key: 'k"' };
  assert.deepEqual(first, { custom_id: "0", ...own, body: {} });
  assert.deepEqual(second, { custom_id: "1", ...own, body: { model: "m" } });
  assert.deepEqual(
    [...init.headers],
    [
      ["accept", "application/jsonl"],
      ["content-type", "application/jsonl"],
      ["prefer", "wait=5, order=finished"],
      ["x-mine", "1"],
    ],
  );
  assert.equal(init.signal, signal);
});
