"""The words of the service: its two nouns, their states, and the lines sent upstream."""

from __future__ import annotations

import re
import uuid
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from decimal import Decimal
from functools import cache
from typing import Any

import msgspec

REQUEST_STATES = ("queued", "in_progress", "completed", "failed", "cancelled")
FINISHED = ("completed", "failed", "cancelled")

BATCH_STATES = (
    "claimed",
    "uploading",
    "uploaded",
    "creating",
    "submitted",
    "refused",
    "ended",
    "collected",
    "closed",
)

# (noun, from, to): exactly the `-- a -> b` comments of the statements, and the diagrams of
# ARCHITECTURE.md. None is "no row yet".
TRANSITIONS: frozenset[tuple[str, str | None, str]] = frozenset(
    {
        ("request", None, "queued"),
        ("request", "queued", "in_progress"),
        ("request", "queued", "cancelled"),
        ("request", "in_progress", "completed"),
        ("request", "in_progress", "failed"),
        ("request", "in_progress", "queued"),
        ("request", "in_progress", "cancelled"),
        ("request", "failed", "queued"),
        ("request", "completed", "queued"),
        ("request", "cancelled", "queued"),
        ("batch", None, "claimed"),
        ("batch", "claimed", "uploading"),
        ("batch", "uploading", "uploading"),
        ("batch", "uploading", "uploaded"),
        ("batch", "claimed", "refused"),
        ("batch", "uploading", "refused"),
        ("batch", "uploaded", "refused"),
        ("batch", "uploaded", "creating"),
        ("batch", "creating", "uploaded"),
        ("batch", "creating", "submitted"),
        ("batch", "creating", "refused"),
        ("batch", "submitted", "refused"),
        ("batch", "submitted", "ended"),
        ("batch", "refused", "collected"),
        ("batch", "ended", "collected"),
        ("batch", "collected", "closed"),
    }
)

ID_PREFIX = "batchreq_"
_REQUEST_ID = re.compile(ID_PREFIX + "([0-9a-f]{32})")


def request_id(id_: uuid.UUID) -> str:
    """A request's public name, which is also its custom_id upstream: batchreq_<32 hex>."""
    return ID_PREFIX + id_.hex


def parse_request_id(text: str) -> uuid.UUID | None:
    """The uuid behind a public name, or None when it is none of ours."""
    found = _REQUEST_ID.fullmatch(text)
    return uuid.UUID(hex=found[1]) if found else None


def batch_line(id_: uuid.UUID, endpoint: str, body: bytes) -> bytes:
    """One line of a batch input file (https://platform.openai.com/docs/guides/batch)."""
    return b'{"custom_id":"%s","method":"POST","url":"%s","body":%s}\n' % (
        request_id(id_).encode(),
        endpoint.encode(),
        body,
    )


@cache
def envelope_bytes(endpoint: str) -> int:
    """How much longer than its body `batch_line` is, in bytes."""
    return len(batch_line(uuid.UUID(int=0), endpoint, b""))


def file_name(batch_id: uuid.UUID) -> str:
    """The upstream name of a batch's input file: what an upload of unknown outcome is known by."""
    return f"openaibatching-{batch_id.hex}.jsonl"


METADATA_KEY = "openaibatching_batch"
"""The key in an upstream batch's metadata that holds our batch id: what it is adopted by."""


NO_MODEL = ""
"""The model of a call that leaves the choice to OpenAI."""


@dataclass(frozen=True, slots=True)
class Call:
    """A call that the door has understood, ready to be stored."""

    id: uuid.UUID
    body_id: uuid.UUID
    tenant: str
    endpoint: str
    model: str
    body: bytes
    line_bytes: int
    tokens: int
    inputs: int
    output_tokens_max: int | None = None
    """How long its answer may be, if it says so."""
    estimate: Decimal | None = None
    """What it may cost, in USD; only where a budget is set."""
    parsed: dict[str, Any] | None = field(default=None, compare=False, repr=False)
    """The body, parsed; only where a budget is set, and only until the call is admitted."""
    usd_most: Decimal | None = None
    """More than this it cannot cost; None where no budget is set, or where nobody can say."""
    traceparent: str | None = None
    """Where it belongs in its caller's trace; only where that is sampled and traces are on."""
    first_body: bool = False
    """Whether a request of its name counts although it has another body."""
    previous: uuid.UUID | None = None
    """The request whose answer it goes on from; its body still has our name of it."""


