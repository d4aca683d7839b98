"""The commands that look at a server and steer it, against the real one."""

from __future__ import annotations

import json
from typing import Any

import pytest

from clients.real_server import BatchServer
from openaibatching.cli.main import main
from support.deadline import until

REFUSED = "[[simulate:status=400]]"
Rows = list[dict[str, str]]


class Commands:
    """The command line, as the tenant of a server uses it in a pipe."""

    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self._capsys = capsys
        self.err = ""
        """What the last one said on stderr."""

    def __call__(self, *arguments: str, code: int = 0) -> str:
        """What it said on stdout; it has to end with this code."""
        self._capsys.readouterr()
        ended = main(arguments)
        said = self._capsys.readouterr()
        self.err = said.err
        assert ended == code, said.err
        assert "\x1b" not in said.out
        return said.out

    def table(self, *arguments: str, code: int = 0) -> Rows:
        """The rows of the table that it printed, by their headings."""
        [table] = tables(self(*arguments, code=code)).values()
        return table


def tables(said: str) -> dict[str, Rows]:
    """The tables of a page, by their titles."""
    found: dict[str, list[list[str]]] = {}
    title = ""
    for line in said.splitlines():
        if line.startswith("# "):
            title = line.removeprefix("# ")
        else:
            found.setdefault(title, []).append(line.split("\t"))
    return {
        title: [dict(zip(lines[0], line, strict=True)) for line in lines[1:]]
        for title, lines in found.items()
    }


@pytest.fixture
def commands(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch,
    request: pytest.FixtureRequest,
) -> Commands:  # fmt: skip
    """Commands to the test's server."""
    name = "batch_server" if "batch_server" in request.fixturenames else "patient_server"
    server: BatchServer = request.getfixturevalue(name)
    monkeypatch.setenv("BATCH_SERVER_URL", server.url)
    monkeypatch.setenv("BATCH_SERVER_API_KEY", server.key)
    return Commands(capsys)


def ask(server: BatchServer, *texts: str, model: str = "gpt-4o") -> list[str]:
    """The ids of these calls."""
    with server.client() as client:
        return [client.responses.create(model=model, input=text).id for text in texts]


def api(server: BatchServer, path: str) -> Any:
    """What the API itself says there."""
    with server._http() as http:
        return http.get(path).raise_for_status().json()


# ----- requests -----


def test_requests_are_listed_newest_first(patient_server: BatchServer, commands: Commands) -> None:
    ids = ask(patient_server, "one", "two", "three")
    commands("requests", "cancel", ids[1])
    assert [row["id"] for row in commands.table("requests")] == ids[::-1]
    queued = commands.table("requests", "list", "--status", "queued")
    assert [(row["id"], row["status"]) for row in queued] == [
        (ids[2], "queued"), (ids[0], "queued"),
    ]  # fmt: skip
    assert commands.err == ""
    assert [row["id"] for row in commands.table("requests", "--limit", "2")] == ids[:0:-1]
    assert commands.err == f"There are more: --after {ids[1]}\n"
    assert [row["id"] for row in commands.table("requests", "--after", ids[1])] == [ids[0]]


def test_what_a_key_names_is_listed_and_so_is_what_names_no_model(
    patient_server: BatchServer, commands: Commands
) -> None:
    with patient_server.client() as client:
        for key in ("one", "two"):
            headers = {"Idempotency-Key": key}
            client.moderations.create(input="by key", extra_headers=headers)
    [found] = commands.table("requests", "list", "--key", "one")
    assert (found["endpoint"], found["model"]) == ("/v1/moderations", "")
    assert len(commands.table("requests")) == 2
    assert commands.table("requests", "list", "--key", "three") == []
    assert "/v1/moderations" in commands("requests", "show", found["id"])
    assert "/v1/moderations" in commands("status")


def test_where_there_is_none_only_the_headings_are_printed(
    patient_server: BatchServer, commands: Commands
) -> None:
    assert commands.table("requests") == commands.table("batches") == []


