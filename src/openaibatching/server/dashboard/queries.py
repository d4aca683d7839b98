"""What the page reads besides what the API says: one typed function a query of page.sql."""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from datetime import datetime

from psycopg.rows import class_row

from openaibatching.server.database.statements import Connection, execute
from openaibatching.server.domain.request import Request


@dataclass(frozen=True, slots=True)
class Excerpts:
    """The beginnings of a body and an answer, and how many bytes the whole ones have."""

    body: bytes
    body_bytes: int
    answer: bytes | None
    answer_bytes: int | None


@dataclass(frozen=True, slots=True)
class Step:
    """One step of a batch."""

    at: datetime
    old_state: str | None
    new_state: str | None
    note: str | None


async def read_excerpts(conn: Connection, request: Request, bytes_max: int) -> Excerpts | None:
    """Up to `bytes_max` of the body and of the answer; None if the request was deleted just now."""
    params = {"tenant": request.tenant, "seq": request.seq, "bytes": bytes_max}
    return await (await execute(conn, "read_excerpts", params, class_row(Excerpts))).fetchone()


async def batch_events(conn: Connection, batch_id: uuid.UUID, limit: int) -> list[Step]:
    """The batch's first `limit` steps, oldest first."""
    params = {"batch_id": batch_id, "limit": limit}
    return await (await execute(conn, "batch_events", params, class_row(Step))).fetchall()
