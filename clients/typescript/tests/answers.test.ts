/** What an answer becomes, in the ways that only this language has. */

import assert from "node:assert/strict";
import { Readable } from "node:stream";
import { test } from "node:test";
import OpenAIBatching from "@miko/openaibatching";
import { toFile } from "openai";
import { makeParseableResponseFormat, makeParseableTextFormat } from "openai/lib/parser";
import { scripted, tenants } from "./support.js";

const tenant = tenants();
const server = await scripted();
const schema = {
  type: "object",
  properties: { said: { type: "string" }, number: { type: "integer" } },
  required: ["said", "number"],
  additionalProperties: false,
};
const parsed = (text: string): { said: string; number: number } => JSON.parse(text);
const HI = { said: "You said: Hi", number: 0 };

function response(more: object): object {
  const content = { type: "output_text", text: "Hello!", annotations: [] };
  const message = { id: "m", type: "message", role: "assistant", content: [content] };
  return { id: "r", object: "response", output: [message], status: "completed", ...more };
}

test("a response is parsed by its format once it has completed", async () => {
  const client = new OpenAIBatching(tenant.options());
  const format = makeParseableTextFormat(
    { type: "json_schema", name: "a", schema, strict: true },
    parsed,
  );
  const ask = () => client.responses.parse({ model: "gpt-4o", input: "Hi", text: { format } });
  const pending = await ask();
  assert.deepEqual([pending.hasCompleted, pending.output_parsed], [false, null]);
  await tenant.finish();
  const done = await ask();
  assert.deepEqual([done.hasCompleted, done.output_parsed], [true, HI]);
  assert.equal(done.batching.id, pending.batching.id);
});

test("a chat is parsed by its format once it has completed", async () => {
  const client = new OpenAIBatching(tenant.options());
  const json_schema = { name: "a", schema, strict: true };
  const response_format = makeParseableResponseFormat({ type: "json_schema", json_schema }, parsed);
  const ask = () =>
    client.chat.completions.parse({
      model: "gpt-4o",
      messages: [{ role: "user", content: "Hi" }],
      response_format,
    });
  const pending = await ask();
  assert.deepEqual([pending.hasCompleted, pending.choices], [false, []]);
  await tenant.finish();
  const done = await ask();
  assert.ok(done.hasCompleted);
  assert.deepEqual(done.choices[0]?.message.parsed, HI);
});

test("the reply is there with and without its answer", async () => {
  const client = new OpenAIBatching(tenant.options());
  const ask = () => client.embeddings.create({ model: "m", input: "Hi" });
  const { data, response, request_id } = await ask().withResponse();
  assert.deepEqual([response.status, data.hasCompleted], [202, false]);
  assert.match(request_id ?? "", /^req_[0-9a-f]{32}$/);
  assert.equal(response.headers.get("x-batching-id"), data.batching.id);
  await tenant.finish();
  const raw = await ask().asResponse();
  assert.equal(raw.status, 200);
  assert.equal(((await raw.json()) as any).has_completed, true);
});

test("embeddings asked for in a format are not decoded", async () => {
  const client = new OpenAIBatching({ ...tenant.options(), wait: true });
  await tenant.finish();
  const ask = (encoding_format?: "base64") =>
    client.embeddings.create({
      model: "m",
      input: "Hi",
      ...(encoding_format && { encoding_format }),
    });
  const numbers = (await ask()).data[0]!.embedding;
  const packed = (await ask("base64")).data[0]!.embedding as unknown as string;
  const bytes = Buffer.from(packed, "base64");
  assert.deepEqual(numbers[1], bytes.readFloatLE(4));
});

test("hasCompleted survives a copy, and the names of the wire stay", async () => {
  const client = new OpenAIBatching(tenant.options());
  const pending = { ...(await client.responses.create({ model: "m", input: "Hi" })) };
  assert.deepEqual([pending.hasCompleted, pending.has_completed], [false, false]);
  assert.equal(pending.batching.batch_id, null);
});

