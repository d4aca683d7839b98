"""A line of the bulk door, read: the limit on its body is that of the single call."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from openaibatching.server.api.bulk.lines import Entry, read_line
from openaibatching.server.config.settings import Settings, load
from openaibatching.server.domain.request import Call

MOST = 1000
OTHERS = {"custom_id": "c" * 300, "method": "POST", "url": "/v1/responses"}


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    folder: Path = tmp_path_factory.mktemp("data")
    return load({"openai_api_key": "sk-x", "data_dir": folder, "request_bytes_max": MOST})


def body(size: int, filler: str) -> bytes:
    """A body of that many bytes as it is written, most of them `filler`."""
    head, tail = b'{"input" : "', b'", "model" : "m"}'
    left = size - len(head) - len(tail)
    whole, rest = divmod(left, len(filler.encode()))
    return head + filler.encode() * whole + b"x" * rest + tail


def read(settings: Settings, given: bytes) -> tuple[Entry, Call | None]:
    line: bytes = json.dumps(OTHERS).encode()[:-1] + b', "body": ' + given + b"}"
    return read_line(settings, "default", line)


@pytest.mark.parametrize("filler", ["x", "\u00e9", "\\ud800", "\\\\ud800", "[", "\\u0000"])
def test_a_body_is_refused_where_the_single_call_would_be(settings: Settings, filler: str) -> None:
    assert len(body(MOST, filler)) == MOST
    entry, call = read(settings, body(MOST, filler))
    assert entry.refusal is None
    assert call is not None
    entry, call = read(settings, body(MOST + 1, filler))
    assert call is None
    assert entry.refusal is not None
    status, said = entry.refusal
    error: Any = json.loads(said)["error"]
    assert (status, error["code"]) == (413, "request_too_large")
    assert json.loads(entry.custom_id) == OTHERS["custom_id"]


def test_of_two_bodies_in_a_line_the_last_one_counts(settings: Settings) -> None:
    long, short = body(MOST + 1, "x"), body(100, "x")
    assert read(settings, long + b', "body": ' + short)[1] is not None
    assert read(settings, short + b', "body": ' + long)[1] is None
