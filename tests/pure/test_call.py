"""Understanding a call: what names it, what is dropped, what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from openaibatching.server import errors
from openaibatching.server.call import read_call
from openaibatching.server.config import Settings, load
from openaibatching.server.model import Call, batch_line
from openaibatching.server.shapes import ENDPOINTS

CHAT, RESPONSES, EMBEDDINGS = "/v1/chat/completions", "/v1/responses", "/v1/embeddings"


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    folder: Path = tmp_path_factory.mktemp("data")
    return load({"openai_api_key": "sk-x", "data_dir": folder, "batch_bytes_max": 2048})


def read(
    settings: Settings,
    body: Any,
    *,
    tenant: str = "default",
    endpoint: str = RESPONSES,
    key: str | None = None,
) -> Call:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    return read_call(settings, tenant, endpoint, raw, key)


HELLO = {"model": "m", "input": "Hello"}


def test_the_same_body_has_the_same_id_however_it_is_written(settings: Settings) -> None:
    first = read(settings, b'{"model":"m","input":"Hello"}')
    assert read(settings, b'{ "input" : "Hel\\u006co",\n"model":"m" }').id == first.id


@pytest.mark.parametrize(
    "dropped", [{"stream": False}, {"stream": None}, {"background": False}, {"background": None}]
)
def test_what_asks_for_nothing_is_dropped_and_never_sent(
    settings: Settings, dropped: dict[str, Any]
) -> None:
    call = read(settings, {**HELLO, **dropped})
    assert call.id == read(settings, HELLO).id
    assert json.loads(call.body) == HELLO


def test_a_null_elsewhere_is_part_of_the_call(settings: Settings) -> None:
    assert read(settings, {**HELLO, "user": None}).id != read(settings, HELLO).id


@pytest.mark.parametrize(
    ("one", "other"), [(b"1", b"1.0"), (b"1", b'"1"'), (b"1e0", b"1"), (b"-0", b"0")]
)
def test_numbers_are_told_apart_by_their_text(settings: Settings, one: bytes, other: bytes) -> None:
    body = b'{"model":"m","input":"x","temperature":%s}'
    assert read(settings, body % one).id != read(settings, body % other).id


def test_tenant_endpoint_and_body_each_make_another_request(settings: Settings) -> None:
    ids = {
        read(settings, HELLO).id,
        read(settings, HELLO, tenant="other").id,
        read(settings, HELLO, endpoint=EMBEDDINGS).id,
        read(settings, {**HELLO, "input": "Bye"}).id,
        read(settings, HELLO, key="k").id,
        read(settings, HELLO, key="k2").id,
        read(settings, HELLO, key="k", tenant="other").id,
        read(settings, HELLO, key="k", endpoint=EMBEDDINGS).id,
    }
    assert len(ids) == 8


def test_a_key_names_the_request_and_the_body_is_still_known(settings: Settings) -> None:
    one, other = read(settings, HELLO, key="k"), read(settings, {**HELLO, "user": "u"}, key="k")
    assert one.id == other.id
    assert one.body_id == read(settings, HELLO).id
    assert one.body_id != other.body_id


def test_a_key_that_spells_another_calls_body_is_another_request(settings: Settings) -> None:
    body = read(settings, {"model": "m"}).body.decode()
    assert read(settings, HELLO, key=body).id != read(settings, {"model": "m"}).id


@pytest.mark.parametrize("key", ["", "k" * 256])
def test_a_key_is_1_to_255_characters(settings: Settings, key: str) -> None:
    with pytest.raises(errors.InvalidIdempotencyKey):
        read(settings, HELLO, key=key)
    assert read(settings, HELLO, key="k" * 255)


@pytest.mark.parametrize("extra", [{}, {"input": None}])
def test_messages_without_input_are_a_chat_completion(
    settings: Settings, extra: dict[str, Any]
) -> None:
    body = {"model": "m", "messages": [{"role": "user", "content": "Hi"}]}
    call = read(settings, {**body, **extra})
    assert call == read(settings, body, endpoint=CHAT)
    assert call.endpoint == CHAT


def test_messages_beside_input_are_left_to_openai(settings: Settings) -> None:
    assert read(settings, {**HELLO, "messages": []}).endpoint == RESPONSES


@pytest.mark.parametrize("body", [b"[]", b'"text"', b"1", b"null", b"true"])
def test_a_body_that_is_no_object_is_refused(settings: Settings, body: bytes) -> None:
    with pytest.raises(errors.InvalidJson):
        read(settings, body)


@pytest.mark.parametrize(
    "model", [None, 1, 1.5, True, "", [], ["m"], {}, "a\0b", "\ud800", "m" * 256]
)
@pytest.mark.parametrize("endpoint", ENDPOINTS)
def test_a_model_that_is_no_name_is_refused(settings: Settings, endpoint: str, model: Any) -> None:
    with pytest.raises(errors.MissingParameter) as caught:
        read(settings, {"model": model, "input": "x"}, endpoint=endpoint)
    assert caught.value.param == "model"


@pytest.mark.parametrize("value", [True, 1, 0, "false", [], {}])
def test_streaming_and_background_are_refused(settings: Settings, value: Any) -> None:
    with pytest.raises(errors.StreamingUnsupported):
        read(settings, {**HELLO, "stream": value})
    with pytest.raises(errors.BackgroundUnsupported):
        read(settings, {**HELLO, "background": value})


def test_the_size_is_that_of_the_line_that_will_be_written(settings: Settings) -> None:
    call = read(settings, {**HELLO, "input": "é\u2028"})
    assert call.line_bytes == len(batch_line(call.id, call.endpoint, call.body))


def test_a_body_is_refused_when_its_line_is_larger_than_a_whole_batch(settings: Settings) -> None:
    spare = settings.batch_bytes_max - read(settings, HELLO).line_bytes
    assert read(settings, {**HELLO, "input": "Hello" + "x" * spare})
    with pytest.raises(errors.RequestTooLarge):
        read(settings, {**HELLO, "input": "Hello" + "x" * (spare + 1)})


@pytest.mark.parametrize(
    ("given", "inputs"),
    [("text", 1), (["a", "b", "c"], 3), ([1, 2, 3], 1), ([[1, 2], [3]], 2), ([], 1), (None, 1)],
)
def test_embedding_inputs_are_counted(settings: Settings, given: Any, inputs: int) -> None:
    assert read(settings, {"model": "m", "input": given}, endpoint=EMBEDDINGS).inputs == inputs


def test_more_embedding_inputs_than_a_batch_may_hold_are_refused(tmp_path: Path) -> None:
    roomy = load({"openai_api_key": "sk-x", "data_dir": tmp_path})
    most = {"model": "m", "input": ["a"] * 50_000}
    assert read(roomy, most, endpoint=EMBEDDINGS).inputs == 50_000
    with pytest.raises(errors.TooManyInputs):
        read(roomy, {**most, "input": ["a"] * 50_001}, endpoint=EMBEDDINGS)
