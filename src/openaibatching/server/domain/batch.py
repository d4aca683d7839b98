"""A batch as a step holds it, and what its results are to their requests."""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from datetime import datetime, timedelta

from openaibatching.server.domain.request import Receipt
from openaibatching.server.domain.tokens import NO_TOKENS, Tokens

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
