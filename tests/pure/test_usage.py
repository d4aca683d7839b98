"""A usage is read whole: whatever counts tokens is either known, or makes it incomplete."""

from __future__ import annotations

import json
from typing import Any

import pytest

from openaibatching.server.domain import usage
from openaibatching.server.domain.tokens import Tokens
from openaibatching.server.domain.usage import Usage


def read(reported: Any) -> Usage | None:
    return usage.read(json.dumps(reported).encode())


@pytest.mark.parametrize(
    ("reported", "expected"),
    [
        ({"prompt_tokens": 3, "completion_tokens": 4, "total_tokens": 7}, Usage(Tokens(3, 0, 4))),
        (
            {
                "prompt_tokens": 30,
                "prompt_tokens_details": {"cached_tokens": 20, "audio_tokens": 0},
                "completion_tokens": 4,
                "completion_tokens_details": {"reasoning_tokens": 2},
            },
            Usage(Tokens(30, 20, 4, 2)),
        ),
        (
            {
                "input_tokens": 5,
                "input_tokens_details": {"cached_tokens": 1, "cache_write_tokens": 2},
                "output_tokens": 6,
                "output_tokens_details": {"reasoning_tokens": 3},
            },
            Usage(Tokens(5, 1, 6, 3), written=2),
        ),
        (
            {
                "input_tokens": 9,
                "input_tokens_details": {
                    "cache_write_tokens": 7,
                    "cache_write_tokens_details": {"ttl_30m_tokens": 3, "ttl_12h_tokens": 4},
                },
            },
            Usage(Tokens(9), written=7, written_12h=4),
        ),
        (
            {
                "prompt_tokens": 9,
                "prompt_tokens_details": {
                    "audio_tokens": 4,
                    "image_tokens": 2,
                    "cached_tokens": 3,
                    "cached_tokens_details": {"audio_tokens": 2, "text_tokens": 1},
                },
                "completion_tokens": 8,
                "completion_tokens_details": {"audio_tokens": 5, "image_tokens": 1},
            },
            Usage(
                Tokens(9, 3, 8),
                other={
                    "input_audio_tokens": 4,
                    "input_image_tokens": 2,
                    "cache_audio_read_tokens": 2,
                    "output_audio_tokens": 5,
                    "output_image_tokens": 1,
                },
            ),
        ),
        ({"prompt_tokens": 9, "total_tokens": 9}, Usage(Tokens(9))),
        (
            {"input_tokens": 9, "input_tokens_details": None, "output_tokens": None},
            Usage(Tokens(9)),
        ),
        # A batch's own, as it was seen: both ways of naming, one of them empty.
        (
            {
                "input_tokens": 9,
                "prompt_tokens": 0,
                "prompt_tokens_details": None,
                "input_tokens_details": {"cached_tokens": 1},
                "output_tokens": 2,
                "completion_tokens": 0,
            },
            Usage(Tokens(9, 1, 2)),
        ),
        (None, None),
        ({"prompt_tokens": -1}, None),
        ({"prompt_tokens": "many"}, None),
        ({"prompt_tokens": 1, "prompt_tokens_details": {"cached_tokens": 2}}, None),
        ({"input_tokens": 9, "input_tokens_details": {"cache_write_tokens": -1}}, None),
        ({"input_tokens": 9, "input_tokens_details": {"audio_tokens": -1}}, None),
        ({"prompt_tokens": 10**30}, None),
        ([], None),
    ],
)
def test_usage_is_read_in_every_shape_and_never_believed_blindly(
    reported: Any, expected: Usage | None
) -> None:
    assert read(reported) == expected


def test_a_usage_that_is_missing_or_broken_is_none() -> None:
    assert usage.read(b"") is None
    assert usage.read(b"{") is None


@pytest.mark.parametrize(
    ("member", "incomplete"),
    [
        ({"input_tokens_details": {"video_tokens": 1}}, True),
        ({"output_tokens_details": {"speech_tokens": 9, "reasoning_tokens": 1}}, True),
        ({"input_tokens_details": {"cache_write_tokens_details": {"ttl_7d_tokens": 5}}}, True),
        ({"input_tokens_details": {"video_tokens_details": {"frame_tokens": 5}}}, True),
        ({"agent_tokens": 100}, True),
        ({"tools": {"search": {"page_tokens": 7}}}, True),
        ({"input_tokens_details": {"video_tokens": 0}}, False),
        ({"input_tokens_details": {"video_tokens": None}}, False),
        ({"service": "fast", "cost": 1.5, "requests": 3, "agent": {}}, False),
    ],
)
def test_tokens_that_nothing_here_knows_make_it_incomplete(
    member: dict[str, Any], incomplete: bool
) -> None:
    found = read({"input_tokens": 500, "output_tokens": 20, **member})
    assert found is not None
    assert (found.tokens.input, found.tokens.output) == (500, 20)
    assert found.incomplete == incomplete


PLAIN = Usage(Tokens(10, 0, 10))
WEB = {"type": "web_search_call", "action": {"type": "search"}}


@pytest.mark.parametrize(
    ("items", "reported", "expected"),
    [
        ([{"type": "message"}, {"type": "reasoning"}, {"type": "function_call"}], None, PLAIN),
        (
            [WEB, WEB, {"type": "web_search_call", "action": {"type": "open_page"}}],
            None,
            Usage(Tokens(10, 0, 10), other={"web_searches": 2}),
        ),
        (
            [WEB, WEB],
            {"web_search": {"num_requests": 1}, "image_gen": {"input_tokens": 0}},
            Usage(Tokens(10, 0, 10), other={"web_searches": 1}),
        ),
        (
            [{"type": "file_search_call"}],
            None,
            Usage(Tokens(10, 0, 10), other={"storage_searches": 1}),
        ),
        ([{"type": "code_interpreter_call"}], None, Usage(Tokens(10, 0, 10), incomplete=True)),
        ([{"type": "image_generation_call"}], None, Usage(Tokens(10, 0, 10), incomplete=True)),
        ([{"type": "teleport_call"}], None, Usage(Tokens(10, 0, 10), incomplete=True)),
        ([], {"image_gen": {"input_tokens": 9}}, Usage(Tokens(10, 0, 10), incomplete=True)),
        ("text", None, Usage(Tokens(10, 0, 10), incomplete=True)),
    ],
)
def test_tool_calls_are_counted_where_they_have_a_fee(
    items: Any, reported: Any, expected: Usage
) -> None:
    told = json.dumps(reported).encode() if reported else b""
    assert usage.with_tools(PLAIN, json.dumps(items).encode(), told) == expected
