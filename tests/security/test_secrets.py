"""No key, body or answer leaves the places where it belongs, whatever goes wrong."""

from __future__ import annotations

import base64
import contextlib
import json
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
import psutil
import psycopg
import pytest
from psycopg import sql

from openaibatching.server.database.embedded import EmbeddedPostgres
from openaibatching.simulator import Faults, Simulator, running
from openaibatching.simulator.api.webhooks import sign
from support.deadline import DEADLINE_S
from support.keys import KeysCommand
from support.postgres import ONE_KIND, Cluster
from support.process import ServerProcess, environment, server_process
from support.world import TLS

KEY, OTHER_KEY, UPSTREAM_KEY = "canary-of-the-key", "canary-of-the-other-key", "sk-canary-upstream"
PASSWORD = "canary-of-the-password"
WEBHOOK = "whsec_" + base64.b64encode(b"canary-of-the-webhook").decode()
BODY = "canary in a body"
SECRETS = (KEY, OTHER_KEY, UPSTREAM_KEY, PASSWORD, WEBHOOK, "canary-of")
MARKS = ("", *(f"[[simulate:{name}]]" for name in (
    "status=400", "status=500*1", "invalid=invalid_value*1", "poison*1", "garbled", "invalid_utf8"
)))  # fmt: skip
JSON = {"Content-Type": "application/json"}


def traces(text: str) -> list[str]:
    """Which canaries sing in a text, be it as PostgreSQL writes bytes."""
    ways = {word: (word, word.encode().hex()) for word in (*SECRETS, "canary")}
    return [word for word, forms in ways.items() if any(form in text for form in forms)]


@dataclass(frozen=True)
class Scene:
    """A server process, its OpenAI, its tables and its folder."""

    server: ServerProcess
    simulator: Simulator
    url: str
    folder: Path
    postgres_url: str
    """As the server was given it: "" if its database is embedded."""

    @contextlib.contextmanager
    def client(self, key: str = KEY) -> Iterator[httpx2.Client]:
        headers = {"Authorization": f"Bearer {key}"}
        with httpx2.Client(
            base_url=self.server.url, headers=headers, timeout=DEADLINE_S, verify=TLS
        ) as client:
            yield client

    def execute(self, statement: str) -> None:
        with psycopg.connect(self.url, autocommit=True) as conn:
            conn.execute("set search_path = openaibatching")
            conn.execute(statement.encode())

    def tables(self) -> Iterator[tuple[str, str]]:
        """Every table with all that is in it, as text; bytes as text, too."""
        with psycopg.connect(self.url) as conn:
            names = [name for (name,) in conn.execute(
                "select tablename from pg_tables where schemaname = 'openaibatching'"
            )]  # fmt: skip
            for name in names:
                query = sql.SQL("select t::text from {} as t")
                rows = conn.execute(query.format(sql.Identifier("openaibatching", name)))
                yield name, "\n".join(text for (text,) in rows)

    def log(self) -> str:
        return self.server.log.read_text("utf-8", "replace")

    def logged(self, word: str) -> None:
        """Wait until the log has it: the test must not pass because nothing was said."""
        deadline = time.monotonic() + DEADLINE_S
        while word not in self.log():
            assert time.monotonic() < deadline, f"no {word} in the log:\n{self.log()}"
            time.sleep(0.05)


@pytest.fixture(params=["text", "json"])
def scene(cluster: Cluster, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Scene]:
    """With text the database is embedded, with JSON it is another's and has a password."""
    simulator = Simulator(lag=0.0, api_keys=[UPSTREAM_KEY])
    with contextlib.ExitStack() as stack:
        url = stack.enter_context(cluster.database("openaibatching_template"))
        url = url.replace("postgres@", f"postgres:{PASSWORD}@")
        embedded = request.param == "text"
        env = environment(
            stack.enter_context(running(simulator)),
            tmp_path,
            OPENAI_API_KEY=UPSTREAM_KEY,
            BATCH_SERVER_API_KEY=f"default={KEY},other={OTHER_KEY}",
            OPENAI_WEBHOOK_SECRET=WEBHOOK,
            POSTGRES_URL="" if embedded else url,
            LOG_FORMAT=request.param,
            LOG_LEVEL="debug",
            OPENAI_LOG="debug",
            BATCH_ATTEMPTS_MAX=2,
        )
        server = stack.enter_context(server_process(env))
        given = env["POSTGRES_URL"]
        url = EmbeddedPostgres(tmp_path).url if embedded else url
        yield Scene(server, simulator, url, tmp_path, given)
        server.terminate()


