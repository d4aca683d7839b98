"""One request, later: reading, listing, cancelling, trying again, forgetting; each tenant alone."""

from __future__ import annotations

from typing import Any

import httpx2
import pytest

from support.door import WAIT, Door, refused
from support.world import sdk

HEAD = ["object", "id", "status", "endpoint", "model", "batch_id", "attempts", "created_at"]
MEMBERS = [*HEAD, "completed_at", "response", "error"]


async def call(client: httpx2.AsyncClient, text: str, **headers: str) -> str:
    body = {"model": "gpt-4o", "input": text}
    reply = await client.post("/v1/responses", json=body, headers=headers)
    return reply.headers["x-batching-id"]


async def described(door: Door, id_: str) -> dict[str, Any]:
    reply = await door.client.get(f"/v1/requests/{id_}")
    assert reply.status_code == 200
    value: dict[str, Any] = reply.json()
    assert list(value) == MEMBERS
    assert (value["object"], value["id"]) == ("request", id_)
    return value


async def test_a_request_is_described_from_queued_to_completed(quiet: Door, lively: Door) -> None:
    queued = await described(quiet, await call(quiet.client, "describe"))
    assert (queued["status"], queued["endpoint"], queued["model"]) == (
        "queued",
        "/v1/responses",
        "gpt-4o",
    )
    assert queued["batch_id"] is queued["completed_at"] is queued["response"] is None
    assert queued["error"] is None
    done = await described(lively, await call(lively.client, "describe", **WAIT))
    assert (done["status"], done["attempts"], done["error"]) == ("completed", 1, None)
    assert done["response"]["status_code"] == 200
    assert done["response"]["body"]["output"][0]["content"][0]["text"] == "You said: describe"
    assert done["batch_id"].startswith("batch_")


async def test_openais_id_names_the_request_too(lively: Door) -> None:
    id_ = await call(lively.client, "by another name", **WAIT)
    answer = await lively.client.get(f"/v1/responses/{id_}")
    theirs = answer.json()["id"]
    assert theirs.startswith("resp_")
    for path in ("/v1/responses/", "/v1/chat/completions/"):
        assert (await lively.client.get(path + theirs)).content == answer.content
    assert (await lively.client.get(f"/v1/requests/{theirs}")).json()["id"] == id_
    refused(await lively.other.get(f"/v1/responses/{theirs}"), 404, "not_found", "id")
    async with sdk(lively.service) as client:
        assert (await client.responses.retrieve(theirs)).output_text == "You said: by another name"


async def test_head_is_answered_like_get_without_a_body(quiet: Door) -> None:
    id_ = await call(quiet.client, "head")
    for path in (f"/v1/responses/{id_}", f"/v1/requests/{id_}", "/v1/requests", "/health"):
        get, head = await quiet.client.get(path), await quiet.client.head(path)
        assert head.status_code == get.status_code
        assert head.content == b""
        assert head.headers["content-length"] == str(len(get.content))


async def ids_of(door: Door, query: str) -> list[list[str]]:
    """The ids of every page, newest first."""
    pages, after = [], ""
    while True:
        page = (await door.other.get(f"/v1/requests?{query}{after}")).json()
        assert list(page) == ["object", "data", "first_id", "last_id", "has_more"]
        assert page["object"] == "list"
        ids = [item["id"] for item in page["data"]]
        assert (page["first_id"], page["last_id"]) == ((ids[0], ids[-1]) if ids else (None, None))
        assert all(list(item) == [*HEAD, "completed_at"] for item in page["data"])
        pages.append(ids)
        if not page["has_more"]:
            return pages
        after = f"&after={page['last_id']}"


async def test_a_list_is_read_to_its_end(quiet: Door) -> None:
    assert await ids_of(quiet, "") == [[]]
    made = [await call(quiet.other, f"page {n}") for n in range(25)][::-1]
    assert await ids_of(quiet, "") == [made[:20], made[20:]]
    assert await ids_of(quiet, "limit=100") == [made]
    assert await ids_of(quiet, "limit=25") == [made]
    assert await ids_of(quiet, "limit=1") == [[id_] for id_ in made]
    await quiet.other.post(f"/v1/requests/{made[3]}/cancel")
    assert await ids_of(quiet, "status=cancelled") == [[made[3]]]
    assert await ids_of(quiet, "status=queued&limit=24") == [made[:3] + made[4:]]
    for status in ("in_progress", "completed", "failed"):
        assert await ids_of(quiet, f"status={status}") == [[]]
    listed = (await quiet.client.get("/v1/requests?limit=100")).json()["data"]
    assert not {item["id"] for item in listed} & set(made)


async def test_a_queued_request_is_cancelled_once(quiet: Door) -> None:
    for path in ("/v1/requests/", "/v1/responses/"):
        id_ = await call(quiet.client, f"cancel {path}")
        reply = await quiet.client.post(f"{path}{id_}/cancel")
        assert reply.status_code == 200
        assert reply.json() == await described(quiet, id_)
        assert reply.json()["status"] == "cancelled"
        assert reply.json()["error"]["code"] == "request_cancelled"
        again = await quiet.client.post(f"{path}{id_}/cancel")
        refused(again, 409, "already_finished")
        assert again.headers["x-should-retry"] == "false"


