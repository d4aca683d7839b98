/** The JSON of a reply becomes an answer: `hasCompleted` is added, and what a stranger left out. */

import type { Batching, BatchStatus } from "./types.js";

const UNFINISHED: readonly unknown[] = ["queued", "in_progress"];
const NOT_COMPLETED: readonly unknown[] = [...UNFINISHED, "failed", "cancelled"];

/**
 * `reply` with `hasCompleted`, in place.
 *
 * It is an ordinary property, as `output_text` is in the official client, so that it survives the
 * copies that `parse` (and many a caller) makes of an answer, and is seen when that is printed.
 */
export function adapted<T>(reply: T): T {
  if (typeof reply !== "object" || reply === null) return reply;
  const data = reply as Record<string, unknown>;
  if (data.object === "request") {
    data.hasCompleted = !UNFINISHED.includes(data.status);
  } else {
    if (!("has_completed" in data)) Object.assign(data, unbatched(data));
    data.hasCompleted = data.has_completed;
  }
  return reply;
}

/**
 * `has_completed` and `batching` for an answer of a server that is not a batch server.
 *
 * Such an answer is complete, unless it is a background Response that says otherwise.
 */
function unbatched(data: Record<string, unknown>): { has_completed: boolean; batching: Batching } {
  const said = data.status;
  const status = NOT_COMPLETED.includes(said) ? (said as BatchStatus) : "completed";
  return {
    has_completed: !UNFINISHED.includes(status),
    batching: {
      id: String(data.id ?? ""),
      status,
      batch_id: null,
      attempts: 0,
      created_at: Number(data.created_at ?? data.created ?? 0),
      completed_at: null,
      estimated_completion_at: null,
    },
  };
}
