"""What each page shows, read and put into words: everything that its template is given."""

from __future__ import annotations

import time
import uuid
from typing import Any

import msgspec
from markupsafe import Markup

from openaibatching.server import errors
from openaibatching.server.api import replies
from openaibatching.server.api.state import Door
from openaibatching.server.dashboard import charts, queries, timeline
from openaibatching.server.dashboard.formatting import clock, duration, model
from openaibatching.server.dashboard.summary import summary
from openaibatching.server.domain.request import Request, request_id
from openaibatching.server.domain.states import REQUEST_STATES
from openaibatching.server.domain.view import View
from openaibatching.server.reporting.presenters import BEFORE_ITS_END
from openaibatching.server.reporting.reports import MONTH_DAYS
from openaibatching.server.requests import store

LIST_ROWS = 50
EXCERPT_BYTES = 20_000
EVENTS_MAX = 200

Shown = dict[str, Any]


async def overview(door: Door, view: View) -> Shown:
    """The first page: all of a tenant's work, or of all tenants'."""
    stats = await door.reports.stats(view)
    by_day = await door.reports.costs(view, charts.DAYS, ["day"])
    tenants: list[Shown] = []
    if view.all_tenants:
        tenants = (await door.reports.costs(view, MONTH_DAYS, ["tenant"]))["data"]
    said = summary(stats, door.ctx.settings.batch_linger_s)
    return {
        "title": said.title,
        "stats": stats,
        "tenants": tenants,
        "summary": said,
        "answers": charts.answers(stats["answers_by_hour"], stats["created_at"]),
        "savings": charts.savings(by_day["data"], stats["created_at"]),
    }


async def requests(door: Door, view: View, status: str, after: str) -> Shown:
    """A list, newest first. `after` is a request's id. Raises InvalidParameter, NotFound."""
    if status and status not in REQUEST_STATES:
        raise errors.InvalidParameter(f"There is no status “{status}”.", param="status")
    before_seq = (await door.actions.find(view, after, whole=False)).seq if after else None
    found = await door.read(
        lambda conn: store.list_requests(conn, view, status or None, before_seq, LIST_ROWS + 1)
    )
    listed = [_described(request) for request in found[:LIST_ROWS]]
    return {
        "title": "Requests",
        "now": time.time(),
        "states": REQUEST_STATES,
        "status": status,
        "after": after,
        "requests": listed,
        "older": listed[-1]["id"] if len(found) > LIST_ROWS else "",
    }


def _described(request: Request) -> Shown:
    """What the API says of it, without bodies."""
    described: Shown = msgspec.json.decode(replies.describe(request, with_answer=False))
    return described | {"tenant": request.tenant}


async def request(door: Door, view: View, name: str) -> Shown:
    """One request's whole story. Raises NotFound."""
    found = await door.actions.find(view, name, whole=False)
    excerpts = await door.read(lambda conn: queries.read_excerpts(conn, found, EXCERPT_BYTES))
    story = await door.reports.events(found)
    batches = [event["batch"] for event in story["data"] if event["batch"]]
    body, answer = None, None
    if excerpts is not None:
        body = _excerpt(excerpts.body, excerpts.body_bytes)
        answer = _excerpt(excerpts.answer, excerpts.answer_bytes)
    return {
        "title": request_id(found.id),
        "level": {"failed": "bad", "completed": "good"}.get(found.state, "plain"),
        "request": _described(found),
        "story": await _now(door, view, found, batches),
        "cost": replies.receipt(found.receipt),
        "events": [
            _told(
                event["of"], event["from"], event["to"], event["at"], event["note"], event["batch"]
            )
            for event in story["data"][:EVENTS_MAX]
        ],
        "more_events": story["has_more"] or len(story["data"]) > EVENTS_MAX,
        "body": body,
        "answer": answer,
    }


async def _now(door: Door, view: View, found: Request, batches: list[str]) -> Any:
    """How it stands, in a sentence."""
    now = time.time()
    if found.state == "completed":
        return "It has its answer."
    if found.state == "failed":
        reason = timeline.error(found.answer)
        return f"{found.status_code}" + (f", {reason}" if reason else "")
    if found.state == "cancelled":
        return "It is not sent."
    said = f"It has waited for {duration(now - found.created_at.timestamp())}."
    if found.state == "in_progress" and batches:
        said = (await door.reports.batch(view, batches[-1]))["reason"]
    expected = door.eta(found)
    if expected is None:
        return f"{said} When its answer comes cannot be told: OpenAI takes up to 24 hours."
    end = clock(expected.timestamp(), now)
    return Markup("{} Its answer is expected at {}.").format(said, end)


def _excerpt(part: bytes | None, whole: int | None) -> Shown | None:
    if part is None or whole is None:
        return None
    return {
        "text": timeline.text(part, whole),
        "cut": len(part) < whole,
        "shown": len(part),
        "bytes": whole,
    }


async def batch(door: Door, view: View, name: str) -> Shown:
    """One batch and its story. Raises NotFound."""
    found = await door.reports.batch(view, name)
    id_ = uuid.UUID(found["id"])
    steps = await door.read(lambda conn: queries.batch_events(conn, id_, EVENTS_MAX))
    events = [
        _told("batch", step.old_state, step.new_state, step.at.timestamp(), step.note)
        for step in steps
    ]
    stopping = found["shared"] or found["cancel_requested_at"]
    stoppable = not stopping and found["status"] in BEFORE_ITS_END
    return {
        "title": f"Batch for {model(found['model'])}",
        "batch": found,
        "events": events,
        "stoppable": stoppable,
    }


def _told(
    of: str, old: str | None, new: str | None, at: float, note: str | None, batch: str | None = None
) -> Shown:
    """One step, in words; with a link to the batch where the request goes into it."""
    return {
        "at": at,
        "of": of,
        "said": timeline.step(of, old, new),
        "note": note if timeline.has_news(new) else None,
        "batch": batch if (of, new) == ("request", "in_progress") else None,
    }
