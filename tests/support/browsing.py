"""A browser without a window, on the page of a server."""

from __future__ import annotations

import httpx2

from openaibatching.server.dashboard import auth
from support.world import TLS


def browser(url: str) -> httpx2.AsyncClient:
    return httpx2.AsyncClient(base_url=url, headers={"Origin": url}, verify=TLS, timeout=60)


async def signed_in(client: httpx2.AsyncClient, key: str) -> str:
    """The token of the cookie."""
    done = await client.post("/sign-in", data={"key": key})
    assert done.status_code == 303, done.text
    return str(client.cookies[auth.COOKIE])
