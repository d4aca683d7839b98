"""What becomes of a request after it was sent: it has ended, or is sent again, and when. Pure."""

from __future__ import annotations

from openaibatching.server.domain.batch import Result
from openaibatching.server.providers.openai.output_lines import Outcome

RETRY_WAIT_S_MAX = 6 * 3600.0


def retry_wait_s(poll_s: float, attempts: int) -> float:
    """Seconds before a request that failed in passing is sent again: with BATCH_POLL_S at 30, one
    minute after the first sending, then 10, then 100, at most six hours."""
    return min(RETRY_WAIT_S_MAX, 2 * poll_s * 10.0 ** min(attempts - 1, 10))


def settle(
    outcome: Outcome,
    attempts: int,
    attempts_max: int,
    earlier: int | None,
    poll_s: float = 0.0,
) -> Result:
    """The row that an outcome becomes: finished, or queued again while attempts are left.

    `earlier` is the status of a real failure in an earlier sending, whose answer is stored:
    it is kept when this sending only came to nothing. `poll_s` paces what is sent again.
    """
    # The same key has sent a file and a batch since: a second 401 is about this request.
    own_fault = outcome.status_code == earlier == 401
    if outcome.account and not own_fault:
        return Result(
            outcome.id,
            "queued",
            outcome.status_code,
            outcome.answer,
            code=outcome.code,
            refund=True,
        )
    if outcome.completed:
        return Result(
            outcome.id,
            "completed",
            outcome.status_code,
            outcome.answer,
            outcome.upstream_id,
            outcome.tokens,
            outcome.receipt,
        )
    again = outcome.retryable and attempts < attempts_max and not own_fault
    state = "queued" if again else "failed"
    wait_s = retry_wait_s(poll_s, attempts) if again and outcome.passing else 0.0
    if outcome.real or (not again and earlier is None):
        return Result(
            outcome.id,
            state,
            outcome.status_code,
            outcome.answer,
            code=outcome.code,
            wait_s=wait_s,
        )
    # Of an earlier failure only the status is known here, and that is what the caller hears.
    code = "" if earlier else outcome.code
    return Result(outcome.id, state, None, None, code=code, wait_s=wait_s)
