"""What is going on, in words and numbers: the objects of stats, batches, costs and events. Pure.

Times are in Unix seconds, money is in USD.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

from openaibatching.server.billing.receipts import cost
from openaibatching.server.billing.spending import Budgeted
from openaibatching.server.config.settings import UPSTREAM_CREATES_PER_HOUR
from openaibatching.server.domain.request import request_id
from openaibatching.server.domain.view import View
from openaibatching.server.reporting.forecast import Forecast
from openaibatching.server.reporting.queries import (
    BatchRow,
    CostRow,
    EventRow,
    FailureRow,
    QueueRow,
    UnreadRow,
)

COUNTED_MAX = 10_000
"""A queue is counted to here: a larger one has "at least" so many."""


@dataclass(frozen=True, slots=True)
class Pace:
    """What decides when a queue is sent. `creates` were made in the last hour, by all servers;
    `budgets` are those that the tenant has to keep to."""

    linger: timedelta
    creates: int
    budgets: Sequence[Budgeted] = ()


def unix(at: datetime | None) -> int | None:
    """Unix seconds."""
    return None if at is None else int(at.timestamp())


# ----- the queue -----


def queue(row: QueueRow, pace: Pace, forecast: Forecast, now: datetime) -> dict[str, Any]:
    """One queue, why it waits, and until when."""
    reason, until, detail = _why(row, pace, forecast, now)
    return {
        "tenant": row.tenant,
        "endpoint": row.endpoint,
        "model": row.model or None,
        "requests": row.requests,
        "requests_capped": row.requests >= COUNTED_MAX,
        "oldest_queued_at": unix(row.queued_at),
        "reason": reason,
        "until": unix(until),
        "detail": detail,
        "token_limit": _token_limit(row),
    }


def _token_limit(row: QueueRow) -> dict[str, Any] | None:
    """OpenAI's number, and what is kept; None if nothing is known."""
    if row.token_limit is None:
        return None
    return {"told": row.token_limit_told, "kept": row.token_limit, "others": row.guessed}


def _others(row: QueueRow) -> str:
    """Why less is kept than OpenAI told."""
    told = "OpenAI refuses our batches for their enqueued tokens and tells no limit"
    if row.token_limit_told is not None:
        told = (
            f"OpenAI told a limit of {row.token_limit_told:,} enqueued tokens; our batches are "
            "refused below that"
        )
    kept = f"We try again with at most {row.token_limit:,} at once."
    return f"{told}: others may be using this account. {kept}"


def _why(
    row: QueueRow, pace: Pace, forecast: Forecast, now: datetime
) -> tuple[str, datetime | None, str]:
    if row.held_until is not None and row.held_until > now:
        if row.guessed:
            return "token_limit", row.held_until, _others(row)
        why = row.held_for or "without a code"
        said = f"OpenAI refused the model's last batch ({why}); another is sent then."
        return "held", row.held_until, said
    if any(budget.used_up for budget in pace.budgets):
        midnight = (now + timedelta(days=1)).replace(hour=0, minute=0, second=0, microsecond=0)
        return "over_budget", midnight, "Today's budget (BATCH_BUDGET_USD_DAY) is used up."
    if pace.creates >= UPSTREAM_CREATES_PER_HOUR:
        said = f"OpenAI takes {UPSTREAM_CREATES_PER_HOUR:,} batches an hour; these were made."
        return "creations_full", None, said
    if row.queued_at > now:
        said = "OpenAI refused it alone for its enqueued tokens: it is sent again, alone, then."
        return "token_limit", row.queued_at, said
    due = row.queued_at + pace.linger
    if due > now and not row.flushed:
        return "lingering", due, "It waits for other requests until its batch is sent."
    if not all(budget.sends for budget in pace.budgets):
        return "budget_at_openai", _first_end(forecast, now), (
            "What is at OpenAI may use up today's budget (BATCH_BUDGET_USD_DAY): it is sent when "
            "what that costs is known."
        )  # fmt: skip
    if row.guessed and row.enqueued > 0:
        return "token_limit", _first_end(forecast, now, row.model), _others(row)
    if row.token_limit is not None and row.enqueued > 0:
        said = (
            f"OpenAI takes {row.token_limit:,} tokens of this model at once, and has others now: "
            "it is sent when a batch has ended."
        )
        return "token_limit", _first_end(forecast, now, row.model), said
    return "due", None, "Its batch is being made."