def test_a_long_list_is_read_in_as_many_replies_as_it_takes(
    patient_server: BatchServer, commands: Commands
) -> None:
    line = (
        '{"custom_id":"%d","method":"POST","url":"/v1/responses","body":{"model":"m","input":"%d"}}'
    )
    with patient_server._http() as http:
        http.post(
            "/v1/requests", content="\n".join(line % (n, n) for n in range(150)),
            headers={"Content-Type": "application/jsonl"},
        ).raise_for_status()  # fmt: skip
    assert len({row["id"] for row in commands.table("requests", "--limit", "149")}) == 149
    assert "There are more" in commands.err
    pages = commands("requests", "--limit", "1000", "--json").splitlines()
    assert [len(json.loads(page)["data"]) for page in pages] == [100, 50]


def test_json_is_what_the_api_says(batch_server: BatchServer, commands: Commands) -> None:
    [id_, _] = ask(batch_server, "json", REFUSED)
    batch_server.finish()
    for path, arguments in {
        "requests": ("requests", "list"), "requests?status=failed": ("requests", "--status=failed"),
        "upstream_batches": ("batches", "list"), "stats": ("status",),
        "costs?group_by=model,day&days=7": ("cost", "--by", "model", "day", "--days", "7"),
    }.items():  # fmt: skip
        said, there = json.loads(commands(*arguments, "--json")), api(batch_server, f"/v1/{path}")
        said.pop("created_at", None), there.pop("created_at", None)
        assert said == there
    shown = json.loads(commands("requests", "show", id_, "--json"))
    assert shown.pop("events") == api(batch_server, f"/v1/requests/{id_}/events")
    assert shown == api(batch_server, f"/v1/requests/{id_}")


def test_a_request_is_shown_with_its_events_and_its_answer(
    batch_server: BatchServer, commands: Commands
) -> None:
    answered, refused = ask(batch_server, "whole story", REFUSED)
    batch_server.finish()
    said = commands("requests", "show", answered)
    story, answer = said.split("# Answer, 200:\n")
    assert json.loads(answer) == api(batch_server, f"/v1/requests/{answered}")["response"]["body"]
    parts = tables(story)
    facts = {row["member"]: row["value"] for row in parts[""]}
    assert facts["id"] == answered
    assert (facts["status"], facts["attempts"]) == ("completed", "1")
    steps = [(e["of"], e["to"]) for e in parts["events"]]
    assert steps[0] == ("request", "queued")
    assert ("batch", "submitted") in steps
    assert ("request", "completed") in steps
    # By OpenAI's id as well.
    by_theirs = commands("requests", "show", json.loads(answer)["id"])
    assert tables(by_theirs.split("# Answer")[0])[""][0]["value"] == answered
    said = commands("requests", "show", refused)
    assert "error\tThis request is refused. (invalid_request_error)" in said
    assert "# Answer, 400:" in said


def test_retry_does_what_it_can_and_says_what_it_cannot(
    batch_server: BatchServer, commands: Commands
) -> None:
    good, *bad = ask(batch_server, "good", REFUSED, f"{REFUSED} too")
    batch_server.finish()
    done = commands.table("requests", "retry", bad[0], good, "batchreq_none", bad[1], code=1)
    assert [(row["id"], row["status"]) for row in done] == [(id_, "queued") for id_ in bad]
    first, second = commands.err.splitlines()
    assert first.startswith(f"openaibatching requests retry: {good}: ")
    assert first.endswith("(not_retryable)")
    assert second.endswith("No request found with id 'batchreq_none'. (not_found)")
    batch_server.finish()
    failed = commands("requests", "list", "--status", "failed")
    ids = [line.split("\t")[0] for line in failed.splitlines()[1:]]
    assert len(commands("requests", "retry", *ids, "--json").splitlines()) == 2


