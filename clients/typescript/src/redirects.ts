/** Which redirects the client follows: a prompt goes to the host that it was meant for. */

import type { Fetch } from "./coalescing.js";

const REDIRECTS_MAX = 5;

/**
 * `send`, which is a `fetch`, that follows a redirect on the batch server's own host, or to its
 * https, and gives back any other as the response that it is. What a caller wishes in `redirect` is
 * done.
 */
export function near(send: Fetch): Fetch {
  return async (url, init) => {
    if (init?.redirect) return send(url, init);
    const given: RequestInit = { ...init, redirect: "manual" };
    let here = new URL(url instanceof Request ? url.url : url);
    let response = await send(url, given);
    for (let n = 0; n < REDIRECTS_MAX; n++) {
      const there = next(response, here, given.method ?? "GET");
      if (!there) break;
      await response.body?.cancel();
      here = there;
      response = await send(here.href, given);
    }
    if (response.type === "opaqueredirect") {
      throw new Error("The batch server answers with a redirect: pass the URL that it leads to.");
    }
    return response;
  };
}

/** Where a redirect leads, if that is the same server and takes the same request. */
function next(response: Response, here: URL, method: string): URL | undefined {
  const asked = method.toUpperCase() === "GET" ? [301, 302, 303, 307, 308] : [307, 308];
  const location = response.headers.get("location");
  if (!asked.includes(response.status) || !location || !URL.canParse(location, here)) return;
  const there = new URL(location, here);
  const secured = here.protocol === "http:" && there.protocol === "https:";
  return there.hostname === here.hostname && (there.origin === here.origin || secured)
    ? there
    : undefined;
}
