"""The most that a call can cost is never too low, and said only where it is known."""

from __future__ import annotations

import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from openaibatching.server.billing import cost_bound
from openaibatching.server.billing.prices import PriceList, flat
from openaibatching.server.domain.request import Call
from openaibatching.server.domain.tokens import Tokens
from openaibatching.server.domain.usage import Usage
from openaibatching.server.requests.parse import read_call
from support.world import settings_for

CHAT, RESPONSES, EMBEDDINGS = "/v1/chat/completions", "/v1/responses", "/v1/embeddings"
WINDOW = 128_000
"""Of gpt-4o (https://platform.openai.com/docs/models/gpt-4o)."""
SAID = [{"role": "user", "content": "häufig 頻繁 \u0000"}]
SETTINGS = settings_for("http://127.0.0.1:1/v1", Path("unused"), batch_budget_usd_day="1")
PRICES = PriceList()
MTOK = Decimal(1_000_000)
PARTS = [{"role": "user", "content": [{"type": "text", "text": "a"}]}]
IMAGE = {"type": "image_url", "image_url": {"url": "https://example.com/a.png"}}
FUNCTION = {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}


def call(endpoint: str, **body: Any) -> Call:
    raw = json.dumps({"model": "gpt-4o", **body}).encode()
    return read_call(SETTINGS, "default", endpoint, raw, None)


def usd_most(call: Call) -> Decimal | None:
    price = PRICES.of(call.model)
    assert price is not None
    return cost_bound.usd_most(call, price)


def most(call: Call, output: int, input_usd: str = "1.25", output_usd: str = "5") -> Decimal:
    """What it costs if each byte of it is a token, and it is answered with `output` tokens; USD a
    million, by batch, of gpt-4o."""
    return (call.line_bytes * Decimal(input_usd) + output * Decimal(output_usd)) / MTOK


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
        (CHAT, {"messages": SAID, "max_tokens": 7, "tools": [{"type": "custom"}]}, 7),
        (CHAT, {"messages": SAID, "max_tokens": 7, "modalities": ["text"]}, 7),
    ],
)  # fmt: skip
def test_of_text_it_is_every_byte_in_and_the_longest_answer_out(
    endpoint: str, body: dict[str, Any], output: int
) -> None:
    made = call(endpoint, **body)
    assert usd_most(made) == most(made, output)


@given(
    st.sampled_from(["gpt-4o", "gpt-4.1", "gpt-5.4", "gpt-6-luna", "gpt-5.6-sol", "gpt-5.5-pro"]),
    st.integers(1, 400_000),
    st.sampled_from(["30m", "12h"]),
    st.tuples(*[st.floats(0, 1)] * 4),
)
def test_no_usage_that_a_call_can_have_costs_more(
    model: str, length: int, ttl: str, shares: tuple[float, float, float, float]
) -> None:
    """However its bytes are tokens that are fresh, cached, or written for a short or long time."""
    options = {"prompt_cache_options": {"ttl": ttl}, "max_output_tokens": 1000}
    made = call(RESPONSES, model=model, input="a" * length, **options)
    tokens = int(made.line_bytes * shares[0])
    cached = int(tokens * shares[1])
    written = 0 if model in ("gpt-4o", "gpt-4.1") else int((tokens - cached) * shares[2])
    output = int(1000 * shares[3])
    long = written if ttl == "12h" else 0
    receipt = PRICES.receipt(Usage(Tokens(tokens, cached, output), written, long), model)
    most_ = usd_most(made)
    assert receipt is not None
    assert most_ is not None
    assert receipt.paid <= most_


@pytest.mark.parametrize("model", ["gpt-5.6-sol", "gpt-6-luna", "gpt-6.1-terra"])
def test_the_bound_is_what_writing_all_of_it_costs(model: str) -> None:
    made = call(RESPONSES, model=model, input="text", max_output_tokens=7)
    all_written = Usage(Tokens(made.line_bytes, 0, 7), written=made.line_bytes)
    receipt = PRICES.receipt(all_written, model)
    assert receipt is not None
    assert receipt.paid == usd_most(made)


@pytest.mark.parametrize("inputs", [["a", "b"], [[1, 2], [3]]])
def test_of_embeddings_it_is_every_byte(inputs: Any) -> None:
    made = call(EMBEDDINGS, input=inputs, model="text-embedding-3-small")
    assert usd_most(made) == most(made, 0, input_usd="0.01")


@pytest.mark.parametrize(
    ("options", "input_usd"),
    [
        ({}, "1.25"),
        ({"prompt_cache_options": {"mode": "explicit", "ttl": "30m"}}, "1.25"),
        ({"prompt_cache_options": {"ttl": "12h"}}, "2.5"),
        ({"prompt_cache_options": {"ttl": "a time of tomorrow"}}, "2.5"),
        ({"prompt_cache_retention": "24h"}, "1.25"),  # keeps for longer, and costs no more
    ],
)
def test_each_byte_may_be_written_to_the_prompt_cache(
    options: dict[str, Any], input_usd: str
) -> None:
    made = call(RESPONSES, input="text", model="gpt-6-sol", max_output_tokens=7, **options)
    assert usd_most(made) == most(made, 7, input_usd)  # input is $1


