export type {
  Answer,
  Batched,
  Batching,
  Cost,
  BatchRequest,
  BatchStatus,
  Completed,
  Pending,
} from "./answers.js";
export type { AskingOptions } from "./asking.js";
export { OpenAIBatching, OpenAIBatching as default } from "./client.js";
export type { BatchingOptions } from "./options.js";
