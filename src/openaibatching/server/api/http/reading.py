"""Reading an HTTP request: who calls, what body, how long they are willing to wait."""

from __future__ import annotations

import asyncio
import io
import re
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from starlette.requests import ClientDisconnect
from starlette.requests import Request as HttpRequest
from starlette.types import Message

from openaibatching.server import errors
from openaibatching.server.api.http import reply_headers
from openaibatching.server.auth import addresses
from openaibatching.server.auth.audit import Actor
from openaibatching.server.auth.holder import Holder, Power
from openaibatching.server.auth.keyring import Keyring
from openaibatching.server.auth.open_calls import OpenCall
from openaibatching.server.requests import body_text

BODY_IDLE_S = 30.0
"""A body that stands still for longer is given up with 408; one that is refused already, after so
long in all."""
STRANGER_BODY_S = 10.0
"""How long a body may take in all whose caller has shown no key."""
HELD_BYTES_MIN = 65_536
"""Smaller bodies are not counted: there are never enough of them to fill the memory."""
DRAIN_BYTES_MAX = 64 * 1024 * 1024
"""How much of a refused body is still read, so that its sender gets to read the refusal."""
ARRIVED = "openaibatching.arrived"
"""In the scope of a call whose body has arrived to its end (api/http/limits.py)."""
KNOWN = "openaibatching.known"
"""In the scope of a call: what to call when its caller has shown a key (api/http/limits.py)."""
_HOLDER = "openaibatching.holder"
_HEADERS = "openaibatching.headers"
_READ = "openaibatching.read"
"""In the scope: whether the body has been read to its end, behind which nothing comes."""

LIST_LIMIT, LIST_LIMIT_MAX = 20, 100

_PREFERENCES = re.compile(r'(?:[^",]|"[^"]*"|")+')
_ANY_VALUE = re.compile(r'"?([^"]*)"?')
_TRACEPARENT = re.compile("00-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-([0-9a-f]{2})")
_SECONDS = re.compile(r'"?([0-9]+(?:\.[0-9]+)?)"?')


def header(http: HttpRequest, name: bytes, default: str) -> str:
    """The first header of this name, which is in lower case."""
    value: bytes | None = _headers(http).get(name)
    return default if value is None else value.decode("latin-1")


def _headers(http: HttpRequest) -> dict[bytes, bytes]:
    # Starlette's look at each header takes a quarter of a microsecond for each that there is.
    found: dict[bytes, bytes] | None = http.scope.get(_HEADERS)
    if found is None:
        found = http.scope[_HEADERS] = dict(reversed(http.scope["headers"]))
    return found


async def holder(http: HttpRequest, keyring: Keyring) -> Holder:
    """Who presents the key; the keyring is asked once for each call.

    Raises InvalidApiKey, or DatabaseUnavailable when only the database can tell (auth/keyring.py).
    """
    known: Holder | None = http.scope.get(_HOLDER)
    if known is not None:
        return known
    scheme, _, key = header(http, b"authorization", "").partition(" ")
    if scheme.lower() != "bearer" or not key:
        raise errors.InvalidApiKey  # nobody guesses by presenting none
    found = await keyring.holder(key.strip())
    if found is None:
        raise await wrong_key(http, keyring)
    http.scope[_HOLDER] = found
    key_shown(http)
    return found


def key_shown(http: HttpRequest) -> None:
    """The caller has shown a key, or is signed in: its connection is no stranger's."""
    if (tell := http.scope.pop(KNOWN, None)) is not None:
        tell()


async def wrong_key(http: HttpRequest, keyring: Keyring) -> errors.InvalidApiKey:
    """The refusal of a wrong key, when it may be sent (auth/wrong_keys.py)."""
    held = await keyring.wrong.note(addresses.of(http.scope), reply_headers.of(http.scope))
    return errors.InvalidApiKey() if held else errors.TooManyWrongKeys()


def actor(http: HttpRequest, holder: Holder) -> Actor:
    """Who calls, for the audit."""
    address = addresses.of(http.scope).told
    return Actor(holder.tenant, holder.name, address, reply_headers.of(http.scope))


async def caller(http: HttpRequest, keyring: Keyring) -> Actor:
    """Who calls. Raises as `holder`."""
    return actor(http, await holder(http, keyring))


async def tenant(http: HttpRequest, keyring: Keyring) -> str:
    """The tenant whose key is presented. Raises as `holder`."""
    return (await holder(http, keyring)).tenant


