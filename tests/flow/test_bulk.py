"""The bulk door: many calls in one POST, a line each."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path
from typing import Any

import httpx2
import psycopg
import pytest

from openaibatching.server import errors
from openaibatching.server.api import state as server_door
from openaibatching.server.api.bulk import lines as bulk_lines
from openaibatching.server.api.bulk import response
from openaibatching.server.api.bulk.endpoint import LINES_AT_ONCE
from openaibatching.server.api.bulk.spool import Roll
from openaibatching.server.auth.open_calls import OpenCall
from openaibatching.server.database.bulk_throttle import SMALLER, Turns
from openaibatching.server.domain.request import ID_PREFIX
from support.door import WAIT, Door, refused
from support.steps import chat
from support.wire import Wire
from support.world import KEY, until

JSONL = {"Content-Type": "application/jsonl"}
CHAT, EMBEDDINGS = "/v1/chat/completions", "/v1/embeddings"


def line(custom_id: str, body: dict[str, Any], url: str = CHAT, **more: Any) -> dict[str, Any]:
    return {"custom_id": custom_id, "method": "POST", "url": url, "body": body, **more}


def jsonl(*lines: Any) -> bytes:
    """JSON lines; bytes stand for themselves."""
    return b"".join(
        (each if isinstance(each, bytes) else json.dumps(each).encode()) + b"\n" for each in lines
    )


async def post(door: Door, *lines: Any, **headers: str) -> list[dict[str, Any]]:
    """What the bulk door answers, line by line."""
    reply = await door.client.post("/v1/requests", content=jsonl(*lines), headers=JSONL | headers)
    assert reply.status_code == 200, reply.text
    assert reply.headers["content-type"] == "application/jsonl"
    return [json.loads(each) for each in reply.content.split(b"\n")[:-1]]


def code(output: dict[str, Any]) -> tuple[int, str]:
    """Status and code of a line's refusal."""
    return output["response"]["status_code"], output["response"]["body"]["error"]["code"]


async def test_a_json_array_is_named_as_what_it_is(quiet: Door) -> None:
    array = json.dumps([line("a", chat("in an array")), line("b", chat("and so"))], indent=1)
    first, *_ = await post(quiet, b" " + array.encode())
    assert code(first) == (400, "invalid_json")
    assert first["response"]["body"]["error"]["message"] == (
        "A JSON array is not JSON lines: send each of its objects as a line of its own."
    )


async def test_every_line_is_answered_as_the_single_call_in_the_order_of_the_input(
    quiet: Door,
) -> None:
    bodies = [chat(f"bulk order {n}") for n in range(700)]
    output = await post(quiet, *(line(f"c{n}", body) for n, body in enumerate(bodies)))
    assert [each["custom_id"] for each in output] == [f"c{n}" for n in range(700)]
    for each, body in list(zip(output, bodies, strict=True))[::100]:
        single = await quiet.client.post(CHAT, json=body)
        assert each["response"]["body"] == single.json()
        assert each["response"]["status_code"] == single.status_code == 202
        assert each["id"] == each["response"]["request_id"] == single.headers["x-batching-id"]
        assert each["error"] is None
        assert list(each) == ["id", "custom_id", "response", "error"]


async def test_answers_come_with_the_lines_when_they_are_waited_for(lively: Door) -> None:
    lines = [line(f"c{n}", chat(f"bulk waits {n}")) for n in range(300)]
    lines += [
        line("e", {"model": "text-embedding-3-small", "input": "bulk"}, EMBEDDINGS),
        line("f", chat("bulk [[simulate:status=400]]")),
    ]
    reply = await lively.client.post("/v1/requests", content=jsonl(*lines), headers=JSONL | WAIT)
    assert reply.headers["preference-applied"] == "wait"
    output = [json.loads(each) for each in reply.content.split(b"\n")[:-1]]
    said = [each["response"]["body"]["choices"][0]["message"]["content"] for each in output[:300]]
    assert said == [f"You said: bulk waits {n}" for n in range(300)]
    assert output[300]["response"]["body"]["data"][0]["embedding"]
    assert output[301]["response"]["status_code"] == 400
    assert output[301]["response"]["body"]["has_completed"] is True


async def test_time_that_is_up_leaves_the_unfinished_ones_pending(quiet: Door) -> None:
    output = await post(quiet, line("c", chat("bulk time is up")), Prefer="wait=0.1")
    assert output[0]["response"]["status_code"] == 202


