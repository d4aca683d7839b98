/**
 * Calls that are in the air together travel as one bulk call, `POST /v1/requests`: who may travel with
 * whom, for how long they wait for each other, and how they are written down. Pure.
 */

import type { ClientOptions } from "openai";

export type Fetch = NonNullable<ClientOptions["fetch"]>;

/** The member of what `fetch` is given that holds the timeout of the call, which nothing else tells. */
export const TIMEOUT_MS = Symbol("timeout");
type Init = NonNullable<Parameters<Fetch>[1]> & { [TIMEOUT_MS]?: number };

/** What one bulk call holds at most. */
export const LINES_MAX = 10_000;
export const BYTES_MAX = 16_000_000;

/** A larger call goes alone: there is nothing to be gained. */
export const BODY_BYTES_MAX = 1_000_000;

const LINGER_MIN_MS = 10;
const LINGER_MAX_MS = 15_000;
/** The part of a call's timeout that it may linger: a hold takes most of the rest (hold.ts). */
const LINGER_SHARE = 0.05;

const URL_OF_CALL =
  /^(https?:\/\/[^?#]+?)\/(responses|chat\/completions|completions|embeddings|moderations|images\/generations|images\/edits)$/;
/** What belongs to one call and not to its company. The official `x-stainless-…` only tell about it. */
const OWN_HEADER = /^(content-length|content-type|idempotency-key|accept|x-stainless-.*)$/;
const ENCODER = new TextEncoder();

/** A call that may travel with others of the same company. */
export interface Traveller {
  /** What `fetch` was given. */
  readonly url: string;
  readonly init: Init;
  /** The same text for those that may travel together. */
  readonly company: string;
  /** The URL of the bulk door. */
  readonly door: string;
  readonly endpoint: string;
  readonly headers: Headers;
  readonly body: string;
  readonly bytes: number;
  readonly timeoutMs: number;
}

/** The call that `fetch` is asked for, as a traveller; nothing if it has to go alone. */
export function traveller(url: Parameters<Fetch>[0], init: Init = {}): Traveller | undefined {
  const [, base, endpoint] = (typeof url === "string" && URL_OF_CALL.exec(url)) || [];
  const { method, body, headers: given, signal: _, ...others } = init;
  if (typeof url !== "string" || !endpoint || method !== "POST") return undefined;
  if (typeof body !== "string" || body.length > BODY_BYTES_MAX || body.includes("\n"))
    return undefined;
  const headers = new Headers(given);
  if (headers.get("content-type") !== "application/json") return undefined;
  if (body.includes('"stream":true')) return undefined; // Its reply may be a stream.
  const bytes = ENCODER.encode(body).length;
  if (bytes > BODY_BYTES_MAX) return undefined;
  const door = `${base}/requests`;
  const company = JSON.stringify([door, shared(headers), Object.entries(others).map(named)]);
  const timeoutMs = init[TIMEOUT_MS] ?? Number.POSITIVE_INFINITY;
  return { url, init, company, door, endpoint, headers, body, bytes, timeoutMs };
}

function shared(headers: Headers): [string, string][] {
  return [...headers].filter(([name]) => !OWN_HEADER.test(name));
}

const numbers = new WeakMap<object, number>();
let numbered = 0;

/** An option of `fetch` as text; objects, such as a proxy's dispatcher, are told apart by a number. */
function named([name, value]: [string, unknown]): [string, string] {
  if ((typeof value !== "object" && typeof value !== "function") || value === null) {
    return [name, String(value)];
  }
  if (!numbers.has(value)) numbers.set(value, ++numbered);
  return [name, `#${numbers.get(value)}`];
}

/**
 * Milliseconds that a call waits for company while so many requests of its company are in the air.
 *
 * None when there is no other, so that a call that is alone loses no time. With each one more, four
 * times as long: so even calls that are held for minutes, and come one by one, hold few connections.
 * A request that comes back ends the wait, and so does a small part of the call's own timeout, which
 * the official client counts from before the wait.
 */
export function lingerMs(inFlight: number, timeoutMs: number): number {
  if (inFlight === 0) return 0;
  return Math.min(LINGER_MAX_MS, LINGER_MIN_MS * 4 ** (inFlight - 1), timeoutMs * LINGER_SHARE);
}

/** How travellers are shared out over bulk calls. */
export function* portions<T extends { traveller: Traveller }>(calls: T[]): Generator<T[]> {
  let start = 0;
  let held = 0;
  for (const [place, { traveller }] of calls.entries()) {
    if (place > start && (place - start === LINES_MAX || held + traveller.bytes > BYTES_MAX)) {
      yield calls.slice(start, place);
      start = place;
      held = 0;
    }
    held += traveller.bytes;
  }
  if (start < calls.length) yield calls.slice(start);
}

/**
 * What `fetch` is given for a bulk call: what its travellers have in common, a line for each with its
 * place as `custom_id`, and the preference that each is answered as soon as it has finished.
 *
 * All that is ours comes after the body: of two members with one name the last one counts, so that no
 * body, however it was made, can speak for another call.
 */
export function bulkInit(travellers: Traveller[], signal: AbortSignal): Init {
  const [first] = travellers;
  const headers = new Headers(shared(first!.headers));
  const prefer = headers.get("prefer");
  if (prefer) headers.set("prefer", `${prefer}, order=finished`);
  headers.set("content-type", "application/jsonl");
  headers.set("accept", "application/jsonl");
  return { ...first!.init, headers, body: travellers.map(line).join(""), signal };
}

function line({ endpoint, headers, body }: Traveller, place: number): string {
  const own = {
    custom_id: String(place),
    method: "POST",
    url: `/v1/${endpoint}`,
    idempotency_key: headers.get("idempotency-key"),
  };
  return `{"body":${body},${JSON.stringify(own).slice(1)}\n`;
}
