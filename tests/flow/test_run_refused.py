"""What stops a run before it has begun: one line, exit code 2, and no file is harmed."""

from __future__ import annotations

import bz2
import gzip
import json
import lzma
import signal
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.types import Receive, Scope, Send

from clients.serving import serving
from openaibatching.cli.main import main
from support.run_command import input_line, write_jsonl

NOWHERE = "http://127.0.0.1:9"
OUTPUT_LINE = (
    b'{"id":null,"custom_id":"%s","response":{"status_code":%d,"request_id":"","body":{}},'
    b'"error":null}\n'
)


@pytest.fixture(autouse=True)
def settings(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("BATCH_SERVER_URL", NOWHERE)
    monkeypatch.setenv("BATCH_SERVER_API_KEY", "k")
    handler = signal.getsignal(signal.SIGTERM)
    yield
    signal.signal(signal.SIGTERM, handler)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return write_jsonl(tmp_path / "in.jsonl", [input_line("a", "x"), input_line("b", "y")])


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "out.jsonl"


class Refused:
    """Runs the command, and gives the one line with which it ends."""

    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self._capsys = capsys

    def __call__(self, *arguments: str | Path) -> str:
        assert main(["run", *map(str, arguments)]) == 2
        told, err = self._capsys.readouterr()
        assert told == ""
        assert err.count("\n") == 1, err
        assert err.startswith("openaibatching run: ")
        return err.removeprefix("openaibatching run: ").rstrip()


@pytest.fixture
def refused(capsys: pytest.CaptureFixture[str]) -> Refused:
    return Refused(capsys)


def test_a_server_that_is_not_there(refused: Refused, source: Path, out: Path) -> None:
    assert refused(source, "-o", out).startswith(f"{NOWHERE} cannot be reached: ")
    assert not out.exists()


@pytest.mark.parametrize(
    ("reply", "why"),
    [
        (JSONResponse({"error": {}}, 401), "BATCH_SERVER_API_KEY is not a key of this server"),
        (JSONResponse({"error": {}}, 404), "is no batch server: it answers 404 Not Found"),
        (PlainTextResponse("<html>Welcome</html>"), "is no batch server"),
    ],
)
def test_a_server_that_does_not_want_it(
    refused: Refused, source: Path, out: Path, reply: Response, why: str
) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        assert Request(scope).headers["authorization"] == "Bearer k"
        await reply(scope, receive, send)

    with serving(app) as url:
        assert refused(source, "-o", out, "--batch-server-url", url).startswith(f"{url} ")
        assert refused(source, "-o", out, "--batch-server-url", f"{url}/v1/").endswith(why)
    assert not out.exists()


@pytest.mark.parametrize("key", ["", " ", "ключ", "two\nlines"])
def test_a_key_that_is_none(
    refused: Refused, source: Path, out: Path, monkeypatch: pytest.MonkeyPatch, key: str
) -> None:
    monkeypatch.setenv("BATCH_SERVER_API_KEY", key)
    monkeypatch.setenv("OPENAI_API_KEY", "sk-upstream")
    assert "BATCH_SERVER_API_KEY" in refused(source, "-o", out)


@pytest.mark.parametrize(
    ("name", "value"),
    [("ALL_PROXY", "ftp://h"), ("https_proxy", "http://h:port"), ("SSL_CERT_FILE", "/nowhere")],
)
def test_a_way_that_no_client_can_take(
    refused: Refused, source: Path, out: Path, monkeypatch: pytest.MonkeyPatch, name: str,
    value: str, capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.setenv(name, value)
    assert refused(source, "-o", out).startswith(f"{name}: ")
    assert main(["status"]) == 2
    assert capsys.readouterr().err.startswith(f"openaibatching status: {name}: ")


def test_a_key_in_a_file(
    refused: Refused, source: Path, out: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    file = tmp_path / "key"
    monkeypatch.setenv("BATCH_SERVER_API_KEY_FILE", str(file))
    told = refused(source, "-o", out)
    assert told.startswith("BATCH_SERVER_API_KEY and BATCH_SERVER_API_KEY_FILE are both set")
    monkeypatch.delenv("BATCH_SERVER_API_KEY")
    assert refused(source, "-o", out).startswith(
        f"BATCH_SERVER_API_KEY_FILE: {file} cannot be read"
    )
    file.write_bytes(b"\n")
    assert refused(source, "-o", out) == f"BATCH_SERVER_API_KEY_FILE: {file} is empty"
    file.write_bytes(b"k\n")

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        assert Request(scope).headers["authorization"] == "Bearer k"
        await JSONResponse({}, 418)(scope, receive, send)

    with serving(app) as url:
        assert refused(source, "-o", out, "--batch-server-url", url).startswith(f"{url} is no")


@pytest.mark.parametrize("url", ["localhost:9487", "ftp://b", "http://"])
def test_a_url_that_is_none(refused: Refused, source: Path, out: Path, url: str) -> None:
    refused(source, "-o", out, "--batch-server-url", url)


def test_an_input_that_cannot_be_read(refused: Refused, tmp_path: Path, out: Path) -> None:
    for path in (tmp_path / "nothing", tmp_path, Path("/dev/null")):
        assert refused(path, "-o", out) == f"{path}: no such file"


def test_an_output_that_cannot_be_written(refused: Refused, source: Path, tmp_path: Path) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await JSONResponse({"object": "list"})(scope, receive, send)

    with serving(app) as url:
        for out in (tmp_path / "no" / "folder", tmp_path):
            told = refused(source, "-o", out, "--batch-server-url", url)
            assert told.startswith(f"{out} cannot be written: ")
        told = refused(source, "-o", source, "--batch-server-url", url)
        assert told == f"{source} is the input: name another file for the output"


LINES = b"".join(json.dumps(input_line(name, "x")).encode() + b"\n" for name in "ab")
TEXT = LINES.decode()


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (TEXT.encode("utf-16"), "is UTF-16: save it as UTF-8"),
        (TEXT.encode("utf-16-le"), "is UTF-16, or no text at all: save it as UTF-8"),
        (TEXT.encode("utf-16-be"), "is UTF-16, or no text at all: save it as UTF-8"),
        (TEXT.encode("utf-32"), "is UTF-32: save it as UTF-8"),
        (gzip.compress(LINES), "is compressed by gzip: unpack it first"),
        (bz2.compress(LINES), "is compressed by bzip2: unpack it first"),
        (lzma.compress(LINES), "is compressed by xz: unpack it first"),
        (b"[" + LINES.replace(b"}\n{", b"},\n{") + b"]", "is one JSON array: write one object"),
        (b"\xef\xbb\xbf\r\n[\n  {}\n]", "is one JSON array: write one object"),
        (b'{\n  "custom_id": "a"\n}\n', "has JSON over several lines: write one object"),
    ],
)
def test_a_file_that_is_no_lines_of_json(
    refused: Refused, tmp_path: Path, out: Path, content: bytes, why: str
) -> None:
    source = tmp_path / "in.jsonl"
    source.write_bytes(content)
    assert refused(source, "-o", out).startswith(f"{source} {why}")
    assert not out.exists()


def test_a_zip_archive(refused: Refused, tmp_path: Path, out: Path) -> None:
    source = tmp_path / "in.jsonl"
    with zipfile.ZipFile(source, "w") as archive:
        archive.writestr("in.jsonl", LINES)
    assert refused(source, "-o", out) == f"{source} is a zip archive: unpack it first"


@pytest.mark.parametrize(
    "second",
    [b'{"custom_id":"a"}', b'{"custom_id":"\\u0061"}', b'{"custom_id":"x","custom_id":"a"}'],
)
def test_a_custom_id_that_stands_twice(
    refused: Refused, tmp_path: Path, out: Path, second: bytes
) -> None:
    a, b, c = (input_line(name, "x") for name in "abc")
    source = write_jsonl(tmp_path / "in.jsonl", [a, b, b"", second, c])
    told = refused(source, "-o", out)
    assert told == f"{source}, line 4: the custom_id 'a' stands there twice"


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"Dear diary,\n", "line 1, is no final batch output line"),
        (b"Dear diary,", "line 1, is no final batch output line"),
        (b'{"custom_id":"a"}\n', "line 1, is no final batch output line"),
        (OUTPUT_LINE % (b"a", 200) + b"x", "line 2, is no final batch output line"),
        (OUTPUT_LINE % (b"a", 503), "line 1, is no final batch output line"),
        (OUTPUT_LINE % (b"a", 200) + OUTPUT_LINE % (b"z", 200), "line 2, answers 'z', which"),
    ],
)
def test_an_output_that_is_somebody_elses(
    refused: Refused, source: Path, out: Path, content: bytes, why: str
) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await JSONResponse({"object": "list"})(scope, receive, send)

    out.write_bytes(content)
    with serving(app) as url:
        assert refused(source, "-o", out, "--batch-server-url", url).startswith(f"{out}, {why}")
    assert out.read_bytes() == content


@pytest.mark.parametrize(
    "arguments", [[], ["in.jsonl"], ["-o", "out.jsonl"], ["a", "b", "-o", "c"]]
)
def test_a_command_line_that_is_wrong(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["run", *arguments])
    assert ended.value.code == 2
    assert "usage: openaibatching run" in capsys.readouterr().err
