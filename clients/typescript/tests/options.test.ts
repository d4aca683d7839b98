/** Where a client goes, what it shows there, and that it shows nothing else. */

import assert from "node:assert/strict";
import { beforeEach, test } from "node:test";
import OpenAIBatching, * as named from "@miko/openaibatching";
import OpenAI, { OpenAIError } from "openai";
import { scripted } from "./support.js";

const OPENAI = {
  OPENAI_API_KEY: "sk-upstream",
  OPENAI_ADMIN_KEY: "sk-admin",
  OPENAI_BASE_URL: "https://upstream.example/v1",
  OPENAI_ORG_ID: "org-upstream",
  OPENAI_PROJECT_ID: "proj-upstream",
  OPENAI_CUSTOM_HEADERS: "Authorization: Bearer sk-upstream\nX-Custom: sk-upstream",
};
const server = await scripted();

beforeEach(() => {
  for (const name of ["BATCH_SERVER_URL", "BATCH_SERVER_API_KEY", ...Object.keys(OPENAI)]) {
    delete process.env[name];
  }
});

test("the client is the official one, and the named export is the default one", () => {
  assert.ok(new OpenAIBatching({ batchServerApiKey: "k" }) instanceof OpenAI);
  assert.equal(named.OpenAIBatching, OpenAIBatching);
});

for (const url of [
  "http://b:1",
  "http://b:1/",
  "http://b:1/v1",
  "http://b:1/v1/",
  " http://b:1/v1// ",
]) {
  test(`the URL is taken with and without /v1: "${url}"`, () => {
    const client = new OpenAIBatching({ batchServerUrl: url, batchServerApiKey: "k" });
    assert.equal(client.baseURL, "http://b:1/v1");
  });
}

test("the URL may have a path", () => {
  const client = new OpenAIBatching({
    batchServerUrl: "https://h/batching/",
    batchServerApiKey: "k",
  });
  assert.equal(client.baseURL, "https://h/batching/v1");
});

test("a URL without a scheme is refused before anything is sent", () => {
  const make = () => new OpenAIBatching({ batchServerUrl: "b:9487", batchServerApiKey: "k" });
  assert.throws(
    make,
    (error) => error instanceof OpenAIError && /begin with http/.test(error.message),
  );
});

test("URL and key come from the environment", () => {
  process.env.BATCH_SERVER_URL = "https://batches.example";
  process.env.BATCH_SERVER_API_KEY = "from-the-environment";
  const client = new OpenAIBatching();
  assert.deepEqual(
    [client.baseURL, client.apiKey],
    ["https://batches.example/v1", "from-the-environment"],
  );
});

test("without a URL it is the server on this machine", () => {
  process.env.BATCH_SERVER_URL = " ";
  const client = new OpenAIBatching({ batchServerApiKey: "k" });
  assert.equal(client.baseURL, "http://localhost:9487/v1");
});

for (const key of [undefined, null, ""]) {
  test(`without a key there is no client: ${key}`, () => {
    process.env.OPENAI_API_KEY = "sk-upstream";
    const make = () => new OpenAIBatching({ batchServerApiKey: key });
    assert.throws(
      make,
      (error) => error instanceof OpenAIError && /BATCH_SERVER_API_KEY/.test(error.message),
    );
  });
}

test("the official names mean the same, but not both at once", () => {
  const client = new OpenAIBatching({ baseURL: "http://b:1/v1", apiKey: "k" });
  assert.deepEqual([client.baseURL, client.apiKey], ["http://b:1/v1", "k"]);
  for (const given of [{ baseURL: "http://c" }, { apiKey: "l" }]) {
    const both = { batchServerUrl: "http://b:1", batchServerApiKey: "k", ...given };
    assert.throws(() => new OpenAIBatching(both), /pass only one of them/);
  }
});

test("every other option passes through, and a copy keeps what it is not told to change", async () => {
  const options = {
    wait: true,
    timeout: 7000,
    maxRetries: 5,
    organization: "org",
    project: "proj",
    defaultHeaders: { "X-Mine": "1" },
    defaultQuery: { q: "1" },
  };
  const client = server.client([[200, { object: "response", output: [] }]], options);
  for (const each of [client, client.withOptions({}), client.withOptions({ wait: undefined })]) {
    assert.ok(each instanceof OpenAIBatching);
    await each.responses.create({ model: "m", input: "Hi" });
    assert.deepEqual([each.wait, each.timeout, each.maxRetries], [true, 7000, 5]);
    const { path, headers } = server.asked.at(-1)!;
    assert.equal(path, "/v1/responses?q=1");
    assert.equal(headers["x-mine"], "1");
    assert.equal(headers["openai-organization"], "org");
    assert.equal(headers["openai-project"], "proj");
    assert.equal(headers.authorization, "Bearer k");
  }
});

test("a copy can go elsewhere", () => {
  const client = server.client([], { wait: true });
  const copy = client.withOptions({
    batchServerUrl: "http://c:2/v1",
    batchServerApiKey: "l",
    wait: false,
    timeout: 3,
  });
  assert.deepEqual([copy.baseURL, copy.apiKey], ["http://c:2/v1", "l"]);
  assert.deepEqual([copy.wait, copy.timeout], [false, 3]);
  assert.deepEqual([client.baseURL, client.apiKey, client.wait], [`${server.url}/v1`, "k", true]);
});

test("the key may be a function, which is asked before each call", async () => {
  let asked = 0;
  const client = server.client([[200, { object: "response", output: [] }]], {
    batchServerApiKey: async () => `key-${++asked}`,
  });
  await client.responses.create({ model: "m", input: "Hi" });
  await client.responses.create({ model: "m", input: "Hi" });
  const shown = server.asked.map(({ headers }) => headers.authorization);
  assert.deepEqual(shown, ["Bearer key-1", "Bearer key-2"]);
});

test("nothing that belongs to OpenAI reaches the batch server", async () => {
  Object.assign(process.env, OPENAI);
  const client = server.client([[200, { object: "response", output: [] }]]);
  for (const each of [client, client.withOptions({ timeout: 5000 })]) {
    await each.responses.create({ model: "m", input: "Hi" });
    await each.models.retrieve("m");
    assert.equal(each.adminAPIKey ?? null, null);
  }
  assert.equal(server.asked.length, 4);
  for (const { headers } of server.asked) {
    assert.equal(headers.authorization, "Bearer k");
    const shown = JSON.stringify(headers);
    assert.ok(!shown.includes("upstream") && !shown.includes("sk-"), shown);
  }
});