@dataclass(frozen=True, slots=True)
class Budgeted:
    """A budget of a day, and what uses it up today; all in USD.

    `reserved` is what all that is unfinished may cost by estimates, `at_openai` what the batches
    that are under way cost at most: infinite where nobody can say.
    """

    limit: Decimal
    spent: Decimal
    reserved: Decimal
    at_openai: Decimal

    @property
    def used_up(self) -> bool:
        """Whether the day has cost what it may."""
        return self.spent >= self.limit

    @property
    def left(self) -> float:
        """USD that the next batch may cost at most."""
        return float(self.limit - self.spent - self.at_openai)

    @property
    def sends(self) -> bool:
        """Whether another batch may be sent: only that one can then pass the budget."""
        return self.spent + self.at_openai < self.limit


class Receipt(msgspec.Struct, frozen=True, gc=False):
    """What an answer cost, in USD: by batch, and what it would have cost in real time.

    `incomplete`: something was counted for it whose price is not known, and which is not in there.
    """

    realtime: Decimal
    paid: Decimal
    incomplete: bool = False


class Request(msgspec.Struct, frozen=True, gc=False):
    """A request as its callers see it. `answer` is read only for a finished one.

    A Struct, because there is one for each call: it is made in C.
    """

    seq: int
    id: uuid.UUID
    body_id: uuid.UUID
    tenant: str
    endpoint: str
    model: str
    state: str
    attempts: int
    status_code: int | None
    created_at: datetime
    finished_at: datetime | None
    batch_upstream_id: str | None
    answer: bytes | None
    realtime: Decimal | None = None
    paid: Decimal | None = None
    incomplete: bool | None = None

    @property
    def finished(self) -> bool:
        return self.state in FINISHED

    @property
    def receipt(self) -> Receipt | None:
        """What the answer cost; None without one, or where its price is not known."""
        if self.realtime is None or self.paid is None:
            return None
        return Receipt(self.realtime, self.paid, bool(self.incomplete))

    @property
    def answer_left_out(self) -> bool:
        """Whether there is an answer that was too large to be read along with others."""
        return self.state in ("completed", "failed") and self.answer is None


OVERDUE = timedelta(hours=25)
"""OpenAI's completion window (https://platform.openai.com/docs/guides/batch), after which a batch
should have expired by itself, and an hour of grace: then it is cancelled by us."""

Lease = tuple[uuid.UUID, int]
"""A batch's id, and how often it has been leased: two leases of one batch are never the same."""


@dataclass(frozen=True, slots=True)
class Batch:
    """What is sent to OpenAI at once, and how far it has come. `leases` numbers this lease."""

    id: uuid.UUID
    state: str
    leases: int
    endpoint: str
    model: str
    requests: int
    tokens: int
    tries: int
    downloads: int
    reads: int
    uploads: int
    creates: int
    upstream_id: str | None
    upstream_status: str | None
    input_file_id: str | None
    output_file_id: str | None
    error_file_id: str | None
    errors: bytes | None
    completed: int
    failed: int
    requeued: int
    cancelled: int
    cancel_wished_at: datetime | None
    upstream_completed: int
    upstream_failed: int
    charged: bool
    """Whether OpenAI charges tokens that belong to no answer that is stored."""
    parent_id: uuid.UUID | None
    created_at: datetime
    attempted_at: datetime | None
    submitted_at: datetime | None
    ended_at: datetime | None
    next_at: datetime
    now: datetime

    @property
    def lease(self) -> Lease:
        """The lease that this was read under."""
        return self.id, self.leases

    @property
    def since_submitted(self) -> timedelta:
        """How long OpenAI had it, or has it by now."""
        if self.submitted_at is None:
            return timedelta(0)
        return (self.ended_at or self.now) - self.submitted_at

    @property
    def names(self) -> dict[str, str]:
        """What the log knows it by."""
        upstream = {"upstream_batch": self.upstream_id} if self.upstream_id else {}
        return {"batch": str(self.id), "model": self.model, **upstream}


@dataclass(frozen=True, slots=True)
class Stuck:
    """A batch that has stood in one state for too long. `since` is when it came there."""

    id: uuid.UUID
    state: str
    model: str
    upstream_id: str | None
    since: datetime
    tries: int


class Queued(msgspec.Struct, frozen=True, gc=False):
    """What forming a batch needs to know of a queued request. There are 50,000 at a time."""

    seq: int
    line_bytes: int
    tokens: int
    inputs: int
    tenant: str = ""
    usd: float | None = None
    """What it may cost by its estimate; None where it was accepted without a budget."""
    usd_most: float | None = None
    """And more cannot be; None where that is unknown."""


class Tokens(msgspec.Struct, frozen=True, gc=False):
    """What OpenAI counted: `cached` are among the input, `reasoning` among the output."""

    input: int = 0
    cached: int = 0
    output: int = 0
    reasoning: int = 0

    def __add__(self, other: Tokens) -> Tokens:
        return Tokens(
            self.input + other.input,
            self.cached + other.cached,
            self.output + other.output,
            self.reasoning + other.reasoning,
        )


