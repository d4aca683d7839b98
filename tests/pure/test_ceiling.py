"""The most that a call can cost is never too low, and said only where it is known."""

from __future__ import annotations

import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from openaibatching.server import ceiling, receipts
from openaibatching.server.call import read_call
from openaibatching.server.model import Call, Tokens
from support.world import settings_for

CHAT, RESPONSES, EMBEDDINGS = "/v1/chat/completions", "/v1/responses", "/v1/embeddings"
WINDOW = 128_000
"""Of gpt-4o (https://platform.openai.com/docs/models/gpt-4o)."""
SAID = [{"role": "user", "content": "häufig 頻繁 \u0000"}]
SETTINGS = settings_for("http://127.0.0.1:1/v1", Path("unused"))
PARTS = [{"role": "user", "content": [{"type": "text", "text": "a"}]}]
IMAGE = {"type": "image_url", "image_url": {"url": "https://example.com/a.png"}}
FUNCTION = {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}


def call(endpoint: str, **body: Any) -> Call:
    raw = json.dumps({"model": "gpt-4o", **body}).encode()
    return read_call(SETTINGS, "default", endpoint, raw, None)


def most(call: Call, output: int) -> Decimal:
    """What it costs if each byte of it is a token, and it is answered with `output` tokens."""
    usd = receipts.realtime_usd(call.model, Tokens(call.line_bytes, 0, output, 0))
    assert usd
    return usd * receipts.BATCH_PRICE


@pytest.mark.parametrize(
    ("endpoint", "body", "output"),
    [
        (CHAT, {"messages": SAID}, WINDOW),
        (CHAT, {"messages": SAID, "max_tokens": 7}, 7),
        (CHAT, {"messages": SAID, "max_completion_tokens": 7, "n": 3}, 21),
        (CHAT, {"messages": SAID, "n": 3}, 3 * WINDOW),
        (CHAT, {"messages": SAID, "tools": [FUNCTION], "max_tokens": 7}, 7),
        (CHAT, {"messages": PARTS}, WINDOW),
        (RESPONSES, {"input": "text", "max_output_tokens": 7, "metadata": {"a": "b"}}, 7),
        (RESPONSES, {"input": SAID, "text": {"format": {"type": "text"}}}, WINDOW),
        ("/v1/completions", {"prompt": "text", "max_tokens": 7, "best_of": 5, "n": 2}, 35),
        (EMBEDDINGS, {"input": ["a", "b"], "model": "text-embedding-3-small"}, 0),
        (EMBEDDINGS, {"input": [[1, 2], [3]], "model": "text-embedding-3-small"}, 0),
    ],
)  # fmt: skip
def test_of_text_it_is_every_byte_in_and_the_longest_answer_out(
    endpoint: str, body: dict[str, Any], output: int
) -> None:
    made = call(endpoint, **body)
    assert ceiling.usd_most(made) == most(made, output)


@pytest.mark.parametrize(
    ("endpoint", "body"),
    [
        (CHAT, {"messages": [{"role": "user", "content": [IMAGE]}]}),
        (CHAT, {"messages": [{"role": "assistant", "audio": {"id": "audio_1"}}]}),
        (CHAT, {"messages": SAID, "prediction": {"type": "content", "content": "a"}}),
        (CHAT, {"messages": SAID, "web_search_options": {}}),
        (CHAT, {"messages": SAID, "n": 2.5}),
        (CHAT, {"messages": SAID, "a_member_of_tomorrow": {"reads": "a library"}}),
        (RESPONSES, {"input": "text", "previous_response_id": "resp_1"}),
        (RESPONSES, {"input": "text", "conversation": "conv_1"}),
        (RESPONSES, {"input": "text", "tools": [{"type": "web_search"}]}),
        (RESPONSES, {"input": [{"type": "item_reference", "id": "msg_1"}]}),
        (RESPONSES, {"prompt": {"id": "pmpt_1"}}),
        (RESPONSES, {"input": "text", "model": "ft:gpt-4o-mini-2024-07-18:acme::1"}),
        ("/v1/completions", {"prompt": ["one", "two"], "max_tokens": 7}),
        ("/v1/images/generations", {"prompt": "a cat", "model": "gpt-image-1"}),
    ],
)
def test_of_what_is_more_than_its_text_nobody_can_say(endpoint: str, body: dict[str, Any]) -> None:
    assert ceiling.usd_most(call(endpoint, **body)) is None


@pytest.mark.parametrize("model", ["omni-moderation-latest", "my-own-model"])
def test_what_has_no_price_costs_nothing(model: str) -> None:
    assert ceiling.usd_most(call("/v1/moderations", model=model, input=[IMAGE])) == 0


def test_where_no_model_is_named_only_what_is_free_by_default_has_a_price() -> None:
    moderation = read_call(SETTINGS, "default", "/v1/moderations", b'{"input":"x"}', None)
    prompt = b'{"prompt":{"id":"pmpt_0"},"max_output_tokens":7}'
    assert ceiling.usd_most(moderation) == 0
    assert ceiling.usd_most(read_call(SETTINGS, "default", RESPONSES, prompt, None)) is None
