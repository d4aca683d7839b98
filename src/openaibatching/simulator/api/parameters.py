"""The parameters of create, upload and list calls: what OpenAI refuses with a 400."""

from typing import Any

from openaibatching.simulator.engine.canonical import parse
from openaibatching.simulator.engine.engine import Order
from openaibatching.simulator.engine.errors import (
    ApiError,
    invalid_id,
    invalid_type,
    invalid_value,
    missing,
    out_of_range,
)
from openaibatching.simulator.engine.limits import (
    ENDPOINTS,
    EXPIRES_AFTER_MAX_S,
    EXPIRES_AFTER_MIN_S,
    PURPOSES,
)

_CREATE = (
    "input_file_id",
    "endpoint",
    "completion_window",
    "metadata",
    "output_expires_after",
)


def order(raw: bytes) -> Order:
    """The body of POST /batches."""
    try:
        body = parse(raw)
    except ValueError:
        body = None
    if not isinstance(body, dict):
        message = "We could not parse the JSON body of your request."
        raise ApiError(400, message)
    for name in _CREATE[:3]:
        if body.get(name) is None:
            raise missing(name)
        if not isinstance(body[name], str):
            raise invalid_type(name, "a string", body[name])
    for name in body:
        if name not in _CREATE:
            raise ApiError(400, f"Unknown parameter: '{name}'.", name, "unknown_parameter")
    if not body["input_file_id"].startswith("file"):
        raise invalid_id("input_file_id", body["input_file_id"], "file")
    if body["endpoint"] not in ENDPOINTS:
        raise invalid_value("endpoint", body["endpoint"], ENDPOINTS)
    if body["completion_window"] != "24h":
        raise invalid_value("completion_window", body["completion_window"], ("24h",))
    return Order(
        body["endpoint"],
        body["input_file_id"],
        body["completion_window"],
        _metadata(body.get("metadata")),
        expires_after("output_expires_after", body.get("output_expires_after")),
    )


def _metadata(given: Any) -> dict[str, str] | None:
    """At most 16 pairs, keys to 64 and values to 512 characters (API reference)."""
    if given is None:
        return None
    if not isinstance(given, dict):
        raise invalid_type("metadata", "an object", given)
    if len(given) > 16:
        message = (
            "Invalid 'metadata': too many properties. Expected an object with at most 16 "
            f"properties, but got an object with {len(given)} properties instead."
        )
        raise ApiError(400, message, "metadata", "object_above_max_properties")
    for key, value in given.items():
        if len(key) > 64:
            raise _too_long("metadata", "property name", len(key), 64)
        if not isinstance(value, str):
            raise invalid_type(f"metadata.{key}", "a string", value)
        if len(value) > 512:
            raise _too_long(f"metadata.{key}", "string", len(value), 512)
    return given


def _too_long(param: str, what: str, length: int, most: int) -> ApiError:
    message = (
        f"Invalid '{param}': {what} too long. Expected a string with maximum length {most}, "
        f"but got a string with length {length} instead."
    )
    return ApiError(400, message, param, "string_above_max_length")


def expires_after(param: str, given: Any) -> int | None:
    """Seconds from `{"anchor": "created_at", "seconds": 3600..2592000}`."""
    if given is None:
        return None
    if not isinstance(given, dict):
        raise invalid_type(param, "an object", given)
    for name in ("anchor", "seconds"):
        if given.get(name) is None:
            raise missing(f"{param}.{name}")
    if given["anchor"] != "created_at":
        raise invalid_value(f"{param}.anchor", given["anchor"], ("created_at",))
    return _integer(f"{param}.seconds", given["seconds"], EXPIRES_AFTER_MIN_S, EXPIRES_AFTER_MAX_S)


def purpose(given: str | None) -> str:
    """The purpose of an upload."""
    if not given:
        raise missing("purpose")
    if given not in PURPOSES:
        message = f"'{given}' is not one of {list(PURPOSES)} - 'purpose'"
        raise ApiError(400, message, detail=True)
    return given


def _integer(param: str, given: Any, low: int, high: int) -> int:
    if isinstance(given, str):
        # Form fields and query parameters arrive as text.
        try:
            given = int(given)
        except ValueError:
            raise invalid_type(param, "an integer", given) from None
    if isinstance(given, bool) or not isinstance(given, int):
        raise invalid_type(param, "an integer", given)
    if not low <= given <= high:
        raise out_of_range(param, given, low, high, "integer")
    return given


def page(
    objects: list[dict[str, Any]], query: dict[str, str], default: int, most: int
) -> dict[str, Any]:
    """One page of a list that is already in its order (`limit`, `after`)."""
    limit = _integer("limit", query.get("limit", default), 1, most)
    after = query.get("after")
    start = 0
    if after:
        places = [place for place, one in enumerate(objects) if one["id"] == after]
        if not places:
            message = f"Invalid 'after': no object with id '{after}'."
            raise ApiError(400, message, "after", "invalid_value")
        start = places[0] + 1
    data = objects[start : start + limit]
    return {
        "object": "list",
        "data": data,
        "first_id": data[0]["id"] if data else None,
        "last_id": data[-1]["id"] if data else None,
        "has_more": start + limit < len(objects),
    }
