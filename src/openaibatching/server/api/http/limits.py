"""Connections to the door: how slow one may be, how large the head of a call, how many there are.

uvicorn limits the time between two calls, and nothing else. So whoever sends a byte now and then,
reads no replies or never ends a header could hold connections, files and memory for as long as
they like, and all that without a key.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import resource
import select
import ssl
from collections.abc import Callable
from functools import partial
from typing import Any

from httptools import HttpParserError
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, RequestResponseCycle

from openaibatching.server import errors
from openaibatching.server.api.http import reply_headers
from openaibatching.server.api.http.framing import Framing
from openaibatching.server.api.http.places import Places
from openaibatching.server.api.http.reading import KNOWN
from openaibatching.server.api.http.tls_handshake import Guest, Hello
from openaibatching.server.telemetry import logs

log = logs.get()

_CLOSED = getattr(select, "POLLRDHUP", 0) | select.POLLHUP  # the first is unknown to macOS

HEAD_S = 10.0
"""From the first byte of a call, or from the connection, to the end of its headers."""
HEAD_BYTES_MAX = 65_536
"""Of a head, of trailers, of what stands between two pieces of a body."""
UNREAD_S = 60.0
"""How long a caller may take not one byte of its reply."""
LINGER_S = 2.0
"""How long one that was refused may go on: a sender that is closed upon does not read why."""
LOOK_S = 2.0

CONNECTIONS_MAX = 10_000
FILES_RESERVED = 200
"""Files for everything but callers: PostgreSQL, OpenAI, batch files, libraries, the log."""
BACKLOG_MAX = 1024
"""How many connections the system accepts at once; each has a file before one can be closed."""
SAY_S = 60.0


def allow_files() -> None:
    """Let this process open as many files as callers may need.

    1,024 is what most systems start a process with, for the sake of programs that use select(),
    and a thousand idle callers take all of them.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = CONNECTIONS_MAX + FILES_RESERVED + BACKLOG_MAX
    if hard != resource.RLIM_INFINITY:
        wanted = min(wanted, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        with contextlib.suppress(OSError, ValueError):  # the system has a limit of its own
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def backlog() -> int:
    """How many connections may wait to be accepted: an eighth of the files, or BACKLOG_MAX."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return BACKLOG_MAX if soft == resource.RLIM_INFINITY else max(1, min(BACKLOG_MAX, soft // 8))


def _most() -> int:
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY:
        return CONNECTIONS_MAX
    return min(CONNECTIONS_MAX, max(soft - FILES_RESERVED - backlog(), soft // 2))


class Connections:
    """All that are open, from when they were accepted. At the limits one is closed for the next
    (api/http/places.py)."""

    def __init__(self, tls: ssl.SSLContext | None = None) -> None:
        self._places: Places[Guest] = Places(_most())
        self._tls = tls
        self._said = -SAY_S

    @property
    def factory(self) -> Callable[..., asyncio.Protocol]:
        """What makes the protocol of an accepted connection, with uvicorn's arguments."""
        return self._accepted

    def _accepted(self, *args: Any, **more: Any) -> asyncio.Protocol:
        make = partial(Connection, self, *args, **more)
        return make() if self._tls is None else Hello(self, self._tls, make)

    def opened(self, guest: Guest) -> None:
        """One more; this one or another may be evicted for it."""
        loser = self._places.take(guest)
        self.wait(guest)
        if loser is not None:
            self._say()
            loser.evict()

    def _say(self) -> None:
        now = asyncio.get_running_loop().time()
        if now - self._said >= SAY_S:  # as often as an operator can use it
            self._said = now
            idle, strangers = len(self._places.idle), self._places.strangers
            log.warning(
                "connections_full", most=self._places.most, idle=idle, without_key=strangers
            )

    def closed(self, guest: Guest) -> None:
        """One less."""
        self._places.leave(guest)

    def wait(self, guest: Guest) -> None:
        """From now on, this one waits for a call."""
        self._places.wait(guest, asyncio.get_running_loop().time())

    def called(self, guest: Guest) -> None:
        """The head of a call has come."""
        self._places.called(guest)

    def known(self, guest: Guest) -> None:
        """It has shown a key."""
        self._places.know(guest)

    async def run(self) -> None:
        """Close those that are too slow, until cancelled."""
        while True:
            await asyncio.sleep(LOOK_S)
            now = asyncio.get_running_loop().time()
            for guest in self._places.all():
                guest.look(now, self._places.idle.get(guest))


class Connection(Framing):
    """uvicorn's protocol, with limits."""

    def __init__(self, connections: Connections, *args: Any, **more: Any) -> None:
        super().__init__(*args, **more)
        self._connections = connections
        self._loose = 0  # bytes that were no part of a body, since the last that were, or a head
        self._unread, self._unread_since = 0, 0.0
        self._refused = False
        self._known = False
        # uvicorn's `cycle` is the newest call; of several in a row, this is the one at work.
        self._working: RequestResponseCycle | None = None
        self.head_begun = True
        """Whether its time runs. Not between two calls: that time is uvicorn's to limit."""

    # ----- what happens to it -----

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._connections.opened(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self._connections.closed(self)
        self._give_up()
        if self.scope is not None:
            self.scope.pop(KNOWN, None)  # type: ignore[misc]
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self._refused:
            return
        self._loose += len(data)
        self._unset_keepalive_if_required()
        try:
            self.feed(data)
        except HttpParserError as error:
            wrong = error.__context__  # what one of our callbacks raised
            self.refuse(wrong if isinstance(wrong, errors.Refusal) else errors.InvalidHttp())
        if self._loose > HEAD_BYTES_MAX:
            self.refuse(errors.HeadersTooLarge())
        elif self._idle and not self.head_begun:
            # Whatever it is: a head, an empty line, or the rest of a body that nobody reads.
            self.head_begun = True
            self._connections.wait(self)

    def on_headers_complete(self) -> None:
        self._loose = 0
        self.head_begun = False
        self._connections.called(self)
        if not self._known:
            self.scope[KNOWN] = self._key_shown  # type: ignore[literal-required]
        super().on_headers_complete()

    def _key_shown(self) -> None:
        self._known = True
        self._connections.known(self)

    def on_body(self, body: bytes) -> None:
        self._loose = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        self._loose = 0
        super().on_message_complete()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if self._idle:
            self._connections.wait(self)

    # ----- what is done about it -----

    @property
    def _idle(self) -> bool:
        """Whether no call is under way."""
        return self.cycle is None or self.cycle.response_complete

    def evict(self) -> None:
        self._connections.closed(self)
        self.transport.abort()

    def look(self, now: float, idle_since: float | None) -> None:
        """Drop it if its call does not come, its caller has left or takes nothing of its reply."""
        if idle_since is not None and self.head_begun and now - idle_since > HEAD_S:
            self.refuse(errors.RequestTimeout())
        if self._left_unseen():
            self.transport.abort()
            return
        try:
            unread = self.transport.get_write_buffer_size()
        except AttributeError:  # asyncio's TLS, when it was closed twice: it ends by itself
            return
        if unread == 0 or unread != self._unread:
            self._unread, self._unread_since = unread, now
        elif now - self._unread_since > UNREAD_S:
            self.transport.abort()

    def _left_unseen(self) -> bool:
        """Whether the caller has closed behind calls that are not read before the one at work ends:
        nothing of them is read, so the event loop does not see it either."""
        waits = self._working is not None and not self._working.more_body
        if not waits or not self.flow.read_paused or self.transport.is_closing():
            return False
        poll = select.poll()
        poll.register(self.transport.get_extra_info("socket"), _CLOSED)
        return bool(poll.poll(0))

    def refuse(self, refusal: errors.Refusal) -> None:
        """Read no more: answer the calls that have come whole, or say what is wrong, and close."""
        if self._refused or self.transport.is_closing():
            return
        self._refused = True
        if not self._idle and self.cycle.more_body and self.pipeline:
            self.pipeline.popleft()  # cut off, and not at work yet: the one before it is the last
            assert self._working is not None
            self.cycle = self.pipeline[0][0] if self.pipeline else self._working
        if not self._idle and not self.cycle.more_body:
            self.cycle.keep_alive = False
            return
        self._connections.wait(self)
        started = not self._idle and self.cycle.response_started
        self._give_up()
        if not started:  # between the lines of a reply, nobody would understand it
            self._say(refusal)
        if self.transport.can_write_eof():
            self.transport.write_eof()
        self.loop.call_later(LINGER_S, self.transport.abort)

    def _say(self, refusal: errors.Refusal) -> None:
        content = json.dumps(refusal.body(), separators=(",", ":")).encode()
        headers = [
            (b"content-type", b"application/json"),
            (b"content-length", b"%d" % len(content)),
            (b"connection", b"close"),
        ]
        id_, https = reply_headers.new_id(), self.scheme == "https"
        headers = reply_headers.complete(headers, id_, https=https)
        lines = b"".join(b"%s: %s\r\n" % header for header in headers)
        self.transport.write(STATUS_LINE[refusal.http_status] + lines + b"\r\n" + content)

    def _give_up(self) -> None:
        """Tell the call that is under way that nobody is there any more."""
        if self._working is not None and not self._working.response_complete:
            self._working.disconnected = True
            self._working.message_event.set()

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        self._working = cycle
        super()._start_asgi_task(cycle, app)

    def send_400_response(self, msg: str) -> None:
        self.refuse(errors.InvalidHttp())
