"""Sessions of the page: made from a key, kept nowhere, ended by time or with their key."""

from __future__ import annotations

import base64
import time
import uuid

import pytest

from openaibatching.server import key_text, sessions
from openaibatching.server.db import Database
from openaibatching.server.key_memory import KeyMemory, KnownKey
from openaibatching.server.keyring import Keyring

NOW = 1_795_342_800.5
KEYS = {"alpha": "key-a", "beta": "key-b"}


def keyring(keys: dict[str, str], *stored: KnownKey) -> Keyring:
    """A server's keyring: the environment's keys, and what it has just read in the database."""
    memory = KeyMemory()
    memory.changed()
    memory.learn(stored, time.monotonic(), memory.changes)
    return Keyring(keys, Database("postgresql://nowhere.invalid/"), memory)


async def tenant_of(ring: Keyring, made: str, now: float) -> str | None:
    found = await sessions.holder(ring, made, now)
    return found.tenant if found else None


async def token(key: str = "key-a") -> str:
    made = await sessions.issue(keyring(KEYS), key, NOW)
    assert made
    return made


async def test_a_session_is_known_on_every_server_with_the_same_keys() -> None:
    for key, tenant in (("key-a", "alpha"), ("key-b", "beta")):
        assert (await tenant_of(keyring(KEYS), await token(key), NOW)) == tenant
    turned = dict(reversed(KEYS.items()))
    assert (await tenant_of(keyring(turned), await token(), NOW)) == "alpha"


async def test_a_wrong_key_gets_no_session() -> None:
    assert await sessions.issue(keyring(KEYS), "key-c", NOW) is None


async def test_a_session_can_stand_in_a_cookie_and_does_not_hold_the_key() -> None:
    made = await token()
    assert all(c.isalnum() or c in "-_" for c in made)
    assert b"key-a" not in base64.urlsafe_b64decode(made + "=")


async def test_a_session_ends_after_twelve_hours() -> None:
    made = await token()
    assert (await tenant_of(keyring(KEYS), made, NOW + 12 * 3600 - 1)) == "alpha"
    assert await tenant_of(keyring(KEYS), made, NOW + 12 * 3600) is None


@pytest.mark.parametrize(
    "keys",
    [
        {"beta": "key-b"},
        {"alpha": "key-a2", "beta": "key-b"},
        # The same key, but another server's secret: nothing that a database holds makes a session.
        {"alpha": "key-a"},
    ],
)
async def test_a_session_ends_with_its_key_and_with_any_other_of_the_environment(
    keys: dict[str, str],
) -> None:
    assert await tenant_of(keyring(keys), await token(), NOW) is None


async def test_a_session_of_a_stored_key_ends_when_the_key_is_revoked() -> None:
    key = key_text.new_key()
    stored = KnownKey(uuid.uuid4(), "gamma", "n", "submit", key_text.digest(key), ends_in_s=None)
    made = await sessions.issue(keyring(KEYS, stored), key, NOW)
    assert made
    assert (await tenant_of(keyring(KEYS, stored), made, NOW)) == "gamma"
    assert await tenant_of(keyring(KEYS), made, NOW) is None


async def test_nothing_else_is_a_session() -> None:
    made, other = await token(), await token("key-b")
    sealed = bytearray(base64.urlsafe_b64decode(made + "="))
    for position in range(len(sealed)):
        changed = sealed.copy()
        changed[position] ^= 1
        forged = base64.urlsafe_b64encode(changed).decode().rstrip("=")
        assert await tenant_of(keyring(KEYS), forged, NOW) is None, position
    for wrong in ("", "x", made[:-1], made + "A", made[:-1] + "é", made[:-1] + "!", "A" * 75,
                  made[:40] + other[40:], "\ud800" * 75, "=" * 75, " " + made[1:]):  # fmt: skip
        assert await tenant_of(keyring(KEYS), wrong, NOW) is None, wrong
