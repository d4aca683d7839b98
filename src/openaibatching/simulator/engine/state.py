"""Files and batches, and how they look from outside."""

import math
import threading
from dataclasses import dataclass, field
from typing import Any

from openaibatching.simulator.engine.content import Content
from openaibatching.simulator.engine.ids import digits, word
from openaibatching.simulator.engine.ledger import Usage
from openaibatching.simulator.engine.snapshots import snapshot
from openaibatching.simulator.engine.timeline import Timeline

TERMINAL = frozenset({"failed", "completed", "expired", "cancelled"})


@dataclass
class File:
    """One stored file; `view` is OpenAI's File object."""

    content: Content
    filename: str
    purpose: str
    created: float
    expires: float | None = None
    invisible_until: float = 0.0
    number: int = 0
    id: str = field(default_factory=lambda: word("file-", 22))
    reads: int = 0

    def view(self) -> dict[str, Any]:
        """The File object (litellm PR 37527 shows a live one)."""
        return {
            "object": "file",
            "id": self.id,
            "purpose": self.purpose,
            "filename": self.filename,
            "bytes": self.content.size,
            "created_at": int(self.created),
            "expires_at": None if self.expires is None else int(self.expires),
            "status": "processed",
            "status_details": None,
        }


@dataclass
class Batch:
    """One batch. Everything but `lock` is changed only by the engine, under `lock`."""

    endpoint: str
    input_file_id: str
    completion_window: str
    metadata: dict[str, str] | None
    output_expires_s: int | None
    created: float
    timeline: Timeline
    number: int = 0
    id: str = field(default_factory=lambda: digits("batch_"))
    status: str = "validating"
    model: str | None = None
    tokens: int = 0
    """Enqueued input tokens, once validated."""
    total: int = 0
    completed: int = 0
    failed: int = 0
    errors: list[dict[str, Any]] | None = None
    output_file_id: str | None = None
    error_file_id: str | None = None
    usage: Usage = field(default_factory=Usage)
    times: dict[str, float] = field(default_factory=dict)
    expiring: bool = False
    """Its window has closed while it ran: from finalizing it goes to expired."""
    lying: bool = False
    unknown_fields: bool = False
    sparse: bool = False
    lock: threading.RLock = field(default_factory=threading.RLock)

    @property
    def ended(self) -> bool:
        """Whether nothing will change any more."""
        return self.status in TERMINAL

    def view(self, now: float = math.inf) -> dict[str, Any]:
        """The Batch object with all its members (OpenAPI document, schema Batch).

        now: unix seconds; file ids that are late by then are null.
        """
        counts = {"total": self.total, "completed": self.completed, "failed": self.failed}
        if self.lying and self.ended:
            counts = {"total": self.total, "completed": self.total, "failed": 0}
        late = self.ended and now < self.times[self.status] + self.timeline.file_ids_late_s
        document: dict[str, Any] = {
            "id": self.id,
            "object": "batch",
            "endpoint": self.endpoint,
            "model": self.model and snapshot(self.model),
            "errors": None if self.errors is None else {"object": "list", "data": self.errors},
            "input_file_id": self.input_file_id,
            "completion_window": self.completion_window,
            "status": self.status,
            "output_file_id": None if late else self.output_file_id,
            "error_file_id": None if late else self.error_file_id,
            "created_at": int(self.created),
            "in_progress_at": self._stamp("in_progress"),
            "expires_at": int(self.timeline.expires),
            **{f"{name}_at": self._stamp(name) for name in _STAMPS},
            "request_counts": counts,
            "usage": self.usage.view(),
            "metadata": self.metadata,
        }
        if self.unknown_fields:
            document["priority"] = {"lane": "new", "position": None}
        if self.sparse:
            return {
                name: value
                for name, value in document.items()
                if name not in _OPTIONAL and value is not None
            }
        return document

    def _stamp(self, name: str) -> int | None:
        return int(self.times[name]) if name in self.times else None


# The schema's optional members that are hardly ever missing. `metadata` is ours to find
# batches by, and comes back whenever it was given.
_OPTIONAL = ("expires_at", "model", "request_counts", "usage")
_STAMPS = (
    "finalizing",
    "completed",
    "failed",
    "expired",
    "cancelling",
    "cancelled",
)


class Store:
    """What there is, newest last. Reading and adding are short and under one lock."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._files: dict[str, File] = {}
        self._batches: dict[str, Batch] = {}
        self._numbers = {"file": 0, "batch": 0}

    def add_file(self, file: File) -> File:
        """Store a file and number it."""
        with self._lock:
            self._numbers["file"] += 1
            file.number = self._numbers["file"]
            self._files[file.id] = file
        return file

    def add_batch(self, batch: Batch) -> Batch:
        """Store a batch."""
        with self._lock:
            self._batches[batch.id] = batch
        return batch

    def next_batch_number(self) -> int:
        """The ordinal of the next batch, by which its faults are drawn."""
        with self._lock:
            self._numbers["batch"] += 1
            return self._numbers["batch"]

    def file(self, id_: str, now: float) -> File | None:
        """A file that is there and has not expired."""
        with self._lock:
            file = self._files.get(id_)
            if file is not None and file.expires is not None and file.expires <= now:
                del self._files[id_]
                return None
            return file

    def delete_file(self, id_: str) -> bool:
        """Forget a file; whether it was there."""
        with self._lock:
            return self._files.pop(id_, None) is not None

    def batch(self, id_: str) -> Batch | None:
        """A batch by its id."""
        with self._lock:
            return self._batches.get(id_)

    def files(self, now: float) -> list[File]:
        """All files that have not expired, oldest first."""
        with self._lock:
            ids = list(self._files)
        return [file for file in (self.file(id_, now) for id_ in ids) if file is not None]

    def batches(self) -> list[Batch]:
        """All batches, oldest first."""
        with self._lock:
            return list(self._batches.values())
