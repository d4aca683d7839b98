"""The part of the OpenAPI document about all of a tenant's work: stats, batches, costs, events."""

from typing import Final

from openaibatching.server.api.openapi.components import (
    NO_MODEL,
    Schema,
    object_,
    or_null,
    parameter,
    ref,
)
from openaibatching.server.api.openapi.responses import KEYED, Codes, refusals, reply
from openaibatching.server.domain.states import BATCH_STATES

_COUNT: Final[Schema] = {"type": "integer", "minimum": 0}
_TIME: Final[Schema] = {"type": "integer"}
_USD: Final[Schema] = {"type": "number"}
_TEXT: Final[Schema] = {"type": "string"}
_REFUSALS: Final[Codes] = KEYED
_NOT_FOUND: Final[Codes] = {"404": ("not_found",)}
_INVALID: Final[Codes] = {"400": ("invalid_value",)}


def paths() -> Schema:
    """The operations."""
    return {
        "/v1/stats": {
            "get": _operation(
                "retrieve_stats",
                "What waits and why, what OpenAI works on, what failed, and what it cost.",
                "Stats",
            )
        },
        **_cancels(),
        **_batches(),
        "/v1/costs": {
            "get": _operation(
                "list_costs",
                "What answers cost, by day (UTC), endpoint, model or tenant, and in all.",
                "CostList",
                ("group_by", "days", "tenant"),
                _INVALID,
            )
        },
        "/v1/flush": {
            "post": _operation(
                "flush",
                "Send what the caller has queued now, before `BATCH_LINGER_S` has passed.",
                "Flush",
                status="202",
            )
        },
        "/v1/requests/{id}/events": {
            "get": _operation(
                "list_events",
                "A request's story: each step of it, and of the batches that it was in.",
                "EventList",
                ("id",),
                _NOT_FOUND,
            )
        },
    }


def _cancels() -> Schema:
    return {
        "/v1/requests/cancel": {
            "post": {
                **_operation(
                    "cancel_requests",
                    "Cancel all that is queued and fits: what is left out does not limit it.",
                    "Cancelled",
                    (),
                    {"400": ("invalid_json", "invalid_value", "unknown_parameter")},
                    {"408": ("request_timeout",), "413": ("request_too_large",)},
                    {"415": ("unsupported_media_type",)},
                ),
                "requestBody": {
                    "required": True,
                    "content": {"application/json": {"schema": ref("schemas", "WhatToCancel")}},
                },
            }
        },
    }


def _batches() -> Schema:
    return {
        "/v1/upstream_batches": {
            "get": _operation(
                "list_upstream_batches",
                "The batches that carry the caller's requests, newest first.",
                "BatchList",
                ("limit", "after", "tenant"),
                _INVALID,
                _NOT_FOUND,
            )
        },
        "/v1/upstream_batches/{id}/cancel": {
            "post": _operation(
                "cancel_upstream_batch",
                "Stop a batch: finished lines keep their answers, the rest is cancelled.",
                "Batch",
                ("batch_id",),
                _NOT_FOUND,
                {"409": ("already_finished", "shared_batch")},
            )
        },
        "/v1/upstream_batches/{id}": {
            "get": _operation(
                "retrieve_upstream_batch",
                "One of them, by our id or OpenAI's.",
                "Batch",
                ("batch_id", "tenant"),
                _INVALID,
                _NOT_FOUND,
            )
        },
        "/v1/batches/{id}": {
            "get": {
                "operationId": "retrieve_batch",
                "summary": "No batch is here: what was sent to OpenAI is an upstream batch.",
                "parameters": [ref("parameters", "batch_id")],
                "responses": refusals(_REFUSALS, _NOT_FOUND),
            }
        },
    }


