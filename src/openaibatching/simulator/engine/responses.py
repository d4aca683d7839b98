"""The answer of POST /v1/responses, with the members that recorded answers have."""

from typing import Any

from openaibatching.simulator.engine import texts, tools
from openaibatching.simulator.engine.ids import digits, word
from openaibatching.simulator.engine.ledger import Usage
from openaibatching.simulator.engine.parts import reasons, text_of, usage_of
from openaibatching.simulator.engine.snapshots import snapshot

_ID_DIGITS = 50
_NO_TOKENS = {"image_tokens": 0, "text_tokens": 0}


def response(body: dict[str, Any], sha: str, now: int) -> tuple[dict[str, Any], Usage]:
    """The Response and its tokens; `sha` names the body, `now` is in unix seconds."""
    endpoint = "/v1/responses"
    text_options = body.get("text") or {}
    wanted = text_options.get("format") or {"type": "text"}
    echo = texts.said(endpoint, body)
    called = tools.wanted(body, f"You said: {echo}")
    text = called.arguments if called else text_of(echo, wanted)
    usage = usage_of(endpoint, body, text)
    document = {
        "id": digits("resp_", _ID_DIGITS),
        "object": "response",
        "created_at": now,
        "status": "completed",
        "background": False,
        "billing": {"payer": "developer"},
        "completed_at": now,
        "error": None,
        "frequency_penalty": 0.0,
        "incomplete_details": None,
        "instructions": body.get("instructions"),
        "max_output_tokens": body.get("max_output_tokens"),
        "max_tool_calls": body.get("max_tool_calls"),
        "model": snapshot(body["model"]),
        "moderation": None,
        "output": _output(body, text, called),
        "parallel_tool_calls": body.get("parallel_tool_calls", True),
        "presence_penalty": 0.0,
        "previous_response_id": body.get("previous_response_id"),
        "prompt_cache_key": body.get("prompt_cache_key"),
        "prompt_cache_retention": body.get("prompt_cache_retention"),
        "reasoning": _reasoning(body),
        "safety_identifier": body.get("safety_identifier"),
        "service_tier": "default",
        "store": body.get("store", True),
        "temperature": body.get("temperature", 1.0),
        "text": {"format": wanted, "verbosity": text_options.get("verbosity", "medium")},
        "tool_choice": body.get("tool_choice", "auto"),
        "tool_usage": _tool_usage(),
        "tools": body.get("tools", []),
        "top_logprobs": body.get("top_logprobs", 0),
        "top_p": body.get("top_p", 1.0),
        "truncation": body.get("truncation") or "disabled",
        "usage": _counted(usage),
        "user": body.get("user"),
        "metadata": {**(body.get("metadata") or {}), "body_sha256": sha},
    }
    return document, usage


def _counted(usage: Usage) -> dict[str, Any]:
    return {
        "input_tokens": usage.input_tokens,
        "input_tokens_details": {
            "cached_tokens": usage.cached_tokens,
            "cache_write_tokens": usage.cache_write_tokens,
        },
        "output_tokens": usage.output_tokens,
        "output_tokens_details": {"reasoning_tokens": usage.reasoning_tokens},
        "total_tokens": usage.input_tokens + usage.output_tokens,
    }


def _reasoning(body: dict[str, Any]) -> dict[str, Any]:
    asked = body.get("reasoning") or {}
    thinks = reasons(body)
    return {
        "context": "current_turn" if thinks else None,
        "effort": asked.get("effort", "medium" if thinks else None),
        "mode": "standard" if thinks else None,
        "summary": asked.get("summary"),
    }


def _tool_usage() -> dict[str, Any]:
    return {
        "image_gen": {
            "input_tokens": 0,
            "input_tokens_details": _NO_TOKENS,
            "output_tokens": 0,
            "output_tokens_details": _NO_TOKENS,
            "total_tokens": 0,
        },
        "web_search": {"num_requests": 0},
    }


def _output(body: dict[str, Any], text: str, called: tools.Wanted | None) -> list[dict[str, Any]]:
    """Of a reasoning model a `reasoning` item comes first: the answer is not `output[0]`."""
    thoughts: list[dict[str, Any]] = []
    if reasons(body):
        asked = (body.get("reasoning") or {}).get("summary")
        summary = [{"type": "summary_text", "text": "**Thinking**"}] if asked else []
        id_ = digits("rs_", _ID_DIGITS)
        thoughts = [{"id": id_, "type": "reasoning", "summary": summary}]
    if called:
        call = {
            "id": digits("fc_", _ID_DIGITS),
            "type": "function_call",
            "status": "completed",
            "arguments": called.arguments,
            "call_id": word("call_", 24),
            "name": called.name,
        }
        return [*thoughts, call]
    return [*thoughts, message(text)]


def message(text: str) -> dict[str, Any]:
    """A message item of an output."""
    return {
        "id": digits("msg_", _ID_DIGITS),
        "type": "message",
        "status": "completed",
        "content": [{"type": "output_text", "annotations": [], "logprobs": [], "text": text}],
        "phase": "final_answer",
        "role": "assistant",
    }
