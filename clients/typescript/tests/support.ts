/** The servers that the client is tested against: real ones, and one that says what a test wants. */

import { createServer, type IncomingHttpHeaders } from "node:http";
import type { AddressInfo } from "node:net";
import { after, afterEach, beforeEach } from "node:test";
import OpenAIBatching, { type BatchingOptions } from "@miko/openaibatching";

/** The URLs of the real servers (tests/clients/served.py). */
export const SERVED: Record<"prompt" | "patient" | "tls" | "control" | "ca", string> = JSON.parse(
  process.env.SERVED!,
);

/** Tells the real servers what to do. */
export async function control(path: string): Promise<any> {
  const reply = await fetch(`${SERVED.control}/${path}`, { method: "POST" });
  if (!reply.ok) throw new Error(`/${path}: ${reply.status} ${await reply.text()}`);
  return reply.json();
}

/** The real server, as a tenant sees it that only this test is: nothing finishes until `finish`. */
export class Tenant {
  key = "";

  async start(): Promise<void> {
    this.key = await control("tenant");
  }

  options(server: "prompt" | "patient" = "prompt"): BatchingOptions {
    return { batchServerUrl: SERVED[server], batchServerApiKey: this.key };
  }

  /** Lets OpenAI finish what it has, and at once whatever it gets later in this test. */
  async finish(): Promise<void> {
    await control(`finish?key=${this.key}`);
  }

  /** How many requests the tenant has. */
  async requests(server: "prompt" | "patient" = "prompt"): Promise<number> {
    const reply = await fetch(`${SERVED[server]}/v1/requests?limit=100`, {
      headers: { authorization: `Bearer ${this.key}` },
    });
    return ((await reply.json()) as { data: unknown[] }).data.length;
  }
}

/** A tenant for each test of a file. */
export function tenants(): Tenant {
  const tenant = new Tenant();
  beforeEach(() => tenant.start());
  afterEach(() => control("rest"));
  return tenant;
}

export interface Asked {
  method: string;
  path: string;
  headers: IncomingHttpHeaders;
  body: any;
}

type Reply = [status: number, body: unknown, headers?: Record<string, string>];

/** A server that gives the replies a test has written down, in order, the last one for ever. */
export class Scripted {
  url = "";
  asked: Asked[] = [];
  replies: Reply[] = [];
  readonly #server = createServer(async (request, response) => {
    const chunks: Buffer[] = [];
    for await (const chunk of request) chunks.push(chunk);
    const { method = "", url: path = "", headers } = request;
    const text = Buffer.concat(chunks).toString();
    const json = headers["content-type"] === "application/json";
    this.asked.push({ method, path, headers, body: json ? JSON.parse(text) : text });
    const [status, body, more] = this.replies.length > 1 ? this.replies.shift()! : this.replies[0]!;
    response.writeHead(status, { "content-type": "application/json", ...more });
    response.end(JSON.stringify(body));
  });

  async start(): Promise<void> {
    await new Promise<void>((done) => this.#server.listen(0, "127.0.0.1", done));
    this.url = `http://127.0.0.1:${(this.#server.address() as AddressInfo).port}`;
  }

  stop(): void {
    this.#server.closeAllConnections();
    this.#server.close();
  }

  /** A client of this server, which will get these replies. */
  client<Waits extends boolean = false>(
    replies: Reply[],
    options: BatchingOptions<Waits> = {},
  ): OpenAIBatching<Waits> {
    this.asked = [];
    this.replies = replies;
    return new OpenAIBatching({
      batchServerUrl: this.url,
      batchServerApiKey: "k",
      maxRetries: 0,
      ...options,
    });
  }
}

/** One scripted server for the tests of a file. */
export async function scripted(): Promise<Scripted> {
  const server = new Scripted();
  await server.start();
  after(() => server.stop());
  return server;
}
