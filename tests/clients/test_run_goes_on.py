"""`openaibatching run` goes on by what its lines ask: samples, changed lines, older outputs."""

from __future__ import annotations

import json
import random
import signal
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest

from clients.real_server import BatchServer
from openaibatching.cli.main import main
from support.run_command import input_line, read_jsonl, said, write_jsonl

Told = tuple[int, str]


class Place:
    """A folder with an input file and its output, and a server that finishes all it gets."""

    def __init__(
        self, server: BatchServer, folder: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        self.server, self._capsys = server, capsys
        self.source, self.out = folder / "in.jsonl", folder / "out.jsonl"
        self.record = folder / "out.jsonl.openaibatching"
        server.clock.run()

    def run(self, *arguments: str) -> Told:
        """Its exit code, and its last line on stderr."""
        code = main(["run", str(self.source), "-o", str(self.out), *arguments])
        return code, (self._capsys.readouterr().err.splitlines() or [""])[-1]

    def write(self, lines: Iterable[dict[str, Any] | bytes]) -> None:
        write_jsonl(self.source, lines)

    def rows(self) -> dict[str, dict[str, Any]]:
        """{custom_id: output line}; none of them is there twice."""
        lines = read_jsonl(self.out)
        found = {line["custom_id"]: line for line in lines}
        assert len(found) == len(lines)
        return found

    def ids(self) -> dict[str, str]:
        return {name: row["id"] for name, row in self.rows().items()}

    def keep(self, *names: str) -> None:
        """Take all rows but these out of the output, as by hand."""
        lines = self.out.read_bytes().splitlines(keepends=True)
        self.out.write_bytes(b"".join(x for x in lines if json.loads(x)["custom_id"] in names))


@pytest.fixture
def place(
    batch_server: BatchServer,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Iterator[Place]:
    monkeypatch.setenv("BATCH_SERVER_URL", batch_server.url)
    monkeypatch.setenv("BATCH_SERVER_API_KEY", batch_server.key)
    handler = signal.getsignal(signal.SIGTERM)
    yield Place(batch_server, tmp_path, capsys)
    signal.signal(signal.SIGTERM, handler)


def samples(bodies: int = 2, each: int = 3) -> list[dict[str, Any]]:
    """As evaluations write their batch files: some prompts, each several times."""
    return [
        {
            "custom_id": f"prompt-{body}/run-a/{n}", "method": "POST",
            "url": "/v1/chat/completions",
            "body": {
                "model": "gpt-4o", "temperature": 0, "top_p": 1, "max_tokens": 800,
                "response_format": {"type": "text"},
                "messages": [{"role": "user", "content": f"Draw a class diagram of {body}."}],
            },
        }
        for body in range(bodies) for n in range(each)
    ]  # fmt: skip


def test_equal_bodies_are_so_many_samples_and_the_same_ones_when_it_runs_again(
    place: Place,
) -> None:
    place.write(samples())
    assert place.run()[0] == 0
    ids = place.ids()
    assert len(set(ids.values())) == 6
    assert len(place.server.requests()) == 6
    with place.server.client(wait=True) as client:
        plain = client.chat.completions.create(**samples()[0]["body"])
    assert plain.batching.id == ids["prompt-0/run-a/0"], "the first is the plain request"
    place.out.unlink()
    assert place.run()[0] == 0
    assert (place.ids(), len(place.server.requests())) == (ids, 6)


def test_samples_stay_apart_when_the_lines_are_in_another_order(place: Place) -> None:
    lines = samples()
    place.write(lines)
    assert place.run()[0] == 0
    place.keep("prompt-0/run-a/0", "prompt-1/run-a/2")
    place.write(reversed(lines))
    assert place.run()[0] == 0
    assert len(set(place.ids().values())) == 6


@pytest.mark.parametrize(
    ("own_key", "named"), [("mine", True), (None, False)], ids=["a key of its own", "null"]
)
def test_a_key_of_its_own_counts_before_that_of_a_sample(
    place: Place, own_key: str | None, named: bool
) -> None:
    place.write([line | {"idempotency_key": own_key} for line in samples(1, 2)])
    assert place.run()[0] == 0
    first, second = place.ids().values()
    assert (first == second) == named


@pytest.mark.parametrize(
    "change",
    [
        lambda line: line["body"]["messages"][0].update(content="Mended."),
        lambda line: line["body"].update(temperature=0.0),
        lambda line: line.update(url="/v1/responses", body={"model": "gpt-4o", "input": "x"}),
        lambda line: line.update(idempotency_key="another"),
    ],
    ids=["prompt", "number", "url", "key"],
)
def test_a_changed_line_is_told_and_asked_anew_where_that_is_wished(
    place: Place, change: Callable[[dict[str, Any]], None]
) -> None:
    lines = samples(3, 1)
    place.write(lines)
    assert place.run()[0] == 0
    before, output, record = place.ids(), place.out.read_bytes(), place.record.read_bytes()
    change(lines[1])
    place.write([*lines, *samples(4, 1)[3:]])
    code, told = place.run()
    assert code == 2
    assert f"{place.source}, line 2: what 'prompt-1/run-a/0' asks has changed since" in told
    assert "--again" in told
    assert (place.out.read_bytes(), place.record.read_bytes()) == (output, record)
    assert len(place.server.requests()) == 3, "nothing was sent"
    assert place.run("--again")[0] == 0
    after = place.ids()
    assert {name for name in before if before[name] != after[name]} == {"prompt-1/run-a/0"}
    assert len(place.server.requests()) == 5
    assert place.run() == (0, place.run()[1]), "the new responses are on record"


def test_a_line_that_is_only_written_otherwise_has_not_changed(place: Place) -> None:
    lines = samples(2, 2)
    place.write(lines)
    assert place.run()[0] == 0
    output = place.out.read_bytes()
    turned = [{n: line[n] for n in reversed(line)} for line in lines]
    for line in turned:
        line["body"] = {n: line["body"][n] for n in reversed(line["body"])} | {"stream": False}
    write_jsonl(place.source, [json.dumps(line, indent=None).encode() + b" \r" for line in turned])
    assert place.run()[0] == 0
    assert place.out.read_bytes() == output


def test_the_order_of_a_schema_counts(place: Place) -> None:
    def line(name: str, *members: str) -> dict[str, Any]:
        schema = {"type": "object", "properties": {m: {"type": "string"} for m in members}}
        form = {"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}
        made = input_line(name, "Judge.")
        return made | {"body": made["body"] | {"response_format": form}}

    place.write([line("a", "reasoning", "verdict")])
    assert place.run()[0] == 0
    place.write([line("a", "verdict", "reasoning")])
    assert place.run()[0] == 2


def test_rows_of_bad_lines_go_when_the_lines_are_mended(place: Place) -> None:
    good, bad = samples(3, 1), b'{"custom_id": "prompt-1/run-a/0", "method":'
    place.write([good[0], bad, good[2], b"nonsense"])
    assert place.run()[0] == 1
    output = place.out.read_bytes()
    assert place.run()[0] == 1
    assert place.out.read_bytes() == output
    place.write(good)
    assert place.run()[0] == 0
    assert place.rows().keys() == {line["custom_id"] for line in good}
    place.write([b"nonsense", *good])
    assert place.run()[0] == 1
    rows = read_jsonl(place.out)
    assert [r["response"]["body"]["error"]["message"][:6] for r in rows if not r["custom_id"]] == [
        "Line 1"
    ]


def test_an_output_file_without_a_record_is_taken_as_it_is_and_recorded(place: Place) -> None:
    lines = samples(3, 1)
    place.write(lines[:2])
    assert place.run()[0] == 0
    place.record.unlink()
    place.write(lines)
    code, told = place.run()
    assert code == 0, told
    assert place.rows().keys() == {line["custom_id"] for line in lines}
    lines[0]["body"]["n"] = 2
    place.write(lines)
    assert place.run()[0] == 2, "from now on it is known"


def test_the_note_about_missing_records_counts_them(
    place: Place, capsys: pytest.CaptureFixture[str]
) -> None:
    place.write(samples(3, 1))
    assert place.run()[0] == 0
    first, *others = place.record.read_bytes().splitlines(keepends=True)
    place.record.write_bytes(b"".join(others) + b"\x00edited\n" + first[:20])
    assert main(["run", str(place.source), "-o", str(place.out)]) == 0
    assert "1 responses in" in capsys.readouterr().err
    assert place.run()[0] == 0
    assert "no record" not in capsys.readouterr().err


def test_one_answer_for_several_samples_is_told_as_an_older_version_wrote_it(place: Place) -> None:
    lines = samples()
    place.write([line | {"idempotency_key": line["custom_id"][:8]} for line in lines])
    assert place.run()[0] == 0
    assert len(set(place.ids().values())) == 2
    place.record.unlink()
    place.write(lines)
    code, told = place.run()
    assert code == 2
    assert "is one of several samples, and has the response of another one (4 such lines)" in told
    assert place.run("--again")[0] == 0
    assert len(set(place.ids().values())) == 6


def test_samples_join_one_that_an_older_version_has_answered(place: Place) -> None:
    lines = samples(1, 3)
    place.write(lines[1:2])
    assert place.run()[0] == 0
    place.record.unlink()
    place.write(lines)
    assert place.run()[0] == 0
    assert len(set(place.ids().values())) == 3


@pytest.mark.parametrize("seed", range(3))
def test_whatever_is_taken_out_and_shuffled_each_line_keeps_an_answer_of_its_own(
    place: Place, seed: int
) -> None:
    dice, lines = random.Random(seed), samples(3, 4)
    for _ in range(4):
        dice.shuffle(lines)
        place.write(lines)
        assert place.run()[0] == 0
        ids = place.ids()
        assert len(set(ids.values())) == len(lines)
        place.keep(*dice.sample(sorted(ids), 6))


def test_a_byte_order_mark_and_windows_line_ends_just_work(place: Place) -> None:
    lines = [json.dumps(input_line(f"q{n}", f"Question {n}?")).encode() for n in range(3)]
    mark = b"\xef\xbb\xbf"
    # Two files, joined.
    place.source.write_bytes(mark + b"\r\n".join(lines[:2]) + b"\r\n" + mark + lines[2] + b"\r\n")
    assert place.run()[0] == 0
    assert said(place.out) == {f"q{n}": f"You said: Question {n}?" for n in range(3)}
