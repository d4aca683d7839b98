"""Answers made from the body, so that a swapped one shows.

The shapes are those of the OpenAPI document (openai/openai-openapi) and pass the official
SDK's strict response validation. The same body gets the same answer; only ids and times
differ from one execution to the next, as they do upstream.
"""

import json
import secrets
from collections.abc import Callable
from typing import Any

from openaibatching.simulator import arrays, defaults, texts, tools
from openaibatching.simulator.ledger import Usage
from openaibatching.simulator.schema import fitting

Answer = tuple[dict[str, Any], Usage]


def answer(endpoint: str, body: dict[str, Any], sha: str, now: int) -> Answer:
    """The 200 body for a request body, and what it costs."""
    return _MAKERS[endpoint](defaults.named(endpoint, body), sha, now)


def _id(prefix: str) -> str:
    return prefix + secrets.token_hex(16)


def _usage(endpoint: str, body: dict[str, Any], text: str) -> Usage:
    given = max(1, texts.input_tokens(endpoint, body))
    # Caching begins at 1,024 tokens and goes in steps of 128 (prompt caching guide).
    cached = given // 128 * 128 // 2 if given >= 1024 else 0
    reasons = str(body.get("model", "")).startswith(("o1", "o3", "o4", "gpt-5"))
    thought = 64 if reasons else 0
    return Usage(given, cached, texts.tokens(text) + thought, thought)


def _text(echo: str, wanted: Any) -> str:
    """The echo, or JSON that fits the wanted format."""
    text = f"You said: {echo}"
    kind = wanted.get("type") if isinstance(wanted, dict) else None
    if kind == "json_schema":
        schema = wanted.get("schema") or wanted.get("json_schema", {}).get("schema")
        return json.dumps(fitting(schema, text), ensure_ascii=False)
    if kind == "json_object":
        return json.dumps({"said": text}, ensure_ascii=False)
    return text


def _completion_usage(usage: Usage) -> dict[str, Any]:
    return {
        "prompt_tokens": usage.input_tokens,
        "completion_tokens": usage.output_tokens,
        "total_tokens": usage.input_tokens + usage.output_tokens,
        "prompt_tokens_details": {"cached_tokens": usage.cached_tokens, "audio_tokens": 0},
        "completion_tokens_details": {
            "reasoning_tokens": usage.reasoning_tokens,
            "audio_tokens": 0,
            "accepted_prediction_tokens": 0,
            "rejected_prediction_tokens": 0,
        },
    }


def _chat(body: dict[str, Any], sha: str, now: int) -> Answer:
    endpoint = "/v1/chat/completions"
    echo = texts.said(endpoint, body)
    called = tools.wanted(body, f"You said: {echo}")
    text = called.arguments if called else _text(echo, body.get("response_format"))
    choices = [_choice(index, text, called) for index in range(body.get("n") or 1)]
    usage = _usage(endpoint, body, text * len(choices))
    document = {
        "id": _id("chatcmpl-"),
        "object": "chat.completion",
        "created": now,
        "model": body["model"],
        "choices": choices,
        "usage": _completion_usage(usage),
        "service_tier": "default",
        "system_fingerprint": sha,
    }
    return document, usage


def _choice(index: int, text: str, called: tools.Wanted | None) -> dict[str, Any]:
    message: dict[str, Any] = {
        "role": "assistant",
        "content": text,
        "refusal": None,
        "annotations": [],
    }
    if called:
        function = {"name": called.name, "arguments": called.arguments}
        call = {"id": _id("call_"), "type": "function", "function": function}
        message |= {"content": None, "tool_calls": [call]}
    reason = called.finish_reason if called else "stop"
    return {"index": index, "message": message, "logprobs": None, "finish_reason": reason}


def _completion(body: dict[str, Any], sha: str, now: int) -> Answer:
    endpoint = "/v1/completions"
    prompts = body["prompt"]
    many = prompts if isinstance(prompts, list) and isinstance(prompts[0], str) else [prompts]
    said = [f"You said: {prompt}" for prompt in many for _ in range(body.get("n") or 1)]
    usage = _usage(endpoint, body, "".join(said))
    document = {
        "id": _id("cmpl-"),
        "object": "text_completion",
        "created": now,
        "model": body["model"],
        "choices": [
            {"index": index, "text": text, "logprobs": None, "finish_reason": "stop"}
            for index, text in enumerate(said)
        ],
        "usage": _completion_usage(usage),
        "system_fingerprint": sha,
    }
    return document, usage


