/**
 * The client: the official one, pointed at a batch server.
 *
 * It is a subclass with no HTTP of its own. The calls that a batch server answers leave the official
 * resources through `post` and `get`, which are what is overridden. What is sent, retries and holds
 * included, goes through the `fetch` of the official options, where the calls that are in the air
 * together become one request (coalescer.ts).
 */

import { type APIPromise, type ClientOptions, OpenAI } from "openai";
import { together } from "./coalescer.js";
import { TIMEOUT_MS } from "./coalescing.js";
import { JsonImages } from "./images.js";
import { type BatchingOptions, located, renamed } from "./options.js";
import { wayOf } from "./patience.js";
import { type AskingOptions, answered, type HeldOptions } from "./polling.js";
import type { Chat, Completions, Embeddings, Images, Moderations, Responses } from "./resources.js";

const CALLS =
  /^\/(responses|chat\/completions|completions|embeddings|moderations|images\/generations|images\/edits|responses\/[^/]+\/cancel)$/;
const RETRIEVALS = /^\/(responses|chat\/completions)\/[^/]+$/;

type Options = AskingOptions | Promise<AskingOptions>;

/**
 * The official `OpenAI` client, answered by a batch server at half the price.
 *
 * A call returns at once, with an object of the official type that also says `hasCompleted`. Make the
 * same call again later, and the same request answers. With `wait: true` each call returns only when
 * its request has finished.
 */
export class OpenAIBatching<Waits extends boolean = false> extends OpenAI {
  /** Whether each call returns only when its request has finished. */
  readonly wait: boolean;

  declare responses: Responses<Waits>;
  declare chat: Chat<Waits>;
  declare completions: Completions<Waits>;
  declare embeddings: Embeddings<Waits>;
  declare moderations: Moderations<Waits>;
  declare images: Images<Waits>;

  /**
   * Make a client of the batch server at `batchServerUrl` (`BATCH_SERVER_URL`).
   *
   * `batchServerApiKey` (`BATCH_SERVER_API_KEY`) is what the server knows its callers by, not
   * OpenAI's key. Every other option is the official client's. Throws `OpenAIError` without a key,
   * and for an option given under two names.
   */
  constructor(options: BatchingOptions<Waits> = {}) {
    super({ ...located(options), fetch: together(options.fetch ?? fetch) });
    this.wait = options.wait ?? false;
    // The official constructor adds what OPENAI_CUSTOM_HEADERS has for OpenAI.
    this._options.defaultHeaders = options.defaultHeaders;
    this.images = new JsonImages(this) as Images<Waits>;
  }

  /** The same client with some options changed. */
  override withOptions<Wait extends boolean>(
    options: BatchingOptions<Wait> & { wait: Wait },
  ): OpenAIBatching<Wait>;
  override withOptions(options: BatchingOptions | Partial<ClientOptions>): this;
  override withOptions(options: BatchingOptions): this {
    const wait = options.wait ?? this.wait;
    return super.withOptions({ ...renamed(options), ...{ wait } });
  }

  override post<Rsp>(path: string, options?: Options): APIPromise<Rsp> {
    if (!CALLS.test(path)) return super.post(path, options);
    return answered(this, options, this.wait, wayOf(this._options.fetch!), (asking) =>
      super.post<Rsp>(path, asking),
    );
  }

  override get<Rsp>(path: string, options?: Options): APIPromise<Rsp> {
    if (!RETRIEVALS.test(path)) return super.get(path, options);
    return answered(this, options, this.wait, wayOf(this._options.fetch!), (asking) =>
      super.get<Rsp>(path, asking),
    );
  }

  protected override async prepareRequest(
    ...[request, about]: Parameters<OpenAI["prepareRequest"]>
  ): Promise<void> {
    await super.prepareRequest(request, about);
    const { hold, timeout } = about.options as HeldOptions;
    hold?.addTo(request.headers as Headers);
    Object.assign(request, { [TIMEOUT_MS]: timeout ?? this.timeout });
  }
}
