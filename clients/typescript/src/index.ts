export type {
  Answer,
  Batched,
  Batching,
  BatchRequest,
  BatchStatus,
  Completed,
  Cost,
  Pending,
} from "./answers.js";
export type { AskingOptions } from "./asking.js";
export { OpenAIBatching, OpenAIBatching as default } from "./client.js";
export type { BatchingOptions } from "./options.js";
