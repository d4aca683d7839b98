"""Replies of the OpenAPI document: JSON bodies, and refusals by their codes."""

from collections.abc import Iterable, Mapping
from typing import Final, TypeAlias

from openaibatching.server.api.openapi.components import Schema, ref

Codes: TypeAlias = Mapping[str, tuple[str, ...]]
"""Codes of refusals, by HTTP status."""

KEYED: Final[Codes] = {
    "401": ("invalid_api_key",),
    "429": ("rate_limited",),
    "503": ("database_unavailable",),
}
"""Refusals of every call that presents a key."""


def json_content(schema: Schema) -> Schema:
    """A JSON body."""
    return {"application/json": {"schema": schema}}


def reply(description: str, schema: Schema, *headers: str) -> Schema:
    """A reply with a JSON body and these headers."""
    content: Schema = {"description": description, "content": json_content(schema)}
    if headers:
        content["headers"] = {name: ref("headers", name) for name in headers}
    return content


def refusals(*groups: Codes, or_failure: bool = False) -> Schema:
    """Replies for refusals, by status.

    With `or_failure` a reply may as well be that of a failed request, which carries OpenAI's own
    status and code.
    """
    codes: dict[str, list[str]] = {}
    for group in groups:
        for status, names in group.items():
            codes.setdefault(status, []).extend(names)
    if "401" in codes:  # what needs a key needs one with the right scope
        codes["403"] = ["insufficient_scope"]
    return {status: _refusal(status, names, or_failure) for status, names in codes.items()}


def _refusal(status: str, codes: list[str], or_failure: bool) -> Schema:
    code = {"properties": {"error": {"properties": {"code": {"enum": codes}}}}}
    refused: Schema = {"allOf": [ref("schemas", "Error"), code]}
    schema = {"anyOf": [refused, ref("schemas", "Failure")]} if or_failure else refused
    retry = ("Retry-After",) if status in ("429", "503") else ()
    return reply(one_of(codes), schema, *retry)


def one_of(codes: Iterable[str]) -> str:
    """The codes, in words."""
    return "One of: " + ", ".join(f"`{code}`" for code in codes) + "."
