"""The account behind the API: its credit, its permissions, and the other users of its limits.

What is wrong with an account is no chance but a state, so it is set and put back, here or over
HTTP (`/_simulator/account`), and not drawn like the faults.
"""

import threading
from dataclasses import dataclass, fields

from openaibatching.simulator.engine.errors import INVALID, ApiError

_QUOTA = (
    "You exceeded your current quota, please check your plan and billing details. For more "
    "information on this error, read the docs: "
    "https://platform.openai.com/docs/guides/error-codes/api-errors."
)
_KEY = (
    "Incorrect API key provided: sk-a********. You can find your API key at "
    "https://platform.openai.com/account/api-keys."
)

# name: (HTTP status, message, type, code). Bodies as users of OpenAI reported them:
# github.com/continuedev/continue/issues/11449, OpenHands/OpenHands/issues/998,
# dfinke/PowerShellAI/issues/127; the one of the project is not recorded.
REFUSALS: dict[str, tuple[int, str, str, str | None]] = {
    "unsupported_country_region_territory": (
        403,
        "Country, region, or territory not supported",
        "request_forbidden",
        "unsupported_country_region_territory",
    ),
    "project_archived": (400, "The project is archived and cannot be used.", INVALID, None),
    "invalid_api_key": (401, _KEY, INVALID, "invalid_api_key"),
    "insufficient_quota": (429, _QUOTA, "insufficient_quota", "insufficient_quota"),
    "billing_hard_limit_reached": (
        400,
        "Billing hard limit has been reached",
        INVALID,
        "billing_hard_limit_reached",
    ),
}


@dataclass(frozen=True)
class Account:
    """The state of the account. The default is one with endless credit and no other users."""

    refusal: str = ""
    """A name out of REFUSALS: each create is refused so."""
    refusals: int = 0
    """How many creates or batches `refusal` concerns; 0 means all until it is changed."""
    credit_lines: int = -1
    """The lines that can be paid for. Each one after them is a 429 `insufficient_quota`, and
    so is each new create. -1 is credit without end."""
    at_validation: bool = False
    """The batch fails with the refusal's code, in place of the create being refused."""
    outage_status: int = 0
    """Every line ends with this HTTP status, such as 500 or 503."""
    other_tokens: int = 0
    """Enqueued input tokens of others, of each model that has a limit."""
    other_tokens_s: float = 0.0
    """Seconds until the others' batches have ended; 0 means when it is changed."""

    def __post_init__(self) -> None:
        """Refuse an unknown refusal and what is no number, with ValueError."""
        if self.refusal and self.refusal not in REFUSALS:
            raise ValueError(f"refusal={self.refusal}: known are {', '.join(REFUSALS)}")
        for field in fields(self):
            value = getattr(self, field.name)
            if field.type is str:
                continue
            if not isinstance(value, int | float) or value < (-1 if field.default == -1 else 0):
                raise ValueError(f"{field.name}={value!r}: expected a number, not negative")


class Standing:
    """An Account as it is used up."""

    def __init__(self, account: Account, now: float) -> None:
        self.account = account
        self._since = now
        self._lock = threading.Lock()
        self._refusals_left = account.refusals or None
        self._credit = None if account.credit_lines < 0 else account.credit_lines

    def refusal(self, *, at_validation: bool) -> ApiError | None:
        """Why a create is refused, or at validation a batch; None if it is not."""
        if at_validation is not bool(self.account.at_validation):
            return None
        with self._lock:
            if self.account.refusal and self._refusals_left != 0:
                if self._refusals_left is not None:
                    self._refusals_left -= 1
                return refused_as(self.account.refusal)
            return refused_as("insufficient_quota") if self._credit == 0 else None

    def spend(self) -> ApiError | None:
        """Pay for one line, or say why the account cannot."""
        with self._lock:
            if self._credit is None:
                return None
            if self._credit == 0:
                return refused_as("insufficient_quota")
            self._credit -= 1
            return None

    def others(self, now: float) -> int:
        """Enqueued tokens of other users at `now`, unix seconds."""
        lasts = self.account.other_tokens_s
        return self.account.other_tokens if not lasts or now < self._since + lasts else 0


def refused_as(name: str) -> ApiError:
    """The refusal with this name out of REFUSALS."""
    status, message, kind, code = REFUSALS[name]
    return ApiError(status, message, None, code, kind)