def _operation(
    name: str,
    summary: str,
    schema: str,
    takes: tuple[str, ...] = (),
    *refused: Codes,
    status: str = "200",
) -> Schema:
    return {
        "operationId": name,
        "summary": summary,
        "parameters": [ref("parameters", each) for each in takes],
        "responses": {
            status: reply(summary, ref("schemas", schema)),
            **refusals(_REFUSALS, *refused),
        },
    }


def parameters() -> dict[str, Schema]:
    """What these operations can be told."""
    return {
        "batch_id": parameter("id", "path", "Our id, or OpenAI's once known.", minLength=1),
        "group_by": parameter(
            "group_by",
            "query",
            "Some of `day`, `endpoint`, `model`, `tenant`, separated by commas; `day` if left out.",
            pattern="^((day|endpoint|model|tenant)(,(day|endpoint|model|tenant))*)?$",
        ),
        "tenant": parameter(
            "tenant", "query", "For keys with the scope `admin`: this tenant's only."
        ),
        "days": {
            **parameter("days", "query", "So many days back, today included; 30 if left out."),
            "schema": {
                "anyOf": [{"type": "integer", "minimum": 1, "maximum": 3660}, {"const": ""}],
                "default": 30,
            },
        },
    }


def _list(item: str, **more: Schema) -> Schema:
    members = {"data": {"type": "array", "items": ref("schemas", item)}, **more}
    members["has_more"] = {"type": "boolean"}
    return object_({"object": {"const": "list"}, **members}, "A list.")


def _array(members: dict[str, Schema], description: str) -> Schema:
    return {"type": "array", "items": object_(members, description)}


_LIMIT = (
    "Of enqueued tokens. `told`: by OpenAI, null if it gave no number; `kept`: by us; `others`: "
    "OpenAI refuses batches below `told`, so others may be using the account; `kept` is a guess."
)


def schemas() -> dict[str, Schema]:
    """What bodies look like."""
    ends = {"first_id": or_null("string"), "last_id": or_null("string")}
    event: dict[str, Schema] = {
        "object": {"const": "event"},
        "at": {"type": "number"},
        "of": {"enum": ["request", "batch"]},
        "from": or_null("string"),
        "to": or_null("string"),
        "batch": or_null("string"),
        "batch_id": or_null("string"),
        "note": or_null("string"),
    }
    return {
        "Stats": _stats(),
        "Batch": _batch(),
        "BatchList": _list("Batch", **ends),
        "Costs": _costs(),
        "CostList": _list("Costs", total=ref("schemas", "Costs")),
        "Cancelled": object_({"cancelled": _COUNT}, "How many requests were cancelled."),
        "WhatToCancel": {
            "type": "object",
            "properties": {
                "model": or_null("string", minLength=1),
                "group": or_null("string", pattern="^[A-Za-z0-9._:-]{1,128}$"),
                "created_before": or_null("number", description="Unix seconds."),
            },
            "additionalProperties": False,
            "examples": [{"model": "gpt-4o", "created_before": 1795342800}],
        },
        "Flush": object_(
            {"object": {"const": "flush"}, "requests": _COUNT}, "How many requests were queued."
        ),
        "Event": object_(event, "One step. `at` has fractions of a second."),
        "EventList": _list("Event"),
    }


def _queue() -> dict[str, Schema]:
    return {
        "tenant": _TEXT,
        "endpoint": _TEXT,
        "model": or_null("string", description=NO_MODEL),
        "requests": _COUNT,
        "requests_capped": {"type": "boolean", "description": "There are at least so many."},
        "oldest_queued_at": _TIME,
        "reason": {
            "enum": [
                "lingering",
                "held",
                "over_budget",
                "creations_full",
                "budget_at_openai",
                "token_limit",
                "due",
            ]
        },
        "until": or_null("integer"),
        "detail": _TEXT,
        "token_limit": or_null("object", description=_LIMIT),
    }


