"""Keeps the forecast fresh: reads now and then what the batches took and what is under way."""

from __future__ import annotations

import asyncio
from datetime import timedelta

from openaibatching.server.database.loops import run_forever
from openaibatching.server.database.pool import Database
from openaibatching.server.reporting import forecast, queries
from openaibatching.server.reporting.forecast import HISTORY_EACH, Forecast, Past
from openaibatching.server.telemetry import counters, logs

log = logs.get()

REFRESH_S = 5.0
REST_S = 0.5
"""However much is announced, it is not read anew more often than so."""


class Forecaster:
    """`forecast` is the last one; it is made anew by `run`."""

    def __init__(self, database: Database, linger_s: float) -> None:
        self._database = database
        self._linger = timedelta(seconds=linger_s)
        self._news = asyncio.Event()
        self.forecast = Forecast(linger=self._linger)

    def heard(self) -> None:
        """Some batch has moved."""
        self._news.set()

    async def run(self) -> None:
        """Refresh until cancelled."""
        self._news.set()  # what happened before it ran
        await run_forever(
            "forecast", self.refresh, woken=self._news, every_s=REFRESH_S, rest_s=REST_S
        )

    async def refresh(self) -> None:
        """Read what is known now. Raises DatabaseUnavailable."""
        async with self._database.transaction() as conn:
            history = await queries.read_history(conn, HISTORY_EACH)
            under_way = await queries.read_under_way(conn)
            held = await queries.held_models(conn)
        past: dict[str, list[Past]] = {}
        for batch in history:
            past.setdefault(batch.model, []).append(batch)
        self.forecast = forecast.Forecast(
            past, {batch.upstream_id: batch for batch in under_way}, held, self._linger
        )
        counters.FORECAST_LAST_SUCCESS.set_to_current_time()