def chat(text: str, **more: Any) -> dict[str, Any]:
    return {"model": "gpt-4o", "messages": [{"role": "user", "content": text}], **more}


def call(client: httpx2.Client, body: Any, wait: int = 20) -> httpx2.Response:
    prefer = {"Prefer": f"wait={wait}", "Idempotency-Key": f"canary {uuid.uuid4()}"}
    return client.post("/v1/chat/completions", json=body, headers=prefer)


# ----- what happens -----


def successes_and_refusals_by_openai(scene: Scene, client: httpx2.Client) -> None:
    assert BODY in call(client, chat(BODY)).text
    call(client, chat("who am I", model="m\n\x1b[31m\nforged line"), wait=0)
    wrong = chat(BODY)
    wrong["messages"][0]["role"] = BODY
    assert BODY in call(client, wrong).text  # OpenAI quotes it, and that is the caller's own
    scene.simulator.faults = Faults(
        seed=3, error_500=0.2, html_instead_of_json=0.2, garbled_download=0.3, reset=0.2
    )
    lines = [
        {"custom_id": f"canary {n}", "method": "POST", "url": "/v1/chat/completions",
         "body": chat(f"{BODY} {n} {MARKS[n % len(MARKS)]}")}
        for n in range(20)
    ]  # fmt: skip
    content = "\n".join(map(json.dumps, lines)).encode() + b"\n{canary\n"
    headers = {"Content-Type": "application/jsonl", "Prefer": "wait=5"}
    assert client.post("/v1/requests", content=content, headers=headers).status_code == 200
    scene.simulator.faults = Faults()
    scene.simulator.api_keys = frozenset()
    call(client, chat(f"{BODY} of a stranger"), wait=0)
    scene.logged("401")
    scene.simulator.api_keys = None


def refusals_at_the_door(scene: Scene, client: httpx2.Client) -> list[httpx2.Response]:
    """What none of the callers may read is what the others said: these quote nobody."""
    bad = [b"{canary", b'"canary"', b"[" * 500 + b'"canary"', b'{"canary": NaN}', b"canary\xff"]
    replies = [client.post("/v1/responses", content=body, headers=JSON) for body in bad]
    for body in ({"canary": 1}, {"model": ["canary"]}, {"model": "m", "stream": "canary"}):
        replies.append(client.post("/v1/responses", json=body))
    replies.append(
        client.post("/v1/responses", content=b"canary", headers={"Content-Type": "canary/x"})
    )
    replies.append(client.get("/v1/requests?limit=canary"))
    replies.append(client.get("/v1/requests?status=canary"))
    for key in ("canary-of-a-wrong-key", f"{KEY}x", KEY[:-1]):
        with scene.client(key) as stranger:
            replies += [stranger.get("/v1/requests"), stranger.get("/metrics")]
    now = int(time.time())
    signed = {"webhook-id": "canary", "webhook-timestamp": str(now)}
    for signature in ("v1,canary", sign(WEBHOOK, "other", now, b"canary")):
        headers = {**signed, "webhook-signature": signature}
        replies.append(client.post("/webhooks/openai", content=b"canary", headers=headers))
    assert {reply.status_code for reply in replies} == {400, 401, 415}
    return replies


