"""Calling work off: all that is queued and fits, or one batch with all that is in it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import msgspec

from openaibatching.server import errors
from openaibatching.server.api.state import Door
from openaibatching.server.auth import audit
from openaibatching.server.auth.audit import Actor
from openaibatching.server.domain.canonical_json import is_number
from openaibatching.server.domain.view import View
from openaibatching.server.pipeline import cancels

CANCELLED_AT_ONCE = 2000
MEMBERS = ("model", "group", "created_before")
_GROUP = re.compile(r"[A-Za-z0-9._:-]{1,128}")


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which queued requests are to be cancelled; what is None does not limit them."""

    model: str | None = None
    group: str | None = None
    created_before: datetime | None = None
    endpoint: str | None = None


def read_wanted(given: Any) -> Wanted:
    """What the body of POST /v1/requests/cancel asks for.

    An unknown member is refused: whoever believes that it limits what is cancelled would lose the
    rest. Raises InvalidJson, UnknownParameter, InvalidParameter.
    """
    if not isinstance(given, dict):
        raise errors.InvalidJson
    for name in given:
        if name not in MEMBERS:
            known = ", ".join(MEMBERS)
            said = f"Unknown parameter: '{name}'. Known are {known}."
            raise errors.UnknownParameter(said, param=name)
    model, group, before = (given.get(name) for name in MEMBERS)
    if model is not None and not (isinstance(model, str) and model and "\0" not in model):
        raise errors.InvalidParameter("'model' must be the name of a model.", param="model")
    if group is not None and not (isinstance(group, str) and _GROUP.fullmatch(group)):
        said = "'group' has 1 to 128 of A-Z a-z 0-9 . _ : -"
        raise errors.InvalidParameter(said, param="group")
    return Wanted(model, group, None if before is None else _time(before))


def _time(given: Any) -> datetime:
    try:
        if not is_number(given):
            raise ValueError
        seconds = float(bytes(given) if isinstance(given, msgspec.Raw) else given)
        return datetime.fromtimestamp(seconds, UTC)
    except (ValueError, OverflowError, OSError):
        raise errors.InvalidParameter(
            "'created_before' must be a time in Unix seconds.", param="created_before"
        ) from None


async def cancel_queued(door: Door, by: Actor, wanted: Wanted) -> int:
    """Cancel what the tenant has queued and what fits; how many. Raises DatabaseUnavailable.

    In parts, each of them committed, up to what is queued at the beginning: what is interrupted has
    cancelled a part, and may be asked for again.
    """
    if wanted.group is not None:
        return 0  # no request is in a group yet
    which = cancels.Queued(by.tenant, wanted.model, wanted.endpoint, wanted.created_before)
    last = await door.read(lambda conn: cancels.last_queued(conn, by.tenant))
    after: int | None = 0
    cancelled = 0
    while last is not None and after is not None:
        async with door.ctx.database.transaction() as conn:
            after, n = await cancels.cancel_queued(conn, which, after, last, CANCELLED_AT_ONCE)
            if n:
                await audit.note(conn, audit.CANCELLED, by, "queue", n)
        cancelled += n
    return cancelled


async def cancel_batch(door: Door, by: Actor, name: str) -> dict[str, Any]:
    """Wish the end of the tenant's batch of that name, our id or OpenAI's; the batch.

    Raises NotFound, SharedBatch, AlreadyFinished, DatabaseUnavailable.
    """
    row = await door.reports.find_batch(View.own(by.tenant), name)
    async with door.ctx.database.transaction() as conn:
        wished = await cancels.wish_cancel(conn, by.tenant, row.id)
        if wished:
            await audit.note(conn, audit.BATCH_CANCELLED, by, str(row.id))
    if not wished:
        if row.own_requests < row.requests:
            raise errors.SharedBatch
        raise errors.AlreadyFinished("OpenAI has already ended this batch.")
    return await door.reports.batch(View.own(by.tenant), name)
