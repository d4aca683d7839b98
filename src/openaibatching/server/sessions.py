"""Sessions of the page: a token that is made from a key and kept nowhere.

It names the key by its mark, says until when it is good, and is sealed (Keyring.seal). Any server
with the same BATCH_SERVER_API_KEY can read it, and it ends with its key.
"""

from __future__ import annotations

import base64
import binascii
import hmac
import struct

from openaibatching.server.holder import Holder
from openaibatching.server.keyring import Keyring

SESSION_S = 12 * 3600
_NAMED = struct.Struct(">16sQ")
"""The key's mark, and the Unix second in which the session ends."""
_SEAL_BYTES = 32
_TOKEN_CHARACTERS = 75


async def issue(keyring: Keyring, key: str, now: float) -> str | None:
    """A token for whoever presents `key`, or None. It can stand in a cookie.

    Raises DatabaseUnavailable when only the database can tell.
    """
    found = await keyring.holder(key)
    if found is None:
        return None
    named = _NAMED.pack(found.mark, int(now) + SESSION_S)
    token = base64.urlsafe_b64encode(named + keyring.seal(found, named))
    return token.rstrip(b"=").decode()


async def holder(keyring: Keyring, token: str, now: float) -> Holder | None:
    """Whose session it is, or None. Raises as `issue`."""
    if len(token) != _TOKEN_CHARACTERS:
        return None
    try:
        sealed = base64.b64decode(token + "=", altchars="-_", validate=True)
    except (binascii.Error, ValueError):  # ValueError: not ASCII
        return None
    named, seal = sealed[:-_SEAL_BYTES], sealed[-_SEAL_BYTES:]
    mark, end = _NAMED.unpack(named)
    if now >= end:
        return None
    found = await keyring.holder_by_mark(mark)
    if found is None or not hmac.compare_digest(keyring.seal(found, named), seal):
        return None
    keyring.note_use(found)
    return found
