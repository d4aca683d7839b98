"""Which redirects a client follows: a prompt goes to the host that it was meant for."""

from typing import Any

REDIRECTS_MAX = 5


def stays_near(reply: Any) -> bool:
    """Whether this HTTP reply is a redirect to the same server, or to its https."""
    there, here = getattr(reply.next_request, "url", None), reply.request.url
    if there is None or there.host != here.host:
        return False
    same = (there.scheme, there.port) == (here.scheme, here.port)
    return same or (here.scheme, there.scheme) == ("http", "https")
