"""The session that listens for notifications, and that holds the number of this server."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import psycopg
from psycopg import AsyncConnection

from openaibatching.server.database.migrations import first_line
from openaibatching.server.database.pool import CONNECTION, configure
from openaibatching.server.database.statements import Connection, execute
from openaibatching.server.telemetry import logs

log = logs.get()

CHANNEL = "openaibatching"
PROBE = "probe "
"""How a notification begins that only tries whether it is heard (database/requirements.py)."""


async def listen(conn: Connection) -> None:
    """Hear what servers announce."""
    await conn.execute(f"listen {CHANNEL}")  # an identifier cannot be a parameter


class Session:
    """One long connection: hears notifications, and holds this server's number.

    While the session lives, its advisory lock proves that the server does (queries.sql,
    take_batch). When it ends, `on_cut` is called, and a new one is opened; `on_notify` is then
    called with "" because anything may have been missed.
    """

    def __init__(
        self,
        url: str,
        server: int,
        on_notify: Callable[[str], None],
        on_cut: Callable[[], None] = lambda: None,
    ) -> None:
        self._url, self._server, self._on_notify, self._on_cut = url, server, on_notify, on_cut

    def renew(self, url: str) -> None:
        """Connect by this URL of the same database from now on."""
        self._url = url

    async def run(self) -> None:
        """Listen until cancelled, through any outage."""
        wait = 0.1
        while True:
            try:
                async with await AsyncConnection.connect(self._url, **CONNECTION) as conn:
                    await configure(conn)
                    await execute(conn, "hold_server_number", {"server": self._server})
                    await listen(conn)
                    wait = 0.1
                    self._on_notify("")
                    async for notice in conn.notifies():
                        if not notice.payload.startswith(PROBE):
                            self._on_notify(notice.payload)
            except psycopg.Error as error:
                self._on_cut()
                log.warning("listening_interrupted", detail=first_line(error))
            await asyncio.sleep(wait)
            wait = min(wait * 2, 5.0)
