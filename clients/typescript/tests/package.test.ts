/** What is in the package, and that it can be had in both ways. */

import assert from "node:assert/strict";
import { createRequire } from "node:module";
import { test } from "node:test";
import * as imported from "@miko/openaibatching";
import { checked } from "./commonjs.cjs";

const require = createRequire(import.meta.url);

test("it holds what users need and nothing else", () => {
  const files: string[] = JSON.parse(process.env.PACKED!);
  const others = files
    .filter((file) => !/^dist\/(esm|cjs)\/[\w-]+(\.d\.ts|\.js)$/.test(file))
    .sort();
  assert.deepEqual(others, ["LICENSE", "README.md", "dist/cjs/package.json", "package.json"]);
});

test("it has no dependency but the official client, which the user brings", () => {
  const { dependencies, peerDependencies } = require("@miko/openaibatching/package.json");
  assert.equal(dependencies, undefined);
  assert.deepEqual(Object.keys(peerDependencies), ["openai"]);
});

test("the import has a default and the same by name", () => {
  assert.deepEqual(Object.keys(imported), ["OpenAIBatching", "default"]);
  assert.equal(imported.default, imported.OpenAIBatching);
});

test("the require is the class, which it also has by name and as default", () => {
  const required = require("@miko/openaibatching");
  assert.equal(required, required.OpenAIBatching);
  assert.equal(required, required.default);
  const { OpenAI } = require("openai");
  assert.ok(new required({ batchServerApiKey: "k" }) instanceof OpenAI);
  assert.notEqual(required, imported.default);
});

test("a CommonJS module of TypeScript has it as well", () => {
  assert.deepEqual(checked(), ["http://localhost:9487/v1", true]);
});
