"""Who looks at the page: the cookie, the way back after signing in, and where a form came from."""

from __future__ import annotations

import re
from urllib.parse import parse_qsl, quote, urlsplit

from starlette.requests import Request as HttpRequest
from starlette.responses import RedirectResponse, Response

from openaibatching.server.api.http import reading, reply_headers
from openaibatching.server.api.state import Door
from openaibatching.server.auth import audit, sessions
from openaibatching.server.auth.holder import Holder

COOKIE = "openaibatching_session"
SECURE_COOKIE = f"__Host-{COOKIE}"
"""Browsers take a cookie of this name only over https, for this host alone."""
FORM_BYTES_MAX = 16_384
FIELDS_MAX = 10

_LOCAL = re.compile(r"/(?![/\\])[^\\\x00-\x20\x7f]*")


async def holder(door: Door, http: HttpRequest) -> Holder | None:
    """Who is signed in; None for nobody. Raises DatabaseUnavailable if that is unknown."""
    token = _token(door, http)
    if token is None:
        return None
    found = await door.read(lambda conn: sessions.holder(conn, door.keyring, token))
    if found is not None:
        door.keyring.note_use(found)
        reading.key_shown(http)
    return found


def _token(door: Door, http: HttpRequest) -> str | None:
    """The session's, from the cookie. Where the reader sees https only a `__Host-` one counts: any
    other may come from a neighbouring host, or from a stranger on the way."""
    secure = http.cookies.get(SECURE_COOKIE)
    return secure if secure or _https(door, http) else http.cookies.get(COOKIE)


def _https(door: Door, http: HttpRequest) -> bool:
    """Whether the reader sees https. Behind a proxy the server itself speaks http; then the proxy
    says so, or the browser with a form."""
    forwarded = reply_headers.is_https(http.scope["headers"])
    origin = http.headers.get("origin", "").startswith("https://")
    return door.ctx.settings.tls or forwarded or origin


async def sign_in(door: Door, http: HttpRequest, found: Holder, back: str) -> Response:
    """The way back, with the cookie of a new session. Raises DatabaseUnavailable."""
    async with door.ctx.database.transaction() as conn:
        token = await sessions.issue(conn, found)
        await audit.note(conn, audit.SIGNED_IN, reading.actor(http, found))
    reply = RedirectResponse(back, 303)
    secure = _https(door, http)
    reply.set_cookie(
        SECURE_COOKIE if secure else COOKIE, token, max_age=sessions.SESSION_S, path="/",
        secure=secure, httponly=True, samesite="strict",
    )  # fmt: skip
    return reply


async def sign_out(door: Door, http: HttpRequest) -> Response:
    """To the form, without the session and its cookie. Raises DatabaseUnavailable."""
    token = _token(door, http)
    found = await holder(door, http)
    if token is not None and found is not None:
        async with door.ctx.database.transaction() as conn:
            await sessions.end(conn, token)
            await audit.note(conn, audit.SIGNED_OUT, reading.actor(http, found))
    reply = RedirectResponse("/sign-in", 303)
    for name in (COOKIE, SECURE_COOKIE):
        reply.delete_cookie(
            name, path="/", httponly=True, samesite="strict", secure=name == SECURE_COOKIE
        )
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
    forwarded = reply_headers.is_https(http.scope["headers"])
    scheme = "https" if door.ctx.settings.tls or forwarded else "http"
    return f"{scheme}://{http.headers.get('host', 'localhost')}"


def way_back(given: str) -> str:
    """A path of this server, whoever wrote it: no other host can be meant by it."""
    return given if len(given) < 2000 and _LOCAL.fullmatch(given) else "/"


async def form(http: HttpRequest) -> dict[str, str]:
    """The fields of a small form. Raises RequestTooLarge, RequestTimeout."""
    body = await reading.read_small(http, FORM_BYTES_MAX)
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
