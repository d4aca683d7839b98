"""The service's own OpenAPI 3.1 document: what is ours, said exactly.

Bodies of OpenAI's calls are "OpenAI's own" and described there; what this document adds is what a
caller meets only here: `has_completed` and `batching`, `Prefer: wait`, the refusals and the routes
that look after one request.
"""

from typing import Final

from openaibatching.server.api.bulk.lines import MEDIA_TYPES
from openaibatching.server.api.modes import Mode, is_api
from openaibatching.server.api.openapi import reports
from openaibatching.server.api.openapi.components import Schema, headers, parameters, ref, schemas
from openaibatching.server.api.openapi.responses import (
    KEYED,
    Codes,
    json_content,
    one_of,
    refusals,
    reply,
)
from openaibatching.server.domain.endpoints import ENDPOINTS, MODERATIONS, RESPONSES

# Refusals of a call and of the routes around one request, by HTTP status.
_CALL_REFUSALS: Final[Codes] = {
    "400": (
        "invalid_json",
        "missing_required_parameter",
        "streaming_unsupported",
        "background_unsupported",
        "invalid_idempotency_key",
        "invalid_value",
        "array_above_max_length",
    ),
    "401": ("invalid_api_key",),
    "408": ("request_timeout",),
    "413": ("request_too_large",),
    "415": ("unsupported_media_type",),
    "422": ("idempotency_key_reused",),
    "429": ("budget_exceeded", "rate_limited", "too_many_models"),
    "503": ("database_unavailable",),
}
_BULK_REFUSALS: Final[Codes] = {
    "400": ("invalid_value",),
    "401": ("invalid_api_key",),
    "408": ("request_timeout",),
    "415": ("unsupported_media_type",),
    "429": ("rate_limited",),
    "503": ("database_unavailable",),
}
_READ_REFUSALS: Final[Codes] = {
    "401": ("invalid_api_key",),
    "404": ("not_found",),
    "429": ("rate_limited",),
    "503": ("database_unavailable",),
}
_MODEL_REFUSALS: Final[Codes] = {
    "401": ("invalid_api_key",),
    "429": ("rate_limited",),
    "502": ("upstream_denied", "upstream_unavailable"),
    "503": ("database_unavailable",),
}
# How a request can end without an answer from OpenAI.
_ENDINGS: Final[Codes] = {
    "409": ("request_cancelled",),
    "502": ("result_missing",),
    "504": ("batch_expired", "request_timeout"),
}


# The prefixes under which each path of the API is served.
_SERVERS: Final = [
    {"url": "/", "description": "An unfinished call is 202."},
    {"url": Mode.ASK.value, "description": "An unfinished call is 425 `not_finished`."},
]


def document(version: str) -> Schema:
    """The document, for a service of this version."""
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "openaibatching",
            "version": version,
            "description": (
                "OpenAI's half-price Batch API behind the ordinary call. A call is answered 202 "
                "with an empty object until its batch is done; the same call again is the same "
                "request. Each path below `/v1` is also served below `/ask/v1`: there an "
                "unfinished call is 425 `not_finished`. Below both the key is checked first: "
                "without a good one any path is 401 `invalid_api_key`. Any other path is refused "
                "with 404 `unknown_endpoint`, another method with 405 `method_not_allowed`, what "
                "is not HTTP/1.1 with 400 `invalid_http`, and headers of more than 64 KiB with 431 "
                "`headers_too_large`; a mistake of the service is 500 `internal_error`."
            ),
            "license": {"name": "MIT", "identifier": "MIT"},
        },
        "security": [{"bearer": []}],
        "paths": _paths(),
        "components": {
            "securitySchemes": {"bearer": {"type": "http", "scheme": "bearer"}},
            "schemas": schemas() | reports.schemas(),
            "headers": headers(),
            "parameters": parameters() | reports.parameters(),
        },
    }


def _paths() -> Schema:
    paths = {
        **{endpoint: {"post": _call(endpoint)} for endpoint in ENDPOINTS},
        **_retrieving(),
        **_models(),
        **_requests(),
        **reports.paths(),
        **_around(),
    }
    for path, operations in paths.items():
        if is_api(path):
            for operation in operations.values():
                operation["servers"] = _SERVERS
    return paths