def require(holder: Holder, *powers: Power) -> None:
    """Raises InsufficientScope unless the key has one of these powers."""
    if not any(map(holder.may, powers)):
        raise errors.InsufficientScope(
            f"This API key has the scope '{holder.scope}': it may not {powers[0].value}."
        )


def traceparent(http: HttpRequest) -> str | None:
    """The caller's place in its trace (W3C Trace Context), if there is one and it is sampled."""
    found = _TRACEPARENT.fullmatch(header(http, b"traceparent", "").strip())
    return found[0] if found and int(found[1], 16) & 1 else None


def wait_s(http: HttpRequest, most: float) -> float | None:
    """Seconds of `Prefer: wait=N`, at most `most`; None without one."""
    seconds = preference(http, "wait", _SECONDS)
    return None if seconds is None else min(float(seconds), most)


def preference(http: HttpRequest, name: str, pattern: re.Pattern[str] = _ANY_VALUE) -> str | None:
    """What `Prefer: name=value` (RFC 7240) says, quoted or not; the first that fits `pattern`.

    What is not understood is ignored, as the RFC wants it.
    """
    if b"prefer" not in _headers(http):
        return None
    for given in _PREFERENCES.findall(",".join(http.headers.getlist("prefer"))):
        key, _, value = given.partition(";")[0].partition("=")
        found = pattern.fullmatch(value.strip())
        if key.strip().lower() == name and found:
            return found[1]
    return None


def idempotency_key(http: HttpRequest) -> str | None:
    """The header `Idempotency-Key`, which is UTF-8, or Latin-1 as HTTP has it."""
    key = header(http, b"idempotency-key", "")
    if key.isascii():
        return key if b"idempotency-key" in _headers(http) else None
    sent = key.encode("latin-1")
    try:
        return sent.decode()
    except UnicodeDecodeError:
        return key


def first_body(http: HttpRequest) -> bool:
    """Whether of several bodies under one Idempotency-Key the first counts. Raises
    InvalidParameter for anything but `X-Batching-Body: first`."""
    if b"x-batching-body" not in _headers(http):
        return False
    if header(http, b"x-batching-body", "").strip().lower() != "first":
        raise errors.InvalidParameter("'X-Batching-Body' must be 'first'.", param="X-Batching-Body")
    return True


def given(http: HttpRequest, name: str) -> str:
    """A parameter of the query; "" is as good as none. Raises InvalidParameter."""
    values = http.query_params.getlist(name)
    if len(values) > 1:
        raise errors.InvalidParameter(f"'{name}' is there more than once.", param=name)
    return values[0] if values else ""


def whole_number(http: HttpRequest, name: str, default: int, most: int) -> int:
    """A parameter of the query, from 1 to `most`. Raises InvalidParameter."""
    text = given(http, name)
    if not text:
        return default
    if not (text.isascii() and text.isdigit() and len(text) < 10 and 1 <= int(text) <= most):
        raise errors.InvalidParameter(
            f"'{name}' must be a whole number from 1 to {most}.", param=name
        )
    return int(text)


def limit(http: HttpRequest) -> int:
    """How many items a page of a list shall have. Raises InvalidParameter."""
    return whole_number(http, "limit", LIST_LIMIT, LIST_LIMIT_MAX)


async def check_media(http: HttpRequest, *taken: str) -> None:
    """Raises UnsupportedMediaType for a body whose headers say that it is compressed, or none of
    these media types; the body is read first."""
    media = header(http, b"content-type", taken[0]).partition(";")[0]
    coding = header(http, b"content-encoding", "").strip().lower()
    if media.strip().lower() not in taken:
        refusal = errors.UnsupportedMediaType(f"The body must be {taken[0]}.")
    elif coding not in ("", "identity"):
        refusal = errors.CompressedBody(
            f"The body is compressed (Content-Encoding: {coding}): send it uncompressed."
        )
    else:
        return
    await drain(http)
    raise refusal


async def read_json(
    http: HttpRequest, most: int, hold: Callable[[int], None] | None = None
) -> bytes:
    """The JSON of a call, without a byte order mark; not parsed yet.

    Raises as `check_media`, `read_body` and `body_text.utf8` do.
    """
    await check_media(http, "application/json")
    return body_text.utf8(await read_body(http, most, hold))


