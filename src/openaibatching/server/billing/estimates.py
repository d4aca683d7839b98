"""What a call will probably make OpenAI write and look up: what a budget reserves for it. Pure.

`billing/cost_bound.py` has the most that it can be. Here a guess stands where nothing is known, and
all that the call multiplies is multiplied: `n` answers, `n` images, calls of OpenAI's own tools."""

from __future__ import annotations

from typing import Any

from openaibatching.server.billing import cost_bound
from openaibatching.server.domain.endpoints import (
    CHAT,
    COMPLETIONS,
    EDITS,
    GENERATIONS,
    RESPONSES,
    choices,
)
from openaibatching.server.domain.request import Call

OUTPUT_TOKENS_GUESS = 1000
"""Of an answer to a model and endpoint that nothing is known of yet."""
TOOL_CALLS_GUESS = 3
"""Of OpenAI's own tools, where the call does not limit them by `max_tool_calls`."""
TOOL_TOKENS_GUESS = 8000
"""What one of them adds to the input: what OpenAI charges for the content of a search
(https://platform.openai.com/docs/pricing, "fixed block of 8,000 input tokens")."""
IMAGES = (GENERATIONS, EDITS)
_WRITTEN = (CHAT, RESPONSES, COMPLETIONS)


def output_tokens(call: Call, mean: int | None) -> int:
    """How many tokens OpenAI writes for all answers of the call; `mean` are those of one answer of
    its endpoint and model, if that is known."""
    value = call.parsed or {}
    answers = choices(value) or 1
    if call.endpoint in IMAGES:
        drawn = None if cost_bound.leaves_to_openai(value) else cost_bound.image_tokens(value)
        return answers * (drawn or mean or cost_bound.IMAGE_TOKENS_GUESS)
    if call.endpoint not in _WRITTEN:
        return 0
    written = answers * (OUTPUT_TOKENS_GUESS if mean is None else mean)
    return written if call.output_tokens_max is None else min(written, call.output_tokens_max)


def tool_calls(value: dict[str, Any]) -> int:
    """How often OpenAI's own tools are called."""
    if isinstance(value.get("web_search_options"), dict):
        return 1  # a search model of chat completions searches once
    if not cost_bound.hosted_tools(value):
        return 0
    most = value.get("max_tool_calls")
    return most if type(most) is int and 0 <= most < 2**31 else TOOL_CALLS_GUESS


def drawn_images(value: dict[str, Any]) -> int:
    """How many images the tool for them makes."""
    return tool_calls(value) if "image_generation" in cost_bound.hosted_tools(value) else 0
