/** One call: asked once or, where it waits, for as long as it takes. */

import { APIPromise, type OpenAI } from "openai";
import { type Hold, pause } from "./hold.js";
import { Patience, passing, type Way } from "./patience.js";
import { adapted } from "./results.js";

/** The official options of one call, and `wait`. */
export type AskingOptions<Waits extends boolean = boolean> = OpenAI.RequestOptions & {
  /** Whether this call returns only when its request has finished; the client's `wait` if not given. */
  wait?: Waits | undefined;
};

/** The options of one request on its way to the wire, where its hold becomes a header. */
export type HeldOptions = OpenAI.RequestOptions & { hold?: Hold };

export type Given = AskingOptions | undefined | Promise<AskingOptions | undefined>;
type Ask<T> = (options: HeldOptions) => APIPromise<T>;
type Props = Awaited<ConstructorParameters<typeof APIPromise>[1]>;

/** The promise of an answer: that of the last reply to `ask`, with all that the official one does. */
export function answered<T>(
  client: OpenAI,
  given: Given,
  waits: boolean,
  way: Way,
  ask: Ask<T>,
): APIPromise<T> {
  const patience = new Patience(way);
  const next = () => lastReply(client, given, waits, patience, ask);
  const last = next();
  const props = last.then(({ response, options }) => ({
    response,
    options: options as Props["options"],
    controller: new AbortController(),
    requestLogID: "",
    retryOfRequestLogID: undefined,
    startTime: Date.now(),
  }));
  return new APIPromise<T>(client, props, async () =>
    adapted(await wholeReply(last, next, patience)),
  );
}

/** The parsed body of the last reply; one that breaks off in the middle is asked for again. */
async function wholeReply<T>(
  last: Promise<Reply<T>>,
  next: () => Promise<Reply<T>>,
  patience: Patience,
) {
  for (let current = last; ; current = next()) {
    const { reply, wait, options } = await current;
    try {
      return await reply;
    } catch (error) {
      if (!wait || !(error instanceof TypeError || passing(error))) throw error;
      await pause(patience.afterTrouble(error, Date.now()), options.signal);
    }
  }
}

type Reply<T> = Awaited<ReturnType<typeof lastReply<T>>>;

// The reply is itself a promise, of its parsed body, so it travels inside of an object: `asResponse()`
// has to get it unread.
async function lastReply<T>(
  client: OpenAI,
  given: Given,
  waits: boolean,
  patience: Patience,
  ask: Ask<T>,
) {
  const { wait = waits, ...options } = (await given) ?? {};
  for (;;) {
    const hold = patience.hold(options.timeout ?? client.timeout, Date.now());
    // This asks again itself: two at it would multiply.
    const reply = ask(wait ? { ...options, hold, maxRetries: 0 } : options);
    try {
      const response = await reply.asResponse();
      if (!wait || response.status !== 202) return { reply, response, options, wait };
      await reply; // Read to its end, so that the next one can have its connection.
      await pause(patience.afterPending(response.headers, Date.now()), options.signal);
    } catch (error) {
      if (!wait || !passing(error)) throw error;
      await pause(patience.afterTrouble(error, Date.now()), options.signal);
    }
  }
}
