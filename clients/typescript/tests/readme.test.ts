/** The examples of the README and of docs/, as they stand there, compiled beside this file. */

import assert from "node:assert/strict";
import { test } from "node:test";
import { printed } from "./examples.js";
import { control, SERVED, tenants } from "./support.js";

const PAGES: Record<string, { printed: string | null }> = JSON.parse(process.env.PAGES!);
const PENDING = "Still in progress.. we should query it again after a few mins.\n";
const DEADLINE_MS = 60_000;
const tenant = tenants();

/** What it prints as soon as that is something else than that it is in progress. */
async function printedLater(address: string): Promise<string> {
  const deadline = Date.now() + DEADLINE_MS;
  for (;;) {
    const text = await printed("readme", address, tenant.key);
    if (text !== PENDING || Date.now() > deadline) return text;
  }
}

test("it prints that it is in progress, and later the answer, over TLS", async () => {
  // Its own address, unless something else is listening there.
  const address = SERVED.tls.replace("127.0.0.1", "localhost");
  assert.equal(await printed("readme", address, tenant.key), PENDING);
  await control("run");
  assert.equal(await printedLater(address), "You said: Hello, world!\n");
});

test("it prints the same over plain http", async () => {
  assert.equal(await printed("readme", SERVED.prompt, tenant.key), PENDING);
  await tenant.finish();
  assert.equal(await printed("readme", SERVED.prompt, tenant.key), "You said: Hello, world!\n");
  assert.equal(await tenant.requests(), 1);
});

test("all of them run, one after the other", async () => {
  await tenant.finish();
  const said = ["Hello, world!", "Hello again, world!"].map((text) => `You said: ${text}\n`);
  assert.equal(
    await printed("readme-all", SERVED.prompt, tenant.key),
    [PENDING, ...said, "3\n"].join(""),
  );
  assert.equal(await tenant.requests(), 8);
});

for (const [page, { printed: shown }] of Object.entries(PAGES)) {
  test(`the example of docs/${page} prints what it shows`, async () => {
    await tenant.finish();
    const said = await printed(`docs-${page}`, SERVED.prompt, tenant.key);
    assert.equal(said, shown ?? said);
  });
}
