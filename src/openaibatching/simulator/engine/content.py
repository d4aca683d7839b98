"""Bytes of a file: in memory while small, in a temporary file when large.

No handle stays open between calls: a simulator that is simply dropped leaks nothing.
"""

import io
import shutil
import tempfile
import uuid
import weakref
from pathlib import Path
from typing import BinaryIO

MEMORY_MAX = 1 << 20


class Folder:
    """A temporary folder, made at first need, removed with its owner."""

    def __init__(self) -> None:
        self._path: Path | None = None

    def new_path(self) -> Path:
        """A path that no file has."""
        if self._path is None:
            self._path = Path(tempfile.mkdtemp(prefix="openai-simulator-"))
            weakref.finalize(self, shutil.rmtree, self._path, ignore_errors=True)
        return self._path / uuid.uuid4().hex


class Content:
    """Finished bytes that several readers may read at once.

    A file on disk goes when the last one who holds this object lets go: deleting an input
    file does not take it from a batch that already runs on it.
    """

    def __init__(self, size: int, memory: bytes | None, path: Path | None, folder: Folder) -> None:
        self.size = size
        self._memory = memory
        self._path = path
        self._folder = folder
        if path is not None:
            weakref.finalize(self, path.unlink, missing_ok=True)

    def open(self) -> BinaryIO:
        """A reader of its own, at the start."""
        if self._path is None:
            return io.BytesIO(self._memory or b"")
        return self._path.open("rb")

    def read(self) -> bytes:
        """Everything at once."""
        with self.open() as reader:
            return reader.read()


class Writer:
    """Collects bytes into a Content."""

    def __init__(self, folder: Folder) -> None:
        self._folder = folder
        self._buffer = bytearray()
        self._path: Path | None = None
        self.size = 0

    def write(self, data: bytes) -> int:
        """Append; returns the offset at which the data begins."""
        offset = self.size
        self._buffer += data
        self.size += len(data)
        if len(self._buffer) > MEMORY_MAX:
            self._flush()
        return offset

    def _flush(self) -> None:
        if self._path is None:
            self._path = self._folder.new_path()
        with self._path.open("ab") as file:
            file.write(self._buffer)
        self._buffer.clear()

    def done(self) -> Content:
        """The finished content; the writer is empty afterwards."""
        if self._path is not None:
            self._flush()
            content = Content(self.size, None, self._path, self._folder)
        else:
            content = Content(self.size, bytes(self._buffer), None, self._folder)
        self._buffer, self._path, self.size = bytearray(), None, 0
        return content

    def discard(self) -> None:
        """Throw away what was written."""
        self.done()
