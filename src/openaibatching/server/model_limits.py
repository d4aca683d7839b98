"""What is known of a model: the enqueued-token limit that OpenAI taught, and whether it is held."""

from __future__ import annotations

from datetime import datetime, timedelta

from openaibatching.server.db import Connection, execute, value
from openaibatching.server.model import Batch


async def hold_model(
    conn: Connection, model: str, hold_s: float, why: str | None, now: datetime | None
) -> None:
    """Form none of the model's batches for `hold_s` seconds. `why`: OpenAI's code, if any."""
    params = {"model": model, "hold": timedelta(seconds=hold_s), "why": why, "now": now}
    await execute(conn, "hold_model", params)


async def learn_limit(conn: Connection, model: str, tokens: int, now: datetime | None) -> None:
    """Keep the enqueued-token limit that OpenAI told. The model is held already."""
    await execute(conn, "learn_limit", {"model": model, "tokens": tokens, "now": now})


async def lower_limit(conn: Connection, model: str, tokens: int, now: datetime | None) -> None:
    """Keep below this for now, because more was refused. The model is held already."""
    await execute(conn, "lower_limit", {"model": model, "tokens": tokens, "now": now})


async def raise_limit(conn: Connection, batch: Batch) -> bool:
    """Whether OpenAI has now taken a batch above the limit, which then is no longer below it."""
    params = {"model": batch.model, "tokens": batch.tokens}
    return await value(conn, "raise_limit", params) is not None
