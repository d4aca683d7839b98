"""What `run` takes for one request is what the server takes for one."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from openaibatching.cli.run.input_lines import Asked, as_sample, read_line
from openaibatching.server.api.bulk.lines import read_line as server_reads
from support.world import settings_for

CHAT, RESPONSES = "/v1/chat/completions", "/v1/responses"
EMBEDDINGS = "/v1/embeddings"
MESSAGES = '"messages":[{"role":"user","content":"x"}]'


def line(url: str, body: str, more: str = "") -> bytes:
    return f'{{"custom_id":"a","method":"POST","url":"{url}","body":{body}{more}}}'.encode()


def server_id(text: bytes, tmp: Any) -> Any:
    entry, call = server_reads(settings_for("http://127.0.0.1:1/v1", tmp), "t", text)
    assert call is not None, entry
    return entry.id


SAME = [
    (line(CHAT, f'{{"model":"m",{MESSAGES}}}'), line(CHAT, f'{{ {MESSAGES}, "model" : "m"}}')),
    (line(CHAT, '{"model":"m","x":"é"}'), line(CHAT, '{"x":"\\u00e9","model":"m"}')),
    (line(CHAT, '{"model":"m","x":1}'), line(CHAT, '{"model":"m","stream":false,"x":1}')),
    (line(CHAT, '{"model":"m"}'), line(CHAT, '{"model":"m","background":null}')),
    (line(RESPONSES, f'{{"model":"m",{MESSAGES}}}'), line(CHAT, f'{{"model":"m",{MESSAGES}}}')),
    (line(CHAT, '{"model":"m"}'), line(CHAT, '{"model":"m","stream_options":{"a":1}}')),
    (line(RESPONSES, '{"model":"m"}'), line(RESPONSES, '{"stream_options":null,"model":"m"}')),
    (line(CHAT, '{"model":"m","a":1,"a":2}'), line(CHAT, '{"model":"m","a":2}')),
    (
        line(RESPONSES, f'{{"model":"m","input":null,{MESSAGES}}}'),
        line(RESPONSES, f'{{"model":"m",{MESSAGES}}}'),
    ),
]
OTHER = [
    (line(CHAT, '{"model":"m","x":1}'), line(CHAT, '{"model":"m","x":1.0}')),
    (line(CHAT, '{"model":"m","x":1}'), line(CHAT, '{"model":"m","x":"1"}')),
    (line(CHAT, '{"model":"m","x":0}'), line(CHAT, '{"model":"m","x":-0}')),
    (line(CHAT, '{"model":"m","x":true}'), line(CHAT, '{"model":"m","x":"true"}')),
    (line(CHAT, '{"model":"m","x":[1,2]}'), line(CHAT, '{"model":"m","x":[2,1]}')),
    (line(CHAT, '{"model":"m"}'), line(RESPONSES, '{"model":"m"}')),
    (line(EMBEDDINGS, '{"model":"m"}'), line(EMBEDDINGS, '{"model":"m","stream_options":{}}')),
    (line(CHAT, '{"model":"m","x":"\\ud800"}'), line(CHAT, '{"model":"m","x":"\\ud801"}')),
]


@pytest.mark.parametrize(("one", "other"), SAME)
def test_what_is_one_request_for_the_server_is_one_for_run(
    one: bytes, other: bytes, tmp_path: Any
) -> None:
    assert server_id(one, tmp_path) == server_id(other, tmp_path)
    assert read_line(one).identity == read_line(other).identity


@pytest.mark.parametrize(("one", "other"), OTHER)
def test_what_are_two_requests_for_the_server_are_two_for_run(
    one: bytes, other: bytes, tmp_path: Any
) -> None:
    assert server_id(one, tmp_path) != server_id(other, tmp_path)
    assert read_line(one).fingerprint != read_line(other).fingerprint


SCHEMAS = (
    '"response_format":{"type":"json_schema","json_schema":{"name":"n","schema":%s}}',
    '"text":{"format":{"type":"json_schema","name":"n","schema":%s}}',
    '"tools":[{"type":"function","function":{"name":"n","parameters":%s}}]',
    '"tools":[{"type":"function","name":"n","parameters":%s}]',
    '"functions":[{"name":"n","parameters":%s}]',
)


@pytest.mark.parametrize("where", SCHEMAS)
def test_the_order_inside_of_a_schema_makes_another_request(where: str) -> None:
    def read(schema: str) -> Asked:
        return read_line(line(CHAT, '{"model":"m",' + where % schema + "}"))

    one, other = '{"p":{"a":1,"b":2}}', '{"p":{"b":2,"a":1}}'
    assert read(one).identity != read(other).identity
    assert read(one).identity == read(one.replace(",", " , ")).identity


@given(st.recursive(st.none() | st.booleans() | st.text(), st.lists, max_leaves=5))
def test_no_body_stops_it(value: Any) -> None:
    for more in ("tools", "functions", "text", "response_format"):
        text = json.dumps({"custom_id": "a", "body": {more: value}}).encode()
        assert read_line(text).fingerprint


def test_a_sample_is_the_same_line_with_a_key_that_its_custom_id_and_body_make() -> None:
    text = line(CHAT, '{"model":"m"}', ',"idempotency_key":null')
    named = json.loads(as_sample(text))
    key = named.pop("idempotency_key")
    assert named == {k: v for k, v in json.loads(text).items() if k != "idempotency_key"}
    assert key == json.loads(as_sample(text))["idempotency_key"]
    assert 1 <= len(key) <= 255
    for other in (text.replace(b'"a"', b'"b"'), text.replace(b'"m"', b'"n"')):
        assert json.loads(as_sample(other))["idempotency_key"] != key
    own = line(CHAT, '{"model":"m"}', ',"idempotency_key":"k"')
    assert as_sample(own) == own
