"""The account at OpenAI that a simulator stands for: what is in it, and what goes wrong with it."""

import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import replace
from typing import Any, Literal

from openaibatching.simulator.engine.account import Account, Standing
from openaibatching.simulator.engine.calls import Calls
from openaibatching.simulator.engine.engine import Engine, Settings
from openaibatching.simulator.engine.ledger import Ledger
from openaibatching.simulator.engine.limits import Limits, Window
from openaibatching.simulator.engine.timeline import Pace
from openaibatching.simulator.faults.faults import Dice, Faults
from openaibatching.simulator.faults.gates import Gate, Gates, When

RECORDED: Literal["recorded"] = "recorded"
Lag = float | Literal["recorded"]


class World:
    """All that a Simulator is without HTTP; its arguments are explained there."""

    def __init__(
        self,
        *,
        lag: Lag,
        faults: Faults | None,
        account: Account | None,
        window_s: float,
        cancel_s: float | None,
        api_keys: Collection[str] | None,
        models: Collection[str] | None,
        deny_models: Collection[str],
        enqueued_token_limits: Mapping[str, int] | None,
        creates_per_hour: int,
        organization: str,
        project: str,
        limits: Limits | None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        if (lag != RECORDED and lag < 0) or window_s <= 0 or (cancel_s or 0) < 0:
            given = f"lag={lag}, window_s={window_s}, cancel_s={cancel_s}"
            raise ValueError(f"{given}: expected seconds, not negative")
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

    def supports(self, model: str) -> bool:
        """Whether there is this model."""
        if self.models is not None:
            return model in self.models
        return model not in self.deny_models
