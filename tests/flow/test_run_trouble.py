"""`openaibatching run` with a bulk door that is in trouble, and with very many lines."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from starlette.types import Receive, Scope, Send

from clients.serving import serving
from openaibatching.cli.main import main
from support.run_command import input_line, read_jsonl, settings, write_jsonl

Runs = Callable[..., int]
Reply = tuple[int, list[bytes]]
CUSTOM_ID = re.compile(rb'"custom_id": ?("[^"]*")')
BODY = b'{"has_completed":%s,"batching":{"id":"batchreq_1","status":"%s","attempts":0}}'
OUTPUT = (
    b'{"id":"batchreq_1","custom_id":%s,"response":{"status_code":%d,"request_id":"r","body":%s},'
    b'"error":null}\n'
)


def done(name: bytes) -> bytes:
    return OUTPUT % (name, 200, BODY % (b"true", b"completed"))


def queued(name: bytes) -> bytes:
    return OUTPUT % (name, 202, BODY % (b"false", b"queued"))


def not_now(name: bytes) -> bytes:
    return OUTPUT % (name, 503, b'{"error":{"code":"database_unavailable"}}')


class Door:
    """A bulk door; `reply` says what it answers to these custom_ids at its n-th call."""

    def __init__(self, reply: Callable[[int, list[bytes], bool], Reply]) -> None:
        self._reply = reply
        self.calls = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = dict(scope["headers"])
        names, rest, more = [], b"", True
        while more:
            message = await receive()
            *lines, rest = (rest + message.get("body", b"")).split(b"\n")
            names += [CUSTOM_ID.search(line)[1] for line in lines]  # type: ignore[index]
            more = message.get("more_body", False)
        status, lines = 200, [b'{"object":"list"}']
        if scope["method"] == "POST":
            self.calls += 1
            status, lines = self._reply(self.calls, names, b"prefer" in headers)
        start = {"type": "http.response.start", "status": status}
        await send(start | {"headers": [(b"content-type", b"application/jsonl")]})
        for n in range(0, len(lines), 256):
            body = b"".join(lines[n : n + 256])
            await send({"type": "http.response.body", "body": body, "more_body": True})
        await send({"type": "http.response.body", "body": b""})


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> Iterator[Runs]:
    """Runs the command in this process; its exit code."""
    monkeypatch.setenv("BATCH_SERVER_API_KEY", "k")
    handler = signal.getsignal(signal.SIGTERM)
    yield lambda url, *arguments: main(["run", "--batch-server-url", url, *map(str, arguments)])
    signal.signal(signal.SIGTERM, handler)


TROUBLES: dict[str, tuple[Callable[[list[bytes]], Reply], str]] = {
    "503": (lambda _: (503, [b"{}"]), "answers 503 Service Unavailable"),
    "lines that it cannot take": (
        lambda names: (200, [not_now(n) for n in names]),
        "at the moment",
    ),
    "half a reply": (lambda names: (200, [done(names[0]), done(names[1])[:50]]), "too early"),
    "no reply": (lambda _: (200, []), "too early"),
    "nonsense": (lambda names: (200, [done(names[0]), b"<html>\n"]), "none of ours"),
    "another's line": (lambda _: (200, [done(b'"zz"')]), "none of ours"),
    "a line twice": (lambda names: (200, [done(names[0])] * 2), "none of ours"),
}


@pytest.mark.parametrize("held", [False, True])
@pytest.mark.parametrize("trouble", TROUBLES)
def test_what_is_not_answered_is_asked_again(
    tmp_path: Path, held: bool, trouble: str, run: Runs, capsys: pytest.CaptureFixture[str]
) -> None:
    what, why = TROUBLES[trouble]

    def reply(call: int, names: list[bytes], waits: bool) -> Reply:
        if held and call == 1:
            return 200, [queued(name) for name in names]
        assert waits == held
        return what(names) if call == 1 + held else (200, [done(name) for name in names])

    source = write_jsonl(tmp_path / "in.jsonl", [input_line(n, n) for n in "abc"])
    out = tmp_path / "out.jsonl"
    with serving(Door(reply)) as url:
        code = run(url, source, "-o", out)
    progress = capsys.readouterr().err
    assert code == 0, progress
    assert f"{why}: trying again until it works\nThe batch server answers again\n" in progress
    assert sorted(line["custom_id"] for line in read_jsonl(out)) == ["a", "b", "c"]


def test_a_line_that_the_server_no_longer_takes_is_named(tmp_path: Path, run: Runs) -> None:
    too_long = OUTPUT % (b"null", 413, b'{"error":{"code":"request_too_large"}}')

    def reply(call: int, names: list[bytes], waits: bool) -> Reply:
        assert waits == (call == 2)
        if call == 1:
            return 200, [queued(name) for name in names]
        return 200, [too_long if name == b'"b"' else done(name) for name in names]

    source = write_jsonl(tmp_path / "in.jsonl", [input_line(n, n) for n in "abc"])
    with serving(Door(reply)) as url:
        assert run(url, source, "-o", tmp_path / "out.jsonl") == 1
    lines = read_jsonl(tmp_path / "out.jsonl")
    statuses = {line["custom_id"]: line["response"]["status_code"] for line in lines}
    assert statuses == {"a": 200, "b": 413, "c": 200}
    assert len(lines) == 3


def test_a_key_that_is_withdrawn_ends_the_run_and_keeps_what_is_written(
    tmp_path: Path, run: Runs, capsys: pytest.CaptureFixture[str]
) -> None:
    def reply(call: int, names: list[bytes], _: bool) -> Reply:
        if call == 1:
            return 200, [done(names[0]), *map(queued, names[1:])]
        return 401, [b"{}"]

    source = write_jsonl(tmp_path / "in.jsonl", [input_line(n, n) for n in "abc"])
    with serving(Door(reply)) as url:
        assert run(url, source, "-o", tmp_path / "out.jsonl") == 2
    assert "is not a key of this server" in capsys.readouterr().err.splitlines()[-1]
    assert [line["custom_id"] for line in read_jsonl(tmp_path / "out.jsonl")] == ["a"]


def in_a_process(code: str, url: str, *arguments: Path | str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code, "run", *map(str, arguments)],
        env=settings(url, "k"), capture_output=True, text=True, check=False,
    )  # fmt: skip


DISK_BYTES = 20_000
FULL_DISK = f"""
import resource, sys
from openaibatching.cli.main import main
resource.setrlimit(resource.RLIMIT_FSIZE, ({DISK_BYTES}, {DISK_BYTES}))
sys.exit(main(sys.argv[1:]))
"""


def test_a_full_disk_ends_the_run_which_goes_on_when_there_is_room(
    tmp_path: Path, run: Runs
) -> None:
    asked: list[bytes] = []

    def reply(_: int, names: list[bytes], __: bool) -> Reply:
        asked[:] = names
        return 200, [done(name) for name in names]

    source = write_jsonl(tmp_path / "in.jsonl", [input_line(f"{n}", "x") for n in range(300)])
    out = tmp_path / "out.jsonl"
    with serving(Door(reply)) as url:
        full = in_a_process(FULL_DISK, url, source, "-o", out)
        assert full.returncode == 2
        assert full.stderr.splitlines()[-1] == (
            f"openaibatching run: {out} cannot be written: File too large"
        )
        assert not out.read_bytes().endswith(b"\n"), "half a line is there"
        written = len(read_jsonl(out))
        assert run(url, source, "-o", out) == 0
    assert 0 < written == 300 - len(asked)
    assert {line["custom_id"] for line in read_jsonl(out)} == {f"{n}" for n in range(300)}
    assert len(read_jsonl(out)) == 300


PEAK = """
import re, sys
from openaibatching.cli.main import main
code = main(sys.argv[1:])
print(re.search(r"VmHWM:\\s*(\\d+)", open("/proc/self/status").read())[1])
sys.exit(code)
"""
FEW, MANY = 20_000, 200_000
BYTES_A_LINE = 60


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads Linux's /proc")
def test_memory_does_not_grow_with_the_lines(tmp_path: Path) -> None:
    def reply(_: int, names: list[bytes], __: bool) -> Reply:
        return 200, [done(name) for name in names]

    peaks = []
    for lines in (FEW, MANY):
        source, out = tmp_path / f"{lines}", tmp_path / f"{lines}.out"
        with source.open("w") as file:
            for n in range(lines):
                file.write(f'{{"custom_id": "{n}", "body": "{"x" * 500}"}}\n')
        with serving(Door(reply)) as url:
            ran = in_a_process(PEAK, url, source, "-o", out)
        assert ran.returncode == 0, ran.stderr
        assert out.read_bytes().count(b"\n") == lines
        peaks.append(1024 * int(ran.stdout.split()[-1]))
    assert peaks[1] - peaks[0] < BYTES_A_LINE * (MANY - FEW), peaks