def _response(body: dict[str, Any], sha: str, now: int) -> Answer:
    endpoint = "/v1/responses"
    wanted = (body.get("text") or {}).get("format") or {"type": "text"}
    echo = texts.said(endpoint, body)
    called = tools.wanted(body, f"You said: {echo}")
    text = called.arguments if called else _text(echo, wanted)
    usage = _usage(endpoint, body, text)
    counted = usage.view()
    counted["input_tokens_details"] = {
        "cached_tokens": usage.cached_tokens,
        "cache_write_tokens": 0,
    }
    document = {
        "id": _id("resp_"),
        "object": "response",
        "created_at": now,
        "status": "completed",
        "background": False,
        "completed_at": now,
        "error": None,
        "incomplete_details": None,
        "instructions": body.get("instructions"),
        "max_output_tokens": body.get("max_output_tokens"),
        "model": body["model"],
        "output": [_item(text, called)],
        "parallel_tool_calls": body.get("parallel_tool_calls", True),
        "previous_response_id": body.get("previous_response_id"),
        "reasoning": {"effort": (body.get("reasoning") or {}).get("effort"), "summary": None},
        "service_tier": "default",
        "store": body.get("store", True),
        "temperature": body.get("temperature", 1.0),
        "text": {"format": wanted},
        "tool_choice": body.get("tool_choice", "auto"),
        "tools": body.get("tools", []),
        "top_p": body.get("top_p", 1.0),
        "truncation": body.get("truncation") or "disabled",
        "usage": counted,
        "user": body.get("user"),
        "metadata": {**(body.get("metadata") or {}), "body_sha256": sha},
    }
    return document, usage


def _item(text: str, called: tools.Wanted | None) -> dict[str, Any]:
    if called:
        return {
            "id": _id("fc_"),
            "type": "function_call",
            "status": "completed",
            "call_id": _id("call_"),
            "name": called.name,
            "arguments": called.arguments,
        }
    return {
        "id": _id("msg_"),
        "type": "message",
        "status": "completed",
        "role": "assistant",
        "content": [{"type": "output_text", "text": text, "annotations": [], "logprobs": []}],
    }


def _embedding(body: dict[str, Any], sha: str, now: int) -> Answer:
    size = body.get("dimensions") or arrays.DIMENSIONS
    as_base64 = body.get("encoding_format") == "base64"
    data = []
    for index, given in enumerate(texts.inputs(body["input"])):
        vector = arrays.vector(given, size)
        packed = arrays.packed(vector) if as_base64 else vector
        data.append({"object": "embedding", "index": index, "embedding": packed})
    usage = Usage(max(1, texts.input_tokens("/v1/embeddings", body)))
    counted = {"prompt_tokens": usage.input_tokens, "total_tokens": usage.input_tokens}
    return {"object": "list", "data": data, "model": body["model"], "usage": counted}, usage


def _moderation(body: dict[str, Any], sha: str, now: int) -> Answer:
    # A list of typed parts is one multi-modal input; a list of strings is many inputs.
    given = texts.inputs(body["input"])
    if given and isinstance(given[0], dict):
        given = [given]
    results = [arrays.moderation(item) for item in given]
    return {"id": _id("modr-"), "model": body["model"], "results": results}, Usage()


def _image(body: dict[str, Any], sha: str, now: int) -> Answer:
    count = body.get("n") or 1
    data = [{"b64_json": arrays.picture(f"{sha}:{index}")} for index in range(count)]
    usage = Usage(max(1, texts.tokens(body["prompt"])), 0, 272 * count)
    document = {
        "created": now,
        "background": "opaque",
        "data": data,
        "output_format": "png",
        "quality": "medium",
        "size": body.get("size") or "1024x1024",
        "usage": {
            "input_tokens": usage.input_tokens,
            "input_tokens_details": {"image_tokens": 0, "text_tokens": usage.input_tokens},
            "output_tokens": usage.output_tokens,
            "total_tokens": usage.input_tokens + usage.output_tokens,
        },
    }
    return document, usage


def _video(body: dict[str, Any], sha: str, now: int) -> Answer:
    document = {
        "id": _id("video_"),
        "object": "video",
        "created_at": now,
        "completed_at": now,
        "expires_at": now + 86400,
        "status": "completed",
        "progress": 100,
        "model": body["model"],
        "prompt": body["prompt"],
        "seconds": str(body.get("seconds", "4")),
        "size": body.get("size") or "720x1280",
        "remixed_from_video_id": None,
        "error": None,
    }
    return document, Usage()


_MAKERS: dict[str, Callable[[dict[str, Any], str, int], Answer]] = {
    "/v1/responses": _response,
    "/v1/chat/completions": _chat,
    "/v1/completions": _completion,
    "/v1/embeddings": _embedding,
    "/v1/moderations": _moderation,
    "/v1/images/generations": _image,
    "/v1/images/edits": _image,
    "/v1/videos": _video,
}