def _stats() -> Schema:
    states = ("queued", "in_progress", "completed", "failed", "cancelled")
    failure: dict[str, Schema] = {
        "status_code": _COUNT,
        "code": or_null("string"),
        "endpoint": _TEXT,
        "model": or_null("string", description=NO_MODEL),
        "requests": _COUNT,
        "example": _TEXT,
        "last_at": _TIME,
    }
    batches: Schema = {"type": "array", "items": ref("schemas", "Batch")}
    costs = ref("schemas", "Costs")
    most = or_null(
        "number", description="What the batches at OpenAI cost at most; null: nobody can say."
    )
    budget: dict[str, Schema] = {
        "usd_day": or_null("number"),
        "spent": _USD,
        "reserved": _USD,
        "at_openai_most": most,
    }
    members: dict[str, Schema] = {
        "object": {"const": "stats"},
        "tenant": or_null("string", description="None: of all tenants."),
        "created_at": _TIME,
        "requests": object_(dict.fromkeys(states, _COUNT), "By status."),
        "queue": _array(_queue(), "What waits, why, and until when."),
        "batches": batches,
        "stuck": batches,
        "failures": _array(failure, "A reason of the last 7 days, with its last request."),
        "answers_by_hour": _array(
            {"hour": _TIME, "answers": _COUNT, "failed": _COUNT}, "An hour of the last 48."
        ),
        "costs": object_({"today": costs, "last_30_days": costs}, "Days are those of UTC."),
        "unread": {
            "anyOf": [
                object_(
                    {"answers": _COUNT, "paid": _USD, "since": _TIME},
                    "Answers of the last 7 days that nobody has asked for, in USD; `since` is the "
                    "hour of the oldest.",
                ),
                {"type": "null"},
            ]
        },
        "budget": object_(budget, "What `BATCH_BUDGET_USD_DAY` leaves; null: no budget is set."),
    }
    return object_(members, "All of a tenant's work, at one glance.")


def _batch() -> Schema:
    counts = dict.fromkeys(("total", "completed", "failed"), _COUNT)
    members: dict[str, Schema] = {
        "object": {"const": "upstream_batch"},
        "id": {"type": "string", "format": "uuid"},
        "batch_id": or_null("string", description="OpenAI's id."),
        "status": {"enum": list(BATCH_STATES)},
        "upstream_status": or_null("string", description="OpenAI's word."),
        "endpoint": _TEXT,
        "model": or_null("string", description=NO_MODEL),
        "requests": _COUNT,
        "own_requests": _COUNT,
        "shared": {"type": "boolean", "description": "Whether other tenants have requests in it."},
        "request_counts": object_(
            counts, "OpenAI's counts while it works, then ours; of a shared batch, of one's own."
        ),
        "requeued": _COUNT,
        "cancelled": _COUNT,
        "tries": _COUNT,
        "stuck": {"type": "boolean"},
        "reason": _TEXT,
        "trouble_since": or_null("integer", description="Since when looks or tries fail."),
        "created_at": _TIME,
        **{
            name: or_null("integer")
            for name in (
                "cancel_requested_at",
                "submitted_at",
                "ended_at",
                "closed_at",
                "next_look_at",
                "estimated_completion_at",
            )
        },
    }
    return object_(members, "A batch, which may carry requests of other tenants as well.")


def _costs() -> Schema:
    names = ("answers", "unpriced", "incomplete", "input_tokens", "cached_tokens", "output_tokens",
             "reasoning_tokens")  # fmt: skip
    members: dict[str, Schema] = {"object": {"const": "cost"}, **dict.fromkeys(names, _COUNT)}
    members["currency"] = {"const": "usd"}
    members |= dict.fromkeys(("paid", "realtime", "saved", "lost"), _USD)
    costs = object_(
        members, "What answers cost; `lost` is what was paid for answers that never came."
    )
    costs["properties"] = {
        **members,
        **{name: or_null("string") for name in ("day", "endpoint", "model", "tenant")},
    }
    return costs
