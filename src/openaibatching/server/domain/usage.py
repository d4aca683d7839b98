"""What OpenAI counted for an answer: its `usage`, read whole, and the calls of hosted tools. Pure.

The members are those of the official SDK's types (openai 3.57: ResponseUsage, CompletionUsage,
ImagesResponse, BatchUsage, ToolUsage). A `*_tokens` member that is none of them may have a price
that is not known here, so it makes the usage incomplete instead of being skipped silently.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from openaibatching.server.domain.tokens import Tokens

COUNT_MAX = 2**31


class Usage(msgspec.Struct, frozen=True, gc=False):
    """What an answer is charged for, in tokens.

    `written`: input tokens written to the prompt cache, of which `written_12h` for 12 hours.
    `other`: what most answers have none of, by the price list's names (`genai_prices.Usage`): audio
    and image tokens, tool calls. `incomplete`: something was counted whose price is unknown here.
    """

    tokens: Tokens
    written: int = 0
    written_12h: int = 0
    other: Mapping[str, int] | None = None
    incomplete: bool = False


class _Members(msgspec.Struct, forbid_unknown_fields=True):
    """Known members only: one that is unknown is an error, and then looked at by `_known`."""


class _Written(_Members):
    ttl_30m_tokens: int | None = None
    ttl_12h_tokens: int | None = None


class _Cached(_Members):
    text_tokens: int | None = None
    audio_tokens: int | None = None
    image_tokens: int | None = None


class _Input(_Members):
    cached_tokens: int | None = None
    cached_tokens_details: _Cached | None = None
    cache_write_tokens: int | None = None
    cache_write_tokens_details: _Written | None = None
    text_tokens: int | None = None
    audio_tokens: int | None = None
    image_tokens: int | None = None


class _Output(_Members):
    reasoning_tokens: int | None = None
    text_tokens: int | None = None
    audio_tokens: int | None = None
    image_tokens: int | None = None
    # Charged as output, and counted there already.
    accepted_prediction_tokens: int | None = None
    rejected_prediction_tokens: int | None = None


class _Usage(_Members):
    """Chat, completions and embeddings name their members in the older way, `prompt_tokens`."""

    input_tokens: int | None = None
    prompt_tokens: int | None = None
    output_tokens: int | None = None
    completion_tokens: int | None = None
    total_tokens: int | None = None
    input_tokens_details: _Input | None = None
    prompt_tokens_details: _Input | None = None
    output_tokens_details: _Output | None = None
    completion_tokens_details: _Output | None = None


_PARTS: dict[str, type[_Members]] = {
    "input_tokens_details": _Input,
    "prompt_tokens_details": _Input,
    "output_tokens_details": _Output,
    "completion_tokens_details": _Output,
    "cached_tokens_details": _Cached,
    "cache_write_tokens_details": _Written,
}
_usage = msgspec.json.Decoder(_Usage | None)
_NO_INPUT, _NO_OUTPUT, _NO_CACHED, _NO_WRITTEN = _Input(), _Output(), _Cached(), _Written()


def read(raw: bytes | msgspec.Raw) -> Usage | None:
    """The usage that a `usage` object reports; None for one that is missing or makes no sense."""
    if not raw:
        return None
    incomplete = False
    try:
        found = _usage.decode(raw)
    except (msgspec.DecodeError, RecursionError):
        try:
            members, incomplete = _known(msgspec.json.decode(raw), _Usage)
            found = msgspec.convert(members, _Usage)
        except (msgspec.DecodeError, RecursionError):
            return None
    return None if found is None else _counted(found, incomplete)


def _known(value: Any, part: type[_Members]) -> tuple[Any, bool]:
    """The members of `value` that `part` has, and whether it counts tokens besides."""
    if not isinstance(value, dict):
        return value, False
    members: dict[str, Any] = {}
    incomplete = False
    for name, member in value.items():
        if name not in part.__struct_fields__:
            incomplete |= _counts_tokens(name, member)
        elif name in _PARTS:
            members[name], more = _known(member, _PARTS[name])
            incomplete |= more
        else:
            members[name] = member
    return members, incomplete


def _counts_tokens(name: str, member: Any) -> bool:
    if isinstance(member, dict):
        return any(_counts_tokens(inner, value) for inner, value in member.items())
    return name.endswith("_tokens") and bool(member)


def _counted(found: _Usage, incomplete: bool) -> Usage | None:
    read_ = found.input_tokens_details or found.prompt_tokens_details or _NO_INPUT
    made = found.output_tokens_details or found.completion_tokens_details or _NO_OUTPUT
    tokens = Tokens(
        found.input_tokens or found.prompt_tokens or 0,
        read_.cached_tokens or 0,
        found.output_tokens or found.completion_tokens or 0,
        made.reasoning_tokens or 0,
    )
    sane = 0 <= tokens.cached <= tokens.input < COUNT_MAX and 0 <= tokens.reasoning < COUNT_MAX
    if not sane or not 0 <= tokens.output < COUNT_MAX:
        return None
    ttls = read_.cache_write_tokens_details or _NO_WRITTEN
    long = ttls.ttl_12h_tokens or 0
    written = read_.cache_write_tokens or long + (ttls.ttl_30m_tokens or 0)
    if written < 0 or not 0 <= long <= written:
        return None
    other = None
    if read_.audio_tokens or read_.image_tokens or made.audio_tokens or made.image_tokens:
        other = _modalities(read_, made)
        if min(other.values()) < 0:
            return None
    return Usage(tokens, written, long, other, incomplete)


def _modalities(read_: _Input, made: _Output) -> dict[str, int]:
    cached = read_.cached_tokens_details or _NO_CACHED
    counts = {
        "input_audio_tokens": read_.audio_tokens,
        "input_image_tokens": read_.image_tokens,
        "cache_audio_read_tokens": cached.audio_tokens,
        "cache_image_read_tokens": cached.image_tokens,
        "output_audio_tokens": made.audio_tokens,
        "output_image_tokens": made.image_tokens,
    }
    return {name: n for name, n in counts.items() if n}


# ----- hosted tools -----


class _Action(msgspec.Struct):
    type: object = None


class _Item(msgspec.Struct):
    type: object = None
    action: _Action | None = None


class _Searches(msgspec.Struct):
    num_requests: int = 0


class _ToolUsage(msgspec.Struct):
    web_search: _Searches | None = None
    image_gen: dict[str, Any] | None = None


_items = msgspec.json.Decoder(list[_Item])
_tool_usage = msgspec.json.Decoder(_ToolUsage | None)

# Items of a Response's output for which OpenAI charges nothing but tokens of the model itself.
_WITHOUT_FEE = {
    "function_call", "custom_tool_call", "mcp_call", "computer_call", "local_shell_call",
    "apply_patch_call", "tool_search_call",
}  # fmt: skip


def with_tools(usage: Usage, output: bytes | msgspec.Raw, reported: bytes | msgspec.Raw) -> Usage:
    """`usage` with the calls of hosted tools: from a Response's `output`, and its `tool_usage`.

    What the list has no unit for (containers, images made by another model) makes it incomplete.
    """
    try:
        items = _items.decode(output) if output else []
        told = _tool_usage.decode(reported) if reported else None
    except (msgspec.DecodeError, RecursionError):
        return msgspec.structs.replace(usage, incomplete=True)
    kinds = [item.type for item in items if isinstance(item.type, str)]
    web = sum(item.type == "web_search_call" and _searches(item) for item in items)
    if told is not None and told.web_search is not None:
        # Billable ones only (openai 3.57, ToolUsage): opening a page is none.
        web = max(0, told.web_search.num_requests)
    counts = {"web_searches": web, "storage_searches": kinds.count("file_search_call")}
    counted = {"web_search_call", "file_search_call"}
    rest = {kind for kind in kinds if kind.endswith("_call")} - counted - _WITHOUT_FEE
    pictures = told is not None and _counts_tokens("", told.image_gen)
    other = {**(usage.other or {}), **{name: n for name, n in counts.items() if n}}
    return msgspec.structs.replace(
        usage, other=other or None, incomplete=usage.incomplete or bool(rest) or pictures
    )


def _searches(item: _Item) -> bool:
    return item.action is None or item.action.type in (None, "search")
