"""The Python of README.md, run as it stands there: only the address is this test's own."""

import re
from typing import Any

import pytest

from clients.real_server import BatchServer
from openaibatching import OpenAIBatching
from support.readme import ADDRESS, README, example


def run(heading: str, server: BatchServer, **names: Any) -> dict[str, Any]:
    """Run the example against `server`; the names that it leaves behind."""
    code = example(heading).replace(ADDRESS, server.url)
    exec(compile(code, f"README.md, {heading}", "exec"), names)
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
    run("### With the plain SDK", batch_server)["client"].close()
    first, _ = capsys.readouterr().out.splitlines()
    batch_server.finish()
    run("### With the plain SDK", batch_server)["client"].close()
    _, later = capsys.readouterr().out.splitlines()
    assert re.fullmatch(r"batchreq_[0-9a-f]{32} (queued|in_progress)", first)
    assert later == "completed You said: Hello, world!"


def test_each_sample_is_a_request_of_its_own(
    batch_server: BatchServer, client: OpenAIBatching
) -> None:
    run("### One prompt, many samples", batch_server, client=client)
    run("### One prompt, many samples", batch_server, client=client)
    assert len(batch_server.requests()) == 3


def test_the_typescript_is_that_of_the_package_which_its_own_tests_run() -> None:
    package = README.parent / "clients" / "typescript" / "README.md"
    first = re.search(r"^```ts\n.*?^```", package.read_text("utf-8"), re.MULTILINE | re.DOTALL)
    assert first
    assert first[0] in README.read_text("utf-8")