NO_TOKENS = Tokens()


def token_columns(tokens: Tokens | None) -> dict[str, int | None]:
    """Tokens by the names that tables and answers have for them."""
    names = ("input_tokens", "cached_tokens", "output_tokens", "reasoning_tokens")
    values = (None,) * len(names) if tokens is None else msgspec.structs.astuple(tokens)
    return dict(zip(names, values, strict=True))


@dataclass(frozen=True, slots=True)
class Result:
    """What became of one request of a batch: a row to be stored.

    `state` is completed, failed, cancelled or queued (again); `answer` is the JSON that the caller
    gets, or, for one queued again, the last reason why. `tokens` and `receipt` (None where the
    price is not known) are the answer's; `code` is OpenAI's reason for a failure, "" where it gave
    none.
    """

    id: uuid.UUID
    state: str
    status_code: int | None
    answer: bytes | None
    upstream_id: str | None = None
    tokens: Tokens = NO_TOKENS
    receipt: Receipt | None = None
    code: str = ""
    refund: bool = False
    """OpenAI did not execute it, so that this sending is no attempt."""
    wait_s: float = 0.0
    """Of one that is queued again: seconds before it may be sent."""


@dataclass(frozen=True, slots=True)
class Traced:
    """A request that has finished, of a caller who traces it, with the times of its last batch."""

    id: uuid.UUID
    traceparent: str
    endpoint: str
    model: str
    attempts: int
    created_at: datetime
    queued_at: datetime
    claimed_at: datetime
    submitted_at: datetime | None
    ended_at: datetime | None
    finished_at: datetime
    upstream_id: str | None


@dataclass(frozen=True, slots=True)
class Unanswered:
    """A request that its batch still owes an answer. `status_code` is of an earlier failure."""

    seq: int
    id: uuid.UUID
    attempts: int
    status_code: int | None
    line_bytes: int
    tokens: int
    created_at: datetime
    tenant: str


class Sent(msgspec.Struct, frozen=True, gc=False):
    """How often a request was sent, this time included, and an earlier failure's status."""

    id: uuid.UUID
    attempts: int
    status_code: int | None
    tenant: str


@dataclass(frozen=True, slots=True)
class Books:
    """What became of a batch's requests, and the tokens that none of its answers accounts for."""

    completed: int
    failed: int
    requeued: int
    cancelled: int
    unanswered: Tokens


@dataclass(frozen=True, slots=True)
class Spent:
    """What answers of one endpoint and model cost a tenant; money in USD.

    `unpriced` answers have no known price, `incomplete` ones a receipt that leaves something out.
    `lost` is paid for answers that never came; it is a part of `paid`. `assumed` is what budgets
    count for tokens without a price, and no part of `paid`.
    """

    tenant: str
    answers: int
    unpriced: int
    incomplete: int
    tokens: Tokens
    realtime: Decimal
    paid: Decimal
    lost: Decimal
    assumed: Decimal


@dataclass(frozen=True, slots=True)
class Failed:
    """How often one reason made a tenant's requests fail for good, and the last of them."""

    tenant: str
    status_code: int
    code: str
    n: int
    example: uuid.UUID


@dataclass(frozen=True, slots=True)
class SpendingSum:
    """What the answers of one endpoint and model were, of all tenants; money in USD.

    `first` is the hour of the first one. `settled` sums do not grow any more: they are of hours
    before `settled_to`.
    """

    settled: bool
    settled_to: datetime
    endpoint: str
    model: str
    first: datetime
    answers: int
    unpriced: int
    incomplete: int
    input_tokens: int
    cached_tokens: int
    output_tokens: int
    reasoning_tokens: int
    realtime: Decimal
    paid: Decimal
    lost: Decimal

    def __add__(self, other: SpendingSum) -> SpendingSum:
        return replace(
            self,
            first=min(self.first, other.first),
            answers=self.answers + other.answers,
            unpriced=self.unpriced + other.unpriced,
            incomplete=self.incomplete + other.incomplete,
            input_tokens=self.input_tokens + other.input_tokens,
            cached_tokens=self.cached_tokens + other.cached_tokens,
            output_tokens=self.output_tokens + other.output_tokens,
            reasoning_tokens=self.reasoning_tokens + other.reasoning_tokens,
            realtime=self.realtime + other.realtime,
            paid=self.paid + other.paid,
            lost=self.lost + other.lost,
        )


@dataclass(frozen=True, slots=True)
class FailureSum:
    """How many requests to one endpoint failed for good with one status, of all tenants."""

    settled: bool
    settled_to: datetime
    endpoint: str
    status_code: int
    n: int

    def __add__(self, other: FailureSum) -> FailureSum:
        return replace(self, n=self.n + other.n)
