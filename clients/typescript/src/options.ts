/** Where the batch server is, what opens it, and which options the client takes. */

import { type ClientOptions, OpenAIError } from "openai";

const DEFAULT_URL = "http://localhost:9487";

/** The options of `OpenAIBatching`; those of the official client are passed through. */
export interface BatchingOptions<Waits extends boolean = boolean> extends ClientOptions {
  /** The batch server's URL, without `/v1`. Defaults to `BATCH_SERVER_URL`. */
  batchServerUrl?: string | null | undefined;

  /**
   * What the batch server knows its callers by, not OpenAI's key: a text, or a function that is
   * asked before each call. Defaults to `BATCH_SERVER_API_KEY`.
   */
  batchServerApiKey?: ClientOptions["apiKey"];

  /** Whether each call returns only when its request has finished. Defaults to false. */
  wait?: Waits | undefined;
}

/**
 * The official options for a new client: `options` with `baseURL` and `apiKey` settled.
 *
 * Nothing is left for the official client to read from the environment: OPENAI_* variables describe
 * the way to OpenAI, and a batch server must never be shown that key, organization or project.
 * Throws `OpenAIError` when there is no key, or when an option is given under both of its names.
 */
export function located(options: BatchingOptions): ClientOptions {
  const settled = renamed(options);
  const apiKey = settled.apiKey || environment("BATCH_SERVER_API_KEY");
  if (!apiKey) {
    throw new OpenAIError(
      "The batch server's key is missing: pass `batchServerApiKey` or set the " +
        "BATCH_SERVER_API_KEY environment variable. (OPENAI_API_KEY is not used here: it belongs " +
        "to the server.)",
    );
  }
  return {
    ...settled,
    apiKey,
    baseURL: settled.baseURL || apiUrl(environment("BATCH_SERVER_URL") || DEFAULT_URL),
    adminAPIKey: settled.adminAPIKey ?? null,
    organization: settled.organization ?? null,
    project: settled.project ?? null,
  };
}

/** `options` with our two names for `baseURL` and `apiKey` replaced by the official ones. */
export function renamed(options: BatchingOptions): ClientOptions {
  const { batchServerUrl, batchServerApiKey, ...settled } = options;
  for (const [ours, official, value] of [
    ["batchServerUrl", "baseURL", batchServerUrl && apiUrl(batchServerUrl)],
    ["batchServerApiKey", "apiKey", batchServerApiKey],
  ] as const) {
    if (!value) continue;
    if (settled[official]) {
      throw new OpenAIError(
        `\`${ours}\` and \`${official}\` mean the same: pass only one of them.`,
      );
    }
    Object.assign(settled, { [official]: value });
  }
  return settled;
}

/** The URL of the API of the server at `serverUrl`, which may already end in `/v1`. */
function apiUrl(serverUrl: string): string {
  const url = serverUrl.trim().replace(/\/+$/, "");
  if (!/^https?:\/\//.test(url)) {
    throw new OpenAIError(
      `The batch server's URL must begin with http:// or https://, not "${serverUrl}".`,
    );
  }
  return `${url.replace(/\/v1$/, "").replace(/\/+$/, "")}/v1`;
}

/** A variable of the environment, where there is one: browsers have none. */
function environment(name: string): string | undefined {
  const { process } = globalThis as { process?: { env?: Record<string, string | undefined> } };
  return process?.env?.[name]?.trim();
}
