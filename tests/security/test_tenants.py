"""To a tenant, another tenant's request is one that never existed."""

from __future__ import annotations

import json
import uuid
from typing import Any

import httpx2
import pytest

from openaibatching.server.domain.endpoints import ENDPOINTS
from openaibatching.server.domain.request import ID_PREFIX
from support.door import WAIT, Door
from support.postgres import ONE_KIND

pytestmark = ONE_KIND

STATES = ("queued", "in_progress", "completed", "failed", "cancelled")
PATHS = [
    ("GET", "/v1/responses/{}"),
    ("GET", "/v1/chat/completions/{}"),
    ("GET", "/v1/requests/{}"),
    ("HEAD", "/v1/requests/{}"),
    ("POST", "/v1/responses/{}/cancel"),
    ("POST", "/v1/requests/{}/cancel"),
    ("POST", "/v1/requests/{}/retry"),
    ("DELETE", "/v1/responses/{}"),
    ("DELETE", "/v1/requests/{}"),
    ("GET", "/v1/requests?after={}"),
    ("GET", "/v1/requests?status=queued&limit=1&after={}"),
]
NEVER = {"batchreq_": ID_PREFIX + "0123456789abcdef" * 2, "resp_": "resp_" + "0" * 40}
OF_EACH_REPLY = ("date", "content-length", "x-request-id")
JSONL = {"Content-Type": "application/jsonl"}


@pytest.fixture(scope="module")
def doors(quiet: Door, lively: Door, sent: Door) -> dict[str, Door]:
    """For each state, the server on which a request comes to it and stays there."""
    return {
        "queued": quiet,
        "cancelled": quiet,
        "in_progress": sent,
        "completed": lively,
        "failed": lively,
    }


def body_for(state: str, text: str) -> dict[str, Any]:
    mark = " [[simulate:status=400]]" if state == "failed" else ""
    return {"model": "gpt-4o", "input": f"{text} {state} {uuid.uuid4()}{mark}"}


async def foreign(door: Door, state: str, body: dict[str, Any]) -> list[str]:
    """The names of the first tenant's request, which is in this state now."""
    waited = WAIT if state in ("completed", "failed") else {}
    reply = await door.client.post("/v1/responses", json=body, headers=waited)
    names = [reply.headers["x-batching-id"]]
    if state == "cancelled":
        await door.client.post(f"/v1/requests/{names[0]}/cancel")
    elif state == "in_progress":
        await door.in_batch(names[0])
    elif state == "completed":
        names.append(reply.json()["id"])  # OpenAI's
    described = await door.client.get(f"/v1/requests/{names[0]}")
    assert described.json()["status"] == state
    return names


async def seen(client: httpx2.AsyncClient, method: str, path: str, name: str) -> Any:
    """All that a caller sees of a reply, but for the name that it gave itself."""
    reply = await client.request(method, path.format(name), headers={"Prefer": "wait=1"})
    headers = {n: v for n, v in reply.headers.items() if n not in OF_EACH_REPLY}
    text = reply.text.replace(name, "NAME")
    return reply.status_code, reply.http_version, headers, text


@pytest.mark.parametrize("state", STATES)
async def test_no_verb_and_no_path_tells_it_from_one_that_never_was(
    doors: dict[str, Door], state: str
) -> None:
    door = doors[state]
    names = await foreign(door, state, body_for(state, "verbs"))
    before = (await door.client.get(f"/v1/requests/{names[0]}")).json()
    for name in names:
        never = next(other for start, other in NEVER.items() if name.startswith(start))
        for method, path in PATHS:
            told = await seen(door.other, method, path, name)
            assert told == await seen(door.other, method, path, never)
            assert told[0] == 404
    assert (await door.client.get(f"/v1/requests/{names[0]}")).json() == before


@pytest.mark.parametrize("state", STATES)
async def test_the_same_body_is_a_new_request_for_another_tenant(
    doors: dict[str, Door], state: str
) -> None:
    door = doors[state]
    body = body_for(state, "same")
    [name, *_] = await foreign(door, state, body)
    line = {"custom_id": "x", "method": "POST", "url": "/v1/responses", "body": body}
    single = await door.other.post("/v1/responses", json=body)
    content = json.dumps(line).encode()
    bulk = (await door.bad.post("/v1/requests", content=content, headers=JSONL)).json()
    for status, told in (
        (single.status_code, single.json()),
        (bulk["response"]["status_code"], bulk["response"]["body"]),
    ):
        assert (status, told["has_completed"]) == (202, False)
        assert told["batching"] == {
            "id": told["id"], "status": "queued", "batch_id": None, "attempts": 0,
            "created_at": told["batching"]["created_at"], "completed_at": None,
            # From the model's batches, whosever they were: it says nothing of a request.
            "estimated_completion_at": told["batching"]["estimated_completion_at"],
        }  # fmt: skip
    assert len({name, single.json()["id"], bulk["id"]}) == 3


async def test_a_key_that_another_tenant_used_is_a_fresh_one(quiet: Door) -> None:
    key = f"shared {uuid.uuid4()}"
    for path in ENDPOINTS:
        ours = await quiet.client.post(
            path, json={"model": "m", "input": "1"}, headers={"Idempotency-Key": key}
        )
        theirs = await quiet.other.post(
            path, json={"model": "m", "input": "2"}, headers={"Idempotency-Key": key}
        )
        line = {"custom_id": "x", "method": "POST", "url": path, "idempotency_key": key}
        content = json.dumps(line | {"body": {"model": "m", "input": "3"}}).encode()
        bulk = (await quiet.bad.post("/v1/requests", content=content, headers=JSONL)).json()
        assert (ours.status_code, theirs.status_code) == (202, 202)
        assert bulk["response"]["status_code"] == 202
        ids = {ours.headers["x-batching-id"], theirs.headers["x-batching-id"], bulk["id"]}
        assert len(ids) == 3


async def test_a_list_has_nobody_elses_requests(quiet: Door) -> None:
    body = body_for("queued", "list")
    [name] = await foreign(quiet, "queued", body)
    mine = (await quiet.other.post("/v1/responses", json=body)).json()["id"]
    for query in ("", "?status=queued", "?limit=100", f"?after={mine}"):
        page = (await quiet.other.get(f"/v1/requests{query}")).json()
        assert name not in json.dumps(page)
    everything = (await quiet.client.get("/v1/requests?limit=100")).json()
    assert mine not in json.dumps(everything)
    assert name in json.dumps(everything)
