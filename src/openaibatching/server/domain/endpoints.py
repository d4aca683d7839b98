"""The endpoints of OpenAI that can be called here, by their paths there. The one table of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


def choices(value: dict[str, Any]) -> int | None:
    """How many answers the call makes OpenAI write; None if that is no count."""
    counts = [value[name] for name in ("n", "best_of") if value.get(name) is not None]
    if any(type(count) is not int or not 0 < count < 2**31 for count in counts):
        return None
    return max(counts, default=1)


@dataclass(frozen=True, slots=True)
class Endpoint:
    """`operation` is its name in traces (`gen_ai.operation.name` of OpenTelemetry's conventions);
    `streams`: whether OpenAI takes `stream` there."""

    path: str
    operation: str
    streams: bool = False


RESPONSES, CHAT, COMPLETIONS = "/v1/responses", "/v1/chat/completions", "/v1/completions"
EMBEDDINGS, MODERATIONS = "/v1/embeddings", "/v1/moderations"
GENERATIONS, EDITS = "/v1/images/generations", "/v1/images/edits"

BY_PATH = {
    endpoint.path: endpoint
    for endpoint in (
        Endpoint(RESPONSES, "chat", streams=True),
        Endpoint(CHAT, "chat", streams=True),
        Endpoint(COMPLETIONS, "text_completion", streams=True),
        Endpoint(EMBEDDINGS, "embeddings"),
        Endpoint(MODERATIONS, "moderation"),
        Endpoint(GENERATIONS, "image_generation"),
        Endpoint(EDITS, "image_edit"),
    )
}
ENDPOINTS = tuple(BY_PATH)
