"""`images.edit` as JSON.

The official SDK sends image files as a multipart form. A line of a batch is JSON, so the Batch API
takes, and our server accepts, the JSON form of the same call: `images` and `mask` are references,
and a file becomes a `data:` URL.
"""

import base64
import mimetypes
from collections.abc import Iterable, Mapping
from typing import Any

from openai import NotGiven

_MAGIC = {b"\x89PNG": "image/png", b"\xff\xd8\xff": "image/jpeg", b"RIFF": "image/webp"}


def as_json(options: Any) -> None:
    """Turn the official multipart request `options` of an image edit into the JSON call, in place.

    Does nothing to any other request.
    """
    if options.url != "/images/edits" or not options.files:
        return
    files = options.files
    pairs: Iterable[tuple[str, Any]] = files.items() if isinstance(files, Mapping) else files
    body: dict[str, Any] = dict(options.json_data or {})
    for field, file in pairs:
        reference = {"image_url": _data_url(file)}
        if field.startswith("image"):  # "image" alone, "image[]" in a list
            body.setdefault("images", []).append(reference)
        else:
            body[field] = reference
    options.json_data, options.files = body, None
    if not isinstance(options.headers, NotGiven):
        options.headers = {
            name: value for name, value in options.headers.items() if name.lower() != "content-type"
        }


def _data_url(file: Any) -> str:
    """A file, in any form that the HTTP library takes, as a `data:` URL."""
    name, content, kind, *_ = (*file, None) if isinstance(file, tuple) else (None, file, None)
    data: bytes = content if isinstance(content, bytes) else content.read()
    kind = kind or _kind(str(name or getattr(content, "name", "")), data)
    return f"data:{kind};base64,{base64.b64encode(data).decode()}"


def _kind(name: str, data: bytes) -> str:
    for magic, kind in _MAGIC.items():
        if data.startswith(magic):
            return kind
    return mimetypes.guess_type(name)[0] or "image/png"
