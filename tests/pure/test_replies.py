"""What a caller hears: OpenAI's own bytes with two members added, or a valid empty object."""

from __future__ import annotations

import json
import uuid
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from openaibatching.server.api import replies
from openaibatching.server.domain.endpoints import ENDPOINTS
from openaibatching.server.domain.request import Request, request_id

AT = datetime(2026, 11, 22, 12, 0, 0, 999_999, tzinfo=UTC)
UNIX = 1_795_348_800
QUEUED = Request(
    seq=1,
    id=uuid.UUID(int=0x5F0C << 112),
    body_id=uuid.UUID(int=1),
    tenant="default",
    endpoint="/v1/responses",
    model="gpt-4o",
    state="queued",
    attempts=0,
    status_code=None,
    created_at=AT,
    finished_at=None,
    batch_upstream_id=None,
    answer=None,
)
IN_PROGRESS = replace(QUEUED, state="in_progress", attempts=1, batch_upstream_id="batch_1")
COMPLETED = replace(
    IN_PROGRESS, state="completed", finished_at=AT, status_code=200, answer=b'{"id":"resp_1"}'
)
REFUSED = b'{"error":{"message":"No.","type":"invalid_request_error","param":null,"code":"bad"}}'
FAILED = replace(COMPLETED, state="failed", status_code=400, answer=REFUSED)
CANCELLED = replace(QUEUED, state="cancelled", finished_at=AT)


def body_of(request: Request) -> Any:
    return json.loads(replies.reply(request, 30).body)


@pytest.mark.parametrize("endpoint", ENDPOINTS)
def test_an_unfinished_request_is_a_202_with_the_two_members_last(endpoint: str) -> None:
    reply = replies.reply(replace(QUEUED, endpoint=endpoint), 30)
    assert reply.status == 202
    members = json.loads(reply.body)
    assert list(members)[-2:] == ["has_completed", "batching"]
    assert members["has_completed"] is False
    assert members["batching"] == {
        "id": request_id(QUEUED.id),
        "status": "queued",
        "batch_id": None,
        "attempts": 0,
        "created_at": UNIX,
        "completed_at": None,
        "estimated_completion_at": None,
    }


@pytest.mark.parametrize("state", ["queued", "in_progress"])
def test_a_response_says_how_far_it_is_and_holds_nothing(state: str) -> None:
    body = body_of(replace(IN_PROGRESS, state=state))
    assert (body["status"], body["output"]) == (state, [])
    assert body["batching"]["status"] == state
    assert body["id"] == body["batching"]["id"] == request_id(QUEUED.id)


def test_the_headers_repeat_id_and_status() -> None:
    for request in (QUEUED, IN_PROGRESS, COMPLETED, FAILED, CANCELLED):
        headers = replies.reply(request, 30).headers
        assert headers["X-Batching-Id"] == request_id(request.id)
        assert headers["X-Batching-Status"] == request.state
        assert ("Retry-After" in headers) == (not request.finished)
        assert ("x-should-retry" in headers) == (request.state in ("failed", "cancelled"))


@pytest.mark.parametrize(
    ("poll_s", "seconds"), [(0.05, "1"), (1, "1"), (1.2, "2"), (30, "30"), (3600, "60")]
)
def test_retry_after_is_whole_seconds_from_1_to_60(poll_s: float, seconds: str) -> None:
    assert replies.reply(QUEUED, poll_s).headers["Retry-After"] == seconds


@settings(deadline=None, max_examples=60)
@given(
    st.dictionaries(st.text(), st.integers() | st.text() | st.lists(st.text()), min_size=1),
    st.booleans(),
)
def test_an_answer_is_kept_byte_for_byte(value: dict[str, Any], escaped: bool) -> None:
    value = {name: v for name, v in value.items() if name not in ("has_completed", "batching")} or {
        "a": 1
    }
    answer = json.dumps(value, ensure_ascii=escaped, indent=1).encode()
    reply = replies.reply(replace(COMPLETED, answer=answer), 30)
    assert reply.body.startswith(answer.rstrip()[:-1])
    members = json.loads(reply.body)
    assert list(members) == [*value, "has_completed", "batching"]
    assert {name: members[name] for name in value} == value


def test_blanks_around_an_answer_do_no_harm() -> None:
    body = body_of(replace(COMPLETED, answer=b' {"id": "resp_1" } \r\n'))
    assert list(body) == ["id", "has_completed", "batching"]
    assert body["has_completed"] is True


def test_a_failure_has_openais_own_status_and_error() -> None:
    reply = replies.reply(FAILED, 30)
    assert reply.status == 400
    assert reply.body.startswith(REFUSED[:-1])
    assert json.loads(reply.body)["has_completed"] is True


def test_a_cancelled_request_is_a_409() -> None:
    reply = replies.reply(CANCELLED, 30)
    assert reply.status == 409
    body = json.loads(reply.body)
    assert body["error"]["code"] == "request_cancelled"
    assert body["has_completed"] is True


@pytest.mark.parametrize("request_", [QUEUED, IN_PROGRESS, COMPLETED, FAILED, CANCELLED])
def test_the_description_has_exactly_the_promised_members(request_: Request) -> None:
    described = json.loads(replies.describe(request_, with_answer=True))
    head = [
        "object",
        "id",
        "status",
        "endpoint",
        "model",
        "batch_id",
        "attempts",
        "created_at",
        "completed_at",
    ]
    assert list(described) == [*head, "response", "error"]
    assert described["object"] == "request"
    assert (described["completed_at"] is not None) == request_.finished
    assert list(json.loads(replies.describe(request_, with_answer=False))) == head


def test_the_description_holds_answer_and_error() -> None:
    done = json.loads(replies.describe(COMPLETED, with_answer=True))
    assert done["response"] == {"status_code": 200, "body": {"id": "resp_1"}}
    assert done["error"] is None
    failed = json.loads(replies.describe(FAILED, with_answer=True))
    assert failed["response"] == {"status_code": 400, "body": json.loads(REFUSED)}
    assert failed["error"]["code"] == "bad"
    cancelled = json.loads(replies.describe(CANCELLED, with_answer=True))
    assert cancelled["response"] is None
    assert cancelled["error"]["code"] == "request_cancelled"


@pytest.mark.parametrize(
    "answer", [b'{"error":"text"}', b'{"other":1}', b'{"n":%s}' % (b"9" * 5000), b'{"error":null}']
)
def test_an_odd_failure_still_has_an_error_object(answer: bytes) -> None:
    described = replies.describe(replace(FAILED, answer=answer), with_answer=True)
    assert b'"message":"OpenAI answered with an error."' in described
    assert answer in described


def test_a_list_has_openais_shape() -> None:
    page = json.loads(replies.listing([COMPLETED, QUEUED], has_more=True))
    assert list(page) == ["object", "data", "first_id", "last_id", "has_more"]
    assert (page["object"], page["has_more"], len(page["data"])) == ("list", True, 2)
    empty = json.loads(replies.listing([], has_more=False))
    assert empty == {
        "object": "list",
        "data": [],
        "first_id": None,
        "last_id": None,
        "has_more": False,
    }
