"""What OpenAI's reasons mean, wherever they appear: at an upload, a create, in a batch's errors, in
a line. One table, so that the same reason has the same consequence everywhere. Pure.

docs/errors.md shows the table to users; a test holds the two together.
"""

from __future__ import annotations

import re
from enum import Enum
from typing import Final


class Cause(Enum):
    """Whose trouble a reason is."""

    ACCOUNT = "account"
    """The route is held, nothing is charged as an attempt, and a person has to act."""
    MODEL = "model"
    """Everybody's in the batch, whichever line OpenAI names: a batch has one model."""
    BATCH = "batch"
    """A parameter of the batch: every request of it ends with this reason."""
    TOKENS = "tokens"
    """The model's enqueued-token limit is reached: the batch waits and shrinks."""
    PASSING = "passing"
    """It goes away by itself: sent again after a pause that grows."""


# https://platform.openai.com/docs/guides/error-codes,
# https://platform.openai.com/docs/api-reference/responses/object (error.code) and, for the words of
# validation, https://platform.openai.com/docs/api-reference/batch/object (errors).
CODES: Final[dict[str, Cause]] = {
    "insufficient_quota": Cause.ACCOUNT,
    "billing_not_active": Cause.ACCOUNT,
    "billing_hard_limit_reached": Cause.ACCOUNT,
    "invalid_api_key": Cause.ACCOUNT,
    "account_deactivated": Cause.ACCOUNT,
    "access_terminated": Cause.ACCOUNT,
    "invalid_organization": Cause.ACCOUNT,
    "mismatched_organization": Cause.ACCOUNT,
    "mismatched_project": Cause.ACCOUNT,
    "ip_not_authorized": Cause.ACCOUNT,
    "unsupported_country_region_territory": Cause.ACCOUNT,
    "storage_limit_exceeded": Cause.ACCOUNT,
    "model_not_found": Cause.MODEL,
    "invalid_model": Cause.MODEL,
    "unsupported_model": Cause.MODEL,
    "token_limit_exceeded": Cause.TOKENS,
    "server_error": Cause.PASSING,
    "internal_error": Cause.PASSING,
    "internal_server_error": Cause.PASSING,
    "rate_limit_exceeded": Cause.PASSING,
    "service_unavailable": Cause.PASSING,
    "slow_down": Cause.PASSING,
    "request_timeout": Cause.PASSING,
    "vector_store_timeout": Cause.PASSING,
    "failed_to_download_image": Cause.PASSING,
}
_STATUSES: Final[dict[int, Cause]] = {
    401: Cause.ACCOUNT,
    402: Cause.ACCOUNT,
    408: Cause.PASSING,
    429: Cause.PASSING,
}
# Parameters of the batch, not of a line: no half of it would fare better.
_OF_THE_BATCH = ("endpoint", "completion_window")
# An image or a file that OpenAI could not fetch in time has the code of a malformed value
# (`invalid_value`, `invalid_image_url`): only its words say that trying again may help.
_NOT_FETCHED = re.compile(r"(timeout|error|failed) (while|when|to) download", re.IGNORECASE)
_FETCHED_STATUSES = (400, 404, 422)


def cause(
    *,
    status: int | None = None,
    code: str | None = None,
    kind: str | None = None,
    param: str | None = None,
    message: str | None = None,
) -> Cause | None:
    """Whose trouble this reason of OpenAI's is; None: the line's, or nobody knows.

    `status` is the HTTP status, `kind` the error's `type`; each may be missing.
    """
    for word in (code, kind):
        if word and (found := CODES.get(word)):
            return found
    if param in _OF_THE_BATCH:
        return Cause.BATCH
    if status is None or status in _FETCHED_STATUSES:
        return Cause.PASSING if message and _NOT_FETCHED.search(message) else None
    return Cause.PASSING if status >= 500 else _STATUSES.get(status)