def _answers() -> Schema:
    """What a call, and reading it later, is answered: the request's own state."""
    ours = ("X-Batching-Id", "X-Batching-Status", "Preference-Applied")
    # A failed request carries OpenAI's own status, so any status can carry this body.
    failed = reply(
        "The request failed for good: OpenAI's own status and error. Out of attempts without an "
        "HTTP error it is 504 `batch_expired` or `request_timeout`, or 502 `result_missing`; a "
        "cancelled request is 409 `request_cancelled`.",
        ref("schemas", "Failure"),
        *ours,
        "x-should-retry",
    )
    endings = {
        status: {**failed, "description": one_of(codes)} for status, codes in _ENDINGS.items()
    }
    done = reply("Done: OpenAI's own body.", ref("schemas", "Answer"), *ours)
    unfinished = reply(
        "New or unfinished: a valid object of the endpoint with nothing in it.",
        ref("schemas", "Answer"),
        *ours,
        "Retry-After",
    )
    not_yet = reply(
        "Below `/ask/v1`, new or unfinished: `not_finished`.",
        ref("schemas", "Failure"),
        *ours,
        "Retry-After",
        "x-should-retry",
    )
    return {
        "200": done | {"links": _links()},
        "202": unfinished | {"links": _links()},
        "425": not_yet | {"links": _links()},
        **endings,
        "default": failed,
    }


def _links() -> Schema:
    """What can be done with a request, later, by the id in its reply's header."""
    by_id = {"id": "$response.header.X-Batching-Id"}
    operations = ("retrieve_request", "cancel_request", "retry_request", "delete_request")
    others = ("retrieve_response", "cancel_response", "delete_response", "retrieve_chat_completion")
    return {name: {"operationId": name, "parameters": by_id} for name in operations + others}


_BODIES: Final = {RESPONSES: "ResponseBody", MODERATIONS: "ModerationBody"}


def _call(endpoint: str) -> Schema:
    name = endpoint.removeprefix("/v1/")
    description = f"OpenAI's `POST {endpoint}` through the Batch API."
    body, refused = _BODIES.get(endpoint, "OpenAIBody"), _CALL_REFUSALS
    if endpoint == RESPONSES:
        description += (
            " A body with `messages` and no `input` is the same call to `/v1/chat/completions`, "
            "and is answered in that shape. `previous_response_id` may be our id of a request that "
            "has completed."
        )
        refused = {
            **refused,
            "400": (*refused["400"], "previous_response_not_found"),
            "409": (*_ENDINGS["409"], "previous_response_unavailable"),
        }
    return {
        "operationId": "create_" + name.replace("/", "_"),
        "summary": description,
        "parameters": [
            ref("parameters", name) for name in ("Prefer", "Idempotency-Key", "X-Batching-Body")
        ],
        "requestBody": {"required": True, "content": json_content(ref("schemas", body))},
        "responses": {**_answers(), **refusals(refused, or_failure=True)},
    }


def _retrieving() -> Schema:
    """The two places where a call can be read again, and what else the SDKs do with a response."""

    def read(name: str) -> Schema:
        return {
            "operationId": f"retrieve_{name}",
            "summary": "What the call itself would be answered now.",
            "parameters": [ref("parameters", "id"), ref("parameters", "Prefer")],
            "responses": {**_answers(), **refusals(_READ_REFUSALS, or_failure=True)},
        }

    return {
        "/v1/responses/{id}": {"get": read("response"), "delete": _delete("response")},
        "/v1/responses/{id}/cancel": {"post": _cancel("response")},
        "/v1/chat/completions/{id}": {"get": read("chat_completion")},
    }


def _models() -> Schema:
    def passed(name: str, summary: str, *parameters: str) -> Schema:
        return {
            "operationId": name,
            "summary": f"{summary}, as OpenAI answers it; remembered for ten minutes.",
            "parameters": [ref("parameters", each) for each in parameters],
            "responses": {
                "200": reply("OpenAI's own body.", {"type": "object"}),
                **refusals(_MODEL_REFUSALS),
                "default": reply("OpenAI's own status and error.", {"type": "object"}),
            },
        }

    return {
        "/v1/models": {"get": passed("list_models", "The models")},
        "/v1/models/{id}": {"get": passed("retrieve_model", "One model", "model_id")},
    }


