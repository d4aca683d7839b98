"""How much structure a JSON text has, counted before it is decoded. Pure.

Each value that is decoded becomes an object of 50 to 100 bytes, whatever it takes in the text, and
decoding holds Python's global lock until it ends. Texts are cheap, so a body may be large; only
the marks around its values are bounded.
"""

from __future__ import annotations

MARKS_MAX = 1_000_000
"""Brackets, commas and colons outside of texts. The largest call that OpenAI takes, 2,048 embedding
inputs of token ids, has about 300,000 (300,000 tokens in all,
https://platform.openai.com/docs/api-reference/embeddings/create)."""
_MARKS = b"[]{},:"
_PART_BYTES = 65_536
"""Each part is a few calls into C of well below a millisecond, and other threads run in between."""


def exceeds(body: bytes, most: int = MARKS_MAX) -> bool:
    """Whether `body` has more than `most` marks outside of texts.

    Where `body` is no JSON, the answer is right for all of it that a parser would read.
    """
    if len(body) <= most or _marks(body) <= most:  # nearly always
        return False
    marks, within, half = 0, False, b""
    for start in range(0, len(body), _PART_BYTES):
        part = half + body[start : start + _PART_BYTES]
        # Without what is escaped, each quote begins a text or ends it.
        part = part.replace(b"\\\\", b"").replace(b'\\"', b"")
        half = b"\\" if part.endswith(b"\\") else b""
        pieces = part.split(b'"')
        marks += _marks(b"".join(pieces[within::2]))
        if marks > most:
            return True
        within ^= len(pieces) % 2 == 0
    return False


def _marks(text: bytes) -> int:
    """All marks of `text`, those in texts as well."""
    return sum(
        len(part) - len(part.translate(None, _MARKS))
        for part in (text[at : at + _PART_BYTES] for at in range(0, len(text), _PART_BYTES))
    )
