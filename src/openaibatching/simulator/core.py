"""The Simulator: arguments in, an ASGI app and its witnesses out."""

import threading
import time
from collections.abc import Callable, Collection, Mapping

from starlette.types import ASGIApp

from openaibatching.simulator.api import app
from openaibatching.simulator.api.webhooks import Webhooks
from openaibatching.simulator.engine.account import Account
from openaibatching.simulator.engine.limits import Limits
from openaibatching.simulator.engine.state import Batch
from openaibatching.simulator.engine.world import Lag, World
from openaibatching.simulator.faults.faults import Faults

_TICK_S = 0.05


class Simulator(World):
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
        if webhook_url is not None and not webhook_secret:
            raise ValueError("webhook_url needs a webhook_secret to sign with")
        super().__init__(
            lag=lag,
            faults=faults,
            account=account,
            window_s=window_s,
            cancel_s=cancel_s,
            api_keys=api_keys,
            models=models,
            deny_models=deny_models,
            enqueued_token_limits=enqueued_token_limits,
            creates_per_hour=creates_per_hour,
            organization=organization,
            project=project,
            limits=limits,
            clock=clock,
        )
        self._webhooks: Webhooks | None = None
        self._ticker: threading.Thread | None = None
        self._stop = threading.Event()
        if webhook_url is not None:
            self._webhooks = Webhooks(
                webhook_url, webhook_secret or "", lambda: self.dice, webhook_backoff_s
            )
            self.engine.ended = self._tell
        self.app: ASGIApp = app.build(self)

    @property
    def webhook_url(self) -> str | None:
        """Where events go; assign to send them elsewhere. ValueError without a secret."""
        return self._webhooks.url if self._webhooks else None

    @webhook_url.setter
    def webhook_url(self, url: str) -> None:
        if self._webhooks is None:
            raise ValueError("a simulator that was made without a webhook_secret signs nothing")
        self._webhooks.url = url

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

    def _tick(self) -> None:
        # Nobody may be looking when a batch ends, and its event is due all the same.
        while not self._stop.wait(_TICK_S):
            self.engine.settle()

    def _tell(self, kind: str, batch: Batch) -> None:
        if self._webhooks is not None:
            self._webhooks.event(kind, batch.id, batch.times.get(batch.status, self.clock()))