def _first_end(forecast: Forecast, now: datetime, model: str | None = None) -> datetime | None:
    """When the first of the batches at OpenAI is expected, of any model or of this one."""
    ends = (
        forecast.of_batch(batch.upstream_id, now)
        for batch in forecast.under_way.values()
        if model in (None, batch.model)
    )
    return min((end for end in ends if end), default=None)


# ----- batches -----


def batch(row: BatchRow, forecast: Forecast, now: datetime, view: View) -> dict[str, Any]:
    """The object of GET /v1/upstream_batches/{id}.

    Of a batch that tenants share, each sees its own requests: how many of them have ended is known
    when results are stored; OpenAI's counts are of all.
    """
    known = row.state in ("refused", "ended", "collected", "closed")
    whole = view.whole or row.own_requests == row.requests
    end = forecast.of_batch(row.upstream_id, now) if row.upstream_id and not known else None
    return {
        "object": "upstream_batch",
        "id": str(row.id),
        "batch_id": row.upstream_id,
        "status": row.state,
        "upstream_status": row.upstream_status,
        "endpoint": row.endpoint,
        "model": row.model or None,
        "requests": row.requests if whole else row.own_requests,
        "own_requests": row.own_requests,
        "shared": row.own_requests < row.requests,
        "request_counts": _counts(row, known, whole),
        "requeued": row.requeued if whole else row.own_requeued,
        "cancelled": row.cancelled if whole else row.own_cancelled,
        "tries": row.tries,
        "stuck": row.stuck,
        "reason": _going_on(row, whole),
        "trouble_since": unix(row.troubled_at) if row.trouble else None,
        "created_at": unix(row.created_at),
        "cancel_requested_at": unix(row.cancel_wished_at),
        "submitted_at": unix(row.submitted_at),
        "ended_at": unix(row.ended_at),
        "closed_at": unix(row.closed_at),
        "next_look_at": None if row.closed_at else unix(row.next_at),
        "estimated_completion_at": unix(end),
    }


def _counts(row: BatchRow, known: bool, whole: bool) -> dict[str, int]:
    if not whole:
        done, failed, total = row.own_completed, row.own_failed, row.own_requests
    elif known:
        done, failed, total = row.completed, row.failed, row.requests
    else:
        done, failed, total = row.upstream_completed, row.upstream_failed, row.requests
    return {"total": total, "completed": done, "failed": failed}


_DOING = {
    "claimed": "Its file is about to be uploaded.",
    "uploading": "Its file is being uploaded.",
    "uploaded": "Its file is at OpenAI; the batch is about to be created.",
    "creating": "It is being created; a creation without an answer is looked for at OpenAI first.",
    "refused": "OpenAI refused it; what follows is being decided.",
    "ended": "OpenAI has ended it; its answers are being read.",
    "collected": "All is answered; its files at OpenAI are being deleted.",
}
BEFORE_ITS_END = ("claimed", "uploading", "uploaded", "creating", "submitted")
"""The states in which a batch can be cancelled."""
_AT_OPENAI = {
    "validating": "OpenAI checks its file.",
    "in_progress": "OpenAI works on it.",
    "finalizing": "OpenAI writes its answers down.",
    "cancelling": "OpenAI is stopping it.",
}
_STUCK = {
    "submitted": "OpenAI has had it for more than 25 hours. It was asked to stop; then what is "
    "unanswered goes again.",
}
_STUCK_HERE = "Nothing has moved for an hour: the log says why, under batch_stuck."


