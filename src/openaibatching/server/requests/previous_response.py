"""Calls that go on from an answer of ours: `previous_response_id` may be our id of it, and OpenAI
is sent its own.

A request is named by what its caller wrote. So the same call again is found whatever has become of
the request that it goes on from.
"""

from __future__ import annotations

import uuid
from collections.abc import Sequence

import msgspec

from openaibatching.server import errors
from openaibatching.server.config.settings import Settings
from openaibatching.server.database.statements import Connection, execute, struct_row
from openaibatching.server.domain.request import Call, request_id
from openaibatching.server.requests.parse import PREVIOUS, going_on_from


class Previous(msgspec.Struct, frozen=True, gc=False):
    """What a call goes on from; `state` is None if it is not there. `known`: the call itself is."""

    call: uuid.UUID
    id: uuid.UUID
    known: bool
    state: str | None
    upstream_id: str | None


Refused = dict[uuid.UUID, errors.Refusal]
"""{a call's id: why it is refused}."""


async def resolve(
    conn: Connection, settings: Settings, calls: Sequence[Call]
) -> tuple[list[Call], Refused]:
    """The calls with OpenAI's id in place of ours, and those that are refused:
    PreviousResponseNotFound, PreviousResponseUnavailable, RequestTooLarge.

    One that is stored already is left as it is, if there is nothing to go on from any more: it is
    found, and not sent anew.
    """
    going_on = [call for call in calls if call.previous is not None]
    found = {(row.call, row.id): row for row in await _read(conn, going_on)}
    resolved, refused = [], Refused()
    for call in calls:
        row = found.get((call.id, call.previous)) if call.previous is not None else None
        try:
            resolved.append(call if row is None else _resolved(settings, call, row))
        except errors.Refusal as refusal:
            refused[call.id] = refusal
    return resolved, refused


def _resolved(settings: Settings, call: Call, row: Previous) -> Call:
    if row.state == "completed" and row.upstream_id is not None:
        return going_on_from(settings, call, row.upstream_id)
    if row.known:
        return call
    assert call.previous is not None
    name = request_id(call.previous)
    if row.state is None:
        raise errors.PreviousResponseNotFound(
            f"Previous response with id '{name}' not found.", param=PREVIOUS
        )
    why = "has no id of OpenAI's" if row.state == "completed" else f"is {row.state}"
    raise errors.PreviousResponseUnavailable(
        f"Previous response with id '{name}' {why}: there is no answer to go on from.",
        param=PREVIOUS,
    )


async def _read(conn: Connection, calls: Sequence[Call]) -> list[Previous]:
    """What each of the calls goes on from: of its tenant, and a Response."""
    params = {
        "ids": [call.id for call in calls],
        "tenants": [call.tenant for call in calls],
        "previous": [call.previous for call in calls],
    }
    cur = await execute(conn, "read_previous", params, struct_row(Previous))
    return await cur.fetchall()
