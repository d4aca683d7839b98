"""Understanding a call: what names it, what is dropped, what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from openaibatching.server import errors
from openaibatching.server.config.settings import Settings, load
from openaibatching.server.domain.endpoints import ENDPOINTS
from openaibatching.server.domain.request import NO_MODEL, Call
from openaibatching.server.providers.openai.input_lines import batch_line
from openaibatching.server.requests.parse import read_call

CHAT, RESPONSES, EMBEDDINGS = "/v1/chat/completions", "/v1/responses", "/v1/embeddings"
MODERATIONS = "/v1/moderations"


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


def test_a_key_may_let_the_first_body_count(settings: Settings) -> None:
    assert read(settings, HELLO, key="k").first_body is False
    call = read_call(
        settings, "default", RESPONSES, json.dumps(HELLO).encode(), "k", first_body=True
    )
    assert call.first_body
    assert call.id == read(settings, HELLO, key="k").id


HOLDERS = {
    "response_format": b'"response_format":{"json_schema":{"schema":%s}}',
    "text": b'"text":{"format":{"schema":%s}}',
    "tool of chat": b'"tools":[{"type":"x"},{"function":{"parameters":%s}}]',
    "tool of responses": b'"tools":[{"parameters":%s}]',
    "function": b'"functions":[{"parameters":%s}]',
}
"""{place: the member of a body that holds a schema there}."""
SCHEMA = b'{"type":"object","properties":{"why":%s,"verdict":{}}}'
TURNED = b'{"type":"object","properties":{"verdict":{},"why":%s}}'
HARD = [b"{}", b"-0", rb'"\ud800"', b"9" * 400, b"1.0", rb'"\u00e9"']


@pytest.mark.parametrize("place", HOLDERS)
@pytest.mark.parametrize("hard", HARD)
def test_the_order_of_a_schema_counts_and_is_sent(
    settings: Settings, place: str, hard: bytes
) -> None:
    written, turned = (
        b'{"model":"m","a":1,%s}' % (HOLDERS[place] % (schema % hard))
        for schema in (SCHEMA, TURNED)
    )
    one, other = read(settings, written, endpoint=CHAT), read(settings, turned, endpoint=CHAT)
    assert one.id != other.id
    assert (one.body, other.body) == (written, turned)
    spaced = written.replace(b":", b" : ").replace(b",", b",\n")
    assert read(settings, spaced, endpoint=CHAT).id == one.id


@pytest.mark.parametrize("place", HOLDERS)
@pytest.mark.parametrize("hard", HARD)
def test_the_order_around_a_schema_does_not_count(
    settings: Settings, place: str, hard: bytes
) -> None:
    member = HOLDERS[place] % (SCHEMA % hard)
    written, turned = b'{"model":"m",%s,"a":1}' % member, b'{"a":1,"model":"m",%s}' % member
    one, other = read(settings, written, endpoint=CHAT), read(settings, turned, endpoint=CHAT)
    assert one.id == other.id
    assert (one.body, other.body) == (written, turned)


@pytest.mark.parametrize("name", ["metadata", "input"])
def test_elsewhere_what_looks_like_a_schema_is_sorted(settings: Settings, name: str) -> None:
    one, other = (
        {"model": "m", "input": "x", name: {"schema": json.loads(text % b"{}")}}
        for text in (SCHEMA, TURNED)
    )
    assert read(settings, one).id == read(settings, other).id


@pytest.mark.parametrize(
    "body",
    [
        {"tools": None},
        {"tools": {"function": {"parameters": {}}}},
        {"tools": ["x", None, [], {"function": None}, {"function": []}]},
        {"response_format": "json"},
        {"text": {"format": []}, "functions": [[]]},
        {"response_format": {"json_schema": {"schema": None}}},
        {"tools": [{"parameters": 1, "function": {"parameters": "é"}}]},
    ],
)
def test_a_place_of_a_schema_may_hold_anything(settings: Settings, body: dict[str, Any]) -> None:
    call = read(settings, {**HELLO, **body})
    assert json.loads(call.body) == {**HELLO, **body}


def test_what_is_sent_is_what_was_written(settings: Settings) -> None:
    body = (
        b'{"z":1.0,"model":"m","input":[{"role":"user","content":"x"}],"a":1e2,"b":{"y":0,"x":-0}}'
    )
    assert read(settings, body).body == body
    assert read(settings, b'{"stream":false,' + body[1:-1] + b',"background":null}').body == body


def test_of_members_of_one_name_the_last_counts(settings: Settings) -> None:
    call = read(settings, b'{"model":"a","input":"x","model":"m","z":{"k":1,"k":2}}')
    assert (call.model, call.body) == ("m", b'{"model":"m","input":"x","z":{"k":2}}')


@pytest.mark.parametrize(
    ("endpoint", "sent"), [(RESPONSES, False), (CHAT, False), (EMBEDDINGS, True)]
)
def test_options_of_a_stream_are_never_sent_where_there_are_streams(
    settings: Settings, endpoint: str, sent: bool
) -> None:
    call = read(settings, {**HELLO, "stream_options": {"include_usage": True}}, endpoint=endpoint)
    assert (call.id != read(settings, HELLO, endpoint=endpoint).id) is sent
    assert (b"stream_options" in call.body) is sent


@pytest.mark.parametrize(
    ("endpoint", "body"),
    [
        (MODERATIONS, {"input": "A fine day."}),
        (RESPONSES, {"prompt": {"id": "pmpt_0"}, "input": "Hello"}),
        (RESPONSES, {"prompt": {"id": "pmpt_0", "version": "2"}}),
    ],
)
def test_a_model_may_be_left_out_where_openai_has_one(
    settings: Settings, endpoint: str, body: dict[str, Any]
) -> None:
    call = read(settings, body, endpoint=endpoint)
    assert (call.model, json.loads(call.body)) == (NO_MODEL, body)
    assert call.id != read(settings, {**body, "model": "m"}, endpoint=endpoint).id


@pytest.mark.parametrize(
    ("endpoint", "body"),
    [
        *((path, {"input": "x"}) for path in ENDPOINTS if path != MODERATIONS),
        (RESPONSES, {"prompt": "pmpt_0"}),
        (RESPONSES, {"prompt": None, "input": "x"}),
        (RESPONSES, {"prompt": {"id": "pmpt_0"}, "messages": []}),  # a chat completion
        (CHAT, {"prompt": {"id": "pmpt_0"}}),
        ("/v1/images/generations", {"prompt": {"id": "pmpt_0"}}),
    ],
)
def test_a_model_is_needed_everywhere_else(
    settings: Settings, endpoint: str, body: dict[str, Any]
) -> None:
    with pytest.raises(errors.MissingParameter):
        read(settings, body, endpoint=endpoint)


OURS = "batchreq_" + "0" * 31 + "7"


def test_a_previous_response_of_ours_is_known(settings: Settings) -> None:
    call = read(settings, {**HELLO, "previous_response_id": OURS})
    assert call.previous == UUID(int=7)
    assert call.id == read(settings, {"previous_response_id": OURS, **HELLO}).id
    assert call.id != read(settings, {**HELLO, "previous_response_id": OURS[:-1] + "8"}).id


@pytest.mark.parametrize("named", ["resp_1", "batchreq_7", None, 7, [OURS], {"id": OURS}])
def test_any_other_previous_response_is_left_to_openai(settings: Settings, named: Any) -> None:
    call = read(settings, {**HELLO, "previous_response_id": named})
    assert call.previous is None
    assert json.loads(call.body)["previous_response_id"] == named


def test_only_responses_go_on_from_one(settings: Settings) -> None:
    assert read(settings, {**HELLO, "previous_response_id": OURS}, endpoint=CHAT).previous is None


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