async def text_chunks(http: HttpRequest) -> AsyncIterator[bytes]:
    """The body as it arrives, without a byte order mark. Raises as `chunks` does, and InvalidJson
    for one that is no plain UTF-8 (requests/body_text.py), when it has been read."""
    start: bytes | None = b""
    async for chunk in chunks(http):
        if start is None:
            yield chunk
        elif len(start + chunk) < body_text.START_BYTES:
            start += chunk
        else:
            yield await _utf8_or_drain(http, start + chunk)
            start = None
    if start:
        yield body_text.utf8(start)


async def _utf8_or_drain(http: HttpRequest, start: bytes) -> bytes:
    try:
        return body_text.utf8(start)
    except errors.InvalidJson:
        await drain(http)
        raise


async def chunks(http: HttpRequest) -> AsyncIterator[bytes]:
    """The body as it arrives. Raises RequestTimeout, or ClientDisconnect when it is cut off."""
    more = True
    while more:
        message = await _receive(http)
        if message["type"] == "http.disconnect":
            raise ClientDisconnect
        more = message.get("more_body", False)
        http.scope[_READ] = not more
        yield message.get("body", b"")


async def _receive(http: HttpRequest) -> Message:
    if ARRIVED in http.scope:  # there is nothing to wait for, and a timer costs more than a parser
        return await http.receive()
    try:
        async with asyncio.timeout(BODY_IDLE_S):
            return await http.receive()
    except TimeoutError:
        raise errors.RequestTimeout from None


async def read_body(
    http: HttpRequest, most: int, hold: Callable[[int], None] | None = None
) -> bytes:
    """The whole body, of at most `most` bytes.

    `hold` is told how many bytes of a body above HELD_BYTES_MIN have come, and may refuse them.
    Raises RequestTooLarge, by Content-Length before anything is read or else as soon as
    too much has come; RequestTimeout; or ClientDisconnect when it is cut off.
    """
    declared = header(http, b"content-length", "")
    if declared.isdecimal() and int(declared) > most:
        await drain(http)
        raise _too_large(most)
    # Of a known length, so that it need not be put together at the end: all callers would wait for
    # that, for 30 ms. What does not come takes no memory: the system gives it when it is written.
    whole = io.BytesIO(bytes(int(declared))) if declared.isdecimal() else io.BytesIO()
    size = 0
    refusal: errors.Refusal | None = None
    async for chunk in chunks(http):
        size += len(chunk)
        if hold is not None and refusal is None and HELD_BYTES_MIN < size <= most:
            try:
                hold(len(chunk) if size - len(chunk) > HELD_BYTES_MIN else size)
            except errors.Refusal as error:  # told when the body has come to its end
                refusal = error
                whole = io.BytesIO()
        if size <= most and refusal is None:
            whole.write(chunk)
        elif size > most + DRAIN_BYTES_MAX:  # as in `drain`
            break
    if size > most:
        raise _too_large(most)
    if refusal is not None:
        raise refusal
    whole.truncate(size)
    return whole.getvalue()


async def read_small(http: HttpRequest, most: int) -> bytes:
    """The body of what anybody may send: all of it comes within STRANGER_BODY_S.

    Raises as `read_body` does.
    """
    try:
        async with asyncio.timeout(STRANGER_BODY_S):
            return await read_body(http, most)
    except TimeoutError:
        raise errors.RequestTimeout from None


def _too_large(most: int) -> errors.RequestTooLarge:
    return errors.RequestTooLarge(
        f"The body is larger than {most} bytes (REQUEST_BYTES_MAX on the batch server)."
    )


@asynccontextmanager
async def watched(http: HttpRequest, call: OpenCall) -> AsyncIterator[None]:
    """While this lasts, `call` is told when its caller leaves. What is left of the body is lost."""

    async def watch() -> None:
        while (await http.receive())["type"] != "http.disconnect":
            pass
        call.leave()

    watching = asyncio.create_task(watch())
    try:
        yield
    finally:
        watching.cancel()


async def drain(http: HttpRequest) -> None:
    """Read a refused body to its end, or to DRAIN_BYTES_MAX or the end of its time; forget it.

    A client that is still sending does not read: closing on it now would show it a broken
    connection in place of the refusal.
    """
    if http.scope.get(_READ):
        return
    size = 0
    try:
        async with asyncio.timeout(BODY_IDLE_S if _HOLDER in http.scope else STRANGER_BODY_S):
            while size < DRAIN_BYTES_MAX:
                message = await http.receive()
                size += len(message.get("body", b""))
                if message["type"] != "http.request" or not message.get("more_body"):
                    return
    except TimeoutError:
        return
