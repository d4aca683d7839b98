/**
 * One call with `wait: true`: asked until there is a final answer, or its `signal` aborts.
 *
 * A load balancer that gives up on a silent reply, a server that restarts, a name that is not resolved
 * for a while: none of them is the answer. The same call is the same request, so it is asked again.
 */

import { APIConnectionError, APIError } from "openai";
import { Hold, retryAfterS } from "./hold.js";

export const PAUSE_S_MIN = 0.5;
export const PAUSE_S_MAX = 30;
/** The longest pause that a `Retry-After` of the way is given. */
const ASKED_PAUSE_S_MAX = 300;

/** A reply that breaks off earlier says nothing about how long one may be held. */
const CUT_S_MIN = 1;
const GROWTH = 1.25;
const CEILING_SHARE = 0.8;
const REMEMBERED_MS = 3_600_000;

const TELL_AFTER = 3;
const TELL_EVERY_MS = 60_000;

const FINAL_STATUS = /^(completed|failed|cancelled)$/;
const CUT_STATUSES: readonly unknown[] = [408, 502, 503, 504, 520, 522, 524];
const NOT_SENT: readonly unknown[] = [
  "ECONNREFUSED",
  "ENOTFOUND",
  "EAI_AGAIN",
  "UND_ERR_CONNECT_TIMEOUT",
];

/**
 * What a client and its copies have learned of the way to the server: how long a hold may be.
 *
 * A hold that is cut makes the next one half of what was reached. Holds that go through grow again, up
 * to four fifths of the cut; after an hour the cut is forgotten.
 */
export class Way {
  longestS = Number.POSITIVE_INFINITY;
  #cutS = Number.POSITIVE_INFINITY;
  #cutAtMs = Number.NEGATIVE_INFINITY;
  #toldAtMs = Number.NEGATIVE_INFINITY;

  /** The longest hold in seconds; less than 1 means none. */
  allows(nowMs: number): number {
    if (nowMs - this.#cutAtMs <= REMEMBERED_MS) return this.longestS;
    this.#cutS = Number.POSITIVE_INFINITY;
    return Math.max(this.longestS, 1);
  }

  /** A held reply was cut after so many seconds. */
  cut(reachedS: number, nowMs: number): void {
    if (reachedS < CUT_S_MIN) return;
    this.#cutS = Math.min(reachedS, this.#cutS);
    this.#cutAtMs = nowMs;
    this.longestS = Math.min(this.longestS, reachedS / 2);
  }

  /** A hold of so many seconds went through. */
  held(seconds: number): void {
    if (seconds < Math.floor(this.longestS)) return;
    const grown = Math.min(this.longestS * GROWTH, this.#cutS * CEILING_SHARE);
    this.longestS = Math.max(this.longestS, grown);
  }

  /** Says, at most once a minute, that the server has not been reached for a while. */
  tell(error: unknown, pauseS: number, nowMs: number): void {
    if (nowMs - this.#toldAtMs < TELL_EVERY_MS) return;
    this.#toldAtMs = nowMs;
    const why = error instanceof Error ? String(error.cause ?? error.message) : String(error);
    console.warn(`The batch server does not answer (${why}); asking on in ${Math.ceil(pauseS)} s`);
  }
}

const ways = new WeakMap<object, Way>();

/** What has been learned of the way that this `fetch` takes. */
export function wayOf(fetch: object): Way {
  let way = ways.get(fetch);
  if (!way) {
    way = new Way();
    ways.set(fetch, way);
  }
  return way;
}

/** Whether an error is trouble of the way, and not the answer to the request. */
export function passing(error: unknown): boolean {
  if (error instanceof APIConnectionError) return codeOf(error) !== "ERR_INVALID_URL";
  if (!(error instanceof APIError)) return false;
  const status: number | undefined = error.status;
  if (status === undefined) return false; // Aborted by the caller.
  if (FINAL_STATUS.test(error.headers?.get("x-batching-status") ?? "")) return false;
  const said = error.headers?.get("x-should-retry");
  if (said === "true" || said === "false") return said === "true";
  return status === 408 || status === 425 || status === 429 || status >= 500;
}

/** The code of what an error was caused by, however deep. */
function codeOf(error: unknown): unknown {
  for (let inner = error; inner instanceof Error; inner = inner.cause) {
    if ("code" in inner && inner.code) return inner.code;
  }
  return undefined;
}

/** One call that waits: a new hold for each try, a pause after each one that was no answer. */
export class Patience {
  #failures = 0;
  #hold = new Hold(0, 0);

  constructor(
    readonly way: Way,
    readonly jitter: () => number = Math.random,
  ) {}

  /** The hold of the next try, with this timeout. */
  hold(timeoutMs: number, nowMs: number): Hold {
    this.#hold = Hold.within(timeoutMs, nowMs, this.way.allows(nowMs));
    return this.#hold;
  }

  /** Seconds to pause after a 202 with these headers. */
  afterPending(headers: Headers, nowMs: number): number {
    this.#failures = 0;
    const seconds = this.#hold.pauseS(headers, nowMs);
    if (seconds === 0) this.way.held(this.#hold.seconds);
    return seconds;
  }

  /** Seconds to pause after an error of the way. */
  afterTrouble(error: unknown, nowMs: number): number {
    if (this.#hold.seconds >= 1 && cutsAHold(error)) {
      this.way.cut((nowMs - this.#hold.askedAtMs) / 1000, nowMs);
    }
    this.#failures += 1;
    const grown = Math.min(PAUSE_S_MAX, PAUSE_S_MIN * 2 ** Math.min(this.#failures - 1, 10));
    const headers = (error instanceof APIError && error.headers) || new Headers();
    const asked = Math.min(retryAfterS(headers, 0), ASKED_PAUSE_S_MAX);
    const seconds = Math.max(grown * (0.5 + this.jitter() / 2), asked);
    if (this.#failures >= TELL_AFTER) this.way.tell(error, seconds, nowMs);
    return seconds;
  }
}

function cutsAHold(error: unknown): boolean {
  if (error instanceof APIError && error.status !== undefined) {
    return CUT_STATUSES.includes(error.status);
  }
  return !NOT_SENT.includes(codeOf(error));
}
