"""JSON as its caller wrote it, and the canonical text that names it; nothing of a value is lost.

What is sent keeps the order of its members. What names a request has them sorted, but not inside a
JSON Schema (`domain/json_schemas.py`). In both, spaces are dropped and numbers keep the text that
they were written in: `1` and `1.0` differ, and an integer of any length stays exact. msgspec, in C,
does nearly all of it; what it refuses or would change (lone surrogates, `-0`, integers of thousands
of digits) goes through the standard library."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable
from json.encoder import encode_basestring_ascii
from typing import Any, NoReturn

import msgspec

from openaibatching.server.domain import json_structure
from openaibatching.server.errors import InvalidJson

DEPTH_MAX = 200
"""Levels of nesting; real calls have about ten. Bounded so that no body can exhaust the stack."""
_DIGITS_MAX = 300
_PART = 65_536
"""Bytes or characters that are searched in one go."""
_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F][0-9a-fA-F]{2}")
_MINUS_ZERO = re.compile(rb"-0(?![.0-9eE])")
_BEYOND_ASCII = re.compile("[\x7f-\U0010ffff]+")

_Ordered = Callable[[Iterable[str]], list[str]]


def is_number(value: Any) -> bool:
    """Whether a parsed value is a JSON number."""
    return isinstance(value, int | msgspec.Raw) and not isinstance(value, bool)


def _as_written(text: str) -> msgspec.Raw:
    return msgspec.Raw(text.encode())


def _integer(text: str) -> int | msgspec.Raw:
    return int(text) if len(text) < _DIGITS_MAX and text != "-0" else _as_written(text)


def _constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


_quick = msgspec.json.Decoder(float_hook=_as_written)
_patient = json.JSONDecoder(parse_int=_integer, parse_float=_as_written, parse_constant=_constant)


def parse(body: bytes, depth_max: int = DEPTH_MAX) -> Any:
    """The value of `body`. Duplicate keys: the last one wins. A number that Python might write
    otherwise is a msgspec.Raw of its text.

    Raises InvalidJson for whatever RFC 8259 does not allow, for nesting beyond `depth_max`, and for
    more structure than domain/json_structure.py allows, which is told before anything is decoded.
    """
    if json_structure.exceeds(body):
        raise InvalidJson(
            f"The body has more than {json_structure.MARKS_MAX:,} brackets, commas and colons "
            "outside of texts."
        )
    value = _parse(body)
    # Nothing is nested deeper than it has brackets, and few bodies have so many.
    if body.count(b"[") + body.count(b"{") > depth_max and not _within(value, depth_max):
        raise InvalidJson(f"The body is nested deeper than {depth_max} levels.")
    return value


def _parse(body: bytes) -> Any:
    if not _has_minus_zero(body):
        try:
            return _quick.decode(body)
        except (msgspec.DecodeError, ValueError, RecursionError):
            pass  # the other one knows better, or says what is wrong
    try:
        return _patient.decode(body.decode("utf-8"))
    except UnicodeDecodeError as error:
        raise InvalidJson(f"The body is not valid UTF-8 (at byte {error.start}).") from None
    except RecursionError:
        raise InvalidJson("The body is nested too deeply.") from None
    except ValueError as error:
        raise InvalidJson(f"The body is not valid JSON: {error}.") from None


def _has_minus_zero(body: bytes) -> bool:
    """In parts: one search through 32 MiB of "-0." holds Python's global lock for 0.2 seconds."""
    for start in range(0, len(body), _PART):
        end = start + _PART
        found = _MINUS_ZERO.search(body, start, end + 2)  # with what the last byte is judged by
        if found is not None and found.start() < end:
            return True
    return False


def _within(value: Any, levels: int) -> bool:
    if isinstance(value, dict):
        value = list(value.values())
    if not isinstance(value, list):
        return True
    return levels > 0 and all(_within(item, levels - 1) for item in value)


def without_surrogates(text: bytes) -> bytes:
    """JSON that msgspec reads, which refuses a lone surrogate: a letter stands in its place.

    Of the same length, so that what is found in it stands at the same place in `text`.
    """
    return _SURROGATE.sub(rb"\\u0041", text)


def encode(value: Any) -> bytes:
    """The bytes of what `parse` gave, with its members in their order.

    ASCII, so that no U+2028 can split a line upstream, and lone surrogates survive.
    """
    try:
        text = msgspec.json.encode(value)
    except UnicodeEncodeError:  # a lone surrogate
        return _encoded(value, ordered=list)
    if text.isascii() and b"\x7f" not in text:
        return text
    # What is not ASCII is in texts only. In parts, because one list of all that is replaced would
    # be 20 times as large as the text.
    whole = text.decode()
    parts = (whole[start : start + _PART] for start in range(0, len(whole), _PART))
    return b"".join(_BEYOND_ASCII.sub(_escaped, part).encode("ascii") for part in parts)


def identity(value: Any) -> bytes:
    """One text for each value, whatever the order of its members: to be hashed, not to be read.

    A member that is a msgspec.Raw is taken as it is.
    """
    try:
        return msgspec.json.encode(value, order="sorted")
    except UnicodeEncodeError:  # by the value alone, so that it is still one text a value
        return _encoded(value, ordered=sorted)


def _escaped(found: re.Match[str]) -> str:
    return encode_basestring_ascii(found[0])[1:-1]


def _encoded(value: Any, ordered: _Ordered) -> bytes:
    out: list[str] = []
    _encode(value, out, ordered)
    return "".join(out).encode("ascii")


def _encode(value: Any, out: list[str], ordered: _Ordered) -> None:
    if isinstance(value, msgspec.Raw):
        out.append(bytes(value).decode())
    elif isinstance(value, str):
        out.append(encode_basestring_ascii(value))
    elif isinstance(value, dict):
        _encode_members(value, out, ordered)
    elif isinstance(value, list):
        _encode_items(value, out, ordered)
    elif value is None or isinstance(value, bool):
        out.append("null" if value is None else "true" if value else "false")
    else:
        out.append(repr(value))


def _encode_members(value: dict[str, Any], out: list[str], ordered: _Ordered) -> None:
    before = "{"
    for key in ordered(value):
        out.append(before + encode_basestring_ascii(key) + ":")
        _encode(value[key], out, ordered)
        before = ","
    out.append("}" if value else "{}")


def _encode_items(value: list[Any], out: list[str], ordered: _Ordered) -> None:
    before = "["
    for item in value:
        out.append(before)
        _encode(item, out, ordered)
        before = ","
    out.append("]" if value else "[]")
