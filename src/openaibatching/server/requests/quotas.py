"""What a tenant may have queued: so many requests, of so many models.

Each server remembers the models that it has seen queued, so a call of one of them costs nothing
more. For a new one, and where the number of requests is limited, the database is asked, at most
twice a second. Several servers together may let in a little more.
"""

from __future__ import annotations

import asyncio
import uuid
from collections import defaultdict
from collections.abc import Sequence

from openaibatching.server.billing import spending
from openaibatching.server.config.settings import Settings
from openaibatching.server.database.pool import Database
from openaibatching.server.domain.request import Call
from openaibatching.server.errors import AboveLimit, RateLimited, Refusal, TooManyModels
from openaibatching.server.requests import store

FRESH_S = 0.5
FULL_S = 10
"""After how long a call shall come again that found the queue full. Batches are formed then."""


class Quotas:
    """The limits of what is queued, as the settings have them."""

    def __init__(self, database: Database, settings: Settings) -> None:
        self._database = database
        self._requests_max = settings.limit("tenant_queued_max")
        self._models_max = settings.limit("tenant_models_max")
        self._models: defaultdict[str, set[str]] = defaultdict(set)
        self._queued: dict[str, int] = {}
        self._read_at: dict[str, float] = {}
        self._reading = asyncio.Lock()

    async def admit(self, calls: Sequence[Call]) -> tuple[Sequence[Call], dict[uuid.UUID, Refusal]]:
        """The calls that may be stored, and the others' refusals by id.

        A call that is stored already changes nothing, and passes. Raises DatabaseUnavailable.
        """
        for tenant in {call.tenant for call in calls}:
            await self._refresh(tenant)
        taken = ((call.id, self._take(call.tenant, call.model)) for call in calls)
        refused = {id_: why for id_, why in taken if why is not None}
        if refused:
            async with self._database.statement() as conn:
                for id_ in await spending.which_known(conn, list(refused)):
                    del refused[id_]
        return [call for call in calls if call.id not in refused], dict(refused)

    async def again(self, tenant: str, model: str) -> None:
        """Let in a request that has finished and is to be queued again.

        Raises AboveLimit, DatabaseUnavailable.
        """
        await self._refresh(tenant)
        if (why := self._take(tenant, model)) is not None:
            raise why

    def pass_by(self, calls: Sequence[Call]) -> bool:
        """Whether `admit` lets all of them in without a question, which is nearly always so."""
        return all(
            call.model in self._models.get(call.tenant, ())
            and self._requests_max.of(call.tenant) is None
            for call in calls
        )

    def _take(self, tenant: str, model: str) -> AboveLimit | None:
        requests_max = self._requests_max.of(tenant)
        if requests_max is not None:
            queued = self._queued.get(tenant, 0)
            if queued >= requests_max:
                return RateLimited(
                    f"{queued:,} requests of this tenant are queued, and {requests_max:,} may be "
                    "(TENANT_QUEUED_MAX).",
                    retry_after_s=FULL_S,
                )
        models, models_max = self._models[tenant], self._models_max.of(tenant)
        if models_max is not None and model not in models:
            if len(models) >= models_max:
                return TooManyModels(
                    f"Requests of {models_max:,} different models of this tenant are queued, and "
                    "no more may be (TENANT_MODELS_MAX).",
                    retry_after_s=FULL_S,
                )
            models.add(model)
        if requests_max is not None:
            self._queued[tenant] = queued + 1
        return None

    async def _refresh(self, tenant: str) -> None:
        clock = asyncio.get_running_loop().time
        async with self._reading:
            if clock() - self._read_at.get(tenant, float("-inf")) < FRESH_S:
                return
            models_max = self._models_max.of(tenant)
            async with self._database.statement() as conn:
                if models_max is not None:
                    found = await store.queued_models(conn, tenant, models_max)
                    self._models[tenant] = set(found)
                if self._requests_max.of(tenant) is not None:
                    self._queued[tenant] = await store.count_queued(conn, tenant)
            self._read_at[tenant] = clock()
