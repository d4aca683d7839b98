"""A call, the request that is made of it, and its id."""

from __future__ import annotations

import re
import uuid
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from typing import Any

import msgspec

from openaibatching.server.domain.states import FINISHED

ID_PREFIX = "batchreq_"
_REQUEST_ID = re.compile(ID_PREFIX + "([0-9a-f]{32})")


def request_id(id_: uuid.UUID) -> str:
    """A request's public name, which is also its custom_id upstream: batchreq_<32 hex>."""
    return ID_PREFIX + id_.hex


def parse_request_id(text: str) -> uuid.UUID | None:
    """The uuid behind a public name, or None when it is none of ours."""
    found = _REQUEST_ID.fullmatch(text)
    return uuid.UUID(hex=found[1]) if found else None


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
