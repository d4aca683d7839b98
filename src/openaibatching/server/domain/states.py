"""The states of requests and batches, and every way from one to another."""

from __future__ import annotations

REQUEST_STATES = ("queued", "in_progress", "completed", "failed", "cancelled")
FINISHED = ("completed", "failed", "cancelled")
TABLES = {"queued": "queued", "in_progress": "sent", **dict.fromkeys(FINISHED, "result")}
"""Where the row of a request in this state stands: that is its state."""

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
