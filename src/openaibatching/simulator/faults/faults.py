"""What goes wrong, as seeded data: the same seed gives the same trouble.

Every probability is 0.0 by default. A fault that was seen in public has its source beside it.
"""

import hashlib
import threading
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, fields


@dataclass(frozen=True)
class Faults:
    """Probabilities from 0.0 to 1.0, and the durations (seconds) that go with them."""

    seed: int = 0

    # Calls that act, and whose reply does not arrive.
    lose_create_reply: float = 0.0
    lose_upload_reply: float = 0.0
    create_500_after_acting: float = 0.0
    upload_500_after_acting: float = 0.0
    late_create: float = 0.0
    """Answers 503 or is cut, by turns; the batch exists `late_s` later."""
    late_upload: float = 0.0
    """The same for a file."""
    late_s: float = 5.0

    # Any call, before it acts.
    error_429: float = 0.0
    """Retry-After comes by turns as seconds, as a date, and not at all."""
    error_500: float = 0.0
    error_502: float = 0.0
    error_503: float = 0.0
    html_instead_of_json: float = 0.0
    reset: float = 0.0
    timeouts: float = 0.0
    """Acts, and holds the reply for `hold_s`."""
    hold_s: float = 30.0
    polls_fail: float = 0.0
    polls_blackout: float = 0.0
    """Of a batch: every look at it fails until `polls_blackout_s` after its creation."""
    polls_blackout_s: float = 3600.0

    list_without_data: float = 0.0
    """By turns `{"object": "list"}` and, as Azure's older API has it, `{"value": [...]}`."""
    list_ignores_after: float = 0.0
    """A page is answered again and again; by turns `has_more` is true and missing."""
    list_empty_page: float = 0.0
    """A page has nothing, and says that more follow."""

    # Downloads.
    truncated_download: float = 0.0
    """The connection ends before all bytes came."""
    short_download: float = 0.0
    """Of one of the first `content_reads` reads: half of the bytes come, as if they were all."""
    garbled_download: float = 0.0
    """One byte is broken in this one of the first `content_reads` reads; the file is sound."""
    content_502: float = 0.0
    content_404: float = 0.0
    content_reads: int = 2
    """How many reads of an afflicted file fail before it can be read."""

    # Files.
    file_invisible: float = 0.0
    file_invisible_s: float = 1.0

    # Lines of the result.
    garbled_line: float = 0.0
    invalid_utf8_line: float = 0.0
    u2028_line: float = 0.0
    duplicate_line: float = 0.0
    unknown_custom_id: float = 0.0
    missing_line: float = 0.0
    missing_custom_id: float = 0.0
    status_zero_line: float = 0.0
    empty_body_line: float = 0.0
    line_500: float = 0.0
    line_429: float = 0.0
    request_timeout_line: float = 0.0
    failed_response_line: float = 0.0
    """A 200 whose Response has the status `failed`; nothing is paid."""
    incomplete_response_line: float = 0.0
    image_timeout_line: float = 0.0
    """A 400 about an image that OpenAI could not fetch in time (vercel/ai issue 8857)."""

    # Batches.
    late_file_ids: float = 0.0
    """Of a batch: it has ended, and its file ids are null until `late_file_ids_s` later."""
    late_file_ids_s: float = 10.0
    unreadable_custom_ids: float = 0.0
    """No custom_id of a batch's result files can be read."""
    null_file_id: float = 0.0
    empty_file_id: float = 0.0
    lying_counts: float = 0.0
    unknown_status: float = 0.0
    """Of a look at a batch: it shows a status nobody has heard of."""
    unknown_fields: float = 0.0
    missing_fields: float = 0.0
    """The batch object has no member that is null, and none of the schema's optional ones."""
    stuck_finalizing: float = 0.0
    stuck_finalizing_s: float = 1068.0
    """17.8 minutes were observed (litellm issue 14884)."""
    stuck: float = 0.0
    """Nothing gets done, and the batch expires at the end of its window."""
    expire: float = 0.0
    """Half of the lines get done, and the batch expires."""
    expires_done: float = 0.0
    """All lines get done, the batch expires all the same, and counts none of them: it has an
    output file and no error file (one of three recorded expiries)."""
    expires_late: float = 0.0
    """A batch that will expire does so only `expires_late_s` after its `expires_at`."""
    expires_late_s: float = 1800.0
    """24.5 hours were observed (warmbly pull request 333)."""
    cancel_from_outside: float = 0.0
    """Somebody cancels the batch when half of its lines are done."""
    cancel_before_start: float = 0.0
    """Somebody cancels the batch while it is still being validated."""
    stuck_cancelling: float = 0.0
    stuck_cancelling_s: float = 600.0
    """Up to ten minutes (API reference of POST /batches/{id}/cancel)."""
    fail_validation_no_line: float = 0.0
    model_fault_first_line: float = 0.0
    """A batch whose model is not supported: only its first line is reported."""

    # Webhooks.
    webhook_lost: float = 0.0
    webhook_duplicated: float = 0.0
    webhook_late: float = 0.0
    webhook_late_s: float = 1.0
    webhook_out_of_order: float = 0.0
    """Every other event that this strikes comes `webhook_late_s` late: the next overtakes it."""
    webhook_two_secrets: float = 0.0

    def __post_init__(self) -> None:
        """Refuse what is no probability and no duration, with ValueError."""
        for field in fields(self):
            value = getattr(self, field.name)
            least = 0 if field.name != "seed" else value
            most = 1 if field.type is float and not field.name.endswith("_s") else value
            if isinstance(value, bool) or not isinstance(value, int | float):
                raise ValueError(f"{field.name}: expected a number, got {value!r}")
            if not least <= value <= most:
                raise ValueError(f"{field.name}={value}: expected a number from 0 to 1")


class Dice:
    """Throws that depend on the seed and the object only, never on timing or threads."""

    def __init__(self, faults: Faults) -> None:
        self.faults = faults
        self._lock = threading.Lock()
        self._calls: Counter[str] = Counter()

    def spares(self, kinds: Iterable[str]) -> bool:
        """Whether none of these faults can strike at all."""
        return not any(getattr(self.faults, kind) for kind in kinds)

    def nth(self, kind: str) -> int:
        """How often this was asked for that kind before: a name for 'this call'."""
        with self._lock:
            self._calls[kind] += 1
            return self._calls[kind]

    def draw(self, kind: str, of: object) -> float:
        """A number in [0, 1) that belongs to this kind and object."""
        text = f"{self.faults.seed}:{kind}:{of}".encode()
        return int.from_bytes(hashlib.sha256(text).digest()[:6], "big") / (1 << 48)

    def hits(self, kind: str, of: object | None = None) -> bool:
        """Whether the fault named `kind` strikes this object (without one: this call)."""
        probability = float(getattr(self.faults, kind))
        if probability <= 0:
            return False
        return self.draw(kind, self.nth(kind) if of is None else of) < probability