async def test_what_is_in_a_batch_can_no_longer_be_cancelled_retried_or_deleted(sent: Door) -> None:
    id_ = await call(sent.client, "too late")
    await sent.in_batch(id_)
    refused(await sent.client.post(f"/v1/requests/{id_}/cancel"), 409, "already_submitted")
    refused(await sent.client.post(f"/v1/responses/{id_}/cancel"), 409, "already_submitted")
    refused(await sent.client.post(f"/v1/requests/{id_}/retry"), 409, "not_retryable")
    refused(await sent.client.delete(f"/v1/requests/{id_}"), 409, "not_finished")
    assert (await described(sent, id_))["status"] == "in_progress"


async def test_a_completed_request_is_not_cancelled_or_retried(lively: Door) -> None:
    id_ = await call(lively.client, "done", **WAIT)
    refused(await lively.client.post(f"/v1/requests/{id_}/cancel"), 409, "already_finished")
    refused(await lively.client.post(f"/v1/requests/{id_}/retry"), 409, "not_retryable")


async def test_an_answer_that_says_that_it_broke_off_can_be_asked_for_again(lively: Door) -> None:
    body = {"model": "gpt-4o", "input": "[[simulate:incomplete*1]] a long story"}
    first = (await lively.client.post("/v1/responses", json=body, headers=WAIT)).json()
    assert first["status"] == "incomplete"
    id_ = first["batching"]["id"]
    reply = await lively.client.post(f"/v1/requests/{id_}/retry")
    assert (reply.status_code, reply.json()["status"]) == (200, "queued")
    again = (await lively.client.post("/v1/responses", json=body, headers=WAIT)).json()
    assert (again["status"], again["batching"]["id"]) == ("completed", id_)


async def test_a_cancelled_request_is_queued_again(quiet: Door) -> None:
    id_ = await call(quiet.client, "changed my mind")
    refused(await quiet.client.post(f"/v1/requests/{id_}/retry"), 409, "not_retryable")
    await quiet.client.post(f"/v1/requests/{id_}/cancel")
    reply = await quiet.client.post(f"/v1/requests/{id_}/retry")
    assert reply.status_code == 200
    assert reply.json() == await described(quiet, id_)
    assert (reply.json()["status"], reply.json()["completed_at"]) == ("queued", None)
    assert (await quiet.client.get(f"/v1/responses/{id_}")).status_code == 202


async def test_a_failed_request_is_tried_again_from_the_start(lively: Door) -> None:
    id_ = await call(lively.client, "[[simulate:status=500*1]]", **WAIT)
    failed = await described(lively, id_)
    assert (failed["status"], failed["attempts"]) == ("failed", 1)
    assert failed["response"]["status_code"] == 500
    assert failed["error"] == failed["response"]["body"]["error"]
    gate = lively.simulator.gate("POST /files")
    reply = await lively.client.post(f"/v1/requests/{id_}/retry")
    assert reply.status_code == 200
    assert reply.json()["status"] in ("queued", "in_progress")
    assert reply.json()["response"] is reply.json()["error"] is None
    gate.release()
    answered = await lively.client.get(f"/v1/responses/{id_}", headers=WAIT)
    assert answered.status_code == 200
    # One sending allowed, one made: it counts from 0 again.
    assert answered.json()["batching"]["attempts"] == 1


@pytest.mark.parametrize("path", ["/v1/requests/", "/v1/responses/"])
async def test_a_finished_request_is_forgotten_with_its_body(quiet: Door, path: str) -> None:
    id_ = await call(quiet.client, f"forget {path}")
    refused(await quiet.client.delete(path + id_), 409, "not_finished")
    await quiet.client.post(f"/v1/requests/{id_}/cancel")
    before = quiet.rows("default")
    reply = await quiet.client.delete(path + id_)
    assert (reply.status_code, reply.json()) == (
        200,
        {"id": id_, "object": "request", "deleted": True},
    )
    assert quiet.rows("default") == before - 1
    refused(await quiet.client.get(path + id_), 404, "not_found", "id")
    refused(await quiet.client.delete(path + id_), 404, "not_found", "id")
    assert await call(quiet.client, f"forget {path}") == id_
    assert (await described(quiet, id_))["status"] == "queued"


async def test_the_sdk_cancels_and_deletes(quiet: Door) -> None:
    async with sdk(quiet.service) as client:
        response = await client.responses.create(model="m", input="by the SDK")
        cancelled = await client.responses.cancel(response.id)
        assert cancelled.status == "cancelled"
        await client.responses.delete(response.id)
    refused(await quiet.client.get(f"/v1/requests/{response.id}"), 404, "not_found", "id")


async def test_another_tenants_request_is_not_found(quiet: Door) -> None:
    id_ = await call(quiet.client, "mine")
    for method, path in (
        ("GET", f"/v1/responses/{id_}"),
        ("GET", f"/v1/chat/completions/{id_}"),
        ("GET", f"/v1/requests/{id_}"),
        ("GET", f"/v1/requests?after={id_}"),
        ("POST", f"/v1/requests/{id_}/cancel"),
        ("POST", f"/v1/responses/{id_}/cancel"),
        ("POST", f"/v1/requests/{id_}/retry"),
        ("DELETE", f"/v1/requests/{id_}"),
        ("DELETE", f"/v1/responses/{id_}"),
    ):
        refused(await quiet.bad.request(method, path), 404, "not_found", "id")
    assert (await described(quiet, id_))["status"] == "queued"
