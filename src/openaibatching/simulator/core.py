"""The Simulator: arguments in, an ASGI app and its witnesses out."""

import threading
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import replace
from typing import Any, Literal

from starlette.types import ASGIApp

from openaibatching.simulator import app
from openaibatching.simulator.account import Account, Standing
from openaibatching.simulator.calls import Calls
from openaibatching.simulator.engine import Engine, Settings
from openaibatching.simulator.faults import Dice, Faults
from openaibatching.simulator.gates import Gate, Gates, When
from openaibatching.simulator.ledger import Ledger
from openaibatching.simulator.limits import Limits, Window
from openaibatching.simulator.state import Batch
from openaibatching.simulator.timeline import Pace
from openaibatching.simulator.webhooks import Webhooks

_TICK_S = 0.05
RECORDED: Literal["recorded"] = "recorded"
Lag = float | Literal["recorded"]


class Simulator:
    """OpenAI's Files, Batches and webhooks in one process.

    lag: seconds from create to completed, split over validating, in_progress, finalizing;
        "recorded" draws the durations of each batch as OpenAI's were recorded.
    window_s: seconds after which a batch expires.
    cancel_s: seconds from cancelling to cancelled; a tenth of the lag when left out, or as
        recorded.
    api_keys: the keys that are accepted; None accepts any.
    models: the names that are supported; None supports all but `deny_models`.
    enqueued_token_limits: by model, counted over all batches that have not ended.
    clock: unix seconds; a test that passes its own owns the time.
    account: its credit, permissions and other users; all well when left out.
    webhook_url, webhook_secret: both set, events are delivered there while it is running.
    """

    def __init__(
        self,
        *,
        lag: Lag = 0.0,
        faults: Faults | None = None,
        account: Account | None = None,
        window_s: float = 86400.0,
        cancel_s: float | None = None,
        api_keys: Collection[str] | None = None,
        models: Collection[str] | None = None,
        deny_models: Collection[str] = ("o3-pro",),
        enqueued_token_limits: Mapping[str, int] | None = None,
        creates_per_hour: int = 2000,
        webhook_url: str | None = None,
        webhook_secret: str | None = None,
        webhook_backoff_s: float = 1.0,
        organization: str = "org-simulated",
        project: str = "proj_simulated",
        limits: Limits | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        if (lag != RECORDED and lag < 0) or window_s <= 0 or (cancel_s or 0) < 0:
            given = f"lag={lag}, window_s={window_s}, cancel_s={cancel_s}"
            raise ValueError(f"{given}: expected seconds, not negative")
        if webhook_url is not None and not webhook_secret:
            raise ValueError("webhook_url needs a webhook_secret to sign with")
        self.api_keys = None if api_keys is None else frozenset(api_keys)
        self.models = None if models is None else frozenset(models)
        self.deny_models = frozenset(deny_models)
        self.organization = organization
        self.project = project
        self.clock = clock
        self.limits = limits or Limits()
        self.creates = Window(creates_per_hour, 3600.0)
        self.uploads = Window(self.limits.uploads_per_minute, 60.0)
        self.requests = Calls()
        self.gates = Gates()
        settings = Settings(
            pace=Pace(None if lag == RECORDED else lag, window_s, cancel_s),
            organization=organization,
            token_limits=enqueued_token_limits or {},
            supported=self.supports,
            limits=self.limits,
        )
        self.engine = Engine(settings, clock, Dice(faults or Faults()))
        self.account = account or Account()
        self._webhooks: Webhooks | None = None
        self._ticker: threading.Thread | None = None
        self._stop = threading.Event()
        if webhook_url is not None:
            self._webhooks = Webhooks(
                webhook_url, webhook_secret or "", self.dice, webhook_backoff_s
            )
            self.engine.ended = self._tell
        self.app: ASGIApp = app.build(self)

    @property
    def dice(self) -> Dice:
        """The throws that decide about faults."""
        return self.engine.dice

    @property
    def faults(self) -> Faults:
        """The faults in force; assign to replace them."""
        return self.dice.faults

    @faults.setter
    def faults(self, faults: Faults) -> None:
        self.engine.dice = Dice(faults)
        if self._webhooks is not None:
            self._webhooks.dice = self.engine.dice

    @property
    def account(self) -> Account:
        """The state of the account; assign to change it, and to count from the beginning."""
        return self.engine.standing.account

    @account.setter
    def account(self, account: Account) -> None:
        self.engine.standing = Standing(account, self.clock())

    @property
    def lag(self) -> Lag:
        """Seconds that a new batch takes; assign to change it for those that come."""
        lag = self.engine.settings.pace.lag
        return RECORDED if lag is None else lag

    @lag.setter
    def lag(self, lag: Lag) -> None:
        pace = replace(self.engine.settings.pace, lag=None if lag == RECORDED else lag)
        self.engine.settings = replace(self.engine.settings, pace=pace)

    @property
    def webhook_url(self) -> str | None:
        """Where events go; assign to send them elsewhere. ValueError without a secret."""
        return self._webhooks.url if self._webhooks else None

    @webhook_url.setter
    def webhook_url(self, url: str) -> None:
        if self._webhooks is None:
            raise ValueError("a simulator that was made without a webhook_secret signs nothing")
        self._webhooks.url = url

    @property
    def ledger(self) -> Ledger:
        """What was executed, by body."""
        return self.engine.ledger

    def files(self) -> list[dict[str, Any]]:
        """All files that are there now, as File objects, oldest first."""
        self.engine.settle()
        return [file.view() for file in self.engine.store.files(self.clock())]

    def batches(self) -> list[dict[str, Any]]:
        """All batches as Batch objects, oldest first."""
        return self.engine.views()[::-1]

    def gate(self, route: str, *, when: When = "before") -> Gate:
        """Stop the next call of a route, such as `POST /batches` or `GET /files/{id}`."""
        return self.gates.add(route, when)

    def start(self) -> None:
        """Begin to deliver webhooks, if there is somewhere to deliver to."""
        if self._webhooks is not None:
            self._stop.clear()
            self._webhooks.start()
            self._ticker = threading.Thread(target=self._tick, daemon=True)
            self._ticker.start()

    def stop(self) -> None:
        """Cut what is held at gates, and deliver no more webhooks."""
        self.gates.open_all()
        self._stop.set()
        if self._ticker is not None:
            self._ticker.join(60)
        if self._webhooks is not None:
            self._webhooks.stop()

    def supports(self, model: str) -> bool:
        """Whether there is this model."""
        if self.models is not None:
            return model in self.models
        return model not in self.deny_models

    def _tick(self) -> None:
        # Nobody may be looking when a batch ends, and its event is due all the same.
        while not self._stop.wait(_TICK_S):
            self.engine.settle()

    def _tell(self, kind: str, batch: Batch) -> None:
        if self._webhooks is not None:
            self._webhooks.event(kind, batch.id, batch.times.get(batch.status, self.clock()))
