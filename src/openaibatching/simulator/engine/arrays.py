"""Numbers and pictures made from a digest: embeddings, moderation scores, images."""

import base64
import hashlib
import json
import math
import struct
import zlib
from typing import Any

_DIMENSIONS = {"text-embedding-3-large": 3072}

_TEXT_ONLY = (
    "harassment",
    "harassment/threatening",
    "hate",
    "hate/threatening",
    "illicit",
    "illicit/violent",
    "sexual/minors",
)
_TEXT_AND_IMAGE = (
    "self-harm",
    "self-harm/instructions",
    "self-harm/intent",
    "sexual",
    "violence",
    "violence/graphic",
)


def _digest(value: Any) -> bytes:
    text = value if isinstance(value, str) else json.dumps(value, sort_keys=True)
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()


def dimensions(model: str) -> int:
    """How many numbers an embedding of this model has unless a body asks for fewer."""
    return _DIMENSIONS.get(model, 1536)


def vector(value: Any, size: int) -> list[float]:
    """A unit vector that belongs to this input; each number survives as a float32."""
    seed = _digest(value)
    raw = hashlib.shake_256(seed).digest(2 * size)
    numbers = [number / 32768 for number in struct.unpack(f"<{size}h", raw)]
    length = math.sqrt(sum(number * number for number in numbers)) or 1.0
    # Rounded to float32, so that the base64 form and the plain form are equal.
    unit = struct.pack(f"<{size}f", *(number / length for number in numbers))
    return list(struct.unpack(f"<{size}f", unit))


def packed(numbers: list[float]) -> str:
    """The vector as OpenAI packs it: base64 of little-endian float32."""
    return base64.b64encode(struct.pack(f"<{len(numbers)}f", *numbers)).decode()


def moderation(value: Any) -> dict[str, Any]:
    """Scores from the digest of the input; flagged when one is above a half."""
    names = _TEXT_ONLY + _TEXT_AND_IMAGE
    digest = _digest(value)
    # Fifth powers: most inputs stay clean, about one in twelve categories is hit.
    scores = {name: (digest[place] / 256) ** 5 for place, name in enumerate(names)}
    categories = {name: score > 0.5 for name, score in scores.items()}
    return {
        "flagged": any(categories.values()),
        "categories": categories,
        "category_scores": scores,
        "category_applied_input_types": {name: ["text"] for name in names},
    }


def picture(name: str) -> str:
    """A real PNG of eight pixels in the colours of the digest, as base64."""
    pixels = _digest(name)[:24]
    rows = b"".join(b"\0" + pixels[start : start + 12] for start in (0, 12))
    header = struct.pack(">IIBBBBB", 4, 2, 8, 2, 0, 0, 0)
    chunks = (b"IHDR", header), (b"IDAT", zlib.compress(rows)), (b"IEND", b"")
    body = b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        for kind, data in chunks
    )
    return base64.b64encode(b"\x89PNG\r\n\x1a\n" + body).decode()
