"""What an input line asks for: its custom_id, its identity, the name of a further sample. Pure."""

from __future__ import annotations

import json
from dataclasses import dataclass
from hashlib import blake2b, sha256
from typing import Any, NoReturn

BLANK = b" \t\r\n"
BOM = b"\xef\xbb\xbf"

# How files begin that are no lines of JSON, and what to do about it. The magic numbers are those
# of RFC 1952, RFC 8878, https://tukaani.org/xz/xz-file-format.txt and https://pkware.com/appnote.
_KINDS = (
    (b"\xff\xfe\0\0", "is UTF-32: save it as UTF-8"),
    (b"\0\0\xfe\xff", "is UTF-32: save it as UTF-8"),
    (b"\xff\xfe", "is UTF-16: save it as UTF-8"),
    (b"\xfe\xff", "is UTF-16: save it as UTF-8"),
    (b"\x1f\x8b", "is compressed by gzip: unpack it first"),
    (b"PK\x03\x04", "is a zip archive: unpack it first"),
    (b"PK\x05\x06", "is a zip archive: unpack it first"),
    (b"\x28\xb5\x2f\xfd", "is compressed by zstd: unpack it first"),
    (b"\xfd7zXZ\0", "is compressed by xz: unpack it first"),
    (b"BZh", "is compressed by bzip2: unpack it first"),
    (b"PAR1", "is a Parquet file: write it as lines of JSON first"),
)
KIND_BYTES = 64
"""How much of a file `wrong_kind` looks at."""


def wrong_kind(head: bytes) -> str | None:
    """What is wrong with a file that begins like this and cannot be lines of JSON."""
    for magic, why in _KINDS:
        if head.startswith(magic):
            return why
    if b"\0" in head[:KIND_BYTES]:  # no JSON text has one, and UTF-16 needs no mark
        return "is UTF-16, or no text at all: save it as UTF-8"
    return None


def wrong_layout(first: bytes) -> str | None:
    """What is wrong with a file whose first line with anything in it is this one."""
    if first.startswith(b"["):
        return "is one JSON array: write one object a line, for example by jq -c '.[]'"
    if first == b"{":
        return "has JSON over several lines: write one object a line, for example by jq -c ."
    return None


def trimmed(text: bytes) -> bytes:
    """A line without its end, spaces around it, and a byte order mark before it."""
    return text.strip(BLANK).removeprefix(BOM).strip(BLANK)


class BadLine(ValueError):
    """An input line that asks for nothing; `code` and `param` as the bulk door gives them."""

    def __init__(self, message: str, code: str, param: str | None = None) -> None:
        super().__init__(message)
        self.code, self.param = code, param

    def answer(self, number: int) -> bytes:
        """The output line; its message says which line of the file it was."""
        error = {
            "message": f"Line {number}: {self}", "type": "invalid_request_error",
            "param": self.param, "code": self.code,
        }  # fmt: skip
        response = {"status_code": 400, "request_id": "", "body": {"error": error}}
        line = {"id": None, "custom_id": None, "response": response, "error": None}
        return json.dumps(line, separators=(",", ":")).encode()


def _constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


class _Number(str):
    """A number as its text behind a NUL: `1` and `1.0` are two requests, and Python refuses
    integers of thousands of digits."""

    __slots__ = ()


def _number(text: str) -> _Number:
    return _Number("\0" + text)


# Where an answer can be streamed; how, is no part of the request.
_STREAMED = ("/v1/responses", "/v1/chat/completions", "/v1/completions")

_decoder = json.JSONDecoder(parse_int=_number, parse_float=_number, parse_constant=_constant)


@dataclass(frozen=True)
class Asked:
    """What a line asks for. `identity` is equal where the server takes two lines for one request,
    or would if they had no keys of their own; `own_key` is whether this line has one."""

    name: str
    identity: bytes
    own_key: bool

    @property
    def fingerprint(self) -> int:
        """64 bits of the identity; never 0."""
        return int.from_bytes(blake2b(self.identity, digest_size=8).digest()) or 1

    @property
    def sample_key(self) -> str:
        """The Idempotency-Key that makes a request of its own of this line, the same each time."""
        name = json.dumps(self.name).encode()
        return "run-" + sha256(name + b"\0" + self.identity).hexdigest()


def read_line(text: bytes) -> Asked:
    """What a trimmed input line asks for. Raises BadLine if its custom_id is unknown.

    All else is for the server to judge, which then names the line.
    """
    try:
        value: Any = _decoder.decode(text.decode("utf-8"))
    except (ValueError, RecursionError) as error:
        raise BadLine(f"The line is not valid JSON: {error}.", "invalid_json") from None
    if not isinstance(value, dict):
        raise BadLine("The line must be a JSON object.", "invalid_json")
    name = value.get("custom_id")
    if not isinstance(name, str) or isinstance(name, _Number):
        raise BadLine(
            "Missing required parameter: 'custom_id' (a text).",
            "missing_required_parameter",
            "custom_id",
        )
    own_key = value.get("idempotency_key") is not None
    try:
        identity = _identity(value)
    except RecursionError:  # nested too deeply for the server, too
        identity = text
    return Asked(name, identity, own_key)


def as_sample(text: bytes) -> bytes:
    """The trimmed line as a request of its own, although an earlier one has its body."""
    asked = read_line(text)
    if asked.own_key:
        return text
    # At the end: of two members with one name the last one counts, and this one may be null.
    return b'%s,"idempotency_key":"%s"}' % (text[:-1], asked.sample_key.encode())


def _identity(line: dict[str, Any]) -> bytes:
    """By the rules of the server: members in any order, but not inside of a JSON Schema."""
    url, body = line.get("url"), line.get("body")
    if isinstance(body, dict):
        for name in ("stream", "background"):
            if body.get(name, True) in (None, False):
                del body[name]
        if url == "/v1/responses" and "messages" in body and body.get("input") is None:
            body.pop("input", None)
            url = "/v1/chat/completions"
        if url in _STREAMED:
            body.pop("stream_options", None)
        _keep_order(body)
    asked = [line.get("method"), url, body, line.get("idempotency_key")]
    return json.dumps(asked, sort_keys=True).encode()


def _keep_order(body: dict[str, Any]) -> None:
    """Put each JSON Schema as its text: the order of its members is that of the model's answer."""
    _write_out(body, "response_format", "json_schema", "schema")
    _write_out(body, "text", "format", "schema")
    for name, paths in (
        ("tools", (("function", "parameters"), ("parameters",))),
        ("functions", (("parameters",),)),
    ):
        several = body.get(name)
        for one in several if isinstance(several, list) else ():
            for path in paths:
                _write_out(one, *path)


def _write_out(value: Any, *path: str) -> None:
    """Put the object at that path of members, if there is one, as its text."""
    *parents, last = path
    for name in parents:
        value = value.get(name) if isinstance(value, dict) else None
    if isinstance(value, dict) and isinstance(value.get(last), dict):
        value[last] = "\0" + json.dumps(value[last])
