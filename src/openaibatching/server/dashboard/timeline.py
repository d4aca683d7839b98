"""The steps of a request and of its batches, told to people. Pure."""

from __future__ import annotations

import json
from contextlib import suppress
from typing import Any

import msgspec

STEPS: dict[tuple[str, str | None, str | None], str] = {
    ("request", None, "queued"): "Asked, and queued.",
    ("request", "queued", "in_progress"): "Put into a",
    ("request", "queued", "cancelled"): "Cancelled.",
    ("request", "in_progress", "completed"): "Answered.",
    ("request", "in_progress", "failed"): "Failed for good.",
    ("request", "in_progress", "queued"): "Goes again: back in the queue.",
    ("request", "in_progress", "cancelled"): "Cancelled, with its batch.",
    ("request", "failed", "queued"): "Queued again, by hand.",
    ("request", "completed", "queued"): "Queued again, by hand: its answer was incomplete.",
    ("request", "cancelled", "queued"): "Queued again, by hand.",
    ("batch", None, "claimed"): "The batch was formed.",
    ("batch", "claimed", "uploading"): "Its file is uploaded to OpenAI.",
    ("batch", "uploading", "uploading"): "Its file is uploaded again.",
    ("batch", "uploading", "uploaded"): "OpenAI has the file.",
    ("batch", "claimed", "refused"): "It was cancelled before its file was uploaded.",
    ("batch", "uploading", "refused"): "OpenAI refused the file, or it was cancelled.",
    ("batch", "uploaded", "refused"): "It was cancelled before OpenAI made the batch.",
    ("batch", "uploaded", "creating"): "OpenAI is asked to make the batch.",
    ("batch", "creating", "uploaded"): "It certainly did not, and will be asked again.",
    ("batch", "creating", "submitted"): "OpenAI has the batch.",
    ("batch", "creating", "refused"): "OpenAI refused the batch.",
    ("batch", "submitted", "refused"): "OpenAI's validation refused it.",
    ("batch", "refused", "collected"): "All its requests are settled.",
    ("batch", "submitted", "ended"): "OpenAI has finished with it.",
    ("batch", "ended", "collected"): "All its answers are stored.",
    ("batch", "collected", "closed"): "Its files at OpenAI are deleted.",
}
"""{transition, as in model.TRANSITIONS: what is said of it}; a link to the batch may follow."""
NOTE = "Worth knowing:"


def step(of: str, old: str | None, new: str | None) -> str:
    """One step, in words."""
    return STEPS.get((of, old, new), NOTE if new is None else f"{old} → {new}")


def has_news(new: str | None) -> bool:
    """Whether a step's note is news: OpenAI's status is, where it may have changed."""
    return new in (None, "submitted", "refused", "ended")


def error(answer: bytes | None) -> str:
    """What OpenAI's error says, as `code: message`; "" if it says nothing that can be read."""
    try:
        found: Any = json.loads(answer or b"{}")
    except (ValueError, RecursionError):
        return ""
    found = found.get("error") if isinstance(found, dict) else None
    if not isinstance(found, dict):
        return ""
    parts = (found.get("code") or found.get("type"), found.get("message"))
    return ": ".join(str(part) for part in parts if part)[:1000]


def text(part: bytes, whole: int) -> str:
    """JSON as people read it: indented if it is all there, as it stands if it was cut."""
    if len(part) == whole:
        with suppress(msgspec.DecodeError):
            part = msgspec.json.format(part, indent=2)
    return part.decode("utf-8", "replace")
