"""The most that a call can cost, which is what a budget relies on. Pure.

An estimate says what a call will probably cost; here nothing may be left out. A token stands for at
least one byte of text (byte-level BPE, https://github.com/openai/tiktoken), so what is text alone
has no more tokens than its JSON has bytes, each at the dearest rate that input can have: long
contexts, writes to the prompt cache. An answer is bounded by the call itself, or else by the
model's context window; reasoning is part of it. What makes OpenAI read more than the body (images,
files, an earlier response, tools whose calls are not limited) has no bound that is known here.
"""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal
from typing import Any

from openaibatching.server.billing.prices import LONG_WRITES, ZERO, Price, Rates
from openaibatching.server.domain.endpoints import (
    CHAT,
    COMPLETIONS,
    EMBEDDINGS,
    GENERATIONS,
    RESPONSES,
    choices,
)
from openaibatching.server.domain.request import NO_MODEL, Call

# Members that are a list or an object, and of which OpenAI reads no more than is written there.
_WRITTEN_OUT = {
    "messages", "input", "tools", "tool_choice", "functions", "function_call", "response_format",
    "text", "reasoning", "metadata", "stop", "logit_bias", "include", "stream_options",
    "prompt_cache_options", "modalities", "audio",
}  # fmt: skip
_REFERENCES = {"previous_response_id", "conversation"}
_ITEMS = {None, "message", "function_call", "function_call_output"}
_ITEM_MEMBERS = {"content", "tool_calls", "function_call"}
_TEXTS = {"text", "input_text", "output_text", "refusal"}
_OWN_TOOLS = {"function", "custom"}
_SEARCHES = ("web_search", "file_search")
_SHORT_WRITES = (None, "30m")

# Tokens of an image, by quality and size
# (https://platform.openai.com/docs/guides/image-generation, calculating costs).
_IMAGE_MODELS = {"gpt-image-1", "gpt-image-1-mini"}
_IMAGE_TOKENS = {
    "low": {"1024x1024": 272, "1024x1536": 408, "1536x1024": 400},
    "medium": {"1024x1024": 1056, "1024x1536": 1584, "1536x1024": 1568},
    "high": {"1024x1024": 4160, "1024x1536": 6240, "1536x1024": 6208},
}
IMAGE_TOKENS_GUESS = max(_IMAGE_TOKENS["medium"].values())
"""Of an image whose quality or size OpenAI chooses."""


def usd_most(call: Call, price: Price) -> Decimal | None:
    """USD that the call costs at most by batch, at this price; None where that is not known."""
    assert call.parsed is not None, "read with a budget set"
    value = call.parsed
    if call.model == NO_MODEL and call.endpoint == RESPONSES:
        return None  # a stored prompt names one that is not known here
    if price.free:
        return ZERO
    if price.searches or any(map(_reads_more, value.items())):
        return None
    if call.endpoint == GENERATIONS:
        return _image_most(call, price, value)
    tool_calls = _tool_calls_most(value)
    written = _output_tokens_most(call, price, value)
    if written is None or tool_calls is None or not _text_alone(call.endpoint, value):
        return None
    read, fees = call.line_bytes, ZERO
    if tool_calls:
        # Each call's result is read along with all before it.
        if price.context_window is None or price.fee_most is None:
            return None
        read = (tool_calls + 1) * max(price.context_window, read)
        fees = tool_calls * price.fee_most
    speech = _speech(price, value)
    if speech is None:
        return None
    rates = list(_possible(price, read))
    input_ = max(_input_most(each, value) for each in rates)
    output = max(speech, *(each.output for each in rates))
    return read * input_ + written * output + fees


def _possible(price: Price, input_tokens: int) -> Iterator[Rates]:
    """The rates that a call of at most so many input tokens can have."""
    return (rates for start, rates in price.batch.steps if start < input_tokens)


def _input_most(rates: Rates, value: dict[str, Any]) -> Decimal:
    options = value.get("prompt_cache_options")
    ttl = options.get("ttl") if isinstance(options, dict) else None
    longer = 1 if ttl in _SHORT_WRITES else LONG_WRITES
    return max(rates.input, rates.cached, rates.written * longer)


