"""The decisions of `openaibatching run`: who is asked when, and what is said of it."""

from __future__ import annotations

import random
from contextlib import closing
from pathlib import Path

import pytest

from openaibatching.cli.remote.formatting import duration
from openaibatching.cli.run.hashes import Hashes
from openaibatching.cli.run.input_file import InputFile
from openaibatching.cli.run.line_state import State
from openaibatching.cli.run.output_lines import read_answer
from openaibatching.cli.run.progress import eta
from openaibatching.cli.run.rounds import HOLD_S_MAX, HOLD_S_MIN, LINES_MAX, hold_s
from support.run_command import input_line, write_jsonl


def test_each_of_many_hashes_is_found_at_its_line() -> None:
    hashes, dice = Hashes(), random.Random(1)
    given = [dice.choice([None, dice.getrandbits(64), n]) for n in range(1, 20_000)]
    assert {hashes.add(hashed) for hashed in given} == {None}
    assert all(hashes.find(h) == line for line, h in enumerate(given) if h is not None)
    assert [hashes[line] for line in range(len(given))] == [h or 0 for h in given]
    assert hashes.find(1 << 63) is None
    first = next(line for line, h in enumerate(given) if h is not None)
    assert hashes.add(given[first]) == first
    assert hashes.find(hashes[first]) == first
    hashes.prefer(len(given))
    assert hashes.find(hashes[first]) == len(given)


def test_lines_are_taken_in_turns_and_new_ones_first(tmp_path: Path) -> None:
    source = write_jsonl(tmp_path / "in", [input_line(f"{n}", "x") for n in range(5)])
    with closing(InputFile(source)) as lines:
        lines.index()

        def take(bytes_max: int = 10**6) -> tuple[State, list[int]]:
            state, window = lines.take(2, bytes_max)
            return state, list(window)

        assert take() == (State.NEW, [0, 1])
        assert take() == (State.NEW, [2, 3])
        assert take(bytes_max=1) == (State.NEW, [4]), "one line is always let through"
        assert take() == (State.QUEUED, [])
        for line in range(5):
            lines.move(line, State.IN_BATCH)
        lines.give_back([0, 1, 2, 4])
        lines.move(1, State.DONE)
        assert take() == (State.QUEUED, [0, 2])
        lines.give_back([0, 2])
        assert take() == (State.QUEUED, [4])
        assert take() == (State.QUEUED, [0, 2])
        assert take() == (State.QUEUED, [])
        assert (lines.total, lines.unfinished) == (5, 4)


def test_holds_grow_with_age_and_shrink_with_the_number_of_windows() -> None:
    assert hold_s(0, 10) == HOLD_S_MIN
    assert hold_s(100, 10) == 100
    assert hold_s(86_400, 10) == HOLD_S_MAX
    assert hold_s(3600, 100 * LINES_MAX) == 36


@pytest.mark.parametrize(
    ("body", "state"),
    [
        (b'{"has_completed":false,"batching":{"id":"b","status":"queued","n":0}}', State.QUEUED),
        (b'{"has_completed":false,"batching":{"id":"b","status":"in_progress"}}', State.IN_BATCH),
        (
            b'{"text":"%s","has_completed":true,"batching":{"id":"b","status":"completed"}}'
            % rb"\"has_completed\":false,\"batching\":{\"id\":\"b\",\"status\":\"queued\"}}",
            State.DONE,
        ),
        (b'{"has_completed":true,"batching":{"id":"b","status":"completed"}}', State.DONE),
    ],
)
def test_an_answer_says_how_far_its_line_is(body: bytes, state: State) -> None:
    line = (
        b'{"id":"b","custom_id":"a \\" \\u20ac","response":{"status_code":200,"request_id":"b",'
        b'"body":%s},"error":null}' % body
    )
    answer = read_answer(line)
    assert (answer.name, answer.state, answer.text) == ('a " €', state, line)


def test_the_time_left_is_told_from_the_pace_of_this_run() -> None:
    assert eta(0, 0, 100, 50.0) == ""
    assert eta(50, 75, 100, 60.0) == "about 60 s left"
    assert eta(0, 100, 100, 60.0) == ""
    assert [duration(s) for s in (0.2, 89, 90, 3600, 5400, 86_400)] == [
        "1 s", "89 s", "2 min", "60 min", "1 h 30 min", "24 h 0 min",
    ]  # fmt: skip
