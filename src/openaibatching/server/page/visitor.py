"""Who looks at the page: the cookie, the way back after signing in, and where a form came from."""

from __future__ import annotations

import re
import time
from urllib.parse import parse_qsl, quote, urlsplit

from starlette.requests import Request as HttpRequest
from starlette.responses import RedirectResponse, Response

from openaibatching.server import incoming, sessions
from openaibatching.server.door import Door
from openaibatching.server.holder import Holder

COOKIE = "openaibatching_session"
FORM_BYTES_MAX = 16_384
FIELDS_MAX = 10

_LOCAL = re.compile(r"/(?![/\\])[^\\\x00-\x20\x7f]*")


async def holder(door: Door, http: HttpRequest) -> Holder | None:
    """Who is signed in; None for nobody. Raises DatabaseUnavailable if that is unknown."""
    token = http.cookies.get(COOKIE)
    found = await sessions.holder(door.keyring, token, time.time()) if token else None
    if found is not None:
        incoming.key_shown(http)
    return found


async def sign_in(door: Door, http: HttpRequest, key: str, back: str) -> Response | None:
    """The way back, with the cookie; None if it is no key. Raises DatabaseUnavailable."""
    token = await sessions.issue(door.keyring, key, time.time())
    if token is None:
        return None
    reply = RedirectResponse(back, 303)
    # Behind a proxy the server itself speaks http. A browser's form says what the reader sees.
    secure = door.ctx.settings.tls or http.headers.get("origin", "").startswith("https://")
    reply.set_cookie(
        COOKIE, token, max_age=sessions.SESSION_S, path="/", secure=secure, httponly=True,
        samesite="strict",
    )  # fmt: skip
    return reply


def sign_out() -> Response:
    """To the form, without the cookie."""
    reply = RedirectResponse("/sign-in", 303)
    reply.delete_cookie(COOKIE, path="/", httponly=True, samesite="strict")
    return reply


def ask_to_sign_in(http: HttpRequest) -> Response:
    """To the form, which knows the way back."""
    path: str = http.scope["path"]
    query = http.scope["query_string"].decode("latin-1")
    back = f"{quote(path)}?{query}" if query else quote(path)
    asked = "" if http.method == "POST" or back == "/" else f"?next={quote(back, safe='')}"
    return RedirectResponse(f"/sign-in{asked}", 303)


def address(door: Door, http: HttpRequest) -> str:
    """Where the reader sees this server: only to be shown, for anybody may write these headers."""
    forwarded = http.headers.get("x-forwarded-proto") == "https"
    scheme = "https" if door.ctx.settings.tls or forwarded else "http"
    return f"{scheme}://{http.headers.get('host', 'localhost')}"


def way_back(given: str) -> str:
    """A path of this server, whoever wrote it: no other host can be meant by it."""
    return given if len(given) < 2000 and _LOCAL.fullmatch(given) else "/"


async def form(http: HttpRequest) -> dict[str, str]:
    """The fields of a small form. Raises RequestTooLarge, RequestTimeout."""
    body = await incoming.read_small(http, FORM_BYTES_MAX)
    try:
        return dict(parse_qsl(body.decode(), keep_blank_values=True, max_num_fields=FIELDS_MAX))
    except ValueError:  # not UTF-8, or too many fields
        return {}


def is_from_here(http: HttpRequest) -> bool:
    """Whether a form was sent by a page of this server.

    Browsers say so themselves: by Sec-Fetch-Site, or over plain http by Origin. The cookie is not
    sent along from elsewhere anyway (SameSite); this is the second lock.
    """
    site = http.headers.get("sec-fetch-site")
    if site is not None:
        return site == "same-origin"
    origin = urlsplit(http.headers.get("origin", ""))
    return bool(origin.netloc) and origin.netloc == http.headers.get("host")