def test_what_may_be_a_long_context_costs_as_one_in_and_out() -> None:
    body = {"model": "gpt-6-sol", "max_output_tokens": 10}
    short, long = (
        call(RESPONSES, input="a" * 200_000, **body),
        call(RESPONSES, input="a" * 272_000, **body),
    )
    assert usd_most(short) == most(short, 10, "1.25", "5")
    assert usd_most(long) == most(long, 10, "2.5", "7.5")


def test_speech_is_dearer_than_text() -> None:
    body = {"model": "gpt-audio", "messages": SAID, "max_completion_tokens": 100}
    made = call(CHAT, modalities=["text", "audio"], audio={"voice": "alloy"}, **body)
    assert usd_most(made) == most(made, 100, output_usd="32")
    silent = call(CHAT, **body)
    assert usd_most(silent) == most(silent, 100)
    unheard = {**body, "model": "gpt-4o-audio-preview", "modalities": ["audio"]}
    assert usd_most(call(CHAT, **unheard)) is None


def test_tools_of_openai_are_bounded_where_their_calls_are() -> None:
    """Each result is read with all before it: at most a context window each time."""
    body = {
        "model": "gpt-6-sol",
        "input": "text",
        "max_output_tokens": 100,
        "tools": [{"type": "web_search"}, {"type": "file_search", "vector_store_ids": ["vs_1"]}],
    }
    made = call(RESPONSES, max_tool_calls=2, **body)
    read = 3 * 1_050_000 * Decimal("2.5") / MTOK
    assert usd_most(made) == read + 100 * Decimal("7.5") / MTOK + 2 * Decimal("0.01")
    assert usd_most(call(RESPONSES, **body)) is None
    unpriced = [{"type": "code_interpreter", "container": {"type": "auto"}}]
    assert usd_most(call(RESPONSES, max_tool_calls=2, **{**body, "tools": unpriced})) is None
    assert usd_most(call(RESPONSES, max_tool_calls=2, **{**body, "model": "gpt-4.1-nano"})) is None


IMAGES = "/v1/images/generations"


@pytest.mark.parametrize(
    ("body", "tokens"),
    [
        ({}, 6240),
        ({"n": 3, "size": "auto", "quality": "auto"}, 3 * 6240),
        ({"quality": "medium"}, 1584),
        ({"quality": "low", "size": "1024x1024", "n": 2}, 2 * 272),
    ],
)
def test_of_an_image_it_is_its_size_and_quality(body: dict[str, Any], tokens: int) -> None:
    made = call(IMAGES, model="gpt-image-1", prompt="a cat", **body)
    assert usd_most(made) == most(made, tokens, "2.5", "20")


@pytest.mark.parametrize(
    "body",
    [
        {"size": "4096x4096"},
        {"quality": "max"},
        {"n": "two"},
        {"partial_images": 2},
        {"model": "gpt-image-2"},
        {"model": "gpt-image-1.5"},
    ],
)
def test_of_other_images_nobody_can_say(body: dict[str, Any]) -> None:
    assert usd_most(call(IMAGES, **{"model": "gpt-image-1", "prompt": "a cat", **body})) is None


def test_without_a_known_price_it_is_what_the_settings_say() -> None:
    made = call(CHAT, model="my-own-model", messages=SAID, max_tokens=7)
    assert cost_bound.usd_most(made, flat(Decimal(5))) == (made.line_bytes + 7) * Decimal(5) / MTOK
    assert cost_bound.usd_most(made, flat(Decimal(0))) == 0
    endless = call(CHAT, model="my-own-model", messages=SAID)
    assert cost_bound.usd_most(endless, flat(Decimal(5))) is None


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
        (CHAT, {"messages": SAID, "model": "gpt-4o-search-preview", "max_tokens": 7}),
        (RESPONSES, {"input": "text", "model": "ft:gpt-4o-mini-2024-07-18:acme::1"}),
        ("/v1/completions", {"prompt": ["one", "two"], "max_tokens": 7}),
        ("/v1/images/edits", {"prompt": "a cat", "model": "gpt-image-1"}),
    ],
)
def test_of_what_is_more_than_its_text_nobody_can_say(endpoint: str, body: dict[str, Any]) -> None:
    assert usd_most(call(endpoint, **body)) is None


def test_what_is_free_costs_nothing() -> None:
    made = call("/v1/moderations", model="omni-moderation-latest", input=[IMAGE])
    assert usd_most(made) == 0


def test_a_stored_prompt_may_name_any_model() -> None:
    prompt = b'{"prompt":{"id":"pmpt_0"},"max_output_tokens":7}'
    made = read_call(SETTINGS, "default", RESPONSES, prompt, None)
    assert cost_bound.usd_most(made, flat(Decimal(0))) is None
