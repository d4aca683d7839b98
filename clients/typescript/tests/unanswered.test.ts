/** Bulk calls that a server answers in no way that it should. */

import assert from "node:assert/strict";
import { createServer, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { Readable } from "node:stream";
import { after, beforeEach, test } from "node:test";
import OpenAIBatching, { type BatchingOptions } from "@miko/openaibatching";
import OpenAI, { APIConnectionError } from "openai";
import { until } from "./wire.js";

const BULK = "/v1/requests";
const CHAT = "/v1/chat/completions";
const DONE = { id: "x", object: "chat.completion", created: 1, model: "m", choices: [] };

type Line = { custom_id: string; url: string; body: { messages: { content: string }[] } };
let bulk: (lines: Line[], response: ServerResponse) => void;
let chat: (response: ServerResponse) => void;
let asked: string[] = [];

const server = createServer(async (request, response) => {
  const parts: Buffer[] = [];
  for await (const part of request) parts.push(part);
  asked.push(request.url!);
  if (request.url === BULK) {
    const lines = Buffer.concat(parts).toString().split("\n");
    return bulk(
      lines.filter(Boolean).map((line) => JSON.parse(line)),
      response,
    );
  }
  chat(response);
});
await new Promise<void>((done) => server.listen(0, "127.0.0.1", done));
after(() => {
  server.closeAllConnections();
  server.close();
});
beforeEach(() => {
  asked = [];
  chat = done;
});

function done(response: ServerResponse): void {
  response.writeHead(200, { "content-type": "application/json" }).end(JSON.stringify(DONE));
}

function client(maxRetries = 0, more: BatchingOptions<false> = {}): OpenAIBatching {
  const { port } = server.address() as AddressInfo;
  return new OpenAIBatching({
    batchServerUrl: `http://127.0.0.1:${port}`,
    batchServerApiKey: "k",
    maxRetries,
    ...more,
  });
}

/** The id that each call is answered with, or what it throws. */
async function allOf(client: OpenAIBatching, ...texts: string[]): Promise<any[]> {
  const calls = texts.map((content) =>
    client.chat.completions.create({ model: "m", messages: [{ role: "user", content }] }),
  );
  const results = await Promise.allSettled(calls);
  return results.map((each) => (each.status === "fulfilled" ? each.value.id : each.reason));
}

function line(custom_id: string, status = 200, body: object = DONE): string {
  const response = { status_code: status, request_id: "r", body };
  return `${JSON.stringify({ id: "batchreq_1", custom_id, response, error: null })}\n`;
}

function begin(response: ServerResponse): ServerResponse {
  return response.writeHead(200, { "content-type": "application/jsonl" });
}

for (const status of [404, 405, 415]) {
  test(`a server without a bulk door is asked for each: ${status}`, async () => {
    bulk = (_, response) => response.writeHead(status).end("{}");
    const asking = client();
    for (let round = 0; round < 2; round += 1) {
      assert.deepEqual(await allOf(asking, "a", "b"), ["x", "x"]);
    }
    assert.deepEqual(asked, [BULK, CHAT, CHAT, CHAT, CHAT], "once is enough to know");
  });
}

test("a server that is busy is asked again, by every caller", async () => {
  let busy = 0;
  bulk = (lines, response) => {
    if (busy++ === 0) return response.writeHead(503, { "retry-after-ms": "1" }).end("{}");
    return begin(response).end(lines.map(({ custom_id }) => line(custom_id)).join(""));
  };
  assert.deepEqual(await allOf(client(1), "a", "b"), ["x", "x"]);
  assert.equal(asked[0], BULK);
});

for (const [what, garbled] of [
  ["ends too early", ""],
  ["has an odd line", '{"what":"is this"}\n'],
  ["has a line that nobody asked for", line("77")],
  ["has an impossible status", line("2", 7)],
  ["breaks off in a line", '{"id":null,"custom_id":"2"'],
  ["breaks off", undefined],
] as const) {
  test(`calls whose answer does not come are sent again: the reply ${what}`, async () => {
    bulk = (lines, response) => {
      const answered = lines.slice(0, (lines.length + 1) / 2);
      const text = answered.map(({ custom_id }) => line(custom_id)).join("");
      if (garbled !== undefined) begin(response).end(text + garbled);
      else begin(response).write(text, () => response.destroy());
    };
    const [a, b, c, d] = await allOf(client(), ..."abcd");
    assert.deepEqual([a, b], ["x", "x"]);
    for (const error of [c, d]) assert.ok(error instanceof APIConnectionError, `${error}`);
    assert.deepEqual(asked, [BULK]);
    if (garbled !== undefined) return; // All look alike to the official client, and half a second.
    assert.deepEqual(await allOf(client(3), ..."abcd"), ["x", "x", "x", "x"]);
  });
}

test("each call is answered when its line arrives, in whatever order and pieces", async () => {
  let rest: (() => void) | undefined;
  bulk = (lines, response) => {
    const [first, second, third] = lines.map(({ custom_id, body }) =>
      line(custom_id, 200, { ...DONE, id: `ü ${body.messages[0]!.content}` }),
    );
    const bytes = Buffer.from(third! + first!);
    const cut = bytes.indexOf(0xc3, third!.length + 1) + 1; // In the middle of a letter.
    begin(response).write(bytes.subarray(0, cut));
    rest = () => response.write(bytes.subarray(cut), () => response.end(second));
  };
  const asking = client();
  const calls = ["a", "b", "c"].map((content) =>
    asking.chat.completions.create({ model: "m", messages: [{ role: "user", content }] }),
  );
  assert.equal((await calls[2]!).id, "ü c");
  rest!();
  assert.deepEqual(
    (await Promise.all(calls)).map(({ id }) => id),
    ["ü a", "ü b", "ü c"],
  );
});

for (const [kind, bodyOf] of [
  ["Node", (body: any) => Readable.fromWeb(body)],
  ["some browsers", (body: any) => ({ getReader: () => body.getReader() })],
] as const) {
  test(`a reply is read as the stream that it is: one of ${kind}`, async () => {
    bulk = (lines, response) =>
      begin(response).end(lines.map(({ custom_id }) => line(custom_id)).join(""));
    const asking = client(0, {
      fetch: async (url, init) => {
        const reply = await fetch(url, init);
        return Object.defineProperty(reply, "body", { value: bodyOf(reply.body) });
      },
    });
    assert.deepEqual(await allOf(asking, "a", "b"), ["x", "x"]);
    assert.deepEqual(asked, [BULK]);
  });
}

test("an error that is not final is retried, alone, by its own caller", async () => {
  bulk = (lines, response) => {
    const busy = { error: { message: "busy", type: "t", param: null, code: "c" } };
    const text = lines.map(({ custom_id }, n) =>
      n === 0 ? line(custom_id) : line(custom_id, 503, busy),
    );
    begin(response).end(text.join(""));
  };
  const [good, failed] = await allOf(client(), "a", "b");
  assert.equal(good, "x");
  assert.ok(failed instanceof OpenAI.InternalServerError);
  assert.deepEqual(await allOf(client(1), "a", "b"), ["x", "x"]);
  assert.deepEqual(asked, [BULK, BULK, CHAT]);
});

test("a call waits for company no longer than its timeout allows", async () => {
  const held: ServerResponse[] = [];
  chat = (response) => held.push(response);
  const asking = client().withOptions({ timeout: 12_000 });
  const first = [];
  for (let n = 1; n <= 7; n += 1) {
    first.push(allOf(asking, `held ${n}`));
    await until(() => held.length === n);
  }
  chat = done; // A patient call would now wait for 15 seconds.
  assert.deepEqual(await allOf(asking, "last"), ["x"]);
  for (const response of held) done(response);
  assert.deepEqual(await Promise.all(first), Array(7).fill(["x"]));
});
