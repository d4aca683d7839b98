/** The stories that the clients of both languages are told: tests/clients/test_stories.py says how. */

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import OpenAIBatching from "@miko/openaibatching";
import OpenAI from "openai";
import { tenants } from "./support.js";

interface Step {
  finish?: true;
  call: string;
  id?: string;
  of?: string;
  body?: object;
  files?: Record<string, string>;
  headers?: Record<string, string>;
  wait?: true;
  as?: string;
  expect?: Record<string, any>;
  raises?: { error: string; status: number; code: string | null; param?: string };
}

interface Story {
  name: string;
  server?: "patient";
  replies?: number[];
  requests?: number;
  steps: Step[];
}

const tenant = tenants();
const stories: Story[] = JSON.parse(readFileSync(process.env.STORIES!, "utf-8"));

/** What the dotted path leads to. */
function found(root: any, path: string): any {
  return path
    .split(".")
    .reduce((value, name) => value[name === "has_completed" ? "hasCompleted" : name], root);
}

function check(answer: any, expected: Record<string, any>, kept: Record<string, any>): void {
  for (const [path, wanted] of Object.entries(expected)) {
    const value = found(answer, path);
    if (wanted?.length !== undefined && typeof wanted === "object") {
      assert.equal(value.length, wanted.length, path);
    } else if (wanted?.in) assert.ok(wanted.in.includes(value), path);
    else if (wanted?.same) assert.deepEqual(value, found(kept, wanted.same), path);
    else if (wanted?.other) assert.notDeepEqual(value, found(kept, wanted.other), path);
    else assert.equal(value, wanted, path);
  }
}

/** The answer to a step's call. */
function made(client: any, step: Step, kept: Record<string, any>): Promise<any> {
  const names = step.call.split(".");
  const method = names.pop()!;
  const id = step.of ? found(kept, step.of) : step.id;
  const files = Object.entries(step.files ?? {}).map(([name, content]) => [
    name,
    new File([Buffer.from(content, "base64")], name),
  ]);
  const body = step.body && { ...step.body, ...Object.fromEntries(files) };
  const options = {
    ...(step.wait && { wait: true }),
    ...(step.headers && { headers: step.headers }),
  };
  return found(client, names.join("."))[method](...[id, body].filter(Boolean), options);
}

for (const story of stories) {
  test(story.name, async () => {
    const replies: number[] = [];
    // The official retries stay on: what is final must not be asked for again.
    const client = new OpenAIBatching({
      ...tenant.options(story.server),
      fetch: async (url, init) => {
        const reply = await fetch(url, init);
        replies.push(reply.status);
        return reply;
      },
    });
    const kept: Record<string, any> = {};
    for (const step of story.steps) {
      const { raises, expect = {} } = step;
      if (step.finish) await tenant.finish();
      else if (raises) {
        await assert.rejects(made(client, step, kept), (error: any) => {
          assert.equal(error.constructor, (OpenAI as any)[raises.error]);
          const { status, code, param, message } = error;
          assert.deepEqual([status, code], [raises.status, raises.code]);
          assert.equal(param, raises.param ?? param);
          return message.includes(error.error.message);
        });
      } else {
        const answer = await made(client, step, kept);
        check(answer, expect, kept);
        kept[step.as ?? ""] = answer;
      }
    }
    assert.deepEqual(replies, story.replies ?? replies);
    if (story.requests !== undefined) {
      assert.equal(await tenant.requests(story.server), story.requests);
    }
  });
}
