"""Canonical JSON: the same value is the same bytes, and nothing of the value is lost.

Keys are sorted, spaces dropped, texts escaped to ASCII (so no U+2028 can split a line
upstream, and lone surrogates survive). Numbers keep the text that they were written in:
`1` and `1.0` differ, and an integer of any length stays exact. The standard library's parser
is used because the faster ones round large integers and refuse lone surrogates.
"""

from __future__ import annotations

import json
import re
from json.encoder import encode_basestring_ascii
from typing import Any, NoReturn

from openaibatching.server.errors import InvalidJson

DEPTH_MAX = 200
"""Levels of nesting; real calls have about ten. Bounded so that no body can exhaust the stack."""


_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F][0-9a-fA-F]{2}")


class Number(str):
    """A JSON number by its text."""

    __slots__ = ()


def _constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


_decoder = json.JSONDecoder(parse_int=Number, parse_float=Number, parse_constant=_constant)


def parse(body: bytes) -> Any:
    """The value of `body`; numbers as Number. Duplicate keys: the last one wins.

    Raises InvalidJson for whatever RFC 8259 does not allow, and for nesting beyond DEPTH_MAX.
    """
    try:
        return _decoder.decode(body.decode("utf-8"))
    except UnicodeDecodeError as error:
        raise InvalidJson(f"The body is not valid UTF-8 (at byte {error.start}).") from None
    except RecursionError:
        raise InvalidJson("The body is nested too deeply.") from None
    except ValueError as error:
        raise InvalidJson(f"The body is not valid JSON: {error}.") from None


def without_surrogates(text: bytes) -> bytes:
    """JSON that msgspec reads, which refuses a lone surrogate: a letter stands in its place.

    Of the same length, so that what is found in it stands at the same place in `text`.
    """
    return _SURROGATE.sub(rb"\\u0041", text)


def encode(value: Any) -> bytes:
    """The canonical bytes of what `parse` gave. Raises InvalidJson beyond DEPTH_MAX."""
    out: list[str] = []
    _encode(value, out, 0)
    return "".join(out).encode("ascii")


def _encode(value: Any, out: list[str], depth: int) -> None:
    if isinstance(value, Number):
        out.append(value)
    elif isinstance(value, str):
        out.append(encode_basestring_ascii(value))
    elif isinstance(value, dict):
        _encode_members(value, out, _deeper(depth))
    elif isinstance(value, list):
        _encode_items(value, out, _deeper(depth))
    else:
        out.append("null" if value is None else "true" if value else "false")


def _encode_members(value: dict[str, Any], out: list[str], depth: int) -> None:
    before = "{"
    for key in sorted(value):
        out.append(before + encode_basestring_ascii(key) + ":")
        _encode(value[key], out, depth)
        before = ","
    out.append("}" if value else "{}")


def _encode_items(value: list[Any], out: list[str], depth: int) -> None:
    before = "["
    for item in value:
        out.append(before)
        _encode(item, out, depth)
        before = ","
    out.append("]" if value else "[]")


def _deeper(depth: int) -> int:
    if depth >= DEPTH_MAX:
        raise InvalidJson(f"The body is nested deeper than {DEPTH_MAX} levels.")
    return depth + 1
