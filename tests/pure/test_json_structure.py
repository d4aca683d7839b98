"""How much structure a body may have, whatever it takes to tell."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from openaibatching.server.domain import canonical_json, json_structure
from openaibatching.server.errors import InvalidJson

TRICKY = st.text(st.sampled_from('\\"[]{},: n\u2028'), max_size=40)
VALUES = st.recursive(
    st.none() | st.integers() | TRICKY,
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(TRICKY, inner, max_size=5),
    max_leaves=20,
)


def marks(value: Any) -> int:
    """The brackets, commas and colons that JSON needs for `value`, by its value."""
    if isinstance(value, dict):
        inner = sum(map(marks, value.values()))
        return 2 + len(value) + max(0, len(value) - 1) + inner
    if isinstance(value, list):
        return 2 + max(0, len(value) - 1) + sum(map(marks, value))
    return 0


@settings(max_examples=300, deadline=None)
@given(VALUES, st.integers(1, 7))
def test_only_what_is_outside_of_texts_counts(value: Any, part_bytes: int) -> None:
    body, n = json.dumps(value).encode(), marks(value)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(json_structure, "_PART_BYTES", part_bytes)  # each escape is cut somewhere
        assert not json_structure.exceeds(body, n)
        assert n == 0 or json_structure.exceeds(body, n - 1)


MOST = json_structure.MARKS_MAX


@pytest.mark.parametrize(
    "body",
    [
        b"[" + b"[]," * (MOST // 3) + b"[]]",
        b"[" + b"1," * MOST + b"1]",
        b'{"":1' + b',"":1' * (MOST // 2) + b"}",
        b'["\\\\",' + b"[]," * (MOST // 3) + b'"\\""]',
        b"[" * (MOST + 1),
        b'"\\\\"' + b"," * (MOST + 1),
    ],
)
def test_more_than_a_million_marks_are_refused_before_anything_is_decoded(body: bytes) -> None:
    with pytest.raises(InvalidJson, match="1,000,000 brackets"):
        canonical_json.parse(body)


@pytest.mark.parametrize(
    "body",
    [
        b"[" + b"1," * (MOST - 3) + b"1]",
        b'["' + b"[]," * MOST + b'"]',
        b'["\\"' + b"{,:}" * MOST + b'\\\\"]',
        b'["' + b"\\\\" * MOST + b'"]',
    ],
)
def test_a_million_marks_and_any_number_of_them_in_texts_are_taken(body: bytes) -> None:
    assert canonical_json.parse(body) == json.loads(body)
