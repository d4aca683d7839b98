"""What a line of a result file means."""

from __future__ import annotations

import json
import uuid
from typing import Any

import pytest

from openaibatching.server.domain.request import request_id
from openaibatching.server.providers.openai.output_lines import (
    BrokenLine,
    Outcome,
    read_line,
)

ID = uuid.UUID(int=7)


def line(
    status: int | None = 200, body: Any = None, error: Any = None, custom_id: str | None = None
) -> bytes:
    response = None if status is None else {"status_code": status, "request_id": "r", "body": body}
    return json.dumps(
        {
            "id": "batch_req_1",
            "custom_id": custom_id or request_id(ID),
            "response": response,
            "error": error,
        }
    ).encode()


def read(raw: bytes) -> Outcome:
    outcome = read_line(raw)
    assert outcome is not None
    return outcome


def test_an_answer_is_kept_byte_for_byte() -> None:
    body = b'{"id" : "chatcmpl-1",\t"n": 1.0e5, "big": 12345678901234567890, "u": "\xe2\x80\xa8 '
    body += rb'\ud800 \\ud800 \ud83d\ude00"}'
    raw = b'{"custom_id":"%s","response":{"status_code":200,"body":%s},"error":null}' % (
        request_id(ID).encode(),
        body,
    )
    outcome = read(raw)
    assert outcome.completed
    assert outcome.answer == body
    assert outcome.upstream_id == "chatcmpl-1"


def test_the_id_in_the_answer_is_known_by() -> None:
    assert read(line(200, {"id": "resp_1"})).upstream_id == "resp_1"
    assert read(line(200, {"data": []})).upstream_id is None
    assert read(line(200, {"id": 5})).upstream_id is None


@pytest.mark.parametrize("status", [400, 403, 404, 413, 422])
def test_openais_own_refusal_is_final(status: int) -> None:
    body = {"error": {"message": "no", "type": "t", "param": None, "code": "c"}}
    outcome = read(line(status, body))
    assert (outcome.completed, outcome.retryable) == (False, False)
    assert (outcome.status_code, json.loads(outcome.answer)) == (status, body)


@pytest.mark.parametrize("status", [408, 429, 500, 502, 503])
def test_a_passing_failure_is_worth_another_sending(status: int) -> None:
    assert read(line(status, {"error": {"message": "later"}})).retryable


@pytest.mark.parametrize("body", [{}, None, [], "text", 5])
@pytest.mark.parametrize("status", [0, 200])
def test_an_empty_answer_is_none(status: int, body: Any) -> None:
    outcome = read(line(status, body))
    assert (outcome.completed, outcome.retryable, outcome.status_code) == (False, True, 502)
    assert json.loads(outcome.answer)["error"]["code"] == "result_missing"


@pytest.mark.parametrize(
    ("code", "status", "told"),
    [
        ("batch_expired", 504, "batch_expired"),
        ("batch_cancelled", 409, "batch_cancelled"),
        ("batch_canceled", 409, "batch_cancelled"),
        ("request_timeout", 504, "request_timeout"),
        ("something_new", 502, "result_missing"),
    ],
)
def test_a_request_that_was_not_executed_says_why(code: str, status: int, told: str) -> None:
    outcome = read(line(None, error={"code": code, "message": "m"}))
    assert outcome.retryable is (code not in ("batch_cancelled", "batch_canceled"))
    assert outcome.status_code == status
    assert json.loads(outcome.answer)["error"]["code"] == told


def test_a_line_of_somebody_else_is_none_of_ours() -> None:
    assert read_line(line(custom_id="request-1", body={"a": 1})) is None


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"null",
        b'{"custom_id":"x","response":{"status_code":200,"body":{"a":',
        b'{"response":{"status_code":200,"body":{}}}',
        b'{"custom_id":"\xff"}',
        line(body={"a": 1})[:-9] + b"\xff" + line(body={"a": 1})[-8:],
        b"<html>",
        line(status=99999999999, body={"a": 1}),
        line(status=999, body={"a": 1}),
    ],
)
def test_a_broken_line_is_said_to_be_broken(raw: bytes) -> None:
    with pytest.raises(BrokenLine):
        read_line(raw)