def test_cancel_calls_off_what_is_queued(patient_server: BatchServer, commands: Commands) -> None:
    ids = ask(patient_server, "call off", "call off too")
    done = commands.table("requests", "cancel", *ids)
    assert [(row["id"], row["status"]) for row in done] == [(id_, "cancelled") for id_ in ids]
    assert commands("requests", "cancel", *ids, code=1) == ""
    assert commands.err.count("(already_finished)") == 2


def test_cancel_in_bulk_says_how_many(patient_server: BatchServer, commands: Commands) -> None:
    ask(patient_server, "one", "two", "three", model="gpt-4o-mini")
    [old, new] = [*ask(patient_server, "old"), *ask(patient_server, "new")]
    created = api(patient_server, f"/v1/requests/{new}")["created_at"]

    def left() -> int:
        return len(commands.table("requests", "list", "--status", "queued", "--limit", "99"))

    def cancel(*options: str) -> str:
        [row] = commands.table("requests", "cancel", *options)
        return row["cancelled requests"]

    for wrong in ([], [old, "--all"], [old, "--model", "gpt-4o"], ["--all", "--model", "gpt-4o"]):
        assert commands("requests", "cancel", *wrong, code=2) == ""
        assert "cancel takes ids, or --model and --created-before, or --all" in commands.err
    assert commands("requests", "cancel", "--model", "", code=1) == ""
    assert left() == 5
    assert cancel("--model", "gpt-4o-mini") == "3"
    assert cancel("--model", "gpt-4o", "--created-before", "2000-01-01T00:00Z") == "0"
    assert cancel("--created-before", str(created - 3600)) == "0"
    assert left() == 2
    assert json.loads(commands("requests", "cancel", "--all", "--json")) == {"cancelled": 2}
    ask(patient_server, "newer")
    assert cancel("--model", "gpt-4o", "--created-before", "2100-01-01") == "1"
    assert left() == 0


# ----- batches, costs, and what is sent at once -----


def test_flush_sends_what_is_queued(patient_server: BatchServer, commands: Commands) -> None:
    ids = ask(patient_server, "no company", "none")
    assert commands.table("flush") == [{"flushed requests": "2"}]
    patient_server.finish()
    patient_server.clock.stop()
    done = commands.table("requests", "list", "--status", "completed")
    assert {row["id"] for row in done} == set(ids)


def test_batches_are_listed_and_shown(batch_server: BatchServer, commands: Commands) -> None:
    ask(batch_server, "one of a batch")
    batch_server.finish()
    [batch] = commands.table("batches")
    assert (batch["model"], batch["completed"], batch["failed"]) == ("gpt-4o", "1", "0")
    for id_ in (batch["id"], batch["batch_id"]):
        facts = {row["member"]: row["value"] for row in commands.table("batches", "show", id_)}
        assert (facts["id"], facts["batch"]) == (batch["id"], batch["batch_id"])
        assert facts["done"] == "1 of 1, 0 failed"
    assert commands("batches", "show", "batch_none", code=1) == ""
    assert commands("batches", "cancel", batch["id"], code=1) == "", "it has ended"
    assert commands("batches", "cancel", "batch_none", code=1) == ""
    assert (
        commands.err == "openaibatching batches: No batch found with id 'batch_none'. (not_found)\n"
    )


def test_costs_are_grouped_and_added_up(batch_server: BatchServer, commands: Commands) -> None:
    ask(batch_server, "dear", "dearer")
    ask(batch_server, "cheap", model="gpt-4o-mini")
    batch_server.finish()
    *models, total = commands.table("cost", "--by", "model")
    assert {row["model"] for row in models} == {"gpt-4o", "gpt-4o-mini"}
    assert [total["model"], total["answers"]] == ["total", "3"]
    assert sum(float(row["paid"]) for row in models) == pytest.approx(float(total["paid"]))
    assert 0 < float(total["saved"]) == pytest.approx(float(total["realtime"]) / 2)
    [endpoint, total_] = commands.table("cost", "--by", "endpoint", "--days", "1")
    assert endpoint.pop("endpoint") == "/v1/responses"
    assert endpoint == {name: value for name, value in total_.items() if name != "endpoint"}