def _speech(price: Price, value: dict[str, Any]) -> Decimal | None:
    """USD for a token of speech, 0 where the call asks for none."""
    wanted = value.get("modalities")
    if wanted is None or (isinstance(wanted, list) and all(each == "text" for each in wanted)):
        return ZERO
    return price.batch.rate("output_audio_mtok")


def _image_most(call: Call, price: Price, value: dict[str, Any]) -> Decimal | None:
    images = value.get("n")
    images = 1 if images is None else images
    if price.name not in _IMAGE_MODELS or type(images) is not int or not 0 < images < 2**31:
        return None
    if value.get("partial_images") is not None:
        return None
    tokens = image_tokens(value)
    if tokens is None:
        return None
    rates = price.batch.steps[0][1]
    output = max(rates.output, price.batch.rate("output_image_mtok") or ZERO)
    return call.line_bytes * rates.input + images * tokens * output


def leaves_to_openai(value: dict[str, Any]) -> bool:
    """Whether OpenAI chooses the quality or the size of the images."""
    return value.get("quality") in (None, "auto") or value.get("size") in (None, "auto")


def image_tokens(value: dict[str, Any]) -> int | None:
    """How many tokens an image of this quality and size is, the most where OpenAI chooses; None
    where they are not known."""
    quality, size = value.get("quality"), value.get("size")
    if not all(isinstance(each, str | None) for each in (quality, size)):
        return None
    sizes = _IMAGE_TOKENS["high"] if quality in (None, "auto") else _IMAGE_TOKENS.get(str(quality))
    if sizes is None:
        return None
    return max(sizes.values()) if size in (None, "auto") else sizes.get(str(size))


def _output_tokens_most(call: Call, price: Price, value: dict[str, Any]) -> int | None:
    if call.endpoint == EMBEDDINGS:
        return 0
    if call.output_tokens_max is not None:
        return call.output_tokens_max
    window, answers = price.context_window, choices(value)
    return None if window is None or answers is None else window * answers


def _reads_more(member: tuple[str, Any]) -> bool:
    name, value = member
    structured = isinstance(value, dict | list) and name not in _WRITTEN_OUT
    return structured or (name in _REFERENCES and value is not None)


def _tool_calls_most(value: dict[str, Any]) -> int | None:
    """How often OpenAI's own tools can be called; None where that is not known."""
    if not isinstance(value.get("tools") or [], list):
        return None
    kinds = hosted_tools(value)
    if not kinds:
        return 0
    most = value.get("max_tool_calls")
    bounded = type(most) is int and 0 <= most < 2**31
    return most if bounded and all(kind.startswith(_SEARCHES) for kind in kinds) else None


def hosted_tools(value: dict[str, Any]) -> set[str]:
    """The kinds of OpenAI's own tools that the call may use; "" is one without a name."""
    tools = value.get("tools")
    found = [_kind(tool) for tool in tools] if isinstance(tools, list) else []
    return {kind if isinstance(kind, str) else "" for kind in found} - _OWN_TOOLS


def _text_alone(endpoint: str, value: dict[str, Any]) -> bool:
    if endpoint == EMBEDDINGS:
        return True
    if endpoint == CHAT:
        return _texts(value.get("messages"))
    if endpoint == RESPONSES:
        return isinstance(value.get("input"), str) or _texts(value.get("input"))
    return endpoint == COMPLETIONS and isinstance(value.get("prompt"), str)


def _kind(value: Any) -> Any:
    return value.get("type") if isinstance(value, dict) else ""


def _texts(items: Any) -> bool:
    return isinstance(items, list) and all(map(_is_text, items))


def _is_text(item: Any) -> bool:
    if not isinstance(item, dict) or _kind(item) not in _ITEMS:
        return False
    if any(isinstance(m, dict | list) and name not in _ITEM_MEMBERS for name, m in item.items()):
        return False
    content = item.get("content")
    return not isinstance(content, dict | list) or (
        isinstance(content, list) and all(_kind(part) in _TEXTS for part in content)
    )
