/** A `fetch` whose calls travel together when they are in the air together. */

import { answer, chunks, copied, hasLines, lines } from "./bulk-response.js";
import {
  bulkInit,
  type Fetch,
  lingerMs,
  portions,
  type Traveller,
  traveller,
} from "./coalescing.js";
import { near } from "./redirects.js";

/** How a server without a bulk door answers a bulk call. */
const NO_BULK_DOOR: readonly number[] = [404, 405, 415];

const joining = new WeakSet<Fetch>();

/**
 * `given`, which is a `fetch`, with the calls to a batch server sent together as bulk calls.
 *
 * No caller can tell: each gets the response that its call alone would have had, and may abort it
 * alone. What is already joining stays as it is, so the copies of a client share one.
 */
export function together(given: Fetch): Fetch {
  if (joining.has(given)) return given;
  const send = near(given);
  const groups = new Map<string, Group>();
  const doorless = new Set<string>();
  const joined: Fetch = (url, init) => {
    const able = traveller(url, init);
    if (!able || doorless.has(able.door) || init?.signal?.aborted) return send(url, init);
    const { company } = able;
    let group = groups.get(company);
    if (!group) {
      group = new Group(send, doorless, () => groups.delete(company));
      groups.set(company, group);
    }
    return group.join(able);
  };
  joining.add(joined);
  return joined;
}

/** A call that waits for its response. */
class Call {
  readonly response: Promise<Response>;
  /** Whether nobody has answered it yet, and whether its caller did not want to wait for that. */
  open = true;
  aborted = false;
  /** Called when it is answered, or when its caller has gone. */
  closed: () => void = () => undefined;
  #settle!: (response: Response | Promise<Response>) => void;

  constructor(readonly traveller: Traveller) {
    this.response = new Promise((resolve) => {
      this.#settle = resolve;
    });
    traveller.init.signal?.addEventListener("abort", this.#abort, { once: true });
  }

  answer(response: Response | Promise<Response>): void {
    if (!this.open) return;
    this.open = false;
    this.traveller.init.signal?.removeEventListener("abort", this.#abort);
    this.#settle(response);
    this.closed();
  }

  fail(error: unknown): void {
    if (this.open) this.answer(Promise.reject(error));
  }

  readonly #abort = () => {
    this.aborted = true;
    this.fail(this.traveller.init.signal?.reason);
  };
}

/** The calls of one company: those that wait for each other, and the requests in the air. */
class Group {
  readonly #waiting = new Set<Call>();
  #inFlight = 0;
  #departureMs = Number.POSITIVE_INFINITY;
  #cancelDeparture = () => {};

  constructor(
    readonly send: Fetch,
    readonly doorless: Set<string>,
    readonly idle: () => void,
  ) {}

  join(able: Traveller): Promise<Response> {
    const call = new Call(able);
    this.#waiting.add(call);
    call.closed = () => {
      this.#waiting.delete(call);
      if (this.#waiting.size === 0) this.#depart(); // Nobody is left: no timer either.
    };
    const nowMs = performance.now();
    const ms = lingerMs(this.#inFlight, able.timeoutMs);
    if (nowMs + ms < this.#departureMs) {
      this.#cancelDeparture();
      this.#departureMs = nowMs + ms;
      this.#cancelDeparture = later(ms, () => this.#depart());
    }
    return call.response;
  }

  #depart(): void {
    this.#cancelDeparture();
    this.#departureMs = Number.POSITIVE_INFINITY;
    const calls = [...this.#waiting];
    this.#waiting.clear();
    for (const portion of portions(calls)) {
      const { door } = portion[0]!.traveller;
      if (portion.length > 1 && !this.doorless.has(door)) this.#travel(door, portion);
      else for (const call of portion) this.#goAlone(call);
    }
    if (this.#inFlight === 0) this.idle();
  }

  #landed(): void {
    this.#inFlight -= 1;
    this.#depart();
  }

  #goAlone(call: Call): void {
    this.#inFlight += 1;
    call.closed = () => undefined;
    call.answer(this.#alone(call.traveller));
  }

  async #alone({ url, init }: Traveller): Promise<Response> {
    try {
      return await this.send(url, init);
    } finally {
      this.#landed();
    }
  }

  /** One bulk call. It ends early when nobody is left who waits for it. */
  async #travel(door: string, calls: Call[]): Promise<void> {
    this.#inFlight += 1;
    const controller = new AbortController();
    let open = calls.length;
    for (const call of calls) {
      call.closed = () => {
        open -= 1;
        if (open === 0 && calls.some(({ aborted }) => aborted)) controller.abort();
      };
    }
    let error: unknown = new TypeError("the bulk reply ended too early");
    try {
      await this.#exchange(door, calls, controller.signal);
    } catch (failure) {
      error = failure;
      controller.abort(); // Whatever else the reply has is not read.
    }
    for (const call of calls) call.fail(error);
    this.#landed();
  }

  async #exchange(door: string, calls: Call[], signal: AbortSignal): Promise<void> {
    const travellers = calls.map(({ traveller }) => traveller);
    const reply = await this.send(door, bulkInit(travellers, signal));
    let askAlone = NO_BULK_DOOR.includes(reply.status);
    if (hasLines(reply)) {
      for await (const line of lines(chunks(reply))) {
        const { place, response } = answer(line, reply);
        if (place === undefined) askAlone = true;
        else answerTo(calls, place, response);
      }
    } else {
      const body = await reply.arrayBuffer();
      if (askAlone) this.doorless.add(door);
      else for (const call of calls) call.answer(located(copied(reply, body), call));
    }
    // A line that the server could not read comes back without its place: alone, it says what is wrong.
    if (askAlone) for (const call of calls) if (call.open) this.#goAlone(call);
  }
}

function answerTo(calls: Call[], place: number, response: Response): void {
  const call = calls[place];
  if (!call) throw new TypeError("the bulk reply has a line that nobody asked for");
  call.answer(located(response, call));
}

/** A response that says where it comes from, as one of `fetch` does. */
function located(response: Response, { traveller }: Call): Response {
  return Object.defineProperty(response, "url", { value: traveller.url });
}

/** Runs `run` after so many milliseconds; with none, as soon as all that is ready to run has run. */
function later(ms: number, run: () => void): () => void {
  const { setImmediate, clearImmediate } = globalThis as {
    setImmediate?: (run: () => void) => object;
    clearImmediate?: (immediate: object) => void;
  };
  if (ms === 0 && setImmediate) {
    const immediate = setImmediate(run);
    return () => clearImmediate?.(immediate);
  }
  const timer = setTimeout(run, ms);
  return () => clearTimeout(timer);
}