# ----- the whole at a glance -----


def test_status_says_what_waits_and_why(patient_server: BatchServer, commands: Commands) -> None:
    ask(patient_server, "waiting", "waiting too")
    page = tables(commands("status"))
    assert page["requests"][0]["queued"] == "2"
    [queue] = page["queue"]
    assert (queue["model"], queue["requests"], queue["reason"]) == ("gpt-4o", "2", "lingering")
    assert queue["until"] > queue["oldest"]
    assert queue["why"]
    assert page["batches"] == page["failures of 7 days"] == page["stuck"] == []


def test_status_says_what_is_under_way_what_failed_and_what_it_cost(
    batch_server: BatchServer, commands: Commands
) -> None:
    *_, refused = ask(batch_server, "fine", REFUSED)
    batch_server.finish()
    until(lambda: tables(commands("status"))["batches"] == [])
    batch_server.clock.stop()
    ask(batch_server, "under way", model="gpt-4o-mini")
    until(lambda: tables(commands("status"))["batches"] != [])
    page = tables(commands("status"))
    done = page["requests"][0]
    assert (done["completed"], done["failed"]) == ("1", "1")
    [failure] = page["failures of 7 days"]
    assert (failure["requests"], failure["status"], failure["example"]) == ("1", "400", refused)
    today, month = page["tokens and US dollars"]
    assert (today["answers"], today["cost"], month["cost"]) == ("1", "today", "30 days")
    assert 0 < float(today["saved"]) == float(today["paid"])
    assert [row["model"] for row in page["queue"] + page["batches"]] == ["gpt-4o-mini"]


# ----- how it ends -----


@pytest.mark.parametrize(
    ("setting", "value", "words"),
    [
        ("BATCH_SERVER_API_KEY", "wrong", "BATCH_SERVER_API_KEY is not a key of this server"),
        ("BATCH_SERVER_API_KEY", "", "set BATCH_SERVER_API_KEY in the environment"),
        ("BATCH_SERVER_URL", "http://127.0.0.1:9", "http://127.0.0.1:9 cannot be reached: "),
        ("BATCH_SERVER_URL", "ftp://x", "must begin with http:// or https://"),
        ("BATCH_SERVER_URL", "http://a b", "http://a b cannot be reached: "),
    ],
)  # fmt: skip
def test_a_server_that_cannot_be_asked_is_one_line_and_2(
    patient_server: BatchServer, commands: Commands, monkeypatch: pytest.MonkeyPatch,
    setting: str, value: str, words: str,
) -> None:  # fmt: skip
    monkeypatch.setenv(setting, value)
    for arguments in (["status"], ["status", "--watch"], ["requests", "cancel", "a", "b"]):
        assert commands(*arguments, code=2) == ""
        assert words in commands.err
        assert commands.err.startswith(f"openaibatching {arguments[0]}: ")
        assert commands.err.count("\n") == 1


@pytest.mark.parametrize(
    "arguments",
    ["requests show", "requests frob", "requests --limit 0", "batches --limit x", "cost --by week",
     "cost --days -1", "status --every 0", "flush now", "requests list --status done",
     "requests cancel --created-before yesterday", "requests cancel --created-before inf",
     "requests retry"],
)  # fmt: skip
def test_a_wrong_command_line_is_2(arguments: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(arguments.split())
    assert ended.value.code == 2
    assert "usage: openaibatching" in capsys.readouterr().err


def test_another_tenants_request_is_no_request(
    patient_server: BatchServer, commands: Commands, keys: list[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    [id_] = ask(patient_server, "mine")
    monkeypatch.setenv("BATCH_SERVER_API_KEY", next(k for k in keys if k != patient_server.key))
    for word in ("show", "retry", "cancel"):
        assert commands("requests", word, id_, code=1) == ""
        assert "(not_found)" in commands.err
