"""Answers made from the body, so that a swapped one shows.

The shapes are those of the OpenAPI document (openai/openai-openapi) and pass the official
SDK's strict response validation. The same body gets the same answer; only ids and times
differ from one execution to the next, as they do upstream.
"""

from collections.abc import Callable
from typing import Any

from openaibatching.simulator.engine import arrays, defaults, texts, tools
from openaibatching.simulator.engine.ids import digits, word
from openaibatching.simulator.engine.ledger import Usage
from openaibatching.simulator.engine.parts import text_of, usage_of
from openaibatching.simulator.engine.responses import response
from openaibatching.simulator.engine.snapshots import snapshot

Answer = tuple[dict[str, Any], Usage]


def answer(endpoint: str, body: dict[str, Any], sha: str, now: int) -> Answer:
    """The 200 body for a request body, and what it costs."""
    return _MAKERS[endpoint](defaults.named(endpoint, body), sha, now)


_COUNTS = ("prompt_tokens", "completion_tokens", "total_tokens")
"""Answers of /v1/completions have no more than these."""


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
    text = called.arguments if called else text_of(echo, body.get("response_format"))
    choices = [_choice(index, text, called) for index in range(body.get("n") or 1)]
    usage = usage_of(endpoint, body, text * len(choices))
    document = {
        "id": word("chatcmpl-", 29),
        "object": "chat.completion",
        "created": now,
        "model": snapshot(body["model"]),
        "choices": choices,
        "usage": _completion_usage(usage),
        "service_tier": "default",
        "system_fingerprint": f"fp_{sha[:10]}",
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
        call = {"id": word("call_", 24), "type": "function", "function": function}
        message |= {"content": None, "tool_calls": [call]}
    reason = called.finish_reason if called else "stop"
    return {"index": index, "message": message, "logprobs": None, "finish_reason": reason}


def _completion(body: dict[str, Any], sha: str, now: int) -> Answer:
    endpoint = "/v1/completions"
    prompts = body["prompt"]
    many = prompts if isinstance(prompts, list) and isinstance(prompts[0], str) else [prompts]
    said = [f"You said: {prompt}" for prompt in many for _ in range(body.get("n") or 1)]
    usage = usage_of(endpoint, body, "".join(said))
    counted = _completion_usage(usage)
    document = {
        "id": word("cmpl-", 29),
        "object": "text_completion",
        "created": now,
        "model": snapshot(body["model"]),
        "choices": [
            {"index": index, "text": text, "logprobs": None, "finish_reason": "stop"}
            for index, text in enumerate(said)
        ],
        "usage": {name: counted[name] for name in _COUNTS},
        "system_fingerprint": f"fp_{sha[:10]}",
    }
    return document, usage


def _embedding(body: dict[str, Any], sha: str, now: int) -> Answer:
    size = body.get("dimensions") or arrays.dimensions(body["model"])
    as_base64 = body.get("encoding_format") == "base64"
    data = []
    for index, given in enumerate(texts.inputs(body["input"])):
        vector = arrays.vector(given, size)
        packed = arrays.packed(vector) if as_base64 else vector
        data.append({"object": "embedding", "index": index, "embedding": packed})
    usage = Usage(max(1, texts.input_tokens("/v1/embeddings", body)))
    counted = {"prompt_tokens": usage.input_tokens, "total_tokens": usage.input_tokens}
    return {
        "object": "list",
        "data": data,
        "model": snapshot(body["model"]),
        "usage": counted,
    }, usage


def _moderation(body: dict[str, Any], sha: str, now: int) -> Answer:
    # A list of typed parts is one multi-modal input; a list of strings is many inputs.
    given = texts.inputs(body["input"])
    if given and isinstance(given[0], dict):
        given = [given]
    results = [arrays.moderation(item) for item in given]
    return {"id": digits("modr-"), "model": snapshot(body["model"]), "results": results}, Usage()


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
            "output_tokens_details": {"image_tokens": usage.output_tokens, "text_tokens": 0},
            "total_tokens": usage.input_tokens + usage.output_tokens,
        },
    }
    return document, usage


def _video(body: dict[str, Any], sha: str, now: int) -> Answer:
    document = {
        "id": digits("video_"),
        "object": "video",
        "created_at": now,
        "completed_at": now,
        "expires_at": now + 86400,
        "status": "completed",
        "progress": 100,
        "model": snapshot(body["model"]),
        "prompt": body["prompt"],
        "seconds": str(body.get("seconds", "4")),
        "size": body.get("size") or "720x1280",
        "remixed_from_video_id": None,
        "error": None,
    }
    return document, Usage()


_MAKERS: dict[str, Callable[[dict[str, Any], str, int], Answer]] = {
    "/v1/responses": response,
    "/v1/chat/completions": _chat,
    "/v1/completions": _completion,
    "/v1/embeddings": _embedding,
    "/v1/moderations": _moderation,
    "/v1/images/generations": _image,
    "/v1/images/edits": _image,
    "/v1/videos": _video,
}
