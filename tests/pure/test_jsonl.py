"""Cutting a stream into lines."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from openaibatching.server.domain.jsonl import Lines


@given(
    st.lists(st.binary(max_size=20).map(lambda b: b.replace(b"\n", b"x").strip(b"\r \t"))),
    st.integers(1, 7),
)
def test_lines_are_the_same_however_the_stream_is_cut(parts: list[bytes], size: int) -> None:
    stream = b"\n".join(parts)
    lines, found = Lines(1000), []
    for start in range(0, len(stream), size):
        found += list(lines.feed(stream[start : start + size]))
    found += list(lines.end())
    assert found == [part for part in parts if part]


def test_a_raw_line_separator_splits_no_line() -> None:
    lines = Lines(1000)
    text = "a\u2028b\u2029c\x85d".encode()
    assert list(lines.feed(text + b"\r\n\n")) == [text]


def test_a_line_that_is_too_long_is_forgotten_and_harms_no_other() -> None:
    lines = Lines(4)
    stream = b"abcd\nabcde\n\nef", b"ghij", b"k\nxy"
    found = [line for chunk in stream for line in lines.feed(chunk)]
    assert [*found, *lines.end()] == [b"abcd", None, None, b"xy"]


class Counted(Lines):
    """Counts the lines that are looked at one by one."""

    looked_at = 0

    def end(self) -> Iterator[bytes | None]:
        self.looked_at += 1
        return super().end()


@pytest.mark.parametrize("blank", [b"\n", b"\r\n", b" \t\n", b"\n \r\t"])
def test_blank_lines_are_not_looked_at_one_by_one(blank: bytes) -> None:
    lines = Counted(1000)
    found = list(lines.feed(b"a\n" + blank * 100_000 + b"b\n"))
    assert found == [b"a", b"b"]
    assert lines.looked_at <= 4
