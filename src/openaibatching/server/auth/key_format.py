"""What a key of the database looks like, and what is kept of it.

A key is random and long, so its SHA-256 is as good as a slow hash would be for a password.
"""

from __future__ import annotations

import hashlib
import re
import secrets

PREFIX = "ob_"
RANDOM_BYTES = 32
FORM = re.compile(PREFIX + r"[A-Za-z0-9_-]{43}")
"""What `new_key` makes. Nothing else has to be looked for in the database."""
HINT_CHARACTERS = len(PREFIX) + 4
DIGEST_BYTES, MARK_BYTES = 32, 16
"""Of a key's digest, and of the digest's beginning, which names the key and is no secret."""


def new_key() -> str:
    """A key that nobody has."""
    return PREFIX + secrets.token_urlsafe(RANDOM_BYTES)


def digest(key: str) -> bytes:
    """What is kept of a key: enough to know it again, and no more."""
    return hashlib.sha256(key.encode("utf-8", "surrogatepass")).digest()


def hint(key: str) -> str:
    """The first characters, for people to tell it by."""
    return key[:HINT_CHARACTERS] + "…"
