"""What to do with a batch that OpenAI refused as a whole. Pure."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

import msgspec

from openaibatching.server.domain.batch import Unanswered
from openaibatching.server.providers.openai.limit_text import told_limit
from openaibatching.server.providers.openai.reasons import Cause, cause


class Reason(msgspec.Struct):
    """One of the errors of a failed batch; every member may be missing. `line` counts from 1."""

    code: str | None = None
    message: str | None = None
    param: str | None = None
    line: int | None = None
    at: str | None = None
    """"upload" when the file itself was refused: OpenAI looks at no more than its beginning."""


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


@dataclass(frozen=True, slots=True)
class Hold:
    """Everything of this route is refused alike: all goes back, and one request is tried later."""


@dataclass(frozen=True, slots=True)
class Wait:
    """Nobody knows yet: the other half of the same batch is being judged."""


Verdict = Culprits | TokenLimit | Again | Halve | Hold | Wait


@dataclass(frozen=True, slots=True)
class Trust:
    """What refusals without a line mean for a model now.

    `probing`: all was refused alike, and single requests are tried. `lines_at_fault`: a batch was
    accepted after that, so a refusal is some line's fault. `refused_alone` single requests in a row
    were refused with `refused_words`.
    """

    probing: bool = False
    refused_alone: int = 0
    refused_words: str | None = None
    lines_at_fault: bool = False


class Sibling(Enum):
    """What became of the other half of the batch that this one is a half of."""

    NONE = "none"
    UNDECIDED = "undecided"
    ACCEPTED = "accepted"
    REFUSED_ALIKE = "refused alike"


ALONE_MAX, ALONE_TRUSTED_MAX = 2, 8
"""Single requests in a row that may be refused alike before it is about more than them; more of
them while refusals are some line's fault, because then several lines of a batch may be."""

_CODE = re.compile(r"[a-z0-9_.]{1,64}")
# OpenAI documents no code for a full file storage (https://platform.openai.com/docs/api-reference/files).
_STORAGE = re.compile(r"\bstorage\b", re.IGNORECASE)
_MODEL = "body.model"


def judge(errors: bytes | None, requests: int, *, model_works: bool = False) -> Verdict:
    """The verdict on a refused batch of `requests` lines, by OpenAI's list of errors.

    `model_works`: OpenAI has completed a batch of the same model lately.
    """
    reasons = _read(errors)
    for reason in reasons:
        if (verdict := _of_all(reason, requests, model_works)) is not None:
            return verdict
    named = {r.line - 1: r for r in reasons if r.line is not None and 1 <= r.line <= requests}
    return Culprits(named) if named else Halve()


def _of_all(reason: Reason, requests: int, model_works: bool) -> Verdict | None:
    """The verdict of a reason that is about more than a line."""
    found = cause(code=reason.code, param=reason.param, message=reason.message)
    if reason.at == "upload" and reason.message and _STORAGE.search(reason.message):
        found = Cause.ACCOUNT
    if found is Cause.TOKENS:
        return TokenLimit(told_limit(reason.message))
    if found in (Cause.ACCOUNT, Cause.PASSING) or _file_missing(reason):
        return Again(account=found is Cause.ACCOUNT)
    of_the_model = found is Cause.MODEL or (
        reason.param == _MODEL and reason.code != "mismatched_model"
    )
    # All lines name the same model, and what is wrong with it is reported for the first one. Where
    # that one passed and a later one is named, or where the model works, the fault is a line's.
    of_all = of_the_model and (reason.line is None or (reason.line == 1 and not model_works))
    if found is Cause.BATCH or of_all:
        return Culprits(dict.fromkeys(range(requests), reason))
    return None


def blame(errors: bytes | None, requests: int, trust: Trust, sibling: Sibling) -> Verdict:
    """The verdict on a refusal that names no line: halving finds a culprit only if there is one.

    Both halves refused alike, or single requests one after the other, say that it is about
    everything. Then halving on would cost a creation for nearly every request.
    """
    if requests == 1:
        most = ALONE_TRUSTED_MAX if trust.lines_at_fault else ALONE_MAX
        alike = trust.refused_words == words(errors) and trust.refused_alone >= most
        about_all = alike or (trust.probing and not trust.lines_at_fault)
        return Hold() if about_all else judge_alone(errors)
    if trust.lines_at_fault or sibling in (Sibling.NONE, Sibling.ACCEPTED):
        return Halve()
    return Wait() if sibling is Sibling.UNDECIDED else Hold()


def sibling_of(state: str, status: str | None, errors: bytes | None, own: bytes | None) -> Sibling:
    """What became of a sibling in this state, by OpenAI's status and errors; `own` are those of
    the batch itself."""
    if status == "failed":
        return Sibling.REFUSED_ALIKE if words(errors) == words(own) else Sibling.ACCEPTED
    at_upload = any(reason.at == "upload" for reason in _read(own))
    past_upload = state not in ("claimed", "uploading")
    if (at_upload and past_upload) or status not in (None, "validating"):
        return Sibling.ACCEPTED
    return Sibling.UNDECIDED


def halves(owed: Sequence[Unanswered]) -> tuple[Sequence[Unanswered], Sequence[Unanswered]]:
    """The requests of a batch in two parts, of which one can be without the culprit.

    Where they are of several tenants, none has requests in both: so a tenant without a culprit is
    soon out of it, and halving costs only those who may have one.
    """
    by_tenant = sorted(owed, key=lambda request: request.tenant)  # in the order of the lines
    middle = (len(by_tenant) + 1) // 2
    ends = [n for n in range(1, len(by_tenant)) if by_tenant[n].tenant != by_tenant[n - 1].tenant]
    cut = min(ends, key=lambda n: abs(n - middle), default=middle)
    return by_tenant[:cut], by_tenant[cut:]


def codes(errors: bytes | None) -> list[str]:
    """OpenAI's codes, each once: may be logged, unlike its messages, which may quote a call."""
    found = {reason.code for reason in _read(errors) if reason.code}
    return sorted(code for code in found if _CODE.fullmatch(code))


def words(errors: bytes | None) -> str:
    """What two refusals must have in common to be alike: their codes and parameters."""
    found = {f"{r.code or ''}/{r.param or ''}/{r.at or ''}" for r in _read(errors)}
    return " ".join(sorted(found))


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
