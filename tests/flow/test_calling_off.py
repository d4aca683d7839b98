"""What a caller cancels is not sent any more: a part of the queue, or a whole batch."""

from __future__ import annotations

import uuid
from typing import Any

import psycopg
import pytest

from openaibatching.server.api import cancellations
from openaibatching.server.config.settings import Settings
from openaibatching.server.pipeline import cancels
from openaibatching.server.pipeline.context import Context
from openaibatching.server.pipeline.form import form_one
from openaibatching.server.pipeline.submit import create_one, upload_one
from openaibatching.server.pipeline.watch import watch_one
from openaibatching.simulator import Simulator
from support.postgres import ONE_KIND
from support.steps import chat, drive, look, openai_of, put
from support.world import Clock, http, running_service

Rows = psycopg.Connection[tuple[Any, ...]]
pytestmark = ONE_KIND
ENDED = "update batch set state = 'ended', next_at = now() + interval '1 day' where id = %s"
KEYS = {"a": "key-of-a-0123456789", "b": "key-of-b-0123456789"}


async def wish(ctx: Context, rows: Rows, tenant: str = "default") -> bool:
    (batch_id,) = rows.execute("select id from batch").fetchone()  # type: ignore[misc]
    async with ctx.database.transaction() as conn:
        return await cancels.wish_cancel(conn, tenant, batch_id)


@pytest.mark.parametrize("steps", [(), (upload_one,)])
async def test_a_batch_that_openai_does_not_have_is_not_created_any_more(
    ctx: Context, clock: Clock, simulator: Simulator, rows: Rows, steps: tuple[Any, ...]
) -> None:
    requests = await put(ctx, chat("one"), chat("two"))
    clock.advance(60)
    for step in (form_one, *steps):
        assert await step(ctx)
    assert await wish(ctx, rows)
    await drive(ctx, clock)
    found = await look(ctx, requests)
    assert [(r.state, r.attempts) for r in found] == [("cancelled", 0)] * 2
    assert simulator.batches() == []
    assert simulator.files() == []
    assert rows.execute("select state, cancelled, requeued from batch").fetchall() == [
        ("closed", 2, 0)
    ]


async def test_a_batch_that_openai_has_is_stopped_there_and_its_answers_are_kept(
    ctx: Context, clock: Clock, rows: Rows
) -> None:
    async with openai_of(ctx, clock, lag=100.0) as simulator:
        requests = await put(ctx, *(chat(f"text {n}") for n in range(40)))
        clock.advance(60)
        for step in (form_one, upload_one, create_one):
            assert await step(ctx)
        clock.advance(60)
        assert await watch_one(ctx)
        assert await wish(ctx, rows)
        assert await wish(ctx, rows), "once more changes nothing"
        await drive(ctx, clock)
        (batch,) = simulator.batches()
        assert batch["status"] == "cancelled"
        states = [request.state for request in await look(ctx, requests)]
        assert set(states) == {"completed", "cancelled"}
        assert len(simulator.ledger.counts()) == states.count("completed")
        assert simulator.files() == []
        assert not await wish(ctx, rows), "it has ended"


async def test_what_would_go_again_does_not_when_openai_was_faster(
    ctx: Context, clock: Clock, simulator: Simulator, rows: Rows
) -> None:
    requests = await put(ctx, chat("fine"), chat("[[simulate:status=500]]"))
    clock.advance(60)
    for step in (form_one, upload_one, create_one):
        assert await step(ctx)
    assert await wish(ctx, rows)
    await drive(ctx, clock)
    assert [request.state for request in await look(ctx, requests)] == ["completed", "cancelled"]
    assert len(simulator.batches()) == 1


async def test_a_refused_batch_whose_end_is_wished_is_neither_halved_nor_sent_again(
    ctx: Context, clock: Clock, simulator: Simulator, rows: Rows
) -> None:
    requests = await put(ctx, chat("fine"), chat("[[simulate:poison]]"))
    clock.advance(60)
    for step in (form_one, upload_one, create_one):
        assert await step(ctx)
    assert await wish(ctx, rows)
    await drive(ctx, clock)
    assert {request.state for request in await look(ctx, requests)} == {"cancelled"}
    assert len(simulator.batches()) == 1


async def test_a_create_of_unknown_outcome_is_looked_for_and_stopped(
    ctx: Context, clock: Clock, simulator: Simulator, rows: Rows
) -> None:
    requests = await put(ctx, chat("unknown"))
    clock.advance(60)
    assert await form_one(ctx)
    assert await upload_one(ctx)
    gate = simulator.gate("POST /batches", when="after")
    gate.cut()
    assert await create_one(ctx)
    assert rows.execute("select state from batch").fetchone() == ("creating",)
    assert await wish(ctx, rows)
    await drive(ctx, clock)
    assert len(simulator.batches()) == 1, "it was not created again"
    assert simulator.files() == []
    (request,) = await look(ctx, requests)
    assert request.finished


async def test_a_wish_that_comes_while_the_create_begins_keeps_it_from_being_sent(
    ctx: Context, clock: Clock, simulator: Simulator, rows: Rows, monkeypatch: pytest.MonkeyPatch
) -> None:
    requests = await put(ctx, chat("at the last moment"))
    clock.advance(60)
    assert await form_one(ctx)
    assert await upload_one(ctx)
    taken = ctx.leases.take

    def late(*states: str) -> Any:
        monkeypatch.setattr(ctx.leases, "take", taken)
        return _WithWish(taken(*states), ctx, rows)

    monkeypatch.setattr(ctx.leases, "take", late)
    assert await create_one(ctx)
    await drive(ctx, clock)
    assert simulator.batches() == []
    assert [request.state for request in await look(ctx, requests)] == ["cancelled"]


