"""The empty objects that stand for an answer which is not there yet.

Callers use OpenAI's own SDKs, so a reply that says "still in progress" has to be a valid object of
the endpoint that was called, with nothing in it. These functions are pure and add no member that
OpenAI's schema does not have; `has_completed` and `batching` are spliced on elsewhere, at the end,
so that finished answers and pending ones are treated alike.

The shapes follow OpenAI's OpenAPI document and the types of its Python SDK.
"""

from collections.abc import Callable, Mapping
from typing import Any, Final, Literal, TypeAlias

from openaibatching.server.domain.endpoints import (
    CHAT,
    COMPLETIONS,
    EDITS,
    EMBEDDINGS,
    GENERATIONS,
    MODERATIONS,
    RESPONSES,
)

Pending: TypeAlias = Literal["queued", "in_progress"]


def pending(
    endpoint: str,
    *,
    id: str,  # noqa: A002  # the member it becomes is called `id`
    model: str,
    created_at: int,
    status: Pending,
    body: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """The object of `endpoint` that says nothing but "not yet".

    `id` is the request's own, `created_at` is in Unix seconds. `status` shows only where the schema
    has a place for it, which is a Response. `body` is the caller's request body: a Response repeats
    what it was asked for. Raises `KeyError` for an endpoint that is not one of `ENDPOINTS`.
    """
    if endpoint == RESPONSES:
        return _response(id, model, created_at, status, body or {})
    return _EMPTY[endpoint](id, model, created_at)


def _response(
    request_id: str, model: str, created_at: int, status: Pending, body: Mapping[str, Any]
) -> dict[str, Any]:
    return {
        "id": request_id,
        "object": "response",
        "created_at": created_at,
        "status": status,
        # True is what OpenAI says of a Response that has to be asked for again.
        "background": True,
        "completed_at": None,
        "error": None,
        "incomplete_details": None,
        "instructions": None,
        "max_output_tokens": None,
        "model": model,
        "output": [],
        "parallel_tool_calls": True,
        "previous_response_id": None,
        "reasoning": {"effort": None, "summary": None},
        "service_tier": "auto",
        "temperature": 1.0,
        "text": {"format": {"type": "text"}},
        # Not repeated from the body: a tool has fewer required members in a request than in an
        # answer, so an echo could be invalid.
        "tool_choice": "auto",
        "tools": [],
        "top_p": 1.0,
        "truncation": "disabled",
        "usage": None,
        "metadata": {},
    } | {name: body[name] for name, fits in _REPEATED.items() if name in body and fits(body[name])}


def _is_text(value: object) -> bool:
    # JSON can carry half a surrogate pair; such a text is accepted, but no encoder writes it.
    return isinstance(value, str) and not any("\ud800" <= char <= "\udfff" for char in value)


def _is_number(value: object) -> bool:
    # The bound keeps out `1e999`, which Python reads as infinity, and integers no encoder writes.
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 2**53


def _is_count(value: object) -> bool:
    return isinstance(value, int) and _is_number(value)


def _is_flag(value: object) -> bool:
    return isinstance(value, bool)


def _is_metadata(value: object) -> bool:
    return isinstance(value, dict) and all(
        _is_text(text) for pair in value.items() for text in pair
    )


# What a Response repeats from the request, and only when it is valid there: a body is judged by
# OpenAI, not here, and a wrong one must not make the pending object wrong too.
_REPEATED: Final[Mapping[str, Callable[[object], bool]]] = {
    "instructions": _is_text,
    "max_output_tokens": _is_count,
    "metadata": _is_metadata,
    "parallel_tool_calls": _is_flag,
    "previous_response_id": _is_text,
    "temperature": _is_number,
    "top_p": _is_number,
}


def _chat_completion(request_id: str, model: str, created_at: int) -> dict[str, Any]:
    return {
        "id": request_id,
        "object": "chat.completion",
        "created": created_at,
        "model": model,
        "choices": [],
    }


def _completion(request_id: str, model: str, created_at: int) -> dict[str, Any]:
    return {
        "id": request_id,
        "object": "text_completion",
        "created": created_at,
        "model": model,
        "choices": [],
    }


def _embeddings(_: str, model: str, __: int) -> dict[str, Any]:
    return {
        "object": "list",
        "data": [],
        "model": model,
        "usage": {"prompt_tokens": 0, "total_tokens": 0},
    }


def _moderation(request_id: str, model: str, _: int) -> dict[str, Any]:
    return {"id": request_id, "model": model, "results": []}


def _images(_: str, __: str, created_at: int) -> dict[str, Any]:
    return {"created": created_at, "data": []}


_EMPTY: Final[Mapping[str, Callable[[str, str, int], dict[str, Any]]]] = {
    CHAT: _chat_completion,
    COMPLETIONS: _completion,
    EMBEDDINGS: _embeddings,
    MODERATIONS: _moderation,
    GENERATIONS: _images,
    EDITS: _images,
}
