"""A small value that fits a JSON schema, so that `.parse()` of the official SDK works."""

from typing import Any

_FORMATS = {
    "date-time": "2026-01-01T00:00:00Z",
    "date": "2026-01-01",
    "time": "00:00:00Z",
    "duration": "PT1S",
    "email": "someone@example.com",
    "hostname": "example.com",
    "ipv4": "192.0.2.1",
    "ipv6": "2001:db8::1",
    "uuid": "00000000-0000-4000-8000-000000000000",
}
_DEPTH_MAX = 24


def fitting(schema: Any, echo: str) -> Any:
    """The least value that the schema allows, with `echo` for its free strings."""
    return _fit(schema, schema, echo, 0)


def _fit(schema: Any, root: Any, echo: str, depth: int) -> Any:
    if not isinstance(schema, dict) or depth > _DEPTH_MAX:
        return None
    if "$ref" in schema:
        return _fit(_follow(root, str(schema["$ref"])), root, echo, depth + 1)
    if "const" in schema:
        return schema["const"]
    if schema.get("enum"):
        return schema["enum"][0]
    for name in ("anyOf", "oneOf", "allOf"):
        if schema.get(name):
            return _fit(_simplest(schema[name], depth), root, echo, depth + 1)
    kind = schema.get("type", "object" if "properties" in schema else "string")
    if isinstance(kind, list):
        # A recursive schema ends in its null, so the choice depends on the depth.
        kind = "null" if "null" in kind and depth > 4 else kind[0]
    return _of_kind(kind, schema, root, echo, depth)


def _of_kind(kind: str, schema: dict[str, Any], root: Any, echo: str, depth: int) -> Any:
    if kind == "object":
        properties = schema.get("properties", {})
        return {name: _fit(part, root, echo, depth + 1) for name, part in properties.items()}
    if kind == "array":
        least = int(schema.get("minItems", 1 if depth < 4 else 0))
        return [_fit(schema.get("items", {}), root, echo, depth + 1) for _ in range(least)]
    if kind == "string":
        return _string(schema, echo)
    if kind == "boolean":
        return True
    if kind in ("integer", "number"):
        return _number(schema, kind)
    return None


def _string(schema: dict[str, Any], echo: str) -> str:
    if schema.get("format") in _FORMATS:
        return _FORMATS[schema["format"]]
    text = echo[: schema.get("maxLength", len(echo))]
    return text.ljust(int(schema.get("minLength", 0)), ".")


def _number(schema: dict[str, Any], kind: str) -> float:
    if "minimum" in schema:
        least = schema["minimum"]
    elif "exclusiveMinimum" in schema:
        least = schema["exclusiveMinimum"] + 1
    else:
        least = min(0, schema.get("maximum", 0), schema.get("exclusiveMaximum", 1) - 1)
    return int(least) if kind == "integer" else float(least)


def _simplest(choices: list[Any], depth: int) -> Any:
    if depth > 4:
        for choice in choices:
            if isinstance(choice, dict) and choice.get("type") == "null":
                return choice
    return choices[0]


def _follow(root: Any, reference: str) -> Any:
    place = root
    for step in reference.removeprefix("#").strip("/").split("/"):
        if step:
            name = step.replace("~1", "/").replace("~0", "~")
            place = place.get(name) if isinstance(place, dict) else None
    return place
