/** What really goes over the wire: counted between a client and `fetch`. */

type Fetch = typeof fetch;
const DEADLINE_MS = 60_000;

/** The paths of the requests sent, and how many were open at once, replies included. */
export class Wire {
  paths: string[] = [];
  open = 0;
  mostAtOnce = 0;

  readonly fetch = async (...[url, init]: Parameters<Fetch>): Promise<Response> => {
    this.paths.push(new URL(String(url)).pathname);
    this.open += 1;
    this.mostAtOnce = Math.max(this.mostAtOnce, this.open);
    let ended = false;
    const end = () => {
      if (!ended) this.open -= 1;
      ended = true;
    };
    init?.signal?.addEventListener("abort", end);
    const reply = await fetch(url, init).catch((error) => {
      end();
      throw error;
    });
    const counted = reply.body!.pipeThrough(new TransformStream({ flush: end }));
    return new Response(counted, reply);
  };

  /** How often a path was asked for. */
  count(path: string): number {
    return this.paths.filter((each) => each === path).length;
  }
}

/** Resolves when it holds, which nothing announces. */
export async function until(condition: () => boolean): Promise<void> {
  const deadline = Date.now() + DEADLINE_MS;
  while (!condition()) {
    if (Date.now() > deadline) throw new Error(`it does not come to hold: ${condition}`);
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
}