def _going_on(row: BatchRow, whole: bool) -> str:
    if row.state == "closed":
        if whole:
            return _ended(row, row.requeued, row.cancelled)
        return _ended(row, row.own_requeued, row.own_cancelled)
    if row.stuck:
        said = _STUCK.get(row.state, _STUCK_HERE)
    elif row.state == "submitted":
        said = _AT_OPENAI.get(row.upstream_status or "", "OpenAI has it.")
    else:
        said = _DOING[row.state]
    if row.cancel_wished_at is not None and row.state in BEFORE_ITS_END:
        said = "It was cancelled: what is not answered yet is not sent again. " + said
    if row.trouble:
        failed = "look" if row.state == "submitted" else "try"
        said = f"The last {failed} failed, because {row.trouble}; it is repeated. {said}"
    return said


def _ended(row: BatchRow, requeued: int, cancelled: int) -> str:
    if cancelled:
        return f"Cancelled: {cancelled:,} requests were not answered; answers are kept."
    again = f" {requeued:,} requests went again." if requeued else ""
    if row.upstream_status == "completed":
        return "Done." + again
    if row.upstream_status == "failed":
        return "OpenAI refused it; what was wrong failed alone." + again
    return f"OpenAI ended it as {row.upstream_status}; what was answered is kept." + again


# ----- failures, answers, events -----


def failure(row: FailureRow) -> dict[str, Any]:
    """Why requests failed for good."""
    return {
        "status_code": row.status_code,
        "code": row.code or None,
        "endpoint": row.endpoint,
        "model": row.model or None,
        "requests": row.requests,
        "example": request_id(row.example),
        "last_at": unix(row.last_hour),
    }


def hours(rows: Iterable[tuple[datetime, int, int]]) -> list[dict[str, Any]]:
    """Answers and failures by hour."""
    return [{"hour": unix(at), "answers": done, "failed": failed} for at, done, failed in rows]


def event(row: EventRow) -> dict[str, Any]:
    """One step of a request's story; `at` has fractions of a second."""
    return {
        "object": "event",
        "at": round(row.at.timestamp(), 3),
        "of": row.of,
        "from": row.old_state,
        "to": row.new_state,
        "batch": str(row.batch_id) if row.batch_id else None,
        "batch_id": row.upstream_id,
        "note": row.note,
    }


# ----- money -----


def budget(found: Sequence[Budgeted]) -> dict[str, Any] | None:
    """Of these budgets the one that has least left; None if there is none."""
    if not found:
        return None
    tightest = min(found, key=lambda its: its.limit - its.spent - its.reserved)
    most = tightest.at_openai
    return {
        "usd_day": float(tightest.limit),
        "spent": float(tightest.spent),
        "reserved": float(tightest.reserved),
        "at_openai_most": float(most) if most.is_finite() else None,
    }


def unread(row: UnreadRow | None) -> dict[str, Any] | None:
    """Answers that nobody has asked for; None if there are none."""
    if row is None:
        return None
    return {"answers": row.answers, "paid": float(row.paid), "since": unix(row.since)}


GROUPS = ("day", "endpoint", "model", "tenant")


def costs(rows: Sequence[CostRow], by: Sequence[str]) -> dict[str, Any]:
    """The list of GET /v1/costs: a row for each group, and all of it together."""
    data = [
        {**{group: _text(getattr(row, group)) for group in by}, **money(row)}
        for row in rows
    ]  # fmt: skip
    return {"object": "list", "data": data, "total": total(rows), "has_more": False}


def _text(value: object) -> str | None:
    return str(value) if value else None  # NO_MODEL is none, too


_COUNTS = ("answers", "unpriced", "incomplete", "input_tokens", "cached_tokens", "output_tokens",
           "reasoning_tokens")  # fmt: skip


def money(row: CostRow) -> dict[str, Any]:
    """What these answers cost."""
    counts = {name: getattr(row, name) for name in _COUNTS}
    return {"object": "cost", **counts, **cost(row.realtime, row.paid), "lost": float(row.lost)}


def total(rows: Sequence[CostRow]) -> dict[str, Any]:
    """What all of these rows cost together."""
    counts = {name: sum(getattr(row, name) for row in rows) for name in _COUNTS}
    zero = Decimal(0)
    realtime, paid, lost = (
        sum((getattr(row, name) for row in rows), zero) for name in ("realtime", "paid", "lost")
    )
    return {"object": "cost", **counts, **cost(realtime, paid), "lost": float(lost)}
