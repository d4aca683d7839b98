/**
 * What a user's code looks like to the type checker, which has accepted it when the tests are run.
 * It is never run itself. An error that is expected and does not come is one as well.
 */

import OpenAIBatching, {
  type Answer,
  type Batching,
  type BatchRequest,
  type BatchStatus,
  type Completed,
  type Pending,
} from "@miko/openaibatching";
import type OpenAI from "openai";
import { makeParseableResponseFormat, makeParseableTextFormat } from "openai/lib/parser";

type Chat = OpenAI.Chat.ChatCompletion;
type Same<A, B> =
  (<T>() => T extends A ? 1 : 2) extends <T>() => T extends B ? 1 : 2 ? true : false;
const holds = <_ extends true>() => undefined;
const messages: OpenAI.Chat.ChatCompletionMessageParam[] = [{ role: "user", content: "Hi" }];

export async function unchecked(client: OpenAIBatching): Promise<void> {
  const chat = await client.responses.create({ model: "gpt-4o", messages });
  holds<Same<typeof chat.hasCompleted, boolean>>();
  holds<Same<typeof chat.batching, Batching>>();
  holds<Same<typeof chat.batching.status, BatchStatus>>();
  if (!chat.hasCompleted) holds<Same<typeof chat.choices, []>>();
  else holds<Same<typeof chat.choices, Chat["choices"]>>();
  const official: Chat = chat;
  const either: Answer<Chat> = chat;
  void [official, either];
}

export async function checked(client: OpenAIBatching): Promise<unknown[]> {
  const response = await client.responses.create({ model: "m", input: "Hi", temperature: 0.5 });
  const retrieved = await client.responses.retrieve("id");
  const chat = await client.chat.completions.create({ model: "m", messages, n: 2 });
  const read = await client.chat.completions.retrieve("id");
  const completion = await client.completions.create({ model: "m", prompt: "p" });
  const embedding = await client.embeddings.create({ model: "m", input: ["p"] });
  const moderation = await client.moderations.create({ input: "p" });
  const image = await client.images.generate({ prompt: "p" });
  const edited = await client.images.edit({ image: new File([], "a"), prompt: "p" });
  const cancelled = await client.responses.cancel("id");
  holds<Same<typeof cancelled.status, BatchRequest["status"]>>();
  return [
    response.hasCompleted && response.output[0]!.type,
    response.output_text,
    retrieved.hasCompleted && retrieved.output[0]!.type,
    chat.hasCompleted && chat.choices[0]!.message.content,
    read.hasCompleted && read.choices[0]!.message.content,
    completion.hasCompleted && completion.choices[0]!.text,
    embedding.hasCompleted && embedding.data[0]!.embedding[0],
    moderation.hasCompleted && moderation.results[0]!.flagged,
    image.hasCompleted && image.data![0]!.b64_json,
    edited.hasCompleted && edited.data![0]!.b64_json,
    cancelled.hasCompleted && cancelled.error?.code,
  ];
}

export async function parsed(client: OpenAIBatching): Promise<void> {
  const text = { type: "json_schema", name: "a", schema: {} } as const;
  const format = makeParseableTextFormat(text, (json) => Number(json));
  const response = await client.responses.parse({ model: "m", input: "p", text: { format } });
  holds<Same<typeof response.output_parsed, number | null>>();
  const chat = { type: "json_schema", json_schema: { name: "a" } } as const;
  const response_format = makeParseableResponseFormat(chat, (json) => Number(json));
  const completion = await client.chat.completions.parse({ model: "m", messages, response_format });
  if (completion.hasCompleted) {
    const value = completion.choices[0]!.message.parsed;
    holds<Same<typeof value, number | null>>();
  }
}

export async function waiting(key: string): Promise<void> {
  const client = new OpenAIBatching({ batchServerApiKey: key, wait: true });
  holds<Same<typeof client, OpenAIBatching<true>>>();
  const chat = await client.responses.create({ model: "m", messages });
  const text: string | null = chat.choices[0]!.message.content;
  holds<Same<typeof chat.hasCompleted, true>>();
  const hasty = client.withOptions({ wait: false, timeout: 5 });
  holds<Same<typeof hasty, OpenAIBatching<false>>>();
  holds<Same<ReturnType<typeof same>, OpenAIBatching<true>>>();
  function same() {
    return client.withOptions({ maxRetries: 0 });
  }

  const one = await hasty.chat.completions.create({ model: "m", messages }, { wait: true });
  holds<Same<typeof one.hasCompleted, true>>();
  const none = await client.responses.retrieve("id", {}, { wait: false });
  holds<Same<typeof none.hasCompleted, boolean>>();
  const maybe = new OpenAIBatching({ wait: key === "k" });
  holds<Same<typeof maybe, OpenAIBatching<boolean>>>();
  const { data, response } = await client.embeddings
    .create({ model: "m", input: "p" })
    .withResponse();
  holds<Same<typeof data.hasCompleted, true>>();
  void [text, response.headers];
}

export function elsewhere(waiting: OpenAIBatching<true>): void {
  const official: OpenAI = waiting;
  const hasty: OpenAIBatching = waiting;
  const either: OpenAIBatching<boolean> = waiting;
  const done = {} as Completed<Chat>;
  const open = {} as Pending<Chat>;
  void [official, hasty, either, done.choices[0], open.choices.length];
}

export function mistakes(client: OpenAIBatching): void {
  // @ts-expect-error: no input
  client.embeddings.create({ model: "m" });
  // @ts-expect-error: a typing error
  client.responses.create({ model: "m", imput: "Hi" });
  // @ts-expect-error: both
  client.responses.create({ model: "m", input: "Hi", messages });
  // @ts-expect-error: a batch does not stream
  client.responses.create({ model: "m", input: "Hi", stream: true });
  // @ts-expect-error: a batch does not stream
  client.responses.create({ model: "m", messages, stream: true });
  // @ts-expect-error: a batch does not stream
  client.chat.completions.create({ model: "m", messages, stream: true });
  // @ts-expect-error: no such option
  new OpenAIBatching({ timeuot: 3 });
  // @ts-expect-error: no such option
  client.responses.create({ model: "m", input: "Hi" }, { wiat: true });
}
