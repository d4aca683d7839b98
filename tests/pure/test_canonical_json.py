"""JSON in its caller's order, and the one text that names it: nothing of the value is lost."""

from __future__ import annotations

import json
import random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from openaibatching.server.domain import canonical_json
from openaibatching.server.errors import InvalidJson

# Lone surrogates too: they are legal in JSON, by escapes.
TEXTS = st.text(st.characters(exclude_categories=()))
VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | TEXTS,
    lambda inner: st.lists(inner) | st.dictionaries(TEXTS, inner),
    max_leaves=8,
)
quickly = settings(max_examples=60, deadline=None)
NUMBERS = st.from_regex(
    r"-?(0|[1-9][0-9]{0,40})(\.[0-9]{1,9})?([eE][+-]?[0-9]{1,3})?", fullmatch=True
)


def canonicalise(body: bytes) -> bytes:
    return canonical_json.encode(canonical_json.parse(body))


def named(body: bytes) -> bytes:
    return canonical_json.identity(canonical_json.parse(body))


def in_order(text: bytes) -> Any:
    """The value of a JSON text, in which the order of members counts."""
    return json.loads(text, object_pairs_hook=lambda pairs: list(dict(pairs).items()))


@quickly
@given(VALUES)
def test_what_is_sent_has_the_value_of_the_original_in_its_order(value: Any) -> None:
    body = json.dumps(value, indent=1).encode()
    assert in_order(canonicalise(body)) == in_order(body)


@quickly
@given(VALUES)
def test_what_is_sent_is_what_the_standard_library_writes(value: Any) -> None:
    expected = json.dumps(value, separators=(",", ":"))
    assert canonicalise(json.dumps(value, indent=2).encode()) == expected.encode()


@quickly
@given(VALUES)
def test_the_name_has_the_value_of_the_original_sorted(value: Any) -> None:
    expected = json.dumps(value, sort_keys=True, separators=(",", ":"))
    name = named(json.dumps(value).encode())
    assert in_order(name) == in_order(expected.encode())


@quickly
@given(VALUES)
def test_what_is_sent_stays_the_same_when_it_is_sent_on(value: Any) -> None:
    once = canonicalise(json.dumps(value).encode())
    assert canonicalise(once) == once
    assert named(once) == named(json.dumps(value).encode())


@quickly
@given(st.dictionaries(TEXTS, VALUES, min_size=2, max_size=5), st.integers())
def test_the_order_of_keys_never_matters_to_the_name(value: dict[str, Any], seed: int) -> None:
    items = list(value.items())
    random.Random(seed).shuffle(items)
    assert named(json.dumps(dict(items)).encode()) == named(json.dumps(value).encode())


@pytest.mark.parametrize("hard", [b"0", b"-0", rb'"\ud800"', b"9" * 5000])
def test_members_keep_their_order_beside_what_is_hard_to_read(hard: bytes) -> None:
    body = b'{"z":1,"b":{"y":1e5,"a":[{"d":null,"c":1.0}]},"a":%s}' % hard
    assert canonicalise(body) == body
    assert named(body) == b'{"a":%s,"b":{"a":[{"c":1.0,"d":null}],"y":1e5},"z":1}' % hard


@quickly
@given(NUMBERS)
def test_numbers_keep_the_text_they_were_written_in(number: str) -> None:
    assert canonicalise(f'{{"n": [{number}]}}'.encode()) == f'{{"n":[{number}]}}'.encode()


@quickly
@given(VALUES, NUMBERS)
def test_company_that_is_hard_to_read_changes_nothing(value: Any, number: str) -> None:
    body = b'[%s,%s,"\x7f\xc3\xa9"]' % (json.dumps(value).encode(), number.encode())
    alone = canonicalise(body)
    for hard in (b"-0", rb'"\ud800"', b"9" * 5000):
        assert canonicalise(b"[%s,%s]" % (hard, body)) == b"[%s,%s]" % (hard, alone)


def test_an_integer_longer_than_python_would_read_stays_exact() -> None:
    digits = b"9" * 10_000
    assert canonicalise(b"[%s]" % digits) == b"[%s]" % digits


def test_a_text_that_looks_like_a_number_stays_a_text() -> None:
    assert canonicalise(b'["1", 1]') == b'["1",1]'


def test_of_duplicate_keys_the_last_one_wins() -> None:
    assert canonicalise(b'{"a": 1, "b": 2, "a": 3}') == b'{"a":3,"b":2}'


@pytest.mark.parametrize("escape", [r"\u0000", r"\ud800", r"\udfff\ud800", r"\u2028", r"\u0085"])
def test_odd_characters_are_kept_as_escapes(escape: str) -> None:
    assert canonicalise(f'["a{escape}b"]'.encode()) == f'["a{escape}b"]'.encode()


@pytest.mark.parametrize("body", [b'["a\x7fb"]', rb'["a\u007Fb"]', rb'["a\u007fb"]'])
def test_a_delete_character_is_an_escape_as_all_that_cannot_be_printed(body: bytes) -> None:
    assert canonicalise(body) == rb'["a\u007fb"]'


def test_the_same_text_escaped_or_not_is_the_same() -> None:
    raw, escaped = '["é😀/"]'.encode(), rb'["\u00e9\ud83d\ude00\/"]'
    assert canonicalise(raw) == canonicalise(escaped)
    assert named(raw) == named(escaped)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b" ",
        b"{",
        b"{'a': 1}",
        b'{"a": 1,}',
        b'{"a": NaN}',
        b'{"a": Infinity}',
        b'{"a": -Infinity}',
        b'{"a": 01}',
        b'{"a": .5}',
        b'{"a": +1}',
        b'{"a": "\n"}',
        b'{"a": "\\x"}',
        b"{} {}",
        b"\xef\xbb\xbf{}",
        b'{"a": "\xff"}',
        b'{"a": "\xed\xa0\x80"}',
        "{}".encode("utf-16"),
    ],
)
def test_what_is_no_json_is_refused(body: bytes) -> None:
    with pytest.raises(InvalidJson):
        canonical_json.parse(body)


def test_nesting_is_accepted_up_to_the_limit_and_refused_beyond() -> None:
    most = canonical_json.DEPTH_MAX
    deep = b"[" * most + b"]" * most
    assert canonicalise(deep) == deep
    with pytest.raises(InvalidJson, match="deeper"):
        canonicalise(b"[" + deep + b"]")


@pytest.mark.parametrize("levels", [10_000, 1_000_000])
@pytest.mark.parametrize("opening", [b"[", b'{"a":'])
def test_nesting_far_too_deep_is_refused_and_harms_nothing(levels: int, opening: bytes) -> None:
    with pytest.raises(InvalidJson):
        canonicalise(opening * levels)
