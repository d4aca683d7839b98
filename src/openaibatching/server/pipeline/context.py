"""What every step is given: the settings, the database, OpenAI, and this server's leases."""

from __future__ import annotations

import asyncio
import contextlib
import uuid
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime

from openaibatching.server.billing.prices import PriceList
from openaibatching.server.config.settings import Settings
from openaibatching.server.database.pool import Database
from openaibatching.server.domain.batch import Batch, Lease
from openaibatching.server.errors import LeaseLost
from openaibatching.server.pipeline import store
from openaibatching.server.pipeline.backoff import backoff_s
from openaibatching.server.providers.openai.client import Upstream
from openaibatching.server.telemetry.tracing import Tracing

RELEASE_S = 1.0


def _new_server_number() -> int:
    return uuid.uuid4().int % 2**31


@dataclass
class Context:
    """One server. `clock` is None in production: the database's clock is everybody's."""

    settings: Settings
    database: Database
    upstream: Upstream
    clock: Callable[[], datetime] | None = None
    tracing: Tracing | None = None
    prices: PriceList = field(default_factory=PriceList)
    server: int = field(default_factory=_new_server_number)
    _held: dict[Lease, asyncio.Task[object]] = field(default_factory=dict)
    _lost: set[Lease] = field(default_factory=set)
    _owed: list[tuple[Batch, float]] = field(default_factory=list)

    def now(self) -> datetime | None:
        """The time if a test owns the clock, else None for the database's own now()."""
        return self.clock() if self.clock else None

    @asynccontextmanager
    async def lease(self, states: Sequence[str]) -> AsyncIterator[Batch | None]:
        """The batch in one of `states` whose turn it is, leased to this server, or None.

        The lease is kept alive by `renew` and given back at the end, whatever happens, so that
        a step that fails is tried again later and never at once. Raises LeaseLost when `renew`
        finds it in other hands.
        """
        held = [id_ for id_, _ in self._held]
        async with self.database.transaction() as conn:
            batch = await store.take_batch(conn, self.server, states, held, self.now())
        if batch is None:
            yield None
            return
        task = asyncio.current_task()
        assert task is not None
        # By its lease and not by its id: the transaction that ends a step gives the batch back, and
        # the next step may have it before this one has left here.
        self._held[batch.lease] = task
        try:
            try:
                yield batch
            except LeaseLost:
                raise
            except BaseException:
                if batch.lease not in self._lost:
                    await self._release(batch, backoff_s(batch.tries))
                raise
        except BaseException as error:
            # Whatever else the step says: this is the reason. `renew` may have found it during the
            # release, too.
            if batch.lease in self._lost:
                raise LeaseLost(f"batch {batch.id}: it is in other hands") from error
            raise
        finally:
            del self._held[batch.lease]
            self._lost.discard(batch.lease)

    async def postpone(self, batch: Batch, wait_s: float, trouble: str | None = None) -> None:
        """Give the batch back; its next turn is in `wait_s` seconds. Raises LeaseLost.

        `trouble`: why it failed this time, for people to read; None if it did not.
        """
        async with self.database.transaction() as conn:
            await store.release_batch(conn, self.server, batch, wait_s, self.now(), trouble)

    async def _release(self, batch: Batch, wait_s: float) -> None:
        # Being cancelled must not leave the lease behind; being without a database may: then it
        # is given back by `renew`, or ends by itself.
        try:
            async with asyncio.timeout(RELEASE_S):
                await asyncio.shield(self.postpone(batch, wait_s))
        except LeaseLost:
            pass  # it was given back already, or is in other hands
        except Exception:  # the first error is the one to report
            self._owed.append((batch, wait_s))

    async def renew(self) -> None:
        """Make the leases last longer; a step whose lease is lost is stopped where it stands.

        First, what could not be given back during an outage is given back.
        """
        while self._owed:
            with contextlib.suppress(LeaseLost):
                await self.postpone(*self._owed[-1])
            self._owed.pop()
        held = dict(self._held)
        if not held:
            return
        async with self.database.transaction() as conn:
            ours = await store.renew_leases(conn, self.server, list(held))
        for lease in held.keys() - ours:
            if lease in self._held and lease not in self._lost:
                self._lost.add(lease)
                held[lease].cancel()
