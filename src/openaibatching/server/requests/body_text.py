"""What a body starts with: a byte order mark is skipped, what is not plain UTF-8 is named."""

from __future__ import annotations

import re

from openaibatching.server.errors import InvalidJson

BOM = b"\xef\xbb\xbf"
START_BYTES = 4
"""So many bytes at the start are enough to tell."""
_COMPRESSED = {b"\x1f\x8b": "gzip", b"\x28\xb5\x2f\xfd": "zstd", b"PK\x03\x04": "zip"}
_UTF_16_OR_32 = re.compile(
    rb"\xff\xfe|\xfe\xff|\0\0\xfe\xff|[^\0]\0[^\0]\0|\0[^\0]\0[^\0]|[^\0]\0\0\0|\0\0\0[^\0]"
)
"""With a byte order mark, or without one by its NULs: JSON begins with ASCII (RFC 4627, 3)."""


def utf8(start: bytes) -> bytes:
    """`start`, the first bytes of a body or all of it, without a byte order mark.

    Raises InvalidJson, which names the cause, for a body that is compressed, UTF-16 or UTF-32.
    """
    for magic, name in _COMPRESSED.items():
        if start.startswith(magic):
            raise InvalidJson(f"The body is compressed ({name}): send it uncompressed.")
    if _UTF_16_OR_32.match(start):
        raise InvalidJson("The body is UTF-16 or UTF-32: send it as UTF-8.")
    return start.removeprefix(BOM)
