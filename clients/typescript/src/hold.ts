/**
 * `wait: true`: how long the server is asked to hold a reply, and how long to pause before the next.
 *
 * The server holds a reply for as long as `Prefer: wait=N` asks (RFC 7240) and then answers 202 if
 * the request is not finished; the client asks again, for as long as it takes. Asking again is safe:
 * the same call is the same request.
 */

import { APIUserAbortError } from "openai";

/**
 * The longest hold: Node's own `fetch` gives up on a reply that has not begun after 300 seconds,
 * whatever the client's timeout is (undici's `headersTimeout`).
 */
export const HOLD_MAX_S = 270;

/**
 * The part of the client's timeout that a hold may take. The rest is for the way there and back,
 * body included: from openai 7.5 on, the timeout counts to the last byte.
 */
export const TIMEOUT_SHARE = 0.9;

export const DEFAULT_PAUSE_S = 5;

/** One question to the server: since when, and for how many seconds, it may hold the reply. */
export class Hold {
  constructor(
    readonly askedAtMs: number,
    readonly seconds: number,
  ) {}

  /** The longest hold that a client with this timeout can sit through, and that the way allows. */
  static within(timeoutMs: number, nowMs: number, allowedS = Number.POSITIVE_INFINITY): Hold {
    const ownS = (timeoutMs / 1000) * TIMEOUT_SHARE;
    return new Hold(nowMs, Math.floor(Math.min(HOLD_MAX_S, ownS, allowedS)));
  }

  /** Adds our preference to the headers of a request, unless the caller has one of their own. */
  addTo(headers: Headers): void {
    if (this.seconds >= 1 && !headers.has("prefer")) headers.set("prefer", `wait=${this.seconds}`);
  }

  /**
   * Seconds to pause after a 202 with these headers.
   *
   * None after a reply that was held for the whole time; otherwise, as from a server that ignores
   * the preference or is about to stop, whatever is left of `Retry-After`.
   */
  pauseS(headers: Headers, nowMs: number): number {
    const heldS = (nowMs - this.askedAtMs) / 1000;
    if (this.seconds >= 1 && heldS >= this.seconds * TIMEOUT_SHARE) return 0;
    return Math.max(0, retryAfterS(headers) - heldS);
  }
}

/** The seconds that `Retry-After` names; `otherwise` if it names none. */
export function retryAfterS(headers: Headers, otherwise = DEFAULT_PAUSE_S): number {
  const seconds = Number(headers.get("retry-after"));
  return seconds > 0 && seconds < Number.POSITIVE_INFINITY ? seconds : otherwise;
}

/** Resolves after so many seconds; rejects as the official client does when `signal` aborts. */
export function pause(seconds: number, signal: AbortSignal | null | undefined): Promise<void> {
  return new Promise((resolve, reject) => {
    const abort = () => {
      clearTimeout(timer);
      reject(new APIUserAbortError());
    };
    const timer = setTimeout(() => {
      signal?.removeEventListener("abort", abort);
      resolve();
    }, seconds * 1000);
    if (signal?.aborted) abort();
    else signal?.addEventListener("abort", abort, { once: true });
  });
}
