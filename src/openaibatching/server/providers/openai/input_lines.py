"""A request's line in an input file, and the names by which a batch is found again."""

from __future__ import annotations

import uuid
from functools import cache

from openaibatching.server.domain.request import request_id


def batch_line(id_: uuid.UUID, endpoint: str, body: bytes) -> bytes:
    """One line of a batch input file (https://platform.openai.com/docs/guides/batch)."""
    return b'{"custom_id":"%s","method":"POST","url":"%s","body":%s}\n' % (
        request_id(id_).encode(),
        endpoint.encode(),
        body,
    )


@cache
def envelope_bytes(endpoint: str) -> int:
    """How much longer than its body `batch_line` is, in bytes."""
    return len(batch_line(uuid.UUID(int=0), endpoint, b""))


def file_name(batch_id: uuid.UUID) -> str:
    """The upstream name of a batch's input file: what an upload of unknown outcome is known by."""
    return f"openaibatching-{batch_id.hex}.jsonl"


METADATA_KEY = "openaibatching_batch"
"""The key in an upstream batch's metadata that holds our batch id: what it is adopted by."""
