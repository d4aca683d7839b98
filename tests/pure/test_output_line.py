"""An output line of the server, taken apart by the clients and by `run`."""

import json
from typing import Any

import pytest

from openaibatching.cli.run.line_state import State
from openaibatching.cli.run.output_lines import read_answer
from openaibatching.client.output_line import OutputLine, read

COST = {"currency": "usd", "paid": 0.5, "realtime": 1.0, "saved": 0.5, "incomplete": False}


def line(body: Any, status: int = 200, id_: str | None = "bat-1", name: str | None = "a") -> bytes:
    dumped = json.dumps(body, separators=(",", ":"))
    response = {"status_code": status, "request_id": "req", "body": None}
    whole = {"id": id_, "custom_id": name, "response": response, "error": None}
    return (
        json.dumps(whole, separators=(",", ":")).replace('"body":null', f'"body":{dumped}').encode()
    )


def body(state: str, *, finished: bool, cost: Any = None, **more: Any) -> dict[str, Any]:
    batching = {"id": "bat-1", "status": state, "cost": cost}
    return {"object": "response", **more, "has_completed": finished, "batching": batching}


def test_a_line_says_what_the_single_call_would_have_been_answered() -> None:
    answer = body("completed", finished=True, cost=COST, output=[{"text": "é \u2028"}])
    found = read(line(answer, name='a "quoted" name'))
    assert json.loads(found.body) == answer
    assert (found.id, found.custom_id, found.status) == ("bat-1", 'a "quoted" name', 200)
    assert (found.has_completed, found.state) == (True, "completed")


def test_what_a_model_says_is_never_taken_for_the_servers_word() -> None:
    said = '"x","has_completed":false,"batching":{"id":"b","status":"queued"}}'
    answer = {"error": {"message": said, "has_completed": False}}
    assert read(line(answer, 400)) == OutputLine(
        "bat-1", "a", 400, json.dumps(answer, separators=(",", ":")).encode()
    )


@pytest.mark.parametrize(
    ("answer", "status", "state"),
    [
        (body("queued", finished=False), 202, State.QUEUED),
        (body("in_progress", finished=False), 202, State.IN_BATCH),
        (body("completed", finished=True, cost=COST), 200, State.DONE),
        (body("failed", finished=True, cost=COST), 502, State.FAILED),
        (body("failed", finished=True), 500, State.FAILED),
        ({"error": {"code": "database_unavailable"}}, 503, State.NEW),
        ({"error": {"code": "invalid_api_key"}}, 401, State.NEW),
        ({"error": {"code": "invalid_json"}}, 400, State.FAILED),
    ],
)
def test_run_asks_again_only_for_what_has_not_ended(answer: Any, status: int, state: State) -> None:
    assert read_answer(line(answer, status)).state is state


@pytest.mark.parametrize("text", [b"", b"{}", line({}, 200)[:-1], b"x" + line({}, 200)])
def test_another_text_is_no_output_line(text: bytes) -> None:
    with pytest.raises(ValueError, match="no output line"):
        read(text)
