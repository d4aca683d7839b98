/**
 * What comes back from a bulk call: a line of the reply becomes the response that the call alone would
 * have had, with the same body, byte for byte, and the same headers. So the official client, which is
 * above this, does with it what it always does. Pure.
 */

const HEAD =
  /^\{"id":(?:null|"([^"]*)"),"custom_id":(?:null|"(\d+)"),"response":\{"status_code":(\d+),"request_id":"[^"]*","body":/;
const HEAD_BYTES_MAX = 1024;
const TAIL = '},"error":null}';
const STATUS = /"has_completed":(true|false),"batching":\{"id":"[^"]*","status":"(\w+)"/;
/** The refusal of a call that may pass later: its tenant is above one of its limits for now. */
const LIMITED = /"code":"(?:rate_limited|too_many_models)"\}\}$/;
const STATUS_BYTES_MAX = 512;
const NEWLINE = 10;

/** One character a byte, so that a place in the text is the same place in the bytes. */
const DECODER = new TextDecoder("latin1");

/** Whether a reply has lines; else it is a refusal of the whole. */
export function hasLines(reply: Response): boolean {
  const media = reply.headers.get("content-type")?.split(";")[0]?.trim();
  return reply.status === 200 && media === "application/jsonl";
}

/** The lines of a body as they arrive, without their ends. One that breaks off is none. */
export async function* lines(body: AsyncIterable<Uint8Array>): AsyncGenerator<Uint8Array> {
  let begun: Uint8Array[] = [];
  for await (let chunk of body) {
    for (let end = chunk.indexOf(NEWLINE); end >= 0; end = chunk.indexOf(NEWLINE)) {
      yield joined([...begun, chunk.subarray(0, end)]);
      begun = [];
      chunk = chunk.subarray(end + 1);
    }
    begun.push(chunk);
  }
}

function joined(parts: Uint8Array[]): Uint8Array {
  if (parts.length === 1) return parts[0]!;
  const whole = new Uint8Array(parts.reduce((sum, { length }) => sum + length, 0));
  let at = 0;
  for (const part of parts) {
    whole.set(part, at);
    at += part.length;
  }
  return whole;
}

/** The bytes of a reply. Not all streams of browsers can be iterated, and those of Node only so. */
export async function* chunks({ body }: Response): AsyncGenerator<Uint8Array> {
  if (
    body &&
    typeof (body as Partial<AsyncIterable<unknown>>)[Symbol.asyncIterator] === "function"
  ) {
    yield* body as unknown as AsyncIterable<Uint8Array>;
    return;
  }
  const reader = body?.getReader();
  for (;;) {
    const read = await reader?.read();
    if (!read || read.done) return;
    yield read.value;
  }
}

/** What one call is answered. */
export interface Answer {
  /** Its place in the bulk call; nothing if the server could not read its line. */
  place: number | undefined;
  response: Response;
}

/** The answer in a line of a bulk reply. Throws for a line that is none of a batch server's. */
export function answer(line: Uint8Array, reply: Response): Answer {
  const head = HEAD.exec(DECODER.decode(line.subarray(0, HEAD_BYTES_MAX)));
  if (!head || DECODER.decode(line.subarray(-TAIL.length)) !== TAIL) {
    throw new TypeError("the bulk reply has a line that is no batch output line");
  }
  const [{ length }, id, place, status] = head;
  const body = line.slice(length, -TAIL.length);
  const headers = headersOf(Number(status), body, id, reply.headers);
  return {
    place: place === undefined ? undefined : Number(place),
    response: new Response(body, { status: Number(status), headers }),
  };
}

/** Those of the single call: they say again what is in the body. */
function headersOf(
  status: number,
  body: Uint8Array,
  id: string | undefined,
  reply: Headers,
): Headers {
  const headers = new Headers({
    "content-type": "application/json",
    "content-length": String(body.length),
  });
  if (id !== undefined) headers.set("x-batching-id", id);
  const applied = reply.get("preference-applied");
  if (applied) headers.set("preference-applied", applied.split(",")[0]!);
  const end = DECODER.decode(body.subarray(-STATUS_BYTES_MAX));
  const said = STATUS.exec(end);
  const limited = status === 429 && LIMITED.test(end);
  if (said) headers.set("x-batching-status", said[2]!);
  // OpenAI's own, which is final; or a budget that is used up, or nothing to go on from.
  if (status === 409 || (status === 429 && !limited) || (said?.[1] === "true" && status >= 400))
    headers.set("x-should-retry", "false");
  const after = reply.get("retry-after");
  if ((status === 202 || limited) && after) headers.set("retry-after", after);
  return headers;
}

/** A refusal of a whole bulk call, as the response of one of its calls. */
export function copied(reply: Response, body: ArrayBuffer): Response {
  const headers = new Headers(reply.headers);
  for (const name of ["content-length", "content-encoding", "transfer-encoding"]) {
    headers.delete(name);
  }
  return new Response(body, { status: reply.status, statusText: reply.statusText, headers });
}
