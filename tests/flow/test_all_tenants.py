"""What a tenant sees of what it shares with others, and what a key for all tenants sees."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import httpx2
import pytest

from support.door import OTHER_KEY, Door, open_door, refused
from support.keys import KeysCommand, beside
from support.postgres import ONE_KIND, Cluster
from support.servers import LONG_S
from support.world import http, until

pytestmark = ONE_KIND

Seen = dict[str, Any]


@pytest.fixture(scope="module")
async def shared(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Door]:
    """A server on which two tenants have had requests in one batch, and a third one none."""
    folder = tmp_path_factory.mktemp("shared")
    async with open_door(
        cluster, folder, batch_linger_s=LONG_S, batch_budget_usd_day="50", batch_attempts_max=1
    ) as door:
        texts = ["one", "two", "[[simulate:status=400]]"]
        for text in texts:
            await door.client.post("/v1/responses", json={"model": "gpt-4o", "input": text})
        await door.other.post("/v1/responses", json={"model": "gpt-4o", "input": "one"})
        await door.client.post("/v1/flush")

        async def done() -> bool:
            counts = (await door.other.get("/v1/stats")).json()["requests"]
            batches = (await door.client.get("/v1/upstream_batches")).json()["data"]
            return counts["completed"] == 1 and [b["status"] for b in batches] == ["closed"]

        await until(done)
        yield door


@pytest.fixture
async def admin(
    shared: Door, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[httpx2.AsyncClient]:
    monkeypatch.setenv("POSTGRES_URL", shared.database_url)
    command = KeysCommand(capsys)
    key = await beside(command.create, "operator", "--tenant", "ops", "--scope", "admin")
    async with http(shared.service, key) as client:

        async def known() -> bool:
            return (await client.get("/v1/stats")).status_code == 200

        await until(known)
        yield client


async def seen(client: httpx2.AsyncClient, path: str) -> Seen:
    reply = await client.get(path)
    assert reply.status_code == 200, reply.text
    found: Seen = reply.json()
    return found


async def test_of_a_shared_batch_each_tenant_sees_its_own_requests(shared: Door) -> None:
    for client, counts in (
        (shared.client, {"total": 3, "completed": 2, "failed": 1}),
        (shared.other, {"total": 1, "completed": 1, "failed": 0}),
    ):
        [batch] = (await seen(client, "/v1/upstream_batches"))["data"]
        assert batch["requests"] == batch["own_requests"] == counts["total"]
        assert batch["request_counts"] == counts
        assert batch["shared"] is True
        assert await seen(client, f"/v1/upstream_batches/{batch['id']}") == batch
        page = await seen_page(shared, client)
        assert "4 requests" not in page
    assert (await seen(shared.bad, "/v1/upstream_batches"))["data"] == []


async def seen_page(door: Door, client: httpx2.AsyncClient) -> str:
    """The overview of the page, with the client's key."""
    key = client.headers["authorization"].removeprefix("Bearer ")
    return (await signed_in(door, key, "/")).text


async def signed_in(door: Door, key: str, path: str) -> httpx2.Response:
    async with http(door.service, None) as browser:
        browser.headers["Origin"] = door.service.url
        done = await browser.post("/sign-in", data={"key": key})
        assert done.status_code == 303, done.text
        return await browser.get(path)


async def test_what_all_have_spent_is_not_shown_to_one(shared: Door) -> None:
    stats = await seen(shared.other, "/v1/stats")
    own = (await seen(shared.other, "/v1/costs?days=1"))["total"]["paid"]
    assert stats["budget"]["usd_day"] is None
    assert stats["budget"]["spent"] == pytest.approx(own)
    assert own > 0


async def test_an_admin_sees_all_tenants_in_reports(
    shared: Door, admin: httpx2.AsyncClient
) -> None:
    stats = await seen(admin, "/v1/stats")
    assert stats["tenant"] is None
    assert (stats["requests"]["completed"], stats["requests"]["failed"]) == (3, 1)
    assert stats["budget"]["usd_day"] == 50
    [batch] = (await seen(admin, "/v1/upstream_batches"))["data"]
    assert batch["request_counts"] == {"total": 4, "completed": 3, "failed": 1}
    assert await seen(admin, f"/v1/upstream_batches/{batch['batch_id']}") == batch
    costs = await seen(admin, "/v1/costs?group_by=tenant")
    assert {row["tenant"]: row["answers"] for row in costs["data"]} == {"default": 2, "other": 1}
    one = await seen(admin, "/v1/stats?tenant=other")
    assert (one["tenant"], one["requests"]["completed"]) == ("other", 1)
    metrics = (await admin.get("/metrics")).text
    assert 'openaibatching_requests{status="completed"} 3.0' in metrics


async def test_an_admin_acts_for_its_own_tenant_only(
    shared: Door, admin: httpx2.AsyncClient
) -> None:
    [batch] = (await seen(admin, "/v1/upstream_batches"))["data"]
    listed = (await seen(shared.other, "/v1/requests"))["data"]
    refused(await admin.post(f"/v1/upstream_batches/{batch['id']}/cancel"), 404, "not_found", "id")
    refused(await admin.post(f"/v1/requests/{listed[0]['id']}/retry"), 404, "not_found", "id")
    refused(await admin.get(f"/v1/responses/{listed[0]['id']}"), 404, "not_found", "id")
    assert (await seen(admin, "/v1/requests"))["data"] == []


@pytest.mark.parametrize("path", ["/v1/stats", "/v1/costs", "/v1/upstream_batches"])
async def test_no_other_key_names_another_tenant(shared: Door, path: str) -> None:
    refused(await shared.other.get(f"{path}?tenant=default"), 403, "insufficient_scope")
    assert (await shared.other.get(f"{path}?tenant=other")).status_code == 200


async def test_the_page_shows_an_admin_all_tenants_and_no_button(
    shared: Door, admin: httpx2.AsyncClient
) -> None:
    key = admin.headers["authorization"].removeprefix("Bearer ")
    overview = (await signed_in(shared, key, "/")).text
    assert "all tenants" in overview
    assert {"default", "other"} <= set(overview.replace(">", "<").split("<"))
    listed = (await seen(shared.other, "/v1/requests"))["data"]
    page = (await signed_in(shared, key, f"/requests/{listed[0]['id']}")).text
    assert "<dd>other</dd>" in page
    assert "<button id=" not in page
    requests = (await signed_in(shared, key, "/requests")).text
    assert requests.count('class="id" href="/requests/batchreq_') == 4
    assert (await signed_in(shared, OTHER_KEY, f"/requests/{listed[0]['id']}")).status_code == 200
