/** One call: asked once or, where it waits, for as long as it takes. */

import { APIPromise, type OpenAI } from "openai";
import { adapted } from "./results.js";
import { Hold, pause } from "./waiting.js";

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
  ask: Ask<T>,
): APIPromise<T> {
  const last = lastReply(client, given, waits, ask);
  const props = last.then(({ response, options }) => ({
    response,
    options: options as Props["options"],
    controller: new AbortController(),
    requestLogID: "",
    retryOfRequestLogID: undefined,
    startTime: Date.now(),
  }));
  return new APIPromise<T>(client, props, async () => adapted(await (await last).reply));
}

// The reply is itself a promise, of its parsed body, so it travels inside of an object: `asResponse()`
// has to get it unread.
async function lastReply<T>(client: OpenAI, given: Given, waits: boolean, ask: Ask<T>) {
  const { wait = waits, ...options } = (await given) ?? {};
  for (;;) {
    const hold = Hold.within(options.timeout ?? client.timeout, Date.now());
    const reply = ask(wait ? { ...options, hold } : options);
    const response = await reply.asResponse();
    if (!wait || response.status !== 202) return { reply, response, options };
    await reply; // Read to its end, so that the next one can have its connection.
    await pause(hold.pauseS(response.headers, Date.now()), options.signal);
  }
}