async def test_lines_come_as_they_finish_when_that_is_preferred(sent: Door) -> None:
    # One is finished already; the others stay in progress.
    done, *open_ = [chat(f"bulk in any order {n}") for n in range(3)]
    reply = await sent.client.post(CHAT, json=done)
    await sent.in_batch(reply.json()["id"])
    async with sent.client.stream(
        "POST", "/v1/requests", headers=JSONL | {"Prefer": "wait=20, order=finished"},
        content=jsonl(
            line("open", open_[0]), line("bad", {"model": 1}), line("done", done),
            line("open too", open_[1]), line("done again", done),
        ),
    ) as bulk:  # fmt: skip
        assert bulk.headers["preference-applied"] == "wait, order=finished"
        lines = bulk.aiter_lines()
        assert json.loads(await anext(lines))["custom_id"] == "bad"
        with psycopg.connect(sent.database_url) as conn:
            conn.execute("set search_path = openaibatching")
            conn.execute(
                "with gone as (delete from sent using request r"
                "  where sent.seq = r.seq and r.id = %s::uuid returning sent.*)"
                " insert into result (seq, tenant, batch_id, state, attempts, status_code,"
                "  queued_at, finished_at, answer)"
                " select seq, tenant, batch_id, 'completed', 1, 200, queued_at, now(), '{\"a\":1}'"
                "   from gone",
                [reply.json()["id"].removeprefix(ID_PREFIX)],
            )
        for custom_id in ("done", "done again"):
            output = json.loads(await anext(lines))
            assert output["custom_id"] == custom_id
            assert output["response"]["body"]["a"] == 1


async def test_time_that_is_up_ends_any_order_too(quiet: Door) -> None:
    lines = [line(f"c{n}", chat(f"bulk any order {n}")) for n in range(3)]
    output = await post(quiet, *lines, Prefer="wait=0.1, order=finished")
    assert {each["custom_id"] for each in output} == {"c0", "c1", "c2"}
    assert {each["response"]["status_code"] for each in output} == {202}


async def test_a_line_with_too_much_structure_is_refused_alone(quiet: Door) -> None:
    before = quiet.rows("default")
    many = {"model": "m", "input": [1] * 1_000_001}
    text = chat("bulk of marks " + "[],{}:" * 200_000)
    output = await post(quiet, line("many", many, EMBEDDINGS), line("text", text))
    assert code(output[0]) == (400, "invalid_json")
    assert output[1]["response"]["status_code"] == 202
    assert quiet.rows("default") == before + 1


async def test_two_lines_with_one_body_are_one_request(quiet: Door) -> None:
    before = quiet.rows("default")
    output = await post(quiet, *(line(f"c{n}", chat("bulk the same")) for n in range(600)))
    assert len({each["id"] for each in output}) == 1
    assert [each["custom_id"] for each in output] == [f"c{n}" for n in range(600)]
    assert quiet.rows("default") == before + 1


async def test_a_key_in_a_line_does_what_the_header_does(quiet: Door) -> None:
    first, other, again, reused = await post(
        quiet,
        line("a", chat("bulk keyed"), idempotency_key="bulk-1"),
        line("b", chat("bulk keyed"), idempotency_key="bulk-2"),
        line("c", chat("bulk keyed"), idempotency_key="bulk-1"),
        line("d", chat("bulk keyed otherwise"), idempotency_key="bulk-1"),
    )
    assert first["id"] == again["id"] != other["id"]
    assert code(reused) == (422, "idempotency_key_reused")
    single = await quiet.client.post(
        CHAT, json=chat("bulk keyed"), headers={"Idempotency-Key": "bulk-1"}
    )
    assert single.headers["x-batching-id"] == first["id"]


BAD = [
    (b"not json", 400, "invalid_json", None),
    (b"[1]", 400, "invalid_json", None),
    (b'"\xff"', 400, "invalid_json", None),
    ({"method": "POST", "url": CHAT, "body": chat("x")}, 400, "missing_required_parameter", None),
    (line(7, chat("x")), 400, "missing_required_parameter", None),  # type: ignore[arg-type]
    (line("c", chat("x")) | {"method": "GET"}, 400, "invalid_value", "c"),
    (line("c", chat("x"), "/v1/files"), 400, "invalid_url", "c"),
    (line("c", chat("x"), "https://elsewhere.example/v1"), 400, "invalid_url", "c"),
    ({"custom_id": "c", "method": "POST", "url": CHAT}, 400, "missing_required_parameter", "c"),
    (line("c", ["no object"]), 400, "invalid_json", "c"),  # type: ignore[arg-type]
    (line("c", {"messages": []}), 400, "missing_required_parameter", "c"),
    (line("c", chat("x", stream=True)), 400, "streaming_unsupported", "c"),
    (line("c", chat("x"), idempotency_key=""), 400, "invalid_idempotency_key", "c"),
    (line("\u2028\ud800", chat("x", background=True)), 400, "background_unsupported",
     "\u2028\ud800"),
]  # fmt: skip


