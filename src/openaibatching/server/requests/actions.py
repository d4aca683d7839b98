"""One request, by its name: found, cancelled, queued again."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from decimal import Decimal
from functools import partial

from openaibatching.server import errors
from openaibatching.server.auth import audit
from openaibatching.server.auth.audit import Actor
from openaibatching.server.billing.budget import Budget
from openaibatching.server.config.settings import Settings
from openaibatching.server.database.pool import Database
from openaibatching.server.database.statements import Connection
from openaibatching.server.domain.endpoints import ENDPOINTS
from openaibatching.server.domain.request import Request, parse_request_id, request_id
from openaibatching.server.domain.view import View
from openaibatching.server.providers.openai import output_lines
from openaibatching.server.requests import store
from openaibatching.server.requests.parse import keyed_id, read_call
from openaibatching.server.requests.quotas import Quotas


@dataclass(frozen=True, slots=True)
class Actions:
    """What can be done with one request, and what that takes."""

    settings: Settings
    database: Database
    quotas: Quotas
    budget: Budget

    async def find(self, view: View, name: str, *, whole: bool = True) -> Request:
        """The request of that name in this view: our id, or OpenAI's. Raises NotFound.

        Its answer, if it has one, comes with it; a large one only with the `whole`.
        """

        async def query(conn: Connection) -> Request | None:
            id_ = parse_request_id(name)
            if id_ is None:
                id_ = await store.find_by_upstream_id(conn, view, name)
            if id_ is None or whole:
                return await store.read_request(conn, view.tenants, id_) if id_ else None
            return next(iter(await store.read_requests(conn, view.tenants, [id_])), None)

        try:
            found = await self.database.read(query)
        except errors.UnstorableText:
            found = None
        # Another tenant's request is as good as none.
        if found is None:
            raise errors.NotFound(f"No request found with id '{name}'.", param="id")
        return found

    async def named(self, tenant: str, idempotency_key: str) -> list[Request]:
        """The tenant's requests that this key names, newest first: at most one an endpoint.

        Raises InvalidIdempotencyKey.
        """
        ids = [keyed_id(tenant, endpoint, idempotency_key) for endpoint in ENDPOINTS]
        found = await self.database.read(lambda conn: store.read_requests(conn, [tenant], ids))
        return sorted(found, key=lambda request: request.seq, reverse=True)

    async def cancel(self, by: Actor, name: str) -> Request:
        """Cancel it if it is still queued. Raises NotFound, AlreadyFinished, AlreadySubmitted."""
        request = await self.find(View.own(by.tenant), name)
        async with self.database.transaction() as conn:
            cancelled = await store.cancel_request(conn, by.tenant, request.id)
            if cancelled:
                await audit.note(conn, audit.CANCELLED, by, request_id(request.id))
        request = await self.find(View.own(by.tenant), name)
        if not cancelled:
            raise errors.AlreadyFinished if request.finished else errors.AlreadySubmitted
        return request

    async def retry(self, by: Actor, name: str) -> Request:
        """Queue it again if it failed, was cancelled, or has an answer that says that it broke off.

        Raises NotFound, NotRetryable, and whatever a new call of the same body is refused for that
        would be queued now: BudgetExceeded, AboveLimit.
        """
        request = await self.find(View.own(by.tenant), name)
        incomplete = request.answer is not None and output_lines.is_incomplete(request.answer)
        if not (request.state in ("failed", "cancelled") or incomplete):
            raise errors.NotRetryable
        await self.quotas.again(by.tenant, request.model)
        estimate, usd_most = await self._priced(request)
        async with self.database.transaction() as conn:
            retried = await store.retry_request(
                conn,
                by.tenant,
                request.id,
                incomplete=incomplete,
                estimate=estimate,
                usd_most=usd_most,
            )
            if retried:
                await audit.note(conn, audit.RETRIED, by, request_id(request.id))
        if not retried:
            raise errors.NotRetryable
        return await self.find(View.own(by.tenant), name)

    async def _priced(self, request: Request) -> tuple[Decimal | None, Decimal | None]:
        """USD that the request may cost, and costs at most, if it is queued again.

        Raises BudgetExceeded. (None, None) where no budget is set.
        """
        if not self.budget.limits:
            return None, None
        body = await self.database.read(lambda conn: store.read_body(conn, request))
        if body is None:
            raise errors.NotRetryable
        read = partial(read_call, self.settings, request.tenant, request.endpoint, body, None)
        call = await self.budget.again(await asyncio.to_thread(read))
        return call.estimate, call.usd_most

    async def delete(self, by: Actor, name: str) -> Request:
        """Forget it, body and answer. Raises NotFound, NotFinished."""
        request = await self.find(View.own(by.tenant), name)
        async with self.database.transaction() as conn:
            deleted = await store.delete_request(conn, by.tenant, request.id)
            if deleted:
                await audit.note(conn, audit.DELETED, by, request_id(request.id))
        if not deleted:
            raise errors.NotFinished
        return request
