"""Moves batches along their timeline, whenever somebody looks at them.

    validating -> failed | in_progress
    in_progress -> finalizing -> completed
    in_progress -> finalizing -> expired
    validating | in_progress | finalizing -> cancelling -> cancelled

No timer runs: every move follows from the clock, the timeline fixed at creation and the
input file, so a test that owns the clock owns everything. Long work (validating, executing)
is done by the thread that looks, under the batch's own lock.
"""

import math
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from openaibatching.simulator.engine.account import Account, Standing
from openaibatching.simulator.engine.content import Content, Folder
from openaibatching.simulator.engine.ledger import Ledger
from openaibatching.simulator.engine.limits import DAY_S, Limits
from openaibatching.simulator.engine.lines import Executor
from openaibatching.simulator.engine.run import Run
from openaibatching.simulator.engine.state import Batch, File, Store
from openaibatching.simulator.engine.timeline import Pace, plan
from openaibatching.simulator.engine.validate import Validator, problem
from openaibatching.simulator.faults.faults import Dice
from openaibatching.simulator.faults.markers import Markers


@dataclass(frozen=True)
class Order:
    """The accepted parameters of a create call."""

    endpoint: str
    input_file_id: str
    completion_window: str = "24h"
    metadata: dict[str, str] | None = None
    output_expires_s: int | None = None


@dataclass(frozen=True)
class Settings:
    """What the engine needs to know from the Simulator's arguments."""

    pace: Pace
    organization: str
    token_limits: Mapping[str, int]
    supported: Callable[[str], bool]
    limits: Limits