class _WithWish:
    """A lease after whose beginning the batch's end is wished."""

    def __init__(self, lease: Any, ctx: Context, rows: Rows) -> None:
        self._lease, self._ctx, self._rows = lease, ctx, rows

    async def __aenter__(self) -> Any:
        batch = await self._lease.__aenter__()
        assert await wish(self._ctx, self._rows)
        return batch

    async def __aexit__(self, *error: Any) -> Any:
        return await self._lease.__aexit__(*error)


# ----- the API -----


async def test_a_batch_is_cancelled_by_its_tenant_alone(
    database_url: str, settings: Settings, rows: Rows
) -> None:
    slow = settings.model_copy(update={"batch_linger_s": 3600.0})
    async with (
        running_service(database_url, slow, KEYS) as service,
        http(service, KEYS["a"]) as a,
        http(service, KEYS["b"]) as b,
    ):
        for client in (a, b):
            await client.post("/v1/chat/completions", json=chat(client.headers["authorization"]))
        mine, shared = uuid.uuid4(), uuid.uuid4()
        for id_, tenants in ((mine, ["a"]), (shared, ["a", "b"])):
            rows.execute(
                "insert into batch (id, state, endpoint, model, requests, bytes, tokens,"
                " upstream_id, input_file_id, submitted_at, next_at) values"
                " (%s, 'submitted', '/v1/responses', 'm', %s, 9, 9, %s, 'file-1', now(),"
                " now() + interval '1 day')",
                [id_, len(tenants), f"batch_{id_.hex}"],
            )
            for tenant in tenants:
                rows.execute(
                    "insert into share (tenant, batch_id, requests) values (%s, %s, 1)",
                    [tenant, id_],
                )
        path = "/v1/upstream_batches"
        assert (await b.post(f"{path}/{mine}/cancel")).status_code == 404
        reply = await a.post(f"{path}/{shared}/cancel")
        assert (reply.status_code, reply.json()["error"]["code"]) == (409, "shared_batch")
        assert reply.headers["x-should-retry"] == "false"
        found = (await a.get(f"{path}/batch_{mine.hex}")).json()
        assert (found["object"], found["cancel_requested_at"]) == ("upstream_batch", None)
        cancelled = await a.post(f"{path}/batch_{mine.hex}/cancel")
        assert cancelled.status_code == 200
        assert cancelled.json()["cancel_requested_at"] is not None
        assert "cancelled" in cancelled.json()["reason"]
        said = rows.execute("select tenant, action, request_id, target from audit").fetchall()
        asked = cancelled.headers["x-request-id"]
        assert said == [("a", "batch_cancelled", asked, str(mine))], "what was refused is no deed"
        rows.execute(ENDED, [mine])
        reply = await a.post(f"{path}/{mine}/cancel")
        assert (reply.status_code, reply.json()["error"]["code"]) == (409, "already_finished")
        reply = await a.get(f"/v1/batches/batch_{mine.hex}")
        assert reply.status_code == 404
        assert "/v1/upstream_batches/" in reply.json()["error"]["message"]


async def test_all_that_is_queued_and_fits_is_cancelled(
    database_url: str, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cancellations, "CANCELLED_AT_ONCE", 2)
    slow = settings.model_copy(update={"batch_linger_s": 3600.0})
    async with (
        running_service(database_url, slow, KEYS) as service,
        http(service, KEYS["a"]) as a,
        http(service, KEYS["b"]) as b,
    ):

        async def ask(client: Any, model: str, n: int) -> None:
            for i in range(n):
                reply = await client.post("/v1/chat/completions", json=chat(f"{model} {i}", model))
                assert reply.status_code == 202

        async def cancel(**given: Any) -> int:
            reply = await a.post("/v1/requests/cancel", json=given)
            assert reply.status_code == 200, reply.text
            assert list(reply.json()) == ["cancelled"]
            return int(reply.json()["cancelled"])

        await ask(a, "gpt-4o", 5)
        await ask(a, "gpt-4o-mini", 3)
        await ask(b, "gpt-4o", 2)
        assert await cancel(created_before=1000) == 0
        assert await cancel(group="none.of-it") == 0
        assert await cancel(model="gpt-4o-mini", created_before=4102444800.5) == 3
        assert await cancel(model=None) == 5
        assert await cancel() == 0
        one = (await a.post("/v1/chat/completions", json=chat("gpt-4o 0"))).json()
        assert one["error"]["code"] == "request_cancelled"
        queued = (await b.get("/v1/requests?status=queued")).json()["data"]
        assert len(queued) == 2


@pytest.mark.parametrize(
    ("body", "code", "param"),
    [
        (b"", "invalid_json", None),
        (b"[]", "invalid_json", None),
        (b'{"modle": "gpt-4o"}', "unknown_parameter", "modle"),
        (b'{"model": 7}', "invalid_value", "model"),
        (b'{"model": ""}', "invalid_value", "model"),
        (b'{"group": "not a name"}', "invalid_value", "group"),
        (b'{"created_before": "yesterday"}', "invalid_value", "created_before"),
        (b'{"created_before": true}', "invalid_value", "created_before"),
        (b'{"created_before": 1e300}', "invalid_value", "created_before"),
    ],
)
async def test_what_is_not_understood_cancels_nothing(
    service: Any, body: bytes, code: str, param: str | None
) -> None:
    async with http(service) as client:
        reply = await client.post(
            "/v1/requests/cancel", content=body, headers={"Content-Type": "application/json"}
        )
    error = reply.json()["error"]
    assert (reply.status_code, error["code"], error["param"]) == (400, code, param)
