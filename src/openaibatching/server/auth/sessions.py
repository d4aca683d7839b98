"""Sessions of the page: a random token in the cookie, and a row in the database.

Every server of the database knows a session, and none any more as soon as it is signed out or its
key has ended. The token says nothing of the key: see `page_session` in schema_access.sql.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
import uuid
from dataclasses import dataclass

from psycopg.rows import class_row

from openaibatching.server.auth.holder import POWERS, Holder
from openaibatching.server.auth.keyring import Keyring
from openaibatching.server.database.statements import Connection, execute

SESSION_S = 12 * 3600
OF_A_TENANT_MAX = 1000
_TOKEN_BYTES = 32
_TOKEN = re.compile("[A-Za-z0-9_-]{43}")


@dataclass(frozen=True, slots=True)
class _Row:
    """A session, and its key of the database, if it has one that has not ended."""

    tenant: str
    configured: bool
    proof: bytes
    id: uuid.UUID | None
    name: str | None
    scope: str | None
    digest: bytes | None


async def issue(conn: Connection, holder: Holder) -> str:
    """A token for whoever has presented this key. It can be a cookie."""
    token = secrets.token_urlsafe(_TOKEN_BYTES)
    params = {
        "digest": _digest(token),
        "tenant": holder.tenant,
        "key_id": holder.id,
        "proof": _proof(token, holder),
        "lasts_s": SESSION_S,
    }
    await execute(conn, "create_session", params)
    await execute(conn, "trim_sessions", {"tenant": holder.tenant, "most": OF_A_TENANT_MAX})
    return token


async def holder(conn: Connection, keyring: Keyring, token: str) -> Holder | None:
    """Whose session it is, or None."""
    if not _TOKEN.fullmatch(token):
        return None
    cursor = await execute(conn, "read_session", {"digest": _digest(token)}, class_row(_Row))
    row: _Row | None = await cursor.fetchone()
    if row is None:
        return None
    if row.configured:
        found = (each for each in keyring.configured if each.tenant == row.tenant)
        same = (each for each in found if hmac.compare_digest(_proof(token, each), row.proof))
        return next(same, None)
    if row.id is None or row.name is None or row.scope is None or row.digest is None:
        return None  # its key has ended
    powers = POWERS.get(row.scope, frozenset())
    return Holder(row.tenant, row.digest, row.name, row.scope, powers, row.id)


async def end(conn: Connection, token: str) -> None:
    """Sign out: no server knows the session any more."""
    await execute(conn, "end_session", {"digest": _digest(token)})


def _digest(token: str) -> bytes:
    return hashlib.sha256(token.encode()).digest()


def _proof(token: str, holder: Holder) -> bytes:
    return hmac.digest(token.encode(), holder.digest, "sha256")
