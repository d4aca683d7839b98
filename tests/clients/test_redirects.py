"""A redirect: to the same host it is followed, to another one no prompt goes."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import openai
import pytest

from clients.scripted_server import ScriptedServer
from clients.serving import serving
from clients.test_other_servers import response
from openaibatching import AsyncOpenAIBatching, OpenAIBatching
from openaibatching.cli.main import main
from support.run_command import input_line, write_jsonl

MANY = 3
CODES = [301, 302, 303, 307, 308]


@pytest.fixture
def elsewhere() -> Iterator[ScriptedServer]:
    """Another host's server, which would take anything."""
    server = ScriptedServer().says(response("caught"))
    with serving(server.app) as url:
        server.url = url
        yield server


@pytest.mark.parametrize("status", CODES)
@pytest.mark.parametrize("wait", [False, 5.0])
def test_no_prompt_follows_a_redirect_to_another_host(
    *, status: int, wait: bool | float, scripted: ScriptedServer, elsewhere: ScriptedServer
) -> None:
    scripted.says({}, status, location=f"{elsewhere.url}/v1/responses")
    with (
        OpenAIBatching(
            batch_server_url=scripted.url, batch_server_api_key="k", max_retries=0, wait=wait
        ) as client,
        pytest.raises(openai.APIError),
    ):
        client.responses.create(model="m", input="secret")
    assert elsewhere.asked == []


def test_nor_do_calls_that_travel_together(
    scripted: ScriptedServer, elsewhere: ScriptedServer
) -> None:
    scripted.says({}, 307, location=f"{elsewhere.url}/v1/requests")

    async def many() -> list[object]:
        async with AsyncOpenAIBatching(
            batch_server_url=scripted.url, batch_server_api_key="k", max_retries=0
        ) as client:
            calls = (client.responses.create(model="m", input=f"secret {n}") for n in range(MANY))
            return list(await asyncio.gather(*calls, return_exceptions=True))

    replies = asyncio.run(many())
    assert all(isinstance(reply, openai.APIError) for reply in replies)
    assert elsewhere.asked == []


@pytest.mark.parametrize("status", [307, 308])
def test_on_the_same_host_a_redirect_is_followed(
    status: int, scripted: ScriptedServer, foreign: OpenAIBatching
) -> None:
    scripted.says({}, status, location="/behind/v1/responses").says(response("Hello!"))
    assert foreign.responses.create(model="m", input="Hi").output_text == "Hello!"
    assert [asked.path for asked in scripted.asked] == ["/v1/responses", "/behind/v1/responses"]
    assert scripted.asked[1].body["input"] == "Hi"


def test_a_redirect_to_itself_ends(scripted: ScriptedServer, foreign: OpenAIBatching) -> None:
    scripted.says({}, 307, location="/v1/responses")
    with pytest.raises(openai.APIError):
        foreign.responses.create(model="m", input="Hi")


# ----- commands -----


@pytest.fixture
def at_scripted(scripted: ScriptedServer, monkeypatch: pytest.MonkeyPatch) -> ScriptedServer:
    monkeypatch.setenv("BATCH_SERVER_URL", scripted.url)
    monkeypatch.setenv("BATCH_SERVER_API_KEY", "k")
    return scripted


@pytest.mark.parametrize("is_checked", [True, False])
def test_run_names_a_redirect_and_ends(
    *, is_checked: bool, at_scripted: ScriptedServer, elsewhere: ScriptedServer, tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    if not is_checked:  # only what has a body is sent elsewhere
        at_scripted.says({"object": "list", "data": []})
    at_scripted.says({}, 307, location=f"{elsewhere.url}/v1/requests?token=hidden")
    source = write_jsonl(tmp_path / "in.jsonl", [input_line("a", "secret")])
    assert main(["run", str(source), "-o", str(tmp_path / "out.jsonl")]) == 2
    said = capsys.readouterr().err
    assert f"a redirect to {elsewhere.url}/v1/requests: set --batch-server-url" in said
    assert "hidden" not in said
    assert elsewhere.asked == []


@pytest.mark.parametrize("words", [["status"], ["requests", "list"], ["flush"], ["cost"]])
def test_the_other_commands_name_it_too(
    words: list[str], at_scripted: ScriptedServer, elsewhere: ScriptedServer,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    at_scripted.says({}, 302, location=elsewhere.url)
    assert main(words) == 2
    assert f"a redirect to {elsewhere.url}: set --batch-server-url" in capsys.readouterr().err
    assert elsewhere.asked == []
