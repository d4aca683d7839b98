"""What to do with a batch that OpenAI refused as a whole. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass

import msgspec

from openaibatching.server.limit_text import told_limit


class Reason(msgspec.Struct):
    """One of the errors of a failed batch; every member may be missing. `line` counts from 1."""

    code: str | None = None
    message: str | None = None
    param: str | None = None
    line: int | None = None
    kind: str | None = None
    """"upload" when the file itself was refused, before any line of it was looked at."""


@dataclass(frozen=True, slots=True)
class Culprits:
    """These lines (from 0) fail alone, each with its reason; the rest goes again."""

    reasons: dict[int, Reason]


@dataclass(frozen=True, slots=True)
class TokenLimit:
    """The model's enqueued-token limit is reached; it is `tokens`, if OpenAI said so."""

    tokens: int | None


@dataclass(frozen=True, slots=True)
class Again:
    """Nothing is wrong with the requests: all of them go again, later; much later if `account`."""

    account: bool = False


@dataclass(frozen=True, slots=True)
class Halve:
    """Some request is wrong and OpenAI does not say which."""


Verdict = Culprits | TokenLimit | Again | Halve

_CODE = re.compile(r"[a-z0-9_.]{1,64}")

# Parameters of the batch, not of a line: no half of it would fare better.
_OF_ALL = ("endpoint", "completion_window")
# The account's trouble, not the batch's (https://platform.openai.com/docs/guides/error-codes).
_ACCOUNT = ("billing_hard_limit_reached", "billing_not_active", "insufficient_quota")


def judge(errors: bytes | None, requests: int) -> Verdict:
    """The verdict on a refused batch of `requests` lines, by OpenAI's list of errors."""
    reasons = _read(errors)
    for reason in reasons:
        if reason.code == "token_limit_exceeded":
            return TokenLimit(told_limit(reason.message))
        if reason.code in _ACCOUNT or reason.kind == "upload":
            return Again(account=True)
        if _file_missing(reason):
            return Again()
        if reason.param in _OF_ALL:
            return Culprits(dict.fromkeys(range(requests), reason))
    named = {r.line - 1: r for r in reasons if r.line is not None and 1 <= r.line <= requests}
    if named:
        return Culprits(named)
    return judge_alone(errors) if requests == 1 else Halve()


def codes(errors: bytes | None) -> list[str]:
    """OpenAI's codes, each once: may be logged, unlike its messages, which may quote a call."""
    found = {reason.code for reason in _read(errors) if reason.code}
    return sorted(code for code in found if _CODE.fullmatch(code))


def judge_alone(errors: bytes | None) -> Culprits:
    """The verdict on the only request of a batch that would be refused for ever."""
    reasons = _read(errors)
    return Culprits({0: reasons[0] if reasons else Reason()})


def _read(errors: bytes | None) -> list[Reason]:
    """OpenAI's list; what is not as documented in it counts as a reason without words."""
    try:
        items = msgspec.json.decode(errors, type=list[msgspec.Raw]) if errors else []
    except msgspec.DecodeError:
        return []
    return [_reason(item) for item in items]


def _reason(item: msgspec.Raw) -> Reason:
    try:
        return msgspec.json.decode(item, type=Reason)
    except msgspec.DecodeError:
        return Reason()


def _file_missing(reason: Reason) -> bool:
    """The input file was not visible yet, or somebody deleted it."""
    return reason.param in ("file_id", "input_file_id") and "find file" in (reason.message or "")
