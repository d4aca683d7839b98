"""Faults of single lines, by draw and by marker: both are the same to a client."""

import json
from typing import Any

import pytest

from openaibatching.simulator import Faults, body_sha256
from simulator.kit import World, chat, line, said, world

BOTH = [
    ("garbled_line", "garbled"),
    ("invalid_utf8_line", "invalid_utf8"),
    ("u2028_line", "u2028"),
    ("duplicate_line", "duplicate"),
    ("unknown_custom_id", "unknown_custom_id"),
    ("missing_line", "missing"),
    ("missing_custom_id", "missing_custom_id"),
    ("status_zero_line", "status=0"),
    ("empty_body_line", "empty"),
    ("line_500", "status=500"),
    ("line_429", "status=429"),
    ("request_timeout_line", "timeout"),
]
PAID = {
    "garbled",
    "invalid_utf8",
    "u2028",
    "duplicate",
    "unknown_custom_id",
    "missing_custom_id",
    "empty",
}
READABLE = {"u2028", "duplicate"}


def check(w: World, marker: str, output: list[bytes], errors: list[bytes]) -> None:
    one = (output + errors + [b""])[0]
    if marker == "garbled":
        with pytest.raises(json.JSONDecodeError):
            json.loads(one)
    elif marker == "invalid_utf8":
        with pytest.raises(UnicodeDecodeError):
            one.decode()
    elif marker == "missing":
        assert output == errors == []
    elif marker == "u2028":
        assert len(output) == 1
        assert len(one.decode().splitlines()) > 1
        said = json.loads(one)["response"]["body"]["choices"][0]["message"]["content"]
        assert said.startswith("You said: ")
    elif marker == "duplicate":
        assert [json.loads(each)["custom_id"] for each in output] == ["a0", "a0"]
    elif marker == "unknown_custom_id":
        assert json.loads(one)["custom_id"].startswith("unknown-")
    elif marker == "missing_custom_id":
        assert "custom_id" not in json.loads(one)
    elif marker == "empty":
        assert json.loads(one)["response"]["body"] == {}
        assert json.loads(one)["response"]["status_code"] == 200
    elif marker == "timeout":
        assert output == []
        assert json.loads(one)["response"] is None
        assert json.loads(one)["error"]["code"] == "request_timeout"
    elif marker == "status=0":
        assert errors == []
        assert json.loads(one)["error"] is None
        assert json.loads(one)["response"] == {"status_code": 0, "request_id": "", "body": {}}
    else:
        assert output == []
        response = json.loads(one)["response"]
        assert response["status_code"] == int(marker.removeprefix("status="))
        assert set(response["body"]["error"]) == {"message", "type", "param", "code"}


@pytest.mark.parametrize("by_marker", [True, False])
@pytest.mark.parametrize(("fault", "marker"), BOTH)
def test_a_line_fault_shows_in_the_files_and_in_the_ledger(
    fault: str, marker: str, by_marker: bool
) -> None:
    text = f"hi [[simulate:{marker}]]" if by_marker else "hi"
    faults = Faults() if by_marker else Faults(**{fault: 1.0})  # type: ignore[arg-type]
    with world(faults=faults) as w:
        batch = w.finish(said(text))
        assert batch.status == "completed"
        output = w.raw(batch.output_file_id) if batch.output_file_id else []
        errors = w.raw(batch.error_file_id) if batch.error_file_id else []
        check(w, marker, output, errors)
        sha = body_sha256(chat(text))
        paid = marker in PAID
        assert w.sim.ledger.counts() == ({sha: 1} if paid else {})
        dropped = marker == "missing"  # neither executed nor counted
        assert w.sim.ledger.failures == ({} if paid or dropped else {sha: 1})
        spoiled = paid and marker not in READABLE
        assert w.sim.ledger.spoiled == ({sha: 1} if spoiled else {})


def test_lines_with_status_zero_count_as_completed() -> None:
    with world() as w:
        batch = w.finish(said("fine", "[[simulate:status=0]]"))
        assert batch.request_counts
        assert batch.request_counts.to_dict() == {"total": 2, "completed": 2, "failed": 0}


def test_a_marker_with_a_count_lets_the_next_one_through() -> None:
    body = chat("hi [[simulate:status=500*2]]")
    with world() as w:
        statuses = [w.answer(body)["status_code"] for _ in range(3)]
        assert statuses == [500, 500, 200]
        assert w.sim.ledger.count(body) == 1
        assert w.sim.ledger.failures == {body_sha256(body): 2}


def test_markers_in_one_body_work_one_after_the_other() -> None:
    body = chat("[[simulate:status=500*1]] [[simulate:status=429*1]]")
    with world() as w:
        assert [w.answer(body)["status_code"] for _ in range(3)] == [500, 429, 200]


def test_a_marked_line_expires_with_its_batch() -> None:
    with world() as w:
        lines = said("fine", "late [[simulate:expired*1]]")
        batch = w.finish(lines)
        assert batch.status == "expired"
        results = w.results(batch)
        assert results["a0"]["response"]["status_code"] == 200
        assert results["a1"]["error"]["code"] == "batch_expired"
        assert w.sim.ledger.lines == 1
        assert w.finish(lines[1:]).status == "completed"


def test_a_marked_line_fails_validation_with_its_code() -> None:
    with world() as w:
        batch = w.finish(said("fine", "[[simulate:invalid=billing_not_active*1]]"))
        assert batch.status == "failed"
        assert batch.errors
        assert batch.errors.data
        assert [(error.code, error.line) for error in batch.errors.data] == [
            ("billing_not_active", 2)
        ]
        assert w.finish(said("[[simulate:invalid=billing_not_active*1]]")).status == "completed"


def test_a_poisoned_line_fails_its_batch_without_being_named() -> None:
    with world() as w:
        batch = w.finish(said("fine", "[[simulate:poison]]", "fine too"))
        assert batch.status == "failed"
        assert batch.errors
        assert batch.errors.data
        assert [error.line for error in batch.errors.data] == [None]
        # Halving finds it: the halves without it go through.
        assert w.finish(said("fine")).status == "completed"
        assert w.finish(said("[[simulate:poison]]")).status == "failed"


def test_a_poisoned_line_may_say_under_which_code() -> None:
    with world() as w:
        batch = w.finish(said("fine", "[[simulate:poison=billing_hard_limit_reached]]"))
        assert batch.errors
        assert batch.errors.data
        assert [(error.code, error.line) for error in batch.errors.data] == [
            ("billing_hard_limit_reached", None)
        ]


def test_a_retry_of_the_same_body_is_drawn_anew() -> None:
    with world(faults=Faults(seed=3, line_500=0.5)) as w:
        statuses = {w.answer(chat("hi"))["status_code"] for _ in range(12)}
        assert statuses == {200, 500}


def test_draws_for_a_body_do_not_depend_on_its_company() -> None:
    faults = Faults(seed=5, line_500=0.5)

    def outcome(lines: list[Any]) -> dict[str, int]:
        with world(faults=faults) as w:
            results = w.results(w.finish(lines))
            return {name: one["response"]["status_code"] for name, one in results.items()}

    lines = [line(f"a{n}", chat(str(n))) for n in range(20)]
    assert outcome(lines) == outcome(lines[::-1])
