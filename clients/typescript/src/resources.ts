/**
 * The official resources with our return types. All of this is for the type checker: at run time the
 * resources are the official ones, and the client has made their answers what is said here.
 *
 * Each method is declared twice. The second declaration is for callers. The first takes `never`,
 * which nobody has: it stands for the official overloads that a batch cannot serve (`stream: true`),
 * so that the client remains assignable to the official one while a call of them is an error.
 */

import type { APIPromise, OpenAI } from "openai";
import type { ExtractParsedContentFromParams as ChatFormat } from "openai/lib/parser";
import type {
  ExtractParsedContentFromParams as Format,
  ResponseCreateParamsWithTools,
} from "openai/lib/ResponsesParser";
import type { ParsedChatCompletion } from "openai/resources/chat/completions";
import type { ParsedResponse } from "openai/resources/responses/responses";
import type { AskingOptions } from "./polling.js";
import type { Answer, BatchRequest } from "./types.js";

type ChatParams = OpenAI.Chat.ChatCompletionCreateParamsNonStreaming;

/** `client.responses`. */
export interface Responses<Waits extends boolean> extends OpenAI.Responses {
  create(body: never, ...rest: never[]): APIPromise<never>;
  /** Ask for a chat completion of `messages`. */
  create<Wait extends boolean = Waits>(
    body: ChatParams,
    options?: AskingOptions<Wait>,
  ): APIPromise<Answer<OpenAI.Chat.ChatCompletion, Wait>>;
  /** Ask for a response to `input`. */
  create<Wait extends boolean = Waits>(
    body: OpenAI.Responses.ResponseCreateParamsNonStreaming,
    options?: AskingOptions<Wait>,
  ): APIPromise<Answer<OpenAI.Responses.Response, Wait>>;

  parse(body: never, ...rest: never[]): APIPromise<never>;
  /** `create`, with the output parsed into `text.format`. */
  parse<
    Params extends ResponseCreateParamsWithTools,
    Parsed = Format<Params>,
    Wait extends boolean = Waits,
  >(body: Params, options?: AskingOptions<Wait>): APIPromise<Answer<ParsedResponse<Parsed>, Wait>>;

  retrieve(id: never, ...rest: never[]): APIPromise<never>;
  /**
   * What the call with this id would be answered now.
   *
   * A call with `messages` is answered as the chat completion it is: `chat.completions.retrieve`
   * does the same and says so.
   */
  retrieve<Wait extends boolean = Waits>(
    id: string,
    query?: OpenAI.Responses.ResponseRetrieveParamsNonStreaming,
    options?: AskingOptions<Wait>,
  ): APIPromise<Answer<OpenAI.Responses.Response, Wait>>;

  cancel(id: never, ...rest: never[]): APIPromise<never>;
  /** Cancel a request that is still queued. */
  cancel(id: string, options?: OpenAI.RequestOptions): APIPromise<BatchRequest>;
}

/** `client.chat`. */
export interface Chat<Waits extends boolean> extends OpenAI.Chat {
  completions: ChatCompletions<Waits>;
}

/** `client.chat.completions`. */
export interface ChatCompletions<Waits extends boolean> extends OpenAI.Chat.Completions {
  create(body: never, ...rest: never[]): APIPromise<never>;
  /** Ask for a chat completion; the answer may have to wait for its batch. */
  create<Wait extends boolean = Waits>(
    body: ChatParams,
    options?: AskingOptions<Wait>,
  ): APIPromise<Answer<OpenAI.Chat.ChatCompletion, Wait>>;

  parse(body: never, ...rest: never[]): APIPromise<never>;
  /** `create`, with the content parsed into `response_format`. */
  parse<Params extends ChatParams, Parsed = ChatFormat<Params>, Wait extends boolean = Waits>(
    body: Params,
    options?: AskingOptions<Wait>,
  ): APIPromise<Answer<ParsedChatCompletion<Parsed>, Wait>>;

  retrieve(id: never, ...rest: never[]): APIPromise<never>;
  /** What the call with this id would be answered now. */
  retrieve<Wait extends boolean = Waits>(
    id: string,
    options?: AskingOptions<Wait>,
  ): APIPromise<Answer<OpenAI.Chat.ChatCompletion, Wait>>;
}

/** `client.completions`. */
export interface Completions<Waits extends boolean> extends OpenAI.Completions {
  create(body: never, ...rest: never[]): APIPromise<never>;
  /** Ask for a completion of a prompt. */
  create<Wait extends boolean = Waits>(
    body: OpenAI.CompletionCreateParamsNonStreaming,
    options?: AskingOptions<Wait>,
  ): APIPromise<Answer<OpenAI.Completion, Wait>>;
}

/** `client.embeddings`. */
export interface Embeddings<Waits extends boolean> extends OpenAI.Embeddings {
  create(body: never, ...rest: never[]): APIPromise<never>;
  /** Ask for embeddings; `data` is empty until they have completed. */
  create<Wait extends boolean = Waits>(
    body: OpenAI.EmbeddingCreateParams,
    options?: AskingOptions<Wait>,
  ): APIPromise<Answer<OpenAI.CreateEmbeddingResponse, Wait>>;
}

/** `client.moderations`. */
export interface Moderations<Waits extends boolean> extends OpenAI.Moderations {
  create(body: never, ...rest: never[]): APIPromise<never>;
  /** Ask for a moderation. */
  create<Wait extends boolean = Waits>(
    body: OpenAI.ModerationCreateParams,
    options?: AskingOptions<Wait>,
  ): APIPromise<Answer<OpenAI.ModerationCreateResponse, Wait>>;
}

/** `client.images`. */
export interface Images<Waits extends boolean> extends OpenAI.Images {
  generate(body: never, ...rest: never[]): APIPromise<never>;
  /** Ask for an image. */
  generate<Wait extends boolean = Waits>(
    body: OpenAI.ImageGenerateParamsNonStreaming,
    options?: AskingOptions<Wait>,
  ): APIPromise<Answer<OpenAI.ImagesResponse, Wait>>;

  edit(body: never, ...rest: never[]): APIPromise<never>;
  /** Ask for an edited image; files are sent inside of the JSON body. */
  edit<Wait extends boolean = Waits>(
    body: OpenAI.ImageEditParamsNonStreaming,
    options?: AskingOptions<Wait>,
  ): APIPromise<Answer<OpenAI.ImagesResponse, Wait>>;
}
