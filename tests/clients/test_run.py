"""`openaibatching run` against the real server, as its users start it."""

from __future__ import annotations

import json
import os
import pty
import re
import signal
import threading
from pathlib import Path

import pytest

from clients.real_server import BatchServer
from support.run_command import Run, input_line, read_jsonl, said, write_jsonl

LINES = 30


def questions(path: Path, tag: str, lines: int = LINES) -> Path:
    return write_jsonl(path, (input_line(f"{tag}-{n}", f"{tag} {n}") for n in range(lines)))


def answers(tag: str, lines: int = LINES) -> dict[str, str]:
    return {f"{tag}-{n}": f"You said: {tag} {n}" for n in range(lines)}


def test_every_line_gets_its_own_answer(batch_server: BatchServer, tmp_path: Path) -> None:
    out = tmp_path / "out.jsonl"
    run = Run(batch_server.url, batch_server.key, questions(tmp_path / "in", "all"), "-o", out)
    run.until(batch_server.requests)
    batch_server.finish()
    code, told, progress = run.end()
    assert (code, told) == (0, f"All {LINES} lines succeeded: {out}\n"), progress
    assert said(out) == answers("all")
    assert f"{LINES} accepted" in progress
    assert f"{LINES} done, 0 failed" in progress.splitlines()[-1]
    with batch_server.client() as client:
        stored = client.responses.retrieve(read_jsonl(out)[0]["id"])
    assert stored.id == read_jsonl(out)[0]["response"]["body"]["id"], "a line as the server gave it"


def test_lines_that_fail_and_bad_ones_harm_no_other_and_are_not_asked_again(
    batch_server: BatchServer, tmp_path: Path
) -> None:
    out = tmp_path / "out.jsonl"
    source = write_jsonl(
        tmp_path / "in.jsonl",
        [
            b"not json",
            input_line("good", "among bad ones"),
            b" \r",
            {"body": 1},
            input_line("fails", "[[simulate:status=400]]"),
            input_line("refused", "x", method="GET"),
            input_line('odd "\u2028\ud800', "named oddly"),
            b'"\xff"',
            b'{"custom_id":7}',
            b'{"custom_id":"long number","n":' + b"1" * 5000 + b"}",
        ],
    )
    command = (batch_server.url, batch_server.key, source, "-o", out)
    run = Run(*command)
    run.until(batch_server.requests)
    batch_server.finish()
    for again in (run, Run(*command)):
        code, told, progress = again.end()
        assert code == 1, progress
        assert told.startswith(f"7 of 9 lines failed: in {out} ")
        found = {line["custom_id"]: line for line in read_jsonl(out) if line["custom_id"]}
        assert found.keys() == {"good", "fails", "refused", 'odd "\u2028\ud800', "long number"}
        nameless = [line for line in read_jsonl(out) if line["custom_id"] is None]
        assert len(read_jsonl(out)) == len(found) + len(nameless)
        errors = [line["response"]["body"]["error"] for line in nameless]
        assert [error["message"].partition(":")[0] for error in errors] == [
            "Line 1", "Line 4", "Line 8", "Line 9",
        ]  # fmt: skip
        missing = "missing_required_parameter"
        codes = [error["code"] for error in errors]
        assert codes == ["invalid_json", missing, "invalid_json", missing]
        statuses = {name: line["response"]["status_code"] for name, line in found.items()}
        assert sorted(statuses.values()) == [200, 200, 400, 400, 400]


def test_a_line_that_is_too_long_for_the_server_is_named(
    batch_server: BatchServer, tmp_path: Path
) -> None:
    out = tmp_path / "out.jsonl"
    most = 33_554_432 + 65_536
    source = write_jsonl(tmp_path / "in.jsonl", [input_line('"long"', "x" * most)])
    code, _, progress = Run(batch_server.url, batch_server.key, source, "-o", out).end()
    [line] = read_jsonl(out)
    assert code == 1, progress
    assert line["custom_id"] == '"long"'
    assert line["response"]["status_code"] == 413


@pytest.mark.parametrize("lines", [[], [b"", b" "]], ids=["no bytes", "blank lines"])
def test_a_file_without_a_line_is_refused_before_anything_is_written(
    batch_server: BatchServer, tmp_path: Path, lines: list[bytes]
) -> None:
    source, out = write_jsonl(tmp_path / "in.jsonl", lines), tmp_path / "out.jsonl"
    code, told, progress = Run(batch_server.url, batch_server.key, source, "-o", out).end()
    assert (code, told) == (2, "")
    assert progress.splitlines()[-1].endswith(f"{source} has no line (OpenAI refuses it too)")
    assert not out.exists()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_run_that_is_interrupted_says_how_to_go_on(
    patient_server: BatchServer, tmp_path: Path, number: signal.Signals
) -> None:
    source, out = questions(tmp_path / "in.jsonl", "stop"), tmp_path / "out.jsonl"
    run = Run(patient_server.url, patient_server.key, source, "-o", out)
    run.until(patient_server.requests)
    run.process.send_signal(number)
    code, told, progress = run.end()
    assert (code, told) == (130, "")
    assert progress.splitlines()[-1] == (
        f"Interrupted: 0 of {LINES} lines are answered in {out}. "
        "The same command goes on from there."
    )


def test_two_runs_do_not_write_into_one_file(patient_server: BatchServer, tmp_path: Path) -> None:
    out = tmp_path / "out.jsonl"
    command = (patient_server.url, patient_server.key, questions(tmp_path / "in", "two"), "-o", out)
    first = Run(*command)
    first.until(patient_server.requests)
    assert Run(*command).end() == (
        2, "", f"openaibatching run: {out} is being written by another run\n",
    )  # fmt: skip
    first.process.terminate()
    assert first.end()[0] == 130


def test_on_a_terminal_there_is_a_bar(batch_server: BatchServer, tmp_path: Path) -> None:
    ours, theirs = pty.openpty()
    drawn: list[bytes] = []

    def read() -> None:
        try:
            while part := os.read(ours, 65_536):
                drawn.append(part)
        except OSError:  # how Linux says that the other end is closed
            return

    source = questions(tmp_path / "in.jsonl", "bar")
    run = Run(
        batch_server.url, batch_server.key, source, "-o", tmp_path / "out.jsonl", stderr=theirs
    )
    os.close(theirs)
    reading = threading.Thread(target=read)
    reading.start()
    run.until(batch_server.requests)
    batch_server.finish()
    assert run.end()[0] == 0
    reading.join()
    os.close(ours)
    text = b"".join(drawn).decode()
    assert "━" in text
    # Without the escapes that colour it; a terminal of 80 columns breaks it into lines.
    plain = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", text)
    assert "100%" in plain
    assert json.dumps(LINES) + " accepted" in plain
