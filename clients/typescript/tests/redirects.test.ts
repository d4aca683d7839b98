/** A redirect: to the same server it is followed, to another one no prompt goes. */

import assert from "node:assert/strict";
import { test } from "node:test";
import { APIError } from "openai";
import { scripted } from "./support.js";

const HI = { model: "m", input: "secret" };
const DONE = { id: "r", object: "response", output: [], status: "completed", has_completed: true };
const server = await scripted();
const elsewhere = await scripted();

for (const status of [301, 302, 303, 307, 308]) {
  for (const wait of [false, true]) {
    test(`no prompt follows a ${status} to another server${wait ? ", nor one that waits" : ""}`, async () => {
      elsewhere.client([[200, DONE]]);
      const location = `${elsewhere.url}/v1/responses`;
      const client = server.client([[status, {}, { location }]], { wait });
      await assert.rejects(client.responses.create(HI), APIError);
      assert.deepEqual(elsewhere.asked, []);
    });
  }
}

test("nor do calls that travel together", async () => {
  elsewhere.client([[200, DONE]]);
  const client = server.client([[307, {}, { location: `${elsewhere.url}/v1/requests` }]]);
  const calls = [1, 2, 3].map((n) => client.responses.create({ ...HI, input: `secret ${n}` }));
  for (const call of await Promise.allSettled(calls)) assert.equal(call.status, "rejected");
  assert.deepEqual(elsewhere.asked, []);
});

for (const status of [307, 308]) {
  test(`a ${status} on the same server is followed`, async () => {
    const client = server.client([
      [status, {}, { location: "/behind/v1/responses" }],
      [200, DONE],
    ]);
    assert.equal((await client.responses.create(HI)).hasCompleted, true);
    assert.deepEqual(
      server.asked.map(({ path, body }) => [path, body.input]),
      [
        ["/v1/responses", "secret"],
        ["/behind/v1/responses", "secret"],
      ],
    );
  });
}

test("a redirect to itself ends", async () => {
  const client = server.client([[307, {}, { location: "/v1/responses" }]]);
  await assert.rejects(client.responses.create(HI), APIError);
});