class Engine:
    """Creates batches and moves them."""

    def __init__(self, settings: Settings, clock: Callable[[], float], dice: Dice) -> None:
        self.settings = settings
        self.clock = clock
        self.dice = dice
        self.store = Store()
        self.folder = Folder()
        self.markers = Markers()
        self.ledger = Ledger(self.settle)
        self.standing = Standing(Account(), clock())
        self.ended: Callable[[str, Batch], None] = lambda event, batch: None
        self._executor = Executor(self.ledger, self.markers, settings.limits)
        self._runs: dict[str, Run] = {}
        self._late: list[tuple[float, Callable[[float], object]]] = []
        self._lock = threading.Lock()

    def create(self, order: Order, at: float | None = None) -> Batch:
        """Make a batch; `at` dates one that came into being later than it was asked for."""
        now = self.clock() if at is None else at
        number = self.store.next_batch_number()
        missing = self.store.file(order.input_file_id, now) is None
        batch = Batch(
            order.endpoint,
            order.input_file_id,
            order.completion_window,
            order.metadata,
            order.output_expires_s,
            now,
            plan(now, number, self.settings.pace, self.dice, missing=missing),
            number,
        )
        batch.lying = self.dice.hits("lying_counts", number)
        batch.unknown_fields = self.dice.hits("unknown_fields", number)
        batch.sparse = self.dice.hits("missing_fields", number)
        return self.store.add_batch(batch)

    def later(self, due: float, act: Callable[[float], object]) -> None:
        """Let something come into being at `due`, which `act` is told."""
        with self._lock:
            self._late.append((due, act))

    def appear(self) -> None:
        """Let batches and files come into being that are late and due now."""
        now = self.clock()
        # Under the lock to the end: whoever looks after this sees what is due.
        with self._lock:
            for at, act in [late for late in self._late if late[0] <= now]:
                act(at)
            self._late = [late for late in self._late if late[0] > now]

    def settle(self) -> None:
        """Bring every batch up to now."""
        self.appear()
        for batch in self.store.batches():
            self.look(batch)

    def look(self, batch: Batch) -> Batch:
        """Bring one batch up to now."""
        if not batch.ended:
            with batch.lock:
                now = self.clock()
                while not batch.ended and self._step(batch, now):
                    pass
        return batch

    def view(self, batch: Batch) -> dict[str, Any]:
        """One batch as it is now."""
        with batch.lock:
            return self.look(batch).view(self.clock())

    def views(self) -> list[dict[str, Any]]:
        """All batches as they are now, newest first."""
        self.appear()
        newest_first = sorted(self.store.batches(), key=lambda b: (-b.created, -b.number))
        return [self.view(batch) for batch in newest_first]

    def cancel(self, batch: Batch) -> None:
        """Begin to cancel; a batch that has ended stays as it is."""
        with batch.lock:
            self.look(batch)
            if not batch.ended and batch.status != "cancelling":
                self._cancel(batch, self.clock())

    def _cancel(self, batch: Batch, at: float) -> None:
        self._advance(batch, at)
        batch.status = "cancelling"
        batch.times["cancelling"] = at

    def _step(self, batch: Batch, now: float) -> bool:
        """One move, if one is due."""
        times = batch.timeline
        if batch.status == "validating":
            if times.cancel_early and times.cancel_at <= now:
                self._cancel(batch, times.cancel_at)
                return True
            if now < times.validated:
                return False
            self._validate(batch, times.validated)
            return True
        if batch.status == "cancelling":
            ended = batch.times["cancelling"] + times.cancelling_s
            if now < ended:
                return False
            self._finish(batch, "cancelled", ended, "batch_cancelled")
            return True
        if times.cancel_at <= now and "cancelling" not in batch.times:
            self._cancel(batch, times.cancel_at)
            return True
        if batch.status == "in_progress":
            return self._progress(batch, now)
        expired = batch.times["finalizing"] + times.expiring_s
        status, ends = ("expired", expired) if batch.expiring else ("completed", times.finished)
        if now < ends:
            return False
        self._finish(batch, status, ends, "batch_expired")
        return True

    def _progress(self, batch: Batch, now: float) -> bool:
        times = batch.timeline
        ends = times.expires + times.overdue_s
        self._advance(batch, min(now, ends))
        closes = ends < times.executed or times.expires_early
        if now < (ends if closes else times.executed):
            return False
        batch.expiring = closes or self._runs[batch.id].held_back
        batch.status = "finalizing"
        batch.times["finalizing"] = ends if closes else times.executed
        return True

    def _advance(self, batch: Batch, now: float) -> None:
        """Execute the lines that would be done by `now`."""
        run = self._runs.get(batch.id)
        if run is None:
            return
        times = batch.timeline
        most = math.floor(batch.total * times.lines_share)
        span = times.executed - times.validated
        share = 1.0 if now >= times.executed else max(0.0, now - times.validated) / span
        run.advance(min(most, math.floor(batch.total * share)), now, self.dice, self.standing)
        if not times.uncounted:
            batch.completed, batch.failed = run.completed, run.failed

    def _validate(self, batch: Batch, at: float) -> None:
        problems, content = self._judge(batch, at)
        if problems or content is None:
            batch.status, batch.errors = "failed", problems
            batch.times["failed"] = at
            self.ended("batch.failed", batch)
            return
        batch.status = "in_progress"
        batch.times["in_progress"] = at
        self._runs[batch.id] = Run(batch.endpoint, content, self._executor, self.folder)

    def _judge(self, batch: Batch, at: float) -> tuple[list[dict[str, Any]], Content | None]:
        name = batch.input_file_id
        file = self.store.file(name, at)
        if file is None or file.invisible_until > batch.created:
            message = (
                f"Cannot find file {name}, or organization {self.settings.organization} "
                "does not have access to it."
            )
            return [problem("invalid_request", message, "file_id")], None
        refused = self.standing.refusal(at_validation=True)
        if refused is not None:
            return [problem(refused.code or "invalid_request", refused.message)], None
        validator = Validator(
            batch.endpoint, self.settings.limits, self.settings.supported, self.markers
        )
        verdict = validator.run(file.content)
        batch.model = verdict.model
        if verdict.problems:
            if self.dice.hits("model_fault_first_line", batch.number):
                return _model_named_once(verdict.problems), None
            return verdict.problems, None
        if self.dice.hits("fail_validation_no_line", batch.number):
            return [problem("invalid_request", "The batch could not be processed.")], None
        refusal = self._too_many_tokens(batch, verdict.tokens, at)
        if refusal is not None:
            return [refusal], None
        batch.total, batch.tokens = verdict.total, verdict.tokens
        return [], file.content

    def _too_many_tokens(self, batch: Batch, tokens: int, at: float) -> dict[str, Any] | None:
        limit = self.settings.token_limits.get(batch.model or "")
        if limit is None:
            return None
        others = self.standing.others(at)
        # Only ever from newer to older, oldest first: no deadlock, and no deep recursion.
        older = [other for other in self.store.batches() if other.number < batch.number]
        enqueued = sum(
            other.tokens
            for other in map(self.look, older)
            if other.model == batch.model
            if not (other.ended and other.times[other.status] <= at)
        )
        if others + enqueued + tokens <= limit:
            return None
        message = (
            f"Enqueued token limit reached for {batch.model} in organization "
            f"{self.settings.organization}. Limit: {limit:,} enqueued tokens. Please try again "
            "once some in_progress batches have been completed."
        )
        return problem("token_limit_exceeded", message)

    def _finish(self, batch: Batch, status: str, at: float, rest: str) -> None:
        run = self._runs.pop(batch.id, None)
        if run is not None:
            self._store_results(batch, run, at, rest)
        batch.status = status
        batch.times[status] = at
        self.ended(f"batch.{status}", batch)

    def _store_results(self, batch: Batch, run: Run, at: float, rest: str) -> None:
        seed = f"{self.dice.faults.seed}:{batch.number}"
        unreadable = self.dice.hits("unreadable_custom_ids", batch.number)
        output, errors = run.finish(rest, seed, unreadable=unreadable)
        batch.usage = run.usage
        if unreadable:
            run.spoil_all(self.ledger)
        elif output is not None and self.dice.hits("null_file_id", batch.number):
            run.spoil_all(self.ledger)
            output = None
        batch.output_file_id = self._result_file(batch, "output", output, at)
        batch.error_file_id = self._result_file(batch, "error", errors, at)
        if batch.error_file_id is None and self.dice.hits("empty_file_id", batch.number):
            batch.error_file_id = ""  # seen on clean batches (kaibo issue 93)

    def _result_file(self, batch: Batch, name: str, content: Content | None, at: float) -> Any:
        if content is None:
            return None
        expires = at + (batch.output_expires_s or 30 * DAY_S)
        file = File(content, f"{batch.id}_{name}.jsonl", "batch_output", at, expires)
        return self.store.add_file(file).id


def _model_named_once(problems: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Of all lines whose model is not supported only the first."""
    of_model = [found for found in problems if found["code"] == "model_not_found"]
    return [found for found in problems if found not in of_model[1:]]
