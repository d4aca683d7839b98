"""What a caller sent, understood: refused early, made canonical, given its identity.

A bad body found here costs nothing; found by OpenAI it would fail a whole batch.
"""

from __future__ import annotations

import hashlib
import re
import uuid
from typing import Any

from openaibatching.server import canonical, errors, tokens
from openaibatching.server.config import UPSTREAM_INPUTS_MAX, Settings
from openaibatching.server.model import Call, envelope_bytes

CHAT, RESPONSES = "/v1/chat/completions", "/v1/responses"
COMPLETIONS, EMBEDDINGS = "/v1/completions", "/v1/embeddings"
IDEMPOTENCY_KEY_CHARACTERS_MAX = 255

_SURROGATE = re.compile("[\ud800-\udfff]")


def read_call(
    settings: Settings, tenant: str, endpoint: str, raw: bytes, idempotency_key: str | None
) -> Call:
    """The call that `raw`, posted to `endpoint` (with its /v1), stands for.

    Raises a Refusal that says what is wrong with it.
    """
    return understand(settings, tenant, endpoint, canonical.parse(raw), idempotency_key)


def understand(
    settings: Settings, tenant: str, endpoint: str, value: Any, idempotency_key: str | None
) -> Call:
    """`read_call` of a body that is parsed already, by canonical.parse; it is changed."""
    if not isinstance(value, dict):
        raise errors.InvalidJson("The body must be a JSON object.")
    _check(value)
    if endpoint == RESPONSES and "messages" in value and value.get("input") is None:
        value.pop("input", None)
        endpoint = CHAT
    body = canonical.encode(value)
    line_bytes = envelope_bytes(endpoint) + len(body)
    if line_bytes > settings.batch_bytes_max:
        raise errors.RequestTooLarge(
            f"The body takes {line_bytes} bytes in a batch file, whose limit is "
            f"{settings.batch_bytes_max} (BATCH_BYTES_MAX)."
        )
    body_id = _identity(tenant, endpoint, b"body", body)
    id_ = body_id
    if idempotency_key is not None:
        id_ = _identity(tenant, endpoint, b"key", _checked_key(idempotency_key))
    return Call(
        id=id_,
        body_id=body_id,
        tenant=tenant,
        endpoint=endpoint,
        model=value["model"],
        body=body,
        line_bytes=line_bytes,
        tokens=tokens.estimate(endpoint, value, len(body)),
        inputs=_count_inputs(endpoint, value),
        output_tokens_max=_output_tokens_max(value),
    )


def _check(value: dict[str, Any]) -> None:
    model = value.get("model")
    if not isinstance(model, str) or not model:
        raise errors.MissingParameter(
            "Missing required parameter: 'model' (a text).", param="model"
        )
    if not _storable(model):
        raise errors.MissingParameter("'model' is not the name of a model.", param="model")
    if _asked_for(value.pop("stream", None)):
        raise errors.StreamingUnsupported(param="stream")
    if _asked_for(value.pop("background", None)):
        raise errors.BackgroundUnsupported(param="background")


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


def choices(value: dict[str, Any]) -> int | None:
    """How many answers the call makes OpenAI write; None if that is no count."""
    counts = [value[name] for name in ("n", "best_of") if value.get(name) is not None]
    if any(type(count) is not int or not 0 < count < 2**31 for count in counts):
        return None
    return max(counts, default=1)


def _output_tokens_max(value: dict[str, Any]) -> int | None:
    """How many tokens its answers may have, by whatever name its endpoint has for it."""
    for name in ("max_output_tokens", "max_completion_tokens", "max_tokens"):
        most, answers = value.get(name), choices(value)
        if type(most) is int and 0 < most < 2**31 and answers is not None:
            return most * answers
    return None


def _count_inputs(endpoint: str, value: dict[str, Any]) -> int:
    """Embedding inputs in the call: a list of texts or of token lists counts each one."""
    inputs = value.get("input")
    if endpoint != EMBEDDINGS or not isinstance(inputs, list):
        return 1
    if not inputs or canonical.is_number(inputs[0]):
        return 1
    if len(inputs) > UPSTREAM_INPUTS_MAX:
        raise errors.TooManyInputs(param="input")
    return len(inputs)