async def test_a_bad_line_is_refused_in_its_own_line_and_harms_no_other(quiet: Door) -> None:
    before = quiet.rows("default")
    mixed = [each for bad, *_ in BAD for each in (bad, line("good", chat("bulk among bad")))]
    output = await post(quiet, *mixed)
    assert len(output) == len(mixed)
    for (_, status, why, custom_id), bad, good in zip(BAD, output[::2], output[1::2], strict=True):
        assert code(bad) == (status, why)
        assert (bad["id"], bad["custom_id"], bad["error"]) == (None, custom_id, None)
        assert good["response"]["status_code"] == 202
    assert quiet.rows("default") == before + 1


async def test_a_line_that_is_too_long_is_refused_in_its_own_line(quiet: Door) -> None:
    most = quiet.service.settings.request_bytes_max
    long = line("long", chat("x" * (most + 100_000)))
    output = await post(quiet, line("a", chat("bulk long a")), long, line("b", chat("bulk long b")))
    assert [each["response"]["status_code"] for each in output] == [202, 413, 202]
    assert code(output[1]) == (413, "request_too_large")


async def test_blank_lines_and_carriage_returns_are_skipped(quiet: Door) -> None:
    good = json.dumps(line("a", chat("bulk blank"))).encode()
    output = await post(quiet, b"", b" \r", good + b"\r", b"")
    assert [each["custom_id"] for each in output] == ["a"]
    assert await post(quiet) == []
    # The last line need not end.
    reply = await quiet.client.post("/v1/requests", content=good, headers=JSONL)
    assert json.loads(reply.content)["custom_id"] == "a"


async def test_the_whole_is_refused_without_the_key_or_with_another_media_type(
    quiet: Door,
) -> None:
    content = jsonl(line("c", chat("bulk refused")))
    before = quiet.rows("default")
    reply = await quiet.nobody.post("/v1/requests", content=content, headers=JSONL)
    refused(reply, 401, "invalid_api_key")
    reply = await quiet.client.post(
        "/v1/requests", content=content, headers={"Content-Type": "application/json"}
    )
    refused(reply, 415, "unsupported_media_type")
    assert quiet.rows("default") == before


async def test_tenants_that_send_the_same_lines_have_requests_of_their_own(quiet: Door) -> None:
    [ours] = await post(quiet, line("c", chat("bulk tenants")))
    content = jsonl(line("c", chat("bulk tenants")))
    reply = await quiet.other.post("/v1/requests", content=content, headers=JSONL)
    assert json.loads(reply.content)["id"] != ours["id"]


async def test_lines_are_stored_as_they_arrive_and_a_cut_connection_keeps_them(
    quiet: Door,
) -> None:
    before = quiet.rows("default")
    wire = await Wire.to(quiet.service)
    await wire.head(
        "POST",
        "/v1/requests",
        [
            ("Authorization", f"Bearer {KEY}"),
            ("Content-Type", "application/jsonl"),
            ("Content-Length", "1000000000"),
        ],
    )
    await wire.send(jsonl(*(line(f"c{n}", chat(f"bulk cut {n}")) for n in range(800))))

    async def most_of_it() -> bool:  # what makes no full portion is still awaited
        return before + 512 <= quiet.rows("default") < before + 800

    await until(most_of_it)
    wire.abort()
    [again] = await post(quiet, line("c", chat("bulk cut 0")))
    assert again["id"].startswith(ID_PREFIX)
    assert await most_of_it()


def door_of(door: Door) -> server_door.Door:
    """What the server's handlers work with."""
    return door.service.door


def turns_of(door: Door, monkeypatch: pytest.MonkeyPatch) -> Turns:
    """The server's, on a clock that stands: one single call is enough for the whole test."""
    turns = Turns(lambda: 0.0)
    monkeypatch.setattr(door.service.database, "turns", turns)
    return turns


async def somebody_waits(turns: Turns) -> bool:
    return bool(turns._one._waiters)


