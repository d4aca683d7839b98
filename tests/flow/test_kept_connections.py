"""Connections to the database that are kept for storing calls."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack

import httpx2

from openaibatching.server.app import Service
from openaibatching.server.database.pool import CONNECTIONS_MAX
from support.deadline import DEADLINE_S
from support.world import http


async def post(client: httpx2.AsyncClient, text: str) -> httpx2.Response:
    return await client.post("/v1/responses", json={"model": "gpt-4o", "input": text})


async def test_a_call_is_stored_while_others_have_all_connections(service: Service) -> None:
    async with http(service) as client, AsyncExitStack() as busy:
        # What the tenant has queued is read now: the next call wants nothing but to be stored.
        assert (await post(client, "before")).status_code == 202
        # The server's own work gives them back one after the other, and then waits like anybody.
        async with asyncio.timeout(DEADLINE_S):
            for _ in range(CONNECTIONS_MAX):
                await busy.enter_async_context(service.database.transaction())

            reply = await post(client, "meanwhile")

        assert reply.status_code == 202
