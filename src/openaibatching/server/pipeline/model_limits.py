"""What is known of a model: the enqueued-token limit that OpenAI taught, and whether it is held."""

from __future__ import annotations

import uuid
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal, cast

from psycopg.rows import class_row

from openaibatching.server.database.statements import Connection, execute, struct_row, value
from openaibatching.server.domain.batch import Batch, Result
from openaibatching.server.pipeline.queue import Group, Queued
from openaibatching.server.providers.openai.refusals import Trust

HOLD_MAX = timedelta(hours=1)
LINES_AT_FAULT = timedelta(hours=1)
"""How long after a batch was accepted again a refusal is the fault of some line."""


async def hold_model(
    conn: Connection, model: str, hold_s: float, why: str | None, now: datetime | None
) -> None:
    """Form none of the model's batches for `hold_s` seconds. `why`: OpenAI's code, if any."""
    params = {"model": model, "hold": timedelta(seconds=hold_s), "why": why, "now": now}
    await execute(conn, "hold_model", params)


async def hold_longer(
    conn: Connection,
    model: str,
    hold_s: float,
    why: str | None,
    probing: Literal["accepted", "answered"] | None,
    now: datetime | None,
) -> None:
    """As `hold_model`, for `hold_s` seconds at first and twice as long each time that was in vain.

    `probing`: after it one request is tried at a time, until OpenAI has accepted a batch, or has
    answered a request.
    """
    params = {
        "model": model,
        "hold": timedelta(seconds=hold_s),
        "most": HOLD_MAX,
        "why": why,
        "probing": probing,
        "now": now,
    }
    await execute(conn, "hold_longer", params)


async def read_trust(conn: Connection, model: str, now: datetime | None) -> Trust:
    """What a refusal without a line means for the model now."""
    cur = await execute(conn, "read_trust", {"model": model, "now": now}, class_row(Trust))
    return await cur.fetchone() or Trust()


async def works(conn: Connection, model: str, now: datetime | None) -> bool:
    """Whether OpenAI has completed a batch of the model within a day."""
    return bool(await value(conn, "model_works", {"model": model, "now": now}))


async def note_refused_alone(conn: Connection, model: str, words: str) -> None:
    """A request was refused alone, for no reason that is known to be about more than itself."""
    await execute(conn, "refused_alone", {"model": model, "words": words})


async def note_accepted(conn: Connection, model: str, now: datetime | None) -> None:
    """OpenAI's validation has let a batch of the model pass."""
    await execute(conn, "note_accepted", {"model": model, "trust": LINES_AT_FAULT, "now": now})


async def note_answered(conn: Connection, model: str) -> None:
    """A batch of the model was answered, and no line was refused for the account."""
    await execute(conn, "note_answered", {"model": model})


async def learn_limit(conn: Connection, model: str, tokens: int, now: datetime | None) -> None:
    """Keep the enqueued-token limit that OpenAI told."""
    await execute(conn, "learn_limit", {"model": model, "tokens": tokens, "now": now})


async def lower_limit(conn: Connection, model: str, tokens: int, now: datetime | None) -> int:
    """Keep below this for now, because more was refused. How often in a row that happened."""
    params = {"model": model, "tokens": tokens, "now": now}
    return cast("int", await value(conn, "lower_limit", params))


async def count_refusal(conn: Connection, model: str) -> int | None:
    """How often in a row the model's batches were refused; None if the last one was taken."""
    return cast("int | None", await value(conn, "count_refusal", {"model": model}))


async def raise_limit(conn: Connection, batch: Batch, now: datetime | None) -> int | None:
    """OpenAI has taken the batch: the limit that is kept now; None if that changes nothing."""
    params = {"model": batch.model, "id": batch.id, "now": now}
    await execute(conn, "free_lone", params)
    return cast("int | None", await value(conn, "raise_limit", params))


async def weigh(conn: Connection, batch: Batch) -> tuple[int, int]:
    """(input tokens of the batch, those of the model's batches that OpenAI has)."""
    row = await (await execute(conn, "weigh_batch", {"id": batch.id})).fetchone()
    assert row is not None
    tokens, others = row
    return tokens, others


SAMPLE = 100
"""Answers out of a part that teach how many tokens their calls really had."""


async def learn_rate(conn: Connection, batch: Batch, rows: Sequence[Result]) -> None:
    """Compare what OpenAI counted for these answers with the estimates of their calls."""
    sample = [row for row in rows if row.state == "completed" and row.tokens.input > 0][:SAMPLE]
    if sample:
        params = {
            "endpoint": batch.endpoint,
            "model": batch.model,
            "ids": [row.id for row in sample],
            "counted": sum(row.tokens.input for row in sample),
        }
        await execute(conn, "learn_rate", params)


@dataclass(frozen=True, slots=True)
class Refused:
    """A request that was refused alone `refusals` times, first at `since`, and what it is."""

    refusals: int
    since: datetime
    now: datetime
    estimate: int
    body: bytes


async def refuse_alone(conn: Connection, id_: uuid.UUID, now: datetime | None) -> Refused:
    """Count that OpenAI refused the request as the only one."""
    cur = await execute(conn, "refuse_alone", {"id": id_, "now": now}, class_row(Refused))
    found: Refused | None = await cur.fetchone()
    assert found is not None
    return found


async def defer_request(
    conn: Connection, id_: uuid.UUID, wait_s: float, now: datetime | None
) -> None:
    """Send it not before `wait_s` seconds have passed, and alone."""
    params = {"id": id_, "wait": timedelta(seconds=wait_s), "now": now}
    await execute(conn, "defer_request", params)


async def find_lone(
    conn: Connection, group: Group, held_back: Collection[str], now: datetime | None
) -> Queued | None:
    """A request of the group that has to go alone, and may go now."""
    params = {
        "endpoint": group.endpoint,
        "model": group.model,
        "held_back": list(held_back),
        "now": now,
    }
    return await (await execute(conn, "find_lone", params, struct_row(Queued))).fetchone()


async def batches_under_way(conn: Connection, model: str) -> int:
    """How many batches of the model have no end yet."""
    return cast("int", await value(conn, "batches_under_way", {"model": model}))


async def read_sibling(
    conn: Connection, batch: Batch
) -> tuple[str, str | None, bytes | None] | None:
    """(state, OpenAI's status, its errors) of the other half of the batch's parent, if known."""
    params = {"parent_id": batch.parent_id, "id": batch.id}
    return await (await execute(conn, "read_sibling", params)).fetchone()
