export { OpenAIBatching, OpenAIBatching as default } from "./client.js";
export type { BatchingOptions } from "./options.js";
export type { AskingOptions } from "./polling.js";
export type {
  Answer,
  Batched,
  Batching,
  BatchRequest,
  BatchStatus,
  Completed,
  Cost,
  Pending,
} from "./types.js";