test("another key sees nothing", async () => {
  const client = new OpenAIBatching(tenant.options());
  const asked = await client.responses.create({ model: "m", input: "Hi" });
  await tenant.start();
  const other = client.withOptions({ batchServerApiKey: tenant.key });
  await assert.rejects(other.responses.retrieve(asked.id), { status: 404 });
});

for (const [said, hasCompleted, status] of [
  ["completed", true, "completed"],
  ["queued", false, "queued"],
  ["in_progress", false, "in_progress"],
  ["incomplete", true, "completed"],
]) {
  test(`an answer of another server counts as complete unless it says otherwise: ${said}`, async () => {
    const client = server.client([[200, response({ status: said, created_at: 3 })]]);
    const answer = await client.responses.create({ model: "m", input: "Hi" });
    assert.deepEqual([answer.hasCompleted, answer.has_completed], [hasCompleted, hasCompleted]);
    const { batching } = answer;
    assert.deepEqual([batching.id, batching.status, batching.created_at], ["r", status, 3]);
  });
}

test("the request id of a reply is there", async () => {
  const client = server.client([[200, response({}), { "x-request-id": "req_1" }]]);
  assert.equal((await client.responses.create({ model: "m", input: "Hi" }))._request_id, "req_1");
});

test("calls that no batch answers are the official ones", async () => {
  const client = server.client([[200, { id: "m", object: "model" }]], { wait: true });
  assert.deepEqual({ ...(await client.models.retrieve("m")) }, { id: "m", object: "model" });
  assert.equal(server.asked[0]!.headers.prefer, undefined);
});

const JPEG = Buffer.from("ffd8ffe0", "hex");
for (const [file, url] of [
  [new File(["\x00"], "a", { type: "image/avif" }), "data:image/avif;base64,AA=="],
  [new File([JPEG], "a"), `data:image/jpeg;base64,${JPEG.toString("base64")}`],
  [new File(["RIFF0000WEBP"], "a"), `data:image/webp;base64,${btoa("RIFF0000WEBP")}`],
  [new File(["?"], "a"), `data:image/png;base64,${btoa("?")}`],
  [
    await toFile(Readable.from([JPEG]), "a.jpg"),
    `data:image/jpeg;base64,${JPEG.toString("base64")}`,
  ],
  [new File(["a".repeat(99_999)], "a"), `data:image/png;base64,${btoa("a".repeat(99_999))}`],
] as const) {
  test(`an image is sent as what it is: ${url.slice(0, 40)}`, async () => {
    const client = server.client([[200, { data: [] }]]);
    await client.images.edit({ model: "m", prompt: "p", n: 2, image: [file, file], mask: file });
    const reference = { image_url: url };
    const { path, headers, body } = server.asked[0]!;
    assert.deepEqual([path, headers["content-type"]], ["/v1/images/edits", "application/json"]);
    const images = [reference, reference];
    assert.deepEqual(body, { model: "m", prompt: "p", n: 2, images, mask: reference });
  });
}

test("a line that is refused for a tenant's limit may be sent again, and for a budget not", async () => {
  const { answer } = await import(
    new URL("./bulk-response.js", import.meta.resolve("@miko/openaibatching")).href
  );
  const reply = new Response(null, { headers: { "retry-after": "7" } });
  const headers = (code: string): Headers => {
    const error = { message: "no", type: "t", param: null, code };
    const line = {
      id: null,
      custom_id: "0",
      response: { status_code: 429, request_id: "r", body: { error } },
      error: null,
    };
    return answer(new TextEncoder().encode(JSON.stringify(line)), reply).response.headers;
  };
  for (const code of ["rate_limited", "too_many_models"]) {
    assert.equal(headers(code).get("x-should-retry"), null);
    assert.equal(headers(code).get("retry-after"), "7");
  }
  assert.equal(headers("budget_exceeded").get("x-should-retry"), "false");
});
