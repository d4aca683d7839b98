// Packs the package, installs it into empty projects, one for each version of the official client, and
// runs the tests there, type checker included: what is tested is what users get.
import { spawn } from "node:child_process";
import {
  cpSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from "node:fs";
import { createRequire } from "node:module";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";

const HERE = fileURLToPath(new URL("..", import.meta.url));
const ROOT = join(HERE, "../..");
const BIN = join(HERE, "node_modules/.bin");
const NEWER_NODE = 22; // what openai 7 needs
const { resolve } = createRequire(import.meta.url);
const TSC = resolve("typescript/bin/tsc");

/** Runs a command to its end; its output, unless `stdio` sends that elsewhere. */
function run(command, args, options = {}) {
  const child = spawn(command, args, { cwd: HERE, ...options });
  const written = [];
  let output = "";
  child.stdout?.on("data", (data) => {
    output += data;
    written.push(data);
  });
  child.stderr?.on("data", (data) => written.push(data));
  return new Promise((resolve, reject) => {
    child.once("error", reject);
    child.once("close", (code) => {
      if (code === 0) return resolve(output);
      reject(new Error(`${[command, ...args].join(" ")}\n${Buffer.concat(written)}`));
    });
  });
}

/** A Node that is new enough for openai 7: this one, or the one that the registry has as a package. */
async function newerNode() {
  if (Number(process.versions.node.split(".")[0]) >= NEWER_NODE) return process.execPath;
  const folder = join(HERE, ".node22");
  const node = join(folder, "node_modules/node/bin/node");
  if (!existsSync(node)) {
    mkdirSync(folder, { recursive: true });
    writeFileSync(join(folder, "package.json"), '{"private": true}\n');
    await run("npm", ["install", "--no-save", "--no-package-lock", `node@${NEWER_NODE}`], {
      cwd: folder,
    });
  }
  return node;
}

/** The TypeScript of a page, and what it says that each of it printed, where it does. */
function examples(page) {
  const found = readFileSync(page, "utf-8").matchAll(
    /^```ts\n(.*?)^```\n(?:\n```text\n(.*?)^```)?/gms,
  );
  return [...found].map(([, code, printed]) => ({ code, printed: printed ?? null }));
}

/** The pages in docs/ that have TypeScript: {name: example}, name-2 for a second one. */
function pages() {
  // The page of other clients than ours has tests of its own.
  const names = readdirSync(join(ROOT, "docs")).filter((n) => /^(?!any-sdk).*\.md$/.test(n));
  const found = names.map((name) => [name.replace(".md", ""), examples(join(ROOT, "docs", name))]);
  return Object.fromEntries(
    found.flatMap(([name, all]) => all.map((one, n) => [n ? `${name}-${n + 1}` : name, one])),
  );
}

/** An empty project with the package and an official client in it, and the tests, compiled. */
async function project(folder, tarball, openai) {
  mkdirSync(folder);
  writeFileSync(join(folder, "package.json"), '{"private": true, "type": "module"}\n');
  await run("npm", ["install", "--no-audit", "--no-fund", "--no-package-lock", tarball, openai], {
    cwd: folder,
  });
  cpSync(join(HERE, "tests"), join(folder, "tests"), { recursive: true });
  const code = (page) => examples(page).map((example) => example.code);
  const readme = code(join(HERE, "README.md"));
  const anySdk = code(join(ROOT, "docs/any-sdk.md"));
  for (const [name, blocks] of [
    ["readme", readme.slice(0, 1)],
    ["readme-all", readme],
    ["any-sdk-1", anySdk.slice(0, 1)],
    ["any-sdk-2", anySdk.slice(0, 2)],
    ...Object.entries(pages()).map(([page, example]) => [`docs-${page}`, [example.code]]),
  ]) {
    writeFileSync(join(folder, `tests/${name}.ts`), blocks.join("\n"));
  }
  const compilerOptions = {
    target: "es2022",
    module: "nodenext",
    strict: true,
    exactOptionalPropertyTypes: true,
    types: ["node"],
    typeRoots: [join(HERE, "node_modules/@types")],
    rootDir: "tests",
    outDir: "out",
  };
  writeFileSync(
    join(folder, "tsconfig.json"),
    JSON.stringify({ compilerOptions, include: ["tests"] }),
  );
  await run(process.execPath, [TSC, "-p", "."], { cwd: folder });
}

/** The real servers, started: their URLs, how to end them, and what they have complained of. */
async function served() {
  const child = spawn(join(ROOT, ".venv/bin/python"), ["-m", "clients.served"], {
    cwd: join(ROOT, "tests"),
  });
  const complaints = [];
  child.stderr.on("data", (data) => complaints.push(data));
  const ended = new Promise((resolve) => child.once("close", resolve));
  const stop = () => {
    child.stdin.end();
    return ended;
  };
  for await (const urls of createInterface({ input: child.stdout })) {
    return { urls, stop, complaints };
  }
  throw new Error(`the servers did not start:\n${Buffer.concat(complaints)}`);
}

/** Runs all tests of a project with this Node. */
async function test(folder, node, env) {
  const files = readdirSync(join(folder, "out")).filter((name) => name.endsWith(".test.js"));
  const options = ["--test-concurrency=1", "--test-reporter=dot", "--test-timeout=120000"];
  await run(node, ["--test", ...options, ...files], {
    cwd: join(folder, "out"),
    stdio: "inherit",
    env: { ...process.env, ...env },
  });
}

const scratch = mkdtempSync(join(tmpdir(), "openaibatching-ts-"));
const starting = served();
starting.catch(() => undefined); // Reported where it is waited for.
try {
  const [packed] = JSON.parse(await run("npm", ["pack", "--json", "--pack-destination", scratch]));
  const tarball = join(scratch, packed.filename);
  const { version } = JSON.parse(readFileSync(join(HERE, "node_modules/openai/package.json")));
  const versions = [`openai@${version}`, "openai@7"];
  const [node] = await Promise.all([
    newerNode(),
    ...versions.map((openai) => project(join(scratch, openai), tarball, openai)),
    run(join(BIN, "publint"), ["--strict", tarball]),
    run(join(BIN, "attw"), ["--profile", "node16", tarball]),
  ]);

  const { urls } = await starting;
  const env = {
    SERVED: urls,
    PACKED: JSON.stringify(packed.files.map(({ path }) => path)),
    PAGES: JSON.stringify(pages()),
    STORIES: join(ROOT, "tests/clients/stories.json"),
  };
  for (const [openai, program] of [
    [versions[0], process.execPath],
    [versions[1], node],
  ]) {
    const found = (await run(program, ["--version"])).trim();
    console.log(`Tests of @miko/openaibatching with ${openai}, Node ${found}`);
    await test(join(scratch, openai), program, env);
  }
} catch (error) {
  const { complaints = [] } = await starting.catch(() => ({}));
  process.stderr.write(`${Buffer.concat(complaints)}${error.message}\n`);
  process.exitCode = 1;
} finally {
  await starting.then(({ stop }) => stop()).catch(() => undefined);
  rmSync(scratch, { recursive: true, force: true });
}
