"""Where a body holds a JSON Schema: there the order of members means something. Pure.

OpenAI writes structured output in the order of the schema
(https://platform.openai.com/docs/guides/structured-outputs). So a schema that asks for the
reasoning before the verdict gets another answer than one that asks for the verdict first.
"""

from __future__ import annotations

from typing import Any

import msgspec

from openaibatching.server.domain import canonical_json

_EACH = ""
_PATHS = (
    ("response_format", "json_schema", "schema"),
    ("text", "format", "schema"),
    ("tools", _EACH, "function", "parameters"),
    ("tools", _EACH, "parameters"),
    ("functions", _EACH, "parameters"),
)
_HOLDERS = frozenset(path[0] for path in _PATHS)


def fixed(body: dict[str, Any]) -> dict[str, Any]:
    """`body`, as canonical.parse gives it, with each schema in it as its own text.

    For canonical.identity, which sorts members and takes such a text as it is. `body` itself is not
    changed.
    """
    if _HOLDERS.isdisjoint(body):  # nearly always
        return body
    for path in _PATHS:
        body = _fixed(body, path)
    return body


def _fixed(value: Any, path: tuple[str, ...]) -> Any:
    if not path:
        return msgspec.Raw(canonical_json.encode(value))
    name, rest = path[0], path[1:]
    if name == _EACH:
        return [_fixed(item, rest) for item in value] if isinstance(value, list) else value
    if isinstance(value, dict) and name in value:
        return {**value, name: _fixed(value[name], rest)}
    return value
