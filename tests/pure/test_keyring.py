"""Which key is whose, told from memory: of the environment, and of the database."""

from __future__ import annotations

import hmac
import time
import uuid

import pytest

from openaibatching.server.auth import key_format
from openaibatching.server.auth.key_cache import KeyMemory, KnownKey
from openaibatching.server.auth.key_format import MARK_BYTES
from openaibatching.server.auth.keyring import Keyring
from openaibatching.server.database.pool import Database
from openaibatching.server.errors import DatabaseUnavailable

NOWHERE = "postgresql://nowhere.invalid/"


def keyring(*keys: str) -> Keyring:
    """A keyring whose database cannot be asked."""
    return Keyring({f"tenant{n}": key for n, key in enumerate(keys, 1)}, Database(NOWHERE))


async def tenant_of(ring: Keyring, key: str) -> str | None:
    holder = await ring.holder(key)
    return holder.tenant if holder else None


async def test_a_keyring_knows_its_keys_and_no_other() -> None:
    ring = keyring("one", "two")
    assert (await tenant_of(ring, "one"), await tenant_of(ring, "two")) == ("tenant1", "tenant2")
    for wrong in ("", "three", "on", "onee", "ONE", "tenant1", "\xff", "\ud800"):
        assert await tenant_of(ring, wrong) is None


@pytest.mark.parametrize("key", ["key1", "key3", "key9", "k", "", "x" * 9999])
async def test_a_key_is_compared_whole_and_with_every_one_whichever_is_right(
    monkeypatch: pytest.MonkeyPatch, key: str
) -> None:
    ring = keyring("key1", "key2", "key3")
    compared: list[tuple[int, int]] = []

    def constant_time(a: bytes, b: bytes) -> bool:
        compared.append((len(a), len(b)))
        return a == b

    monkeypatch.setattr(hmac, "compare_digest", constant_time)
    assert await tenant_of(ring, key) == (f"tenant{key[3]}" if key in ("key1", "key3") else None)
    assert compared == [(32, 32)] * 3


def test_a_new_key_has_the_form_of_a_key_and_its_hint_gives_little_away() -> None:
    key, other = key_format.new_key(), key_format.new_key()
    assert key != other
    assert key_format.FORM.fullmatch(key)
    assert key.isascii()
    assert key.isprintable()
    assert key_format.hint(key) == f"{key[:7]}…"


@pytest.mark.parametrize("near", ["ob_", "ob_" + "a" * 42, "ob_" + "a" * 44, "ob_" + "ä" * 43])
def test_what_has_not_the_form_of_a_key_is_not_looked_for(near: str) -> None:
    assert key_format.FORM.fullmatch(near) is None


async def test_in_doubt_a_stored_key_is_neither_good_nor_wrong_without_the_database(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("openaibatching.server.auth.keyring.OUTAGE_S_MAX", 0.0)
    ring = keyring("one")
    with pytest.raises(DatabaseUnavailable):
        await tenant_of(ring, key_format.new_key())
    assert await tenant_of(ring, "one") == "tenant1"
    assert await tenant_of(ring, "two") is None


async def test_a_stored_key_is_known_by_memory_alone() -> None:
    key, memory = key_format.new_key(), KeyMemory()
    memory.changed()
    memory.learn([known(key)], time.monotonic(), memory.changes)
    ring = Keyring({}, Database(NOWHERE), memory)
    assert await tenant_of(ring, key) == "tenant"
    assert await tenant_of(ring, key_format.new_key()) is None
    assert len(memory.uses()) == 1


# ----- what is remembered of the database -----


def known(key: str, ends_in_s: float | None = None) -> KnownKey:
    return KnownKey(uuid.uuid4(), "tenant", "name", "submit", key_format.digest(key), ends_in_s)


def mark(key: str) -> bytes:
    return key_format.digest(key)[:MARK_BYTES]


def read(memory: KeyMemory, changes: int | None = None) -> bool:
    """Read that there are no keys; whether the memory is certain of it."""
    memory.learn([], 0.0, memory.changes if changes is None else changes)
    return memory.certain


def test_the_memory_is_certain_only_while_it_listens_and_has_read_all_that_was_announced() -> None:
    memory = KeyMemory()
    assert not read(memory), "nobody listens yet"
    memory.changed()
    assert not memory.certain, "what is there has not been read since"
    assert read(memory)
    before = memory.changes
    memory.changed()
    assert not memory.certain
    assert not read(memory, before), "a change came while the keys were read"
    assert read(memory)
    memory.cut_off()
    assert not read(memory), "what changes from now on goes unheard"
    memory.changed()
    assert read(memory)


def test_a_key_that_is_read_no_more_is_forgotten() -> None:
    memory = KeyMemory()
    first, second = known("first"), known("second")
    memory.learn([first, second], 0.0, 0)
    assert memory.find(mark("first"), 9e9) == first
    memory.learn([second], 1.0, 0)
    assert memory.find(mark("first"), 1.0) is None
    assert memory.find(mark("second"), 1.0) == second


def test_a_key_ends_at_its_time_without_a_word_from_the_database() -> None:
    memory = KeyMemory()
    ending = known("ending", ends_in_s=60.0)
    memory.learn([ending], 1000.0, 0)
    assert memory.find(mark("ending"), 1059.9) == ending
    assert memory.find(mark("ending"), 1060.0) is None


def test_a_use_stays_until_it_is_written_and_a_later_one_longer() -> None:
    memory = KeyMemory()
    one, two = uuid.uuid4(), uuid.uuid4()
    memory.note_use(one, 1.0)
    memory.note_use(two, 1.0)
    memory.note_use(one, 2.0)
    uses = memory.uses()
    assert uses == {one: 2.0, two: 1.0}
    memory.note_use(two, 3.0)
    memory.written(uses)
    assert memory.uses() == {two: 3.0}
