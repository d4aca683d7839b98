"""Keys that are none: counted, logged at a limited rate, written to the audit, slowed by address.

An address has some tries; then each 401 is held back for a moment. Only the reply to a wrong key is
held: a right key from the same address is answered at once. It is not what keeps a key from being
guessed, which is its length, but it keeps guessing from costing more than it is worth. Memory is
bounded: so many addresses are remembered and so many replies held, and past that a reply is not,
and its connection is closed: each further try costs a handshake.
"""

from __future__ import annotations

import asyncio
from collections import Counter

from cachetools import LRUCache

from openaibatching.server.auth import audit
from openaibatching.server.auth.addresses import Address
from openaibatching.server.database.loops import run_forever
from openaibatching.server.database.pool import Database
from openaibatching.server.telemetry import counters, logs

log = logs.get()

TRIES, TRY_S = 30, 2.0
"""So many tries at once, and one more each time that so many seconds have passed."""
HOLD_S = 0.5
HELD_MAX, HELD_OF_ONE_MAX, ADDRESSES_MAX = 500, 20, 10_000
SAY_S = 60.0
WRITTEN_MAX, OTHERS = 20, "others"
"""Of so many addresses a minute the audit has a line, the most frequent ones; of all others one."""


class Tries:
    """How many tries each address has left. Times are seconds of a clock that only goes forward."""

    def __init__(self) -> None:
        self._spent: LRUCache[str, tuple[float, float]] = LRUCache(ADDRESSES_MAX)

    def take(self, address: str, now: float) -> bool:
        """Take a try; whether there was one. When all that can be remembered are in use, an address
        that is not among them has none: else, to have many would be to have tries without end."""
        unknown = float(TRIES if len(self._spent) >= ADDRESSES_MAX else 0)
        spent, since = self._spent.get(address, (unknown, now))
        spent = max(0.0, spent - (now - since) / TRY_S)
        left = spent + 1 <= TRIES
        self._spent[address] = (spent + 1 if left else spent, now)
        return left

    def __len__(self) -> int:
        return len(self._spent)


class WrongKeys:
    """One server's. `run` writes down what was noted."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._tries = Tries()
        self._noted: Counter[str] = Counter()
        self._request_ids: dict[str, str] = {}
        self._woken = asyncio.Event()
        self._held: Counter[str] = Counter()

    async def note(self, address: Address, request_id: str) -> bool:
        """A wrong key came from there. Returns when it may be answered; false if the connection has
        to be closed then."""
        counters.WRONG_KEYS.inc()
        told = address.told
        known = told if told in self._noted or len(self._noted) < ADDRESSES_MAX else OTHERS
        self._noted[known] += 1
        self._request_ids[known] = request_id
        self._woken.set()
        network, now = address.network, asyncio.get_running_loop().time()
        if self._tries.take(network, now):
            return True
        if self._held.total() >= HELD_MAX or self._held[network] >= HELD_OF_ONE_MAX:
            return False
        self._held[network] += 1
        try:
            await asyncio.sleep(HOLD_S)
        finally:
            self._held -= Counter([network])  # and forget it at 0
        return True

    async def run(self) -> None:
        """Log and write what was noted: the first at once, then once a minute, until cancelled."""
        await run_forever("wrong_keys", self.write, woken=self._woken, rest_s=SAY_S)

    async def write(self) -> None:
        """Log and write what was noted since the last time. Raises DatabaseUnavailable."""
        noted, ids = self._noted, self._request_ids
        if not noted:
            return
        [(most, n)] = noted.most_common(1)
        entries = [
            audit.Entry(audit.WRONG_KEY, address=address, request_id=ids[address], n=times)
            for address, times in noted.most_common(WRITTEN_MAX)
        ]
        if others := noted.total() - sum(entry.n for entry in entries):
            entries.append(audit.Entry(audit.WRONG_KEY, address=OTHERS, n=others))
        written = noted.copy()
        async with self._database.transaction() as conn:
            await audit.write(conn, entries)
        log.warning("wrong_keys", count=written.total(), addresses=len(written), most=most, of_it=n)
        self._noted = noted - written
        self._request_ids = {address: ids[address] for address in self._noted}
