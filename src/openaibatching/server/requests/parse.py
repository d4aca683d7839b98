"""What a caller sent, understood: refused early, given its identity, ready to be sent as written.

A bad body found here costs nothing; found by OpenAI it would fail a whole batch.
"""

from __future__ import annotations

import hashlib
import re
import uuid
from dataclasses import replace
from typing import Any

from openaibatching.server import errors
from openaibatching.server.config.settings import UPSTREAM_INPUTS_MAX, Settings
from openaibatching.server.domain import canonical_json, json_schemas
from openaibatching.server.domain.endpoints import (
    BY_PATH,
    CHAT,
    EMBEDDINGS,
    MODERATIONS,
    RESPONSES,
    choices,
)
from openaibatching.server.domain.request import NO_MODEL, Call, parse_request_id
from openaibatching.server.providers.openai.input_lines import envelope_bytes
from openaibatching.server.requests import tokens

IDEMPOTENCY_KEY_CHARACTERS_MAX = 255
PREVIOUS = "previous_response_id"

_SURROGATE = re.compile("[\ud800-\udfff]")


def read_call(
    settings: Settings,
    tenant: str,
    endpoint: str,
    raw: bytes,
    idempotency_key: str | None,
    *,
    first_body: bool = False,
) -> Call:
    """The call that `raw`, posted to `endpoint` (with its /v1), stands for.

    `first_body`: of several bodies under one key the first counts. Raises a Refusal that says what
    is wrong with it.
    """
    value = canonical_json.parse(raw)
    return understand(settings, tenant, endpoint, value, idempotency_key, first_body=first_body)


def understand(
    settings: Settings,
    tenant: str,
    endpoint: str,
    value: Any,
    idempotency_key: str | None,
    *,
    first_body: bool = False,
) -> Call:
    """`read_call` of a body that is parsed already, by canonical.parse; it is changed."""
    if not isinstance(value, dict):
        raise errors.InvalidJson("The body must be a JSON object.")
    if endpoint == RESPONSES and "messages" in value and value.get("input") is None:
        value.pop("input", None)
        endpoint = CHAT
    model = _model(endpoint, value)
    _drop_unsent(endpoint, value)
    body = canonical_json.encode(value)
    line_bytes = checked_line_bytes(settings, endpoint, body)
    body_id = _identity(
        tenant, endpoint, b"body", canonical_json.identity(json_schemas.fixed(value))
    )
    id_ = body_id
    if idempotency_key is not None:
        id_ = keyed_id(tenant, endpoint, idempotency_key)
    return Call(
        id=id_,
        body_id=body_id,
        tenant=tenant,
        endpoint=endpoint,
        model=model,
        body=body,
        line_bytes=line_bytes,
        tokens=tokens.estimate(endpoint, value, len(body)),
        inputs=_count_inputs(endpoint, value),
        output_tokens_max=_output_tokens_max(value),
        first_body=first_body,
        previous=_previous(endpoint, value),
        parsed=value if settings.batch_budget_usd_day else None,
    )


def checked_line_bytes(settings: Settings, endpoint: str, body: bytes) -> int:
    """How long the body's line in a batch file is. Raises RequestTooLarge."""
    line_bytes = envelope_bytes(endpoint) + len(body)
    if line_bytes > settings.batch_bytes_max:
        raise errors.RequestTooLarge(
            f"The body takes {line_bytes} bytes in a batch file, whose limit is "
            f"{settings.batch_bytes_max} (BATCH_BYTES_MAX)."
        )
    return line_bytes


def going_on_from(settings: Settings, call: Call, upstream_id: str) -> Call:
    """The call with OpenAI's id of what it goes on from in place of ours; its own id stays.

    Raises RequestTooLarge: OpenAI's ids may be longer.
    """
    value = canonical_json.parse(call.body)
    value[PREVIOUS] = upstream_id
    body = canonical_json.encode(value)
    line_bytes = checked_line_bytes(settings, call.endpoint, body)
    return replace(call, body=body, line_bytes=line_bytes, previous=None)


def keyed_id(tenant: str, endpoint: str, idempotency_key: str) -> uuid.UUID:
    """The request that this key names. Raises InvalidIdempotencyKey."""
    return _identity(tenant, endpoint, b"key", _checked_key(idempotency_key))


def _model(endpoint: str, value: dict[str, Any]) -> str:
    """The model that the body names; NO_MODEL where it need not name one and does not."""
    if "model" not in value and _has_default_model(endpoint, value):
        return NO_MODEL
    model = value.get("model")
    if not isinstance(model, str) or not model:
        raise errors.MissingParameter(
            "Missing required parameter: 'model' (a text).", param="model"
        )
    if not _storable(model):
        raise errors.MissingParameter("'model' is not the name of a model.", param="model")
    return model


def _has_default_model(endpoint: str, value: dict[str, Any]) -> bool:
    """Whether OpenAI has a model of its own for the call: moderations have a default, and a stored
    prompt names one (https://platform.openai.com/docs/api-reference)."""
    if endpoint == RESPONSES:
        return isinstance(value.get("prompt"), dict)
    return endpoint == MODERATIONS


def _drop_unsent(endpoint: str, value: dict[str, Any]) -> None:
    """Take out the members that say how an answer travels. Raises the refusal of what they ask."""
    if _asked_for(value.pop("stream", None)):
        raise errors.StreamingUnsupported(param="stream")
    if _asked_for(value.pop("background", None)):
        raise errors.BackgroundUnsupported(param="background")
    if BY_PATH[endpoint].streams:
        value.pop("stream_options", None)


def _previous(endpoint: str, value: dict[str, Any]) -> uuid.UUID | None:
    """The request of ours that the call goes on from, if it names one."""
    named = value.get(PREVIOUS) if endpoint == RESPONSES else None
    return parse_request_id(named) if isinstance(named, str) else None


def _asked_for(value: Any) -> bool:
    return value is not None and value is not False  # by identity: 0 is no answer to either


def _storable(text: str) -> bool:
    """Whether PostgreSQL can hold it as text, and an index can hold it at all."""
    return "\0" not in text and not _SURROGATE.search(text) and len(text) < 256


def _checked_key(key: str) -> bytes:
    if not 1 <= len(key) <= IDEMPOTENCY_KEY_CHARACTERS_MAX:
        raise errors.InvalidIdempotencyKey
    return key.encode("utf-8", "surrogatepass")


def _identity(tenant: str, endpoint: str, kind: bytes, name: bytes) -> uuid.UUID:
    """128 bits of SHA-256: no two calls that differ will ever meet by chance."""
    # No part but the last can hold a NUL byte, so no two different lists run together.
    parts = (tenant.encode(), endpoint.encode(), kind, name)
    return uuid.UUID(bytes=hashlib.sha256(b"\0".join(parts)).digest()[:16])


def _output_tokens_max(value: dict[str, Any]) -> int | None:
    """How many tokens its answers may have, by whatever name its endpoint has for it."""
    for name in ("max_output_tokens", "max_completion_tokens", "max_tokens"):
        most = value.get(name)
        if type(most) is int and 0 < most < 2**31 and (answers := choices(value)) is not None:
            return most * answers
    return None


def _count_inputs(endpoint: str, value: dict[str, Any]) -> int:
    """Embedding inputs in the call: a list of texts or of token lists counts each one."""
    inputs = value.get("input")
    if endpoint != EMBEDDINGS or not isinstance(inputs, list):
        return 1
    if not inputs or canonical_json.is_number(inputs[0]):
        return 1
    if len(inputs) > UPSTREAM_INPUTS_MAX:
        raise errors.TooManyInputs(param="input")
    return len(inputs)
