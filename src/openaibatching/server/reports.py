"""What is asked about all of it: one typed function a query of reports.sql."""

from __future__ import annotations

from datetime import datetime
from typing import cast

from psycopg.rows import class_row

from openaibatching.server.db import Connection, execute, value
from openaibatching.server.model import Stuck


async def stuck_batches(conn: Connection, now: datetime | None) -> list[Stuck]:
    """Batches that have stood in one state for longer than anything explains."""
    return await (await execute(conn, "stuck_batches", {"now": now}, class_row(Stuck))).fetchall()


async def read_tally(conn: Connection) -> dict[tuple[str, str], int]:
    """{("request" or "batch", state): how many there are}."""
    rows = await (await execute(conn, "read_tally", {})).fetchall()
    return {(what, state): n for what, state, n in rows}


async def token_limits(conn: Connection) -> dict[str, int]:
    """{model: the enqueued-token limit that is kept now}."""
    return dict(await (await execute(conn, "token_limits", {})).fetchall())


async def oldest_queued_s(conn: Connection) -> float:
    """For how many seconds the oldest queued request has waited; 0 if there is none."""
    return cast("float", await value(conn, "oldest_queued", {}))
