"""Where a client goes, what it shows there, and that it shows nothing else."""

import subprocess
import sys

import openai
import pytest
from openai import OpenAIError

from clients.scripted_server import ScriptedServer
from openaibatching import AsyncOpenAIBatching, OpenAIBatching

Kind = type[OpenAIBatching] | type[AsyncOpenAIBatching]
both = pytest.mark.parametrize("kind", [OpenAIBatching, AsyncOpenAIBatching])
OPENAI = {
    "OPENAI_API_KEY": "sk-upstream",
    "OPENAI_ADMIN_KEY": "sk-admin",
    "OPENAI_BASE_URL": "https://upstream.example/v1",
    "OPENAI_ORG_ID": "org-upstream",
    "OPENAI_PROJECT_ID": "proj-upstream",
    "OPENAI_CUSTOM_HEADERS": "Authorization: Bearer sk-upstream\nX-Custom: sk-upstream",
}


@pytest.fixture(autouse=True)
def no_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("BATCH_SERVER_URL", "BATCH_SERVER_API_KEY", *OPENAI):
        monkeypatch.delenv(name, raising=False)


@both
def test_the_clients_are_the_official_ones(kind: Kind) -> None:
    official = openai.OpenAI if kind is OpenAIBatching else openai.AsyncOpenAI
    assert issubclass(kind, official)


@both
@pytest.mark.parametrize(
    "url", ["http://b:1", "http://b:1/", "http://b:1/v1", "http://b:1/v1/", " http://b:1/v1// "]
)
def test_the_url_is_taken_with_and_without_v1(kind: Kind, url: str) -> None:
    client = kind(batch_server_url=url, batch_server_api_key="k")
    assert str(client.base_url) == "http://b:1/v1/"


@both
def test_the_url_may_have_a_path(kind: Kind) -> None:
    client = kind(batch_server_url="https://host/batching/", batch_server_api_key="k")
    assert str(client.base_url) == "https://host/batching/v1/"


@both
def test_a_url_without_a_scheme_is_refused_before_anything_is_sent(kind: Kind) -> None:
    with pytest.raises(OpenAIError, match="must begin with http"):
        kind(batch_server_url="localhost:9487", batch_server_api_key="k")


@both
def test_url_and_key_come_from_the_environment(kind: Kind, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BATCH_SERVER_URL", "https://batches.example")
    monkeypatch.setenv("BATCH_SERVER_API_KEY", "from-the-environment")
    client = kind()
    assert str(client.base_url) == "https://batches.example/v1/"
    assert client.api_key == "from-the-environment"


@both
@pytest.mark.parametrize("url", [None, ""])
def test_without_a_url_it_is_the_server_on_this_machine(
    kind: Kind, url: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    if url is not None:
        monkeypatch.setenv("BATCH_SERVER_URL", url)
    assert str(kind(batch_server_api_key="k").base_url) == "http://localhost:9487/v1/"


@both
@pytest.mark.parametrize("key", [None, ""])
def test_without_a_key_there_is_no_client(
    kind: Kind, key: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-upstream")
    with pytest.raises(OpenAIError, match="BATCH_SERVER_API_KEY"):
        kind(batch_server_api_key=key)


@both
def test_the_official_names_mean_the_same(kind: Kind) -> None:
    client = kind(base_url="http://b:1/v1", api_key="k")
    assert (str(client.base_url), client.api_key) == ("http://b:1/v1/", "k")


@both
@pytest.mark.parametrize("option", ["base_url", "api_key"])
def test_an_option_under_both_of_its_names_is_refused(kind: Kind, option: str) -> None:
    given = {option: "http://elsewhere"}
    with pytest.raises(OpenAIError, match="pass only one of them"):
        kind(batch_server_url="http://b:1", batch_server_api_key="k", **given)  # type: ignore[arg-type]


@both
def test_every_other_option_passes_through(kind: Kind) -> None:
    client = kind(
        batch_server_api_key="k",
        timeout=7,
        max_retries=5,
        organization="org",
        project="proj",
        default_headers={"X-Mine": "1"},
        default_query={"q": "1"},
    )
    assert (client.timeout, client.max_retries) == (7, 5)
    assert (client.organization, client.project) == ("org", "proj")
    assert client.default_headers["X-Mine"] == "1"
    assert client.default_query == {"q": "1"}


@both
def test_a_copy_keeps_what_it_is_not_told_to_change(kind: Kind) -> None:
    client = kind(
        batch_server_url="http://b:1",
        batch_server_api_key="k",
        wait=True,
        timeout=7,
        organization="org",
        default_headers={"X-Mine": "1"},
    )
    copy = client.with_options(max_retries=9).copy()
    assert type(copy) is kind
    assert (str(copy.base_url), copy.api_key) == ("http://b:1/v1/", "k")
    assert (copy.wait, copy.timeout, copy.max_retries) == (True, 7, 9)
    assert copy.organization == "org"
    assert copy.default_headers["X-Mine"] == "1"


@both
def test_a_copy_can_go_elsewhere(kind: Kind) -> None:
    client = kind(batch_server_url="http://b:1", batch_server_api_key="k", wait=True)
    copy = client.with_options(
        batch_server_url="http://c:2/v1", batch_server_api_key="l", wait=False, timeout=3
    )
    assert (str(copy.base_url), copy.api_key) == ("http://c:2/v1/", "l")
    assert (copy.wait, copy.timeout) == (False, 3)
    assert (str(client.base_url), client.api_key, client.wait) == ("http://b:1/v1/", "k", True)


@pytest.mark.parametrize("copied", [False, True])
def test_nothing_that_belongs_to_openai_reaches_the_batch_server(
    *, copied: bool, scripted: ScriptedServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in OPENAI.items():
        monkeypatch.setenv(name, value)
    scripted.says({"object": "response", "id": "r", "output": []})
    with OpenAIBatching(batch_server_url=scripted.url, batch_server_api_key="k") as client:
        asking = client.copy() if copied else client
        asking.responses.create(model="m", input="Hi")
        assert asking.admin_api_key is None
    for asked in scripted.asked:
        assert asked.headers["authorization"] == "Bearer k"
        assert not [value for value in asked.headers.values() if "upstream" in value]
        assert not [value for value in asked.headers.values() if "sk-" in value]


async def test_nor_from_the_asynchronous_client(
    scripted: ScriptedServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in OPENAI.items():
        monkeypatch.setenv(name, value)
    scripted.says({"object": "response", "id": "r", "output": []})
    async with AsyncOpenAIBatching(
        batch_server_url=scripted.url, batch_server_api_key="k"
    ) as client:
        await client.copy().responses.create(model="m", input="Hi")
    (asked,) = scripted.asked
    assert asked.headers["authorization"] == "Bearer k"
    assert not [value for value in asked.headers.values() if "upstream" in value]


def test_importing_the_clients_imports_nothing_of_the_server() -> None:
    code = "import sys, openaibatching; print(*sys.modules)"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = set(run.stdout.split())
    assert "openaibatching.client.sync" in loaded
    assert not {name for name in loaded if name.startswith("openaibatching.server")}
    assert not loaded & {"starlette", "uvicorn", "psycopg", "msgspec"}


def test_the_version_is_the_distributions() -> None:
    import importlib.metadata

    import openaibatching

    assert openaibatching.__version__ == importlib.metadata.version("openaibatching")
