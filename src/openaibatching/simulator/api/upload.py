"""Receiving a file: multipart, straight into the store's own temporary file.

Fields and file may come in any order; openai-python sends `purpose`,
`expires_after[anchor]`, `expires_after[seconds]`, then `file`.
"""

import hashlib
from dataclasses import dataclass, field

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header
from starlette.requests import Request

from openaibatching.simulator.api import parameters
from openaibatching.simulator.engine.canonical import canonical, parse
from openaibatching.simulator.engine.content import Content, Folder, Writer
from openaibatching.simulator.engine.errors import ApiError, missing
from openaibatching.simulator.engine.limits import Limits
from openaibatching.simulator.faults.markers import AT_UPLOAD, Markers

_FIELD_BYTES_MAX = 64 * 1024
_BAD_FORMAT = "Invalid file format for Batch API. Must be .jsonl"


@dataclass(frozen=True)
class Upload:
    """An upload that OpenAI would accept."""

    content: Content
    filename: str
    purpose: str
    expires_s: int | None


@dataclass
class _Form:
    """Collects what the multipart parser reports."""

    writer: Writer
    fields: dict[str, str] = field(default_factory=dict)
    filename: str | None = None
    _header: bytes = b""
    _value: bytes = b""
    _headers: dict[bytes, bytes] = field(default_factory=dict)
    _name: str = ""
    _is_file: bool = False
    _data: bytearray = field(default_factory=bytearray)

    def on_part_begin(self) -> None:
        self._headers, self._data = {}, bytearray()

    def on_header_field(self, data: bytes, start: int, end: int) -> None:
        self._header += data[start:end]

    def on_header_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def on_header_end(self) -> None:
        self._headers[self._header.lower()] = self._value
        self._header = self._value = b""

    def on_headers_finished(self) -> None:
        _, options = parse_options_header(self._headers.get(b"content-disposition", b""))
        self._name = options.get(b"name", b"").decode("utf-8", "replace")
        self._is_file = self._name == "file"
        if self._is_file:
            self.filename = options.get(b"filename", b"").decode("utf-8", "replace")

    def on_part_data(self, data: bytes, start: int, end: int) -> None:
        if self._is_file:
            self.writer.write(data[start:end])
        elif len(self._data) < _FIELD_BYTES_MAX:
            self._data += data[start:end]

    def on_part_end(self) -> None:
        if not self._is_file:
            self.fields[self._name] = self._data.decode("utf-8", "replace")


async def receive(request: Request, folder: Folder, limits: Limits, markers: Markers) -> Upload:
    """Read the whole request; raise the refusal that OpenAI would give it."""
    kind, options = parse_options_header(request.headers.get("content-type"))
    if kind != b"multipart/form-data" or b"boundary" not in options:
        raise ApiError(400, "Content-Type must be multipart/form-data")
    form = _Form(Writer(folder))
    names = [name for name in dir(form) if name.startswith("on_")]
    parser = MultipartParser(
        options[b"boundary"],
        {name: getattr(form, name) for name in names},  # type: ignore[arg-type]
    )
    try:
        # Writes of a megabyte go to the page cache: too short to leave the event loop for.
        async for chunk in request.stream():
            parser.write(chunk)
            if form.writer.size > limits.file_bytes:
                message = "Maximum file size exceeded. Files can be up to 512 MB."
                raise ApiError(413, message, "file", "file_too_large")
        parser.finalize()
        return _judged(form, markers)
    except FormParserError:
        raise ApiError(400, "Could not parse multipart form") from None
    finally:
        form.writer.discard()


def _judged(form: _Form, markers: Markers) -> Upload:
    purpose = parameters.purpose(form.fields.get("purpose"))
    if form.filename is None:
        raise missing("file")
    given = {
        name: form.fields[f"expires_after[{name}]"]
        for name in ("anchor", "seconds")
        if f"expires_after[{name}]" in form.fields
    }
    expires_s = parameters.expires_after("expires_after", given or None)
    content = form.writer.done()
    # By its content: files named `upload` and `test-batch-file` were taken.
    if purpose == "batch" and not _begins_well(content, markers):
        raise ApiError(400, _BAD_FORMAT, detail=True)
    return Upload(content, form.filename, purpose, expires_s)


def _begins_well(content: Content, markers: Markers) -> bool:
    """Only the first line is looked at: it has to be JSON (the rest is checked later)."""
    with content.open() as reader:
        line = reader.readline()
    try:
        request = parse(line)
    except ValueError:
        return False
    sha = hashlib.sha256(canonical(request)).hexdigest() if b"[[simulate:" in line else ""
    return markers.take(line, sha, AT_UPLOAD) is None
