// Builds dist/: the same sources twice, as ES modules and as CommonJS, by the compiler alone.
import { spawnSync } from "node:child_process";
import { appendFileSync, rmSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import { fileURLToPath } from "node:url";

process.chdir(fileURLToPath(new URL("..", import.meta.url)));
const tsc = createRequire(import.meta.url).resolve("typescript/bin/tsc");

rmSync("dist", { recursive: true, force: true });
for (const project of ["tsconfig.json", "tsconfig.cjs.json"]) {
  const { status } = spawnSync(process.execPath, [tsc, "-p", project], { stdio: "inherit" });
  if (status !== 0) process.exit(1);
}

writeFileSync("dist/cjs/package.json", '{"type": "commonjs"}\n');
// `require` gives the class itself, as `require("openai")` does.
appendFileSync(
  "dist/cjs/index.js",
  'module.exports = Object.defineProperty(exports.default, "__esModule", { value: true });\n' +
    "Object.assign(module.exports, exports);\n",
);
