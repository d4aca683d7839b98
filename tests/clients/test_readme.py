"""The Python of README.md and docs/api.md, run as it stands but for the address."""

import re
from pathlib import Path
from typing import Any

import pytest

from clients.real_server import BatchServer
from openaibatching import OpenAIBatching
from support.readme import ADDRESS, README, example

API = README.parent / "docs" / "api.md"


def run(heading: str, server: BatchServer, page: Path = README, **names: Any) -> dict[str, Any]:
    """Run the example against `server`; the names that it leaves behind."""
    code = example(heading, page).replace(ADDRESS, server.url)
    exec(compile(code, f"{page.name}, {heading}", "exec"), names)
    return names


@pytest.fixture(autouse=True)
def environment(batch_server: BatchServer, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("BATCH_SERVER_URL", "OPENAI_API_KEY", "OPENAI_BASE_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("BATCH_SERVER_API_KEY", batch_server.key)


def test_the_call_prints_that_it_is_in_progress_and_later_the_answer(
    batch_server: BatchServer, capsys: pytest.CaptureFixture[str]
) -> None:
    run("## The call", batch_server)["client"].close()
    first = capsys.readouterr().out
    batch_server.finish()
    run("## The call", batch_server)["client"].close()
    later = capsys.readouterr().out
    assert first == "Still in progress.. we should query it again after a few mins.\n"
    assert later == "You said: Hello, world!\n"
    assert len(batch_server.requests()) == 1


def test_the_plain_sdk_prints_a_queued_response_and_later_the_answer(
    batch_server: BatchServer, capsys: pytest.CaptureFixture[str]
) -> None:
    run("## With any OpenAI SDK", batch_server)["client"].close()
    first, _ = capsys.readouterr().out.splitlines()
    batch_server.finish()
    run("## With any OpenAI SDK", batch_server)["client"].close()
    _, later = capsys.readouterr().out.splitlines()
    assert re.fullmatch(r"batchreq_[0-9a-f]{32} (queued|in_progress)", first)
    assert later == "completed You said: Hello, world!"


def test_each_sample_is_a_request_of_its_own(
    batch_server: BatchServer, client: OpenAIBatching
) -> None:
    run("## One prompt, many samples", batch_server, API, client=client)
    run("## One prompt, many samples", batch_server, API, client=client)
    assert len(batch_server.requests()) == 3
