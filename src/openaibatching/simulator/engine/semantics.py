"""What a model refuses: a body that passes the batch's validation and gets a 400 of its own."""

import json
from typing import Any

from openaibatching.simulator.engine import texts
from openaibatching.simulator.engine.errors import (
    ApiError,
    invalid_type,
    invalid_value,
    out_of_range,
)
from openaibatching.simulator.engine.known import KNOWN
from openaibatching.simulator.engine.limits import Limits

_ROLES = ("system", "assistant", "user", "function", "tool", "developer")
_NUMBERS = {
    "temperature": (0, 2),
    "top_p": (0, 1),
    "frequency_penalty": (-2, 2),
    "presence_penalty": (-2, 2),
}
_INTEGERS = {
    "n": (1, 128),
    "max_tokens": (1, 10**9),
    "max_completion_tokens": (1, 10**9),
    "max_output_tokens": (16, 10**9),
    "top_logprobs": (0, 20),
}
_BOOLEANS = ("store", "parallel_tool_calls", "background")
_FORMATS = ("text", "json_object", "json_schema", "grammar", "python")


def refuse(endpoint: str, body: dict[str, Any], size: int, limits: Limits) -> None:
    """Raise the ApiError that the endpoint would answer this body with, if any.

    `size` is the length of its line: a short one cannot overflow the context.
    """
    for name in body:
        if name not in KNOWN[endpoint]:
            raise ApiError(400, f"Unknown parameter: '{name}'.", name, "unknown_parameter")
    _numbers(body)
    _dimensions(body)
    _format(body)
    if endpoint == "/v1/chat/completions":
        _messages(body["messages"])
    elif endpoint == "/v1/responses":
        _input(body.get("input", ""))
    else:
        _plain(endpoint, body)
    if endpoint == "/v1/embeddings":
        if size > limits.embedding_tokens:
            _embedding_tokens(body, limits.embedding_tokens)
    elif size > limits.context_tokens:
        _context(endpoint, body, limits.context_tokens)


def _numbers(body: dict[str, Any]) -> None:
    for name, (low, high) in _NUMBERS.items():
        value = body.get(name)
        if value is None:
            continue
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise invalid_type(name, "a decimal", value)
        if not low <= value <= high:
            raise out_of_range(name, value, low, high, "decimal")
    for name, (least, most) in _INTEGERS.items():
        value = body.get(name)
        if value is None:
            continue
        if isinstance(value, bool) or not isinstance(value, int):
            raise invalid_type(name, "an integer", value)
        if not least <= value <= most:
            raise out_of_range(name, value, least, most, "integer")
    for name in _BOOLEANS:
        if not isinstance(body.get(name) or False, bool):
            raise invalid_type(name, "a boolean", body[name])


def _dimensions(body: dict[str, Any]) -> None:
    # Another validator than that of the other numbers: no param and no code.
    given = body.get("dimensions")
    if given is None:
        return
    if isinstance(given, bool) or not isinstance(given, int):
        raise ApiError(400, f"{json.dumps(given)} is not of type 'integer' - 'dimensions'")
    if given < 1:
        raise ApiError(400, f"{given} is less than the minimum of 1 - 'dimensions'")
    if given > 3072:
        raise ApiError(400, f"{given} is greater than the maximum of 3072 - 'dimensions'")


def _format(body: dict[str, Any]) -> None:
    place, wanted = "response_format", body.get("response_format")
    if isinstance(body.get("text"), dict):
        place, wanted = "text.format", body["text"].get("format")
    elif body.get("text") is not None:
        raise invalid_type("text", "an object", body["text"])
    if wanted is None or isinstance(wanted, str):
        return
    if not isinstance(wanted, dict):
        raise invalid_type(place, "an object", wanted)
    if wanted.get("type") not in _FORMATS:
        raise invalid_value(f"{place}.type", wanted.get("type"), _FORMATS[:3])


def _messages(messages: Any) -> None:
    if not isinstance(messages, list):
        raise invalid_type("messages", "an array of objects", messages)
    if not messages:
        message = (
            "Invalid 'messages': empty array. Expected an array with minimum length 1, "
            "but got an empty array instead."
        )
        raise ApiError(400, message, "messages", "empty_array")
    for index, item in enumerate(messages):
        place = f"messages[{index}]"
        if not isinstance(item, dict):
            raise invalid_type(place, "an object", item)
        if item.get("role") not in _ROLES:
            raise invalid_value(f"{place}.role", item.get("role"), _ROLES)
        if not isinstance(item.get("content") or "", str | list):
            raise invalid_type(f"{place}.content", "one of a string or array", item["content"])


def _input(given: Any) -> None:
    if not isinstance(given, str | list):
        raise invalid_type("input", "one of a string or array", given)
    for index, item in enumerate(given if isinstance(given, list) else ()):
        if not isinstance(item, dict):
            raise invalid_type(f"input[{index}]", "an object", item)


def _plain(endpoint: str, body: dict[str, Any]) -> None:
    name = "input" if endpoint in ("/v1/embeddings", "/v1/moderations") else "prompt"
    given = body[name]
    allowed = str if endpoint.startswith(("/v1/images", "/v1/videos")) else str | list
    if not isinstance(given, allowed):
        raise invalid_type(name, "a string", given)
    if name == "input" and not given:
        message = f"Invalid '{name}': input cannot be an empty string."
        raise ApiError(400, message, name, "invalid_value")


def _embedding_tokens(body: dict[str, Any], most: int) -> None:
    for one in texts.inputs(body["input"]):
        count = texts.input_tokens("/v1/embeddings", {"input": [one]})
        if count > most:
            message = (
                f"This model's maximum context length is {most} tokens, however you requested "
                f"{count} tokens ({count} in your prompt; 0 for the completion). Please reduce "
                "your prompt; or completion length."
            )
            raise ApiError(400, message)


def _context(endpoint: str, body: dict[str, Any], most: int) -> None:
    count = texts.input_tokens(endpoint, body)
    if count <= most:
        return
    names = ("messages", "input", "prompt")
    param = next((name for name in names if name in body), None)
    message = (
        f"This model's maximum context length is {most} tokens. However, your {param} resulted "
        f"in {count} tokens. Please reduce the length of the {param}."
    )
    raise ApiError(400, message, param, "context_length_exceeded")