def mistakes_that_quote_rows(scene: Scene, client: httpx2.Client) -> list[httpx2.Response]:
    """PostgreSQL quotes the row that it refuses, over as many lines as the row has."""
    scene.execute("alter table body add constraint small check (length(body) < 9) not valid")
    replies = [call(client, chat(f"{BODY} {n}"), wait=0) for n in range(3)]
    scene.execute("alter table body drop constraint small")
    scene.execute("alter table route add constraint named check (model like 'gpt%') not valid")
    replies.append(
        call(client, chat(BODY) | {"model": f"line\nDETAIL: x\n{BODY}\n\n{BODY}"}, wait=0)
    )
    scene.execute("alter table route drop constraint named")
    assert {reply.status_code for reply in replies} == {500}
    scene.logged("storing_failed")
    scene.execute("alter table result add constraint unanswered check (answer is null) not valid")
    call(client, chat(f"{BODY} that cannot be answered"), wait=1)
    scene.logged("step_failed")
    scene.execute("alter table result drop constraint unanswered")
    return replies


def keys_of_the_database(scene: Scene, command: KeysCommand) -> list[str]:
    """One that is used and revoked, one that is used and in doubt, one that is not used."""
    keys = [command.create(name) for name in ("revoked", "kept", "idle")]
    for key in keys[:2]:
        with scene.client(key) as client:
            deadline = time.monotonic() + DEADLINE_S
            while client.get("/v1/requests").status_code != 200:
                assert time.monotonic() < deadline
                time.sleep(0.05)
            assert client.post("/v1/responses", content=key.encode(), headers=JSON).is_error
    command("revoke", "revoked")
    for key in keys:
        assert key not in command("list") + command("list", "--json")
    return keys


def an_outage(scene: Scene, client: httpx2.Client) -> None:
    for n in range(5):
        # Not this one: it would be ended before the others had their turn.
        scene.execute(
            "select pg_terminate_backend(pid) from pg_stat_activity where pid <> pg_backend_pid()"
        )
        call(client, chat(f"{BODY} in an outage {n}"), wait=0)
    scene.logged("listening_interrupted")


# ----- what of it is seen -----


def command_lines(process: psutil.Process) -> Iterator[str]:
    for one in (process, *process.children(recursive=True)):
        with contextlib.suppress(psutil.Error):
            yield " ".join(one.cmdline())


def files(scene: Scene) -> Iterator[tuple[Path, str]]:
    """Every file of ours in the data folder; PostgreSQL's own are not ours."""
    for path in sorted(scene.folder.rglob("*")):
        if path.is_file() and "postgres" not in path.relative_to(scene.folder).parts:
            yield path, path.read_bytes().decode("latin-1")


@ONE_KIND
def test_no_secret_body_or_answer_is_logged_quoted_or_left_in_a_file(
    scene: Scene, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("POSTGRES_URL", scene.postgres_url)
    monkeypatch.setenv("DATA_DIR", str(scene.folder))
    gate = scene.simulator.gate("POST /files", when="after")
    with scene.client() as client:
        call(client, chat(f"{BODY} while it is uploaded"), wait=0)
        gate.wait_reached()
        assert [path.name for path, text in files(scene) if traces(text)] == []
        gate.release()
        successes_and_refusals_by_openai(scene, client)
        refusals = refusals_at_the_door(scene, client)
        refusals += mistakes_that_quote_rows(scene, client)
        made = keys_of_the_database(scene, KeysCommand(capsys))
        an_outage(scene, client)
        pages = [client.get(path).text for path in ("/metrics", "/openapi.json", "/health")]
    for reply in refusals:
        assert traces(reply.text) == [], reply.text
    for text in (*pages, *command_lines(psutil.Process(scene.server.pid))):
        assert traces(text) == []
    log = scene.log()
    for key in made:
        assert key not in log
        assert [path.name for path, text in files(scene) if key in text] == []
        assert [table for table, text in scene.tables() if key in text] == []
    assert [line for line in log.splitlines() if traces(line)] == []
    assert "forged line" in log  # a model's name is told, but never as a line or a colour
    assert [line for line in log.splitlines() if line.startswith("forged")] == []
    assert "\x1b" not in log
    assert [path.name for path, text in files(scene) if traces(text)] == []
