"""What `GET /v1/stats` says of a service, for tests of what is made of it."""

from __future__ import annotations

from typing import Any

NOW = 1_795_356_000  # 22 November 2026, 14:00 UTC
Json = dict[str, Any]

NO_COST: Json = {
    "object": "cost", "answers": 0, "unpriced": 0, "incomplete": 0, "input_tokens": 0,
    "cached_tokens": 0, "output_tokens": 0, "reasoning_tokens": 0, "currency": "usd",
    "paid": 0.0, "realtime": 0.0, "saved": 0.0, "lost": 0.0,
}  # fmt: skip


def cost(paid: float, saved: float, **given: Any) -> Json:
    priced = {"paid": paid, "saved": saved, "realtime": paid + saved, "answers": 3000}
    return {**NO_COST, **priced, "input_tokens": 1_204_000, "output_tokens": 310_000, **given}


def group(**given: Any) -> Json:
    return {
        "endpoint": "/v1/responses", "model": "gpt-4o-mini", "requests": 1204,
        "tenant": "default", "requests_capped": False,
        "oldest_queued_at": NOW - 40, "reason": "lingering",
        "until": NOW + 20, "detail": "It waits for other requests until its batch is sent.",
        "token_limit": None, **given,
    }  # fmt: skip


def batch(**given: Any) -> Json:
    return {
        "object": "upstream_batch", "id": "1f2e3d4c-0000-4000-8000-000000000001",
        "batch_id": "batch_68a1", "status": "submitted", "upstream_status": "in_progress",
        "endpoint": "/v1/responses", "model": "gpt-4o-mini", "requests": 3400,
        "own_requests": 3400, "shared": False,
        "request_counts": {"total": 3400, "completed": 1200, "failed": 3},
        "requeued": 0, "cancelled": 0, "cancel_requested_at": None,
        "tries": 4, "stuck": False, "reason": "OpenAI works on it.",
        "trouble_since": None,
        "created_at": NOW - 3700, "submitted_at": NOW - 3600, "ended_at": None, "closed_at": None,
        "next_look_at": NOW + 30, "estimated_completion_at": NOW + 1800, **given,
    }  # fmt: skip


def stats(**given: Any) -> Json:
    """Of a service that nobody has called yet, but for what is given."""
    return {
        "object": "stats", "tenant": "default", "created_at": NOW,
        "requests": dict.fromkeys(("queued", "in_progress", "completed", "failed", "cancelled"), 0),
        "queue": [], "batches": [], "stuck": [], "failures": [], "answers_by_hour": [],
        "costs": {"today": NO_COST, "last_30_days": NO_COST},
        "unread": None,
        "budget": {"usd_day": None, "spent": 0.0, "reserved": 0.0, "at_openai_most": None}, **given,
    }  # fmt: skip


def busy(**given: Any) -> Json:
    """Of a service on a good day."""
    counts = {"queued": 1204, "in_progress": 6800, "completed": 412_345, "failed": 57}
    hours = [
        {"hour": (NOW // 3600 - n) * 3600, "answers": 900 + 731 * n % 1300, "failed": n % 5 * 9}
        for n in range(47, -1, -1)
    ]
    failures = [
        {"status_code": 400, "code": "context_length_exceeded", "requests": 41,
         "model": "gpt-4o-mini", "endpoint": "/v1/responses",
         "example": "batchreq_" + "0" * 32, "last_at": NOW - 700},
        {"status_code": 504, "code": "batch_expired", "requests": 16, "model": "gpt-4o",
         "endpoint": "/v1/chat/completions", "example": "batchreq_" + "1" * 32,
         "last_at": NOW - 90_000},
    ]  # fmt: skip
    return stats(
        **{
            "requests": {**counts, "cancelled": 12},
            "queue": [group(), group(model="gpt-4o", requests=17, oldest_queued_at=NOW - 12,
                                     until=NOW + 48)],
            "batches": [
                batch(),
                batch(id="1f2e3d4c-0000-4000-8000-000000000002", model="gpt-4o",
                      estimated_completion_at=NOW + 7000,
                      request_counts={"total": 3400, "completed": 3100, "failed": 0}),
            ],
            "failures": failures,
            "answers_by_hour": hours,
            "costs": {"today": cost(3.2, 3.2), "last_30_days": cost(88.123, 90.5, lost=0.41)},
        }
        | given
    )  # fmt: skip