def _requests() -> Schema:
    request = ref("schemas", "Request")
    return {
        "/v1/requests": {
            "get": {
                "operationId": "list_requests",
                "summary": "The caller's requests, newest first, without bodies.",
                "parameters": [ref("parameters", name) for name in ("status", "limit", "after")]
                + [ref("parameters", "idempotency_key")],
                "responses": {
                    "200": reply("A page.", ref("schemas", "RequestList")),
                    **refusals(
                        _READ_REFUSALS, {"400": ("invalid_value", "invalid_idempotency_key")}
                    ),
                },
            },
            "post": _bulk(),
        },
        "/v1/requests/{id}": {
            "get": _on_request("retrieve_request", "One request, with its answer.", request),
            "delete": _delete("request"),
        },
        "/v1/requests/{id}/cancel": {"post": _cancel("request")},
        "/v1/requests/{id}/retry": {
            "post": _on_request(
                "retry_request",
                "Put a failed or cancelled request back in the queue.",
                request,
                {"409": ("not_retryable",)},
            )
        },
    }


def _bulk() -> Schema:
    def lines(name: str) -> Schema:
        return {media: {"schema": ref("schemas", name)} for media in MEDIA_TYPES}

    return {
        "operationId": "create_requests",
        "summary": (
            "Many calls at once: a batch input line a line in, a batch output line for each of "
            "them, in the same order, out. Lines are stored as they arrive, and the reply starts "
            "when all have. A bad line is refused in its own line, with what the single call "
            "would have heard or `invalid_value` or `invalid_url`; blank lines are skipped. "
            "`Prefer: wait` holds lines back until they have finished or time is up; with "
            "`order=finished` beside it, they come as they finish."
        ),
        "parameters": [ref("parameters", "Prefer"), ref("parameters", "X-Batching-Body")],
        # Without a line there is nothing to answer, and that is no error.
        "requestBody": {"required": False, "content": lines("InputLine")},
        "responses": {
            "200": {
                "description": "A line for each line.",
                "content": {MEDIA_TYPES[0]: {"schema": ref("schemas", "OutputLine")}},
                "headers": {
                    name: ref("headers", name) for name in ("Preference-Applied", "Retry-After")
                },
            },
            **refusals(_BULK_REFUSALS),
        },
    }


def _on_request(name: str, summary: str, schema: Schema, refused: Codes | None = None) -> Schema:
    return {
        "operationId": name,
        "summary": summary,
        "parameters": [ref("parameters", "id")],
        "responses": {"200": reply(summary, schema), **refusals(_READ_REFUSALS, refused or {})},
    }


def _cancel(kind: str) -> Schema:
    return _on_request(
        f"cancel_{kind}",
        "Cancel what is still queued.",
        ref("schemas", "Request"),
        {"409": ("already_submitted", "already_finished")},
    )


def _delete(kind: str) -> Schema:
    return _on_request(
        f"delete_{kind}",
        "Forget a finished request, body and answer.",
        ref("schemas", "Deleted"),
        {"409": ("not_finished",)},
    )


def _around() -> Schema:
    def public(name: str, summary: str, **replies: Schema) -> Schema:
        responses = {status.removeprefix("_"): each for status, each in replies.items()}
        return {"operationId": name, "summary": summary, "security": [], "responses": responses}

    text = {"content": {"text/plain": {"schema": {"type": "string"}}}}
    anything = {"content": json_content({"type": "object"})}
    return {
        "/health": {"get": public("health", "Alive.", _200={"description": "It lives."})},
        "/ready": {
            "get": public(
                "ready",
                "Able to take requests.",
                _200={"description": "The database works."},
                _503={"description": "The database does not."},
            )
        },
        "/openapi.json": {
            "get": public(
                "openapi",
                "This document.",
                _200={"description": "The document, with an ETag.", **anything},
                _304={"description": "`If-None-Match` names the document as it is."},
            )
        },
        "/metrics": {
            "get": {
                "operationId": "metrics",
                "summary": "Prometheus metrics.",
                "responses": {
                    "200": {"description": "Prometheus text.", **text},
                    **refusals(KEYED),
                },
            }
        },
        "/webhooks/openai": {
            "post": {
                **public(
                    "openai_webhook",
                    "OpenAI's `batch.*` events, signed as Standard Webhooks; they only wake the "
                    "worker.",
                    _204={"description": "Taken."},
                    **{
                        f"_{status}": each
                        for status, each in refusals(
                            {
                                "400": ("invalid_signature", "invalid_value"),
                                "408": ("request_timeout",),
                                "413": ("request_too_large",),
                                "503": ("database_unavailable",),
                            }
                        ).items()
                    },
                ),
                "requestBody": {"required": True, **anything},
            }
        },
    }