async def test_after_a_single_call_lines_are_stored_in_smaller_portions(
    quiet: Door, monkeypatch: pytest.MonkeyPatch
) -> None:
    turns_of(quiet, monkeypatch)
    await quiet.client.post(CHAT, json=chat("bulk part alone"))
    before = quiet.rows("default")
    wire = await Wire.to(quiet.service)
    head = {"Authorization": f"Bearer {KEY}", "Content-Length": "1000000000"} | JSONL
    await wire.head("POST", "/v1/requests", list(head.items()))
    await wire.send(jsonl(*(line(f"c{n}", chat(f"bulk part {n}")) for n in range(100))))

    async def a_small_one() -> bool:
        return quiet.rows("default") == before + LINES_AT_ONCE // SMALLER

    await until(a_small_one)
    wire.abort()


async def test_after_a_single_call_lines_are_stored_when_it_is_their_turn(
    quiet: Door, monkeypatch: pytest.MonkeyPatch
) -> None:
    turns = turns_of(quiet, monkeypatch)
    await quiet.client.post(CHAT, json=chat("bulk turn alone"))
    before = quiet.rows("default")

    async with turns.take():
        posting = asyncio.create_task(post(quiet, line("c", chat("bulk turn"))))
        await until(partial(somebody_waits, turns))
        assert quiet.rows("default") == before
    [output] = await posting
    assert output["response"]["status_code"] == 202
    assert quiet.rows("default") == before + 1


async def test_after_a_single_call_answers_are_stored_and_given_out_when_it_is_their_turn(
    lively: Door, monkeypatch: pytest.MonkeyPatch
) -> None:
    turns = turns_of(lively, monkeypatch)
    turns.called()
    async with turns.take():
        asking = asyncio.create_task(lively.answered(chat("bulk turn of answers"), CHAT))
        await until(partial(somebody_waits, turns))
        assert not asking.done()
    assert (await asking).json()["has_completed"]
    again = line("c", chat("bulk turn of answers"))
    door = door_of(lively)
    answered = bulk_lines.read_line(lively.service.settings, "default", jsonl(again))[0]
    roll = Roll(lively.service.settings.spool_dir)
    roll.write([answered])
    async with turns.take():
        giving = asyncio.ensure_future(
            anext(response.in_order(door, "default", roll, 0.0, OpenCall()))
        )
        await until(partial(somebody_waits, turns))
        assert not giving.done()
    assert json.loads(await giving)["response"]["status_code"] == 200


async def test_a_long_reply_that_waits_for_nothing_lets_others_have_their_turns(
    quiet: Door, tmp_path: Path
) -> None:
    door = door_of(quiet)
    roll = Roll(tmp_path)
    roll.write([bulk_lines.refuse(bulk_lines.Entry(b"null"), errors.NotFound())] * 2000)
    others = portions = 0

    async def other() -> None:
        nonlocal others
        while True:
            await asyncio.sleep(0)
            others += 1

    waiting = asyncio.create_task(other())
    async for _ in response.in_order(door, "default", roll, 0.0, OpenCall()):
        portions += 1
    waiting.cancel()
    assert portions >= 2000 / response.READ_AT_ONCE
    assert others >= portions - 1  # one between each two


async def test_an_answer_that_is_large_comes_whole(lively: Door) -> None:
    texts = [f"bulk large {n} " + "\U0001f600" * 60_000 for n in range(3)]
    output = await post(lively, *(line(str(n), chat(t)) for n, t in enumerate(texts)), **WAIT)
    said = [each["response"]["body"]["choices"][0]["message"]["content"] for each in output]
    assert said == [f"You said: {text}" for text in texts]
    single = await lively.client.post(CHAT, json=chat(texts[0]))
    assert single.json() == output[0]["response"]["body"]


async def test_a_caller_that_reads_nothing_before_it_has_sent_all_gets_through(
    quiet: Door,
) -> None:
    sent = asyncio.Event()

    async def content() -> AsyncIterator[bytes]:
        for n in range(3000):
            yield jsonl(line(f"c{n}", chat(f"bulk stream {n}")))
        sent.set()

    request = quiet.client.build_request("POST", "/v1/requests", content=content(), headers=JSONL)
    reply: httpx2.Response = await quiet.client.send(request, stream=True)
    assert sent.is_set()
    lines = 0
    async for chunk in reply.aiter_raw():
        lines += chunk.count(b"\n")
    await reply.aclose()
    assert lines == 3000
