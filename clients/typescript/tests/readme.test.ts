/** The examples of the README and of docs/, as they stand there, compiled beside this file. */

import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { readFileSync, writeFileSync } from "node:fs";
import { test } from "node:test";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { control, SERVED, tenants } from "./support.js";

const ADDRESS = /https?:\/\/localhost:9487/;
const PAGES: Record<string, { printed: string | null }> = JSON.parse(process.env.PAGES!);
const PENDING = "Still in progress.. we should query it again after a few mins.\n";
const DEADLINE_MS = 60_000;
const tenant = tenants();

/** What the first example, or all in a row, prints, with `address` in the place of its own. */
async function printed(address: string, name = "example"): Promise<string> {
  const code = readFileSync(new URL(`./${name}.js`, import.meta.url), "utf-8");
  assert.match(code, ADDRESS);
  const file = fileURLToPath(new URL(`./run-${name}.js`, import.meta.url));
  writeFileSync(file, code.replace(ADDRESS, address));
  const env = {
    PATH: process.env.PATH,
    BATCH_SERVER_API_KEY: tenant.key,
    NODE_EXTRA_CA_CERTS: SERVED.ca,
  };
  return (await promisify(execFile)(process.execPath, [file], { env })).stdout;
}

/** What it prints as soon as that is something else than that it is in progress. */
async function printedLater(address: string): Promise<string> {
  const deadline = Date.now() + DEADLINE_MS;
  for (;;) {
    const text = await printed(address);
    if (text !== PENDING || Date.now() > deadline) return text;
  }
}

test("it prints that it is in progress, and later the answer, over TLS", async () => {
  // Its own address, unless something else is listening there.
  const address = SERVED.tls.replace("127.0.0.1", "localhost");
  assert.equal(await printed(address), PENDING);
  await control("run");
  assert.equal(await printedLater(address), "You said: Hello, world!\n");
});

test("it prints the same over plain http", async () => {
  assert.equal(await printed(SERVED.prompt), PENDING);
  await tenant.finish();
  assert.equal(await printed(SERVED.prompt), "You said: Hello, world!\n");
  assert.equal(await tenant.requests(), 1);
});

test("all of them run, one after the other", async () => {
  await tenant.finish();
  const said = ["Hello, world!", "Hello again, world!"].map((text) => `You said: ${text}\n`);
  assert.equal(await printed(SERVED.prompt, "examples"), [PENDING, ...said, "3\n"].join(""));
  assert.equal(await tenant.requests(), 8);
});

for (const [page, { printed: shown }] of Object.entries(PAGES)) {
  test(`the example of docs/${page} prints what it shows`, async () => {
    await tenant.finish();
    const said = await printed(SERVED.prompt, `docs-${page}`);
    assert.equal(said, shown ?? said);
  });
}
