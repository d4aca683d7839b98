"""The most that a call can cost, which is what a budget relies on. Pure.

An estimate says what a call will probably cost; here nothing may be left out. A token stands for at
least one byte of text (byte-level BPE, https://github.com/openai/tiktoken), so what is text alone
has no more tokens than its JSON has bytes. An answer is bounded by the call itself, or else by the
model's context window. What makes OpenAI read more than the body (images, files, tools of its own,
an earlier response) has no bound that is known here.
"""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from openaibatching.server import canonical, receipts
from openaibatching.server.call import CHAT, COMPLETIONS, EMBEDDINGS, RESPONSES, choices
from openaibatching.server.model import NO_MODEL, Call, Tokens

# Members that are a list or an object, and of which OpenAI reads no more than is written there.
_WRITTEN_OUT = {
    "messages", "input", "tools", "tool_choice", "functions", "function_call", "response_format",
    "text", "reasoning", "metadata", "stop", "logit_bias", "include", "stream_options",
}  # fmt: skip
_REFERENCES = {"previous_response_id", "conversation"}
_ITEMS = {None, "message", "function_call", "function_call_output"}
_ITEM_MEMBERS = {"content", "tool_calls", "function_call"}
_TEXTS = {"text", "input_text", "output_text", "refusal"}


def usd_most(call: Call) -> Decimal | None:
    """USD that the call costs at most by batch; None where nobody can say.

    A model without a known price costs nothing here, as in its receipts.
    """
    if call.model == NO_MODEL and call.endpoint == RESPONSES:
        return None  # a stored prompt names one that is not known here
    if not receipts.realtime_usd(call.model, Tokens(1, 0, 1, 0)):
        return receipts.ZERO
    value = canonical.parse(call.body)
    written = _output_tokens_most(call, value)
    if written is None or not _text_alone(call.endpoint, value):
        return None
    usd = receipts.realtime_usd(call.model, Tokens(call.line_bytes, 0, written, 0))
    return None if usd is None else usd * receipts.BATCH_PRICE


def _output_tokens_most(call: Call, value: dict[str, Any]) -> int | None:
    if call.endpoint == EMBEDDINGS:
        return 0
    if call.output_tokens_max is not None:
        return call.output_tokens_max
    window, answers = receipts.context_window(call.model), choices(value)
    return None if window is None or answers is None else window * answers


def _text_alone(endpoint: str, value: dict[str, Any]) -> bool:
    for name, member in value.items():
        structured = isinstance(member, dict | list) and name not in _WRITTEN_OUT
        if structured or (name in _REFERENCES and member is not None):
            return False
    if endpoint == EMBEDDINGS:
        return True
    tools = value.get("tools") or []
    if not isinstance(tools, list) or any(_kind(tool) != "function" for tool in tools):
        return False
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
