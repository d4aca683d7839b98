"""The keys that are kept in the database: one typed function a query of keys.sql."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from typing import Any

from psycopg.rows import class_row

from openaibatching.server.auth.holder import SUBMIT
from openaibatching.server.auth.key_cache import KnownKey, StoredKey
from openaibatching.server.auth.key_format import DIGEST_BYTES, digest, hint
from openaibatching.server.database.statements import Connection, execute


async def known_keys(conn: Connection) -> list[KnownKey]:
    """Every key that has not ended."""
    return await (await execute(conn, "known_keys", {}, class_row(KnownKey))).fetchall()


async def known_key(conn: Connection, mark: bytes) -> KnownKey | None:
    """The key whose digest begins with `mark`, unless it has ended."""
    rest = DIGEST_BYTES - len(mark)
    params = {"first": mark + b"\x00" * rest, "last": mark + b"\xff" * rest}
    return await (await execute(conn, "known_key", params, class_row(KnownKey))).fetchone()


async def note_uses(conn: Connection, agos_s: Mapping[uuid.UUID, float]) -> None:
    """Keep when keys were used: {id: how many seconds ago}."""
    await execute(conn, "note_uses", {"ids": list(agos_s), "agos_s": list(agos_s.values())})


async def create_key(
    conn: Connection,
    name: str,
    tenant: str,
    key: str,
    scope: str = SUBMIT,
    expires_in_s: float | None = None,
) -> StoredKey:
    """Keep a new key, as its digest and its hint. It ends in so many seconds; None: never."""
    params: dict[str, Any] = {"tenant": tenant, "name": name, "scope": scope}
    params |= {"hint": hint(key), "digest": digest(key), "expires_in_s": expires_in_s}
    cursor = await execute(conn, "create_key", params, class_row(StoredKey))
    made: StoredKey | None = await cursor.fetchone()
    assert made is not None
    return made


async def list_keys(conn: Connection) -> list[StoredKey]:
    """Every key there ever was, the oldest first."""
    return await (await execute(conn, "list_keys", {}, class_row(StoredKey))).fetchall()


async def end_key(conn: Connection, seen: StoredKey, in_s: float) -> StoredKey | None:
    """End the key in so many seconds; None if it was changed since it was seen."""
    params = {"id": seen.id, "revoked_at": seen.revoked_at, "in_s": in_s}
    return await (await execute(conn, "end_key", params, class_row(StoredKey))).fetchone()
