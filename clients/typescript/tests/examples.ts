/** Examples of the pages: scripts/test.mjs writes each as a file, which is compiled beside this one. */

import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { readFileSync, writeFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { SERVED } from "./support.js";

const ADDRESS = /https?:\/\/localhost:9487/;

/** What an example prints, in a process of its own, with `address` in the place of its own. */
export async function printed(name: string, address: string, key: string): Promise<string> {
  const code = readFileSync(new URL(`./${name}.js`, import.meta.url), "utf-8");
  assert.match(code, ADDRESS);
  const file = fileURLToPath(new URL(`./run-${name}.js`, import.meta.url));
  writeFileSync(file, code.replace(ADDRESS, address));
  const env = {
    PATH: process.env.PATH,
    BATCH_SERVER_API_KEY: key,
    NODE_EXTRA_CA_CERTS: SERVED.ca,
  };
  return (await promisify(execFile)(process.execPath, [file], { env })).stdout;
}
