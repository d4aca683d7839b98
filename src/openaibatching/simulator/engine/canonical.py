"""Reading JSON strictly, and naming a body by its canonical form."""

import hashlib
import json
from typing import Any, NoReturn

import msgspec


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON")


_decoder = json.JSONDecoder(parse_constant=_refuse_constant)
_encoder = json.JSONEncoder(sort_keys=True, separators=(",", ":"))


def parse(raw: bytes) -> Any:
    """The value of a JSON text; ValueError when it is none.

    The standard library and not msgspec, because lone surrogates (`"\\ud800"`) are legal
    JSON that OpenAI's clients can send, and msgspec refuses them.
    """
    try:
        return _decoder.decode(raw.decode("utf-8"))
    except RecursionError:
        raise ValueError("nested too deeply") from None


def canonical(body: Any) -> bytes:
    """Keys sorted, no spaces, ASCII: what `json.dumps(body, sort_keys=True, …)` writes."""
    return _encoder.encode(body).encode("ascii")


def body_sha256(body: "bytes | bytearray | str | dict[str, Any]") -> str:
    """The hex digest that names a body in the ledger and in its answer."""
    if isinstance(body, str):
        body = body.encode()
    value = parse(bytes(body)) if isinstance(body, bytes | bytearray) else body
    return hashlib.sha256(canonical(value)).hexdigest()


def write(value: Any) -> bytes:
    """JSON as UTF-8; escapes only where UTF-8 cannot say it (lone surrogates)."""
    try:
        return msgspec.json.encode(value)
    except UnicodeEncodeError:
        return json.dumps(value, separators=(",", ":")).encode("ascii")
