/** What calls return: OpenAI's own types, each with `hasCompleted` and `batching`. */

/** How far a request is; `in_progress` from the moment it is claimed for a batch. */
export type BatchStatus = "queued" | "in_progress" | "completed" | "failed" | "cancelled";

/**
 * Where a request is on its way through OpenAI's Batch API. Times are in Unix seconds.
 *
 * The names are those of the wire, like all names inside of OpenAI's objects.
 */
export interface Batching {
  /** The request's id at the batch server, the same for the same call. */
  id: string;
  status: BatchStatus;
  /** OpenAI's id of the batch that carries the request, once there is one. */
  batch_id: string | null;
  /** How often the request was sent to OpenAI. */
  attempts: number;
  created_at: number;
  completed_at: number | null;
  estimated_completion_at: number | null;
  /** Of a finished request, where the model's price is known. */
  cost?: Cost | null;
}

/** The receipt of an answer. */
export interface Cost {
  currency: "usd";
  /** By batch, which is half of the ordinary price or about that. */
  paid: number;
  /** What the same answer costs in real time. */
  realtime: number;
  saved: number;
  /** Whether something is charged besides, whose price is not known. */
  incomplete: boolean;
}

/** What every result has besides its official members. */
export interface Batched<Done extends boolean = boolean> {
  /** Whether this is the answer; if not, the object is valid but has nothing in it yet. */
  hasCompleted: Done;
  /** `hasCompleted` as the server wrote it. */
  has_completed: Done;
  batching: Batching;
}

/** The answer, which is what the official type says. */
export type Completed<T> = T & Batched<true>;

/** The same object while there is no answer: what an answer brings is empty. */
export type Pending<T> = {
  [Member in keyof T]: Member extends "output" | "choices" | "data" | "results" ? [] : T[Member];
} & Batched<false>;

/** What a call returns: the answer, where the call waits for it, else whatever there is by now. */
export type Answer<T, Waits extends boolean = false> = Waits extends true
  ? Completed<T>
  : Completed<T> | Pending<T>;

/** A request as the batch server keeps it: what `responses.cancel(…)` returns. */
export interface BatchRequest {
  id: string;
  object: "request";
  status: BatchStatus;
  endpoint: string;
  /** Null where the call leaves the choice to OpenAI. */
  model: string | null;
  batch_id: string | null;
  attempts: number;
  created_at: number;
  completed_at: number | null;
  response: { status_code: number; body: unknown } | null;
  error: { message: string; type: string; param: string | null; code: string | null } | null;
  /** Whether nothing more will happen to it: completed, failed or cancelled. */
  hasCompleted: boolean;
}
