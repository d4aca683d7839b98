"""Sessions of the page: a token that is made from a key and kept nowhere.

It names the key by its mark, says until when it is good, and is sealed (Keyring.seal). Any server
with the same BATCH_SERVER_API_KEY can read it, and it ends with its key.
"""

from __future__ import annotations

import base64
import binascii
import hmac
import struct

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
    holder = await keyring.holder(key)
    if holder is None:
        return None
    named = _NAMED.pack(holder.mark, int(now) + SESSION_S)
    token = base64.urlsafe_b64encode(named + keyring.seal(holder, named))
    return token.rstrip(b"=").decode()


async def tenant(keyring: Keyring, token: str, now: float) -> str | None:
    """The tenant whose session it is, or None. Raises as `issue`."""
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
    holder = await keyring.holder_by_mark(mark)
    if holder is None or not hmac.compare_digest(keyring.seal(holder, named), seal):
        return None
    keyring.note_use(holder)
    return holder.tenant
