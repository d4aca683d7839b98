"""What a model charges for an image, in tokens. Pure.

The rules are OpenAI's (https://developers.openai.com/api/docs/guides/images-vision, "Calculating
costs"): older models count tiles of 512 pixels, newer ones patches of 32 pixels.
"""

from __future__ import annotations

import io
import math
import struct
from dataclasses import dataclass

import imagesize


@dataclass(frozen=True, slots=True)
class Tiles:
    """`base` tokens an image, and `each` for a tile, when its shortest side has `side` pixels."""

    base: int
    each: int
    side: int = 768

    def seen(self, size: tuple[int, int] | None, detail: object) -> int:
        if detail == "low":
            return self.base
        # Without a size: a picture of 2048 x 768, the largest there is.
        width, height = size or (2048, self.side)
        shrink = min(1.0, 2048 / max(width, height))
        shrink *= min(1.0, self.side / (min(width, height) * shrink))
        across, down = (math.ceil(round(n * shrink, 3) / 512) for n in (width, height))
        return self.base + self.each * max(1, across) * max(1, down)


@dataclass(frozen=True, slots=True)
class Patches:
    """`each` tokens for one of at most `most` patches, or of `original` with that detail."""

    each: float
    most: int = 1536
    original: int | None = None

    def seen(self, size: tuple[int, int] | None, detail: object) -> int:
        most = self.original if self.original and detail == "original" else self.most
        if detail == "low":
            most = 256  # 512 x 512 pixels
        patches = most
        if size is not None:
            patches = min(most, math.ceil(size[0] / 32) * math.ceil(size[1] / 32))
        return math.ceil(patches * self.each)


# By the beginning of the model's name, the first that fits.
_NEWER = Patches(1.0, 2500, 10_000)
_EDITOR = Tiles(65, 129, side=512)
_CHARGES: tuple[tuple[str, Tiles | Patches], ...] = (
    ("gpt-4o-mini", Tiles(2833, 5667)),
    ("gpt-4.1-mini", Patches(1.62)),
    ("gpt-4.1-nano", Patches(2.46)),
    ("gpt-4", Tiles(85, 170)),
    ("chatgpt-4o", Tiles(85, 170)),
    ("o4-mini", Patches(1.72)),
    ("o1", Tiles(75, 150)),
    ("o3", Tiles(75, 150)),
    ("computer-use", Tiles(65, 129)),
    ("gpt-5-mini", Patches(1.62)),
    ("gpt-5-nano", Patches(2.46)),
    ("gpt-5.", _NEWER),
    ("gpt-5", Tiles(70, 140)),
    ("", _NEWER),
)
_FAITHFUL, _FAITHFUL_SQUARE = 6240, 4160
"""More for an image that is edited with `input_fidelity: "high"`."""
_PICTURES = (b"\x89PNG", b"GIF8", b"\xff\xd8", b"RIFF")


def seen(model: str, head: bytes, detail: object) -> int:
    """Tokens of an image that the model looks at with this `detail`.

    `head` is the image's beginning; where it does not tell the size, the largest image counts.
    """
    name = model.removeprefix("ft:")
    charge = next(charge for start, charge in _CHARGES if name.startswith(start))
    return charge.seen(_size(head), detail)


def edited(model: str, head: bytes, *, faithful: bool) -> int:
    """Tokens of an image that `/v1/images/edits` starts from."""
    size = _size(head)
    square = size is not None and size[0] == size[1]
    more = (_FAITHFUL_SQUARE if square else _FAITHFUL) if faithful else 0
    return _EDITOR.seen(size, None) + more


def _size(head: bytes) -> tuple[int, int] | None:
    """(width, height) in pixels of a PNG, GIF, JPEG or WebP, the kinds that OpenAI takes."""
    if not head.startswith(_PICTURES):
        return None
    try:
        width, height = imagesize.get(io.BytesIO(head), exif_rotation=False)
    except (ValueError, struct.error, IndexError, OverflowError, EOFError):
        return None
    return (int(width), int(height)) if width > 0 and height > 0 else None
