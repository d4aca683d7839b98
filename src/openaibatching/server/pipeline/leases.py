"""The leases of one server: which batches it works on, and that nobody else does meanwhile."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from types import MappingProxyType

from openaibatching.server.database.pool import Database
from openaibatching.server.domain.batch import Lease
from openaibatching.server.errors import LeaseLost
from openaibatching.server.pipeline import store
from openaibatching.server.pipeline.backoff import backoff_s
from openaibatching.server.pipeline.held_batch import HeldBatch, Now

RELEASE_S = 1.0


class Leases:
    """What this server holds. `server` is its number, under which others see it alive."""

    def __init__(self, database: Database, server: int, now: Now) -> None:
        self._database, self._server, self._now = database, server, now
        self._held: dict[Lease, asyncio.Task[object]] = {}
        self._lost: set[Lease] = set()
        self._owed: list[tuple[HeldBatch, float]] = []

    @property
    def held(self) -> Mapping[Lease, asyncio.Task[object]]:
        """Each lease, and the task that works under it."""
        return MappingProxyType(self._held)

    @asynccontextmanager
    async def take(self, *states: str) -> AsyncIterator[HeldBatch | None]:
        """The batch in one of `states` whose turn it is, leased to this server, or None.

        The lease is kept alive by `renew` and given back at the end, whatever happens, so that
        a step that fails is tried again later and never at once. Raises LeaseLost when `renew`
        finds it in other hands.
        """
        busy = [id_ for id_, _ in self._held]
        async with self._database.transaction() as conn:
            row = await store.take_batch(conn, self._server, states, busy, self._now())
        if row is None:
            yield None
            return
        batch, lease = HeldBatch(self._database, self._server, self._now, row), row.lease
        task = asyncio.current_task()
        assert task is not None
        # By its lease and not by its id: the transaction that ends a step gives the batch back, and
        # the next step may have it before this one has left here.
        self._held[lease] = task
        try:
            try:
                yield batch
            except LeaseLost:
                raise
            except BaseException:
                if lease not in self._lost:
                    await self._release(batch, backoff_s(row.tries))
                raise
        except BaseException as error:
            # Whatever else the step says: this is the reason. `renew` may have found it during the
            # release, too.
            if lease in self._lost:
                raise LeaseLost(f"batch {row.id}: it is in other hands") from error
            raise
        finally:
            del self._held[lease]
            self._lost.discard(lease)

    async def _release(self, batch: HeldBatch, after_s: float) -> None:
        # Being cancelled must not leave the lease behind; being without a database may: then it
        # is given back by `renew`, or ends by itself.
        releasing = asyncio.ensure_future(batch.release(after_s))
        # It may go on after its time here, and then nobody else asks how it ended.
        releasing.add_done_callback(lambda done: done.cancelled() or done.exception())
        try:
            async with asyncio.timeout(RELEASE_S):
                await asyncio.shield(releasing)
        except LeaseLost:
            pass  # it was given back already, or is in other hands
        except Exception:  # the first error is the one to report
            self._owed.append((batch, after_s))

    async def renew(self) -> None:
        """Make the leases last longer; a step whose lease is lost is stopped where it stands.

        First, what could not be given back during an outage is given back.
        """
        while self._owed:
            batch, after_s = self._owed[-1]
            with contextlib.suppress(LeaseLost):
                await batch.release(after_s)
            self._owed.pop()
        held = dict(self._held)
        if not held:
            return
        async with self._database.transaction() as conn:
            ours = await store.renew_leases(conn, self._server, list(held))
        for lease in held.keys() - ours:
            if lease in self._held and lease not in self._lost:
                self._lost.add(lease)
                held[lease].cancel()
