"""OpenAI's webhooks: checked, and then only a reason to look at once."""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx2
import pytest

from openaibatching.simulator import Faults, Simulator
from openaibatching.simulator.api.webhooks import sign
from support.door import WAIT, Door, open_door, refused
from support.postgres import Cluster
from support.world import Clock, until

SECRET = "whsec_MDEyMzQ1Njc4OWFiY2RlZg=="
# The official SDK's test vector.
ID, AT = "wh_test1", 1750287078
EVENT = (
    b'{"object":"event","id":"evt_1","type":"batch.completed","created_at":1750287018,'
    b'"data":{"id":"batch_abc123"}}'
)
SIGNATURE = "v1,eOWqfD74ZRmWu8k8C4NGTL1BmisE3rHvn6uYerC/gYI="


@pytest.fixture(scope="module")
async def hooked(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Door]:
    """A server that looks at its batches once an hour, unless a webhook comes."""
    folder = tmp_path_factory.mktemp("hooked")
    async with open_door(
        cluster,
        folder,
        batch_poll_s=3600,
        batch_settle_s=60,
        openai_webhook_secret=SECRET,
    ) as door:
        yield door


def headers(
    body: bytes, at: float, *, id_: str = ID, secret: str = SECRET
) -> dict[str | bytes, str | bytes]:
    return {
        "Content-Type": "application/json",
        "webhook-id": id_,
        "webhook-timestamp": str(int(at)),
        "webhook-signature": sign(secret, id_, int(at), body),
    }


async def post(door: Door, body: bytes, given: dict[str | bytes, str | bytes]) -> httpx2.Response:
    pairs: Any = list(given.items())
    return await door.nobody.post("/webhooks/openai", content=body, headers=pairs)


def test_signing_follows_the_official_vector() -> None:
    assert sign(SECRET, ID, AT, EVENT) == SIGNATURE


async def test_the_official_vector_is_refused_only_for_its_age(hooked: Door) -> None:
    refused(await post(hooked, EVENT, headers(EVENT, AT)), 400, "invalid_signature")
    assert (await post(hooked, EVENT, headers(EVENT, time.time()))).status_code == 204


@pytest.mark.parametrize(("age", "status"), [(290, 204), (-290, 204), (310, 400), (-310, 400)])
async def test_it_is_taken_within_300_seconds_either_way(
    hooked: Door, age: float, status: int
) -> None:
    reply = await post(hooked, EVENT, headers(EVENT, time.time() - age))
    assert reply.status_code == status


async def test_any_of_several_signatures_will_do(hooked: Door) -> None:
    given = headers(EVENT, time.time())
    given["webhook-signature"] = f"v1,b2xk {given['webhook-signature']!s}"
    assert (await post(hooked, EVENT, given)).status_code == 204


async def test_what_is_not_signed_rightly_is_refused(hooked: Door) -> None:
    now = time.time()
    good = headers(EVENT, now)
    wrong: list[dict[str | bytes, str | bytes]] = [
        headers(EVENT, now, secret="whsec_" + "A" * 24),
        headers(EVENT + b" ", now),
        {**good, "webhook-id": "wh_other"},
        {**good, "webhook-signature": "v1,"},
        {**good, "webhook-signature": "nonsense"},
        {**good, "webhook-signature": b"v1,\xff\xfe"},
        {**good, "webhook-timestamp": "now"},
        {**good, "webhook-timestamp": "nan"},
        *({k: v for k, v in good.items() if k != left} for left in good if left != "Content-Type"),
    ]
    for given in wrong:
        refused(await post(hooked, EVENT, given), 400, "invalid_signature")


async def test_a_signed_body_that_is_no_event_is_refused_or_ignored(hooked: Door) -> None:
    for body, status in (
        (b"", 400),
        (b"\xff", 400),
        (b"no json", 400),
        (b"[" * 50_000, 400),
        (b"[]", 204),
        (b'{"type":"batch.completed"}', 204),
        (b'{"type":"batch.completed","data":{"id":7}}', 204),
        (b'{"type":"response.completed","data":{"id":"resp_1"}}', 204),
    ):
        given = headers(body, time.time()) if body != b"\xff" else headers(EVENT, time.time())
        assert (await post(hooked, body, given)).status_code == status
    large = b'{"x":"%s"}' % (b"x" * 100_000)
    refused(await post(hooked, large, headers(large, time.time())), 413, "request_too_large")


async def test_without_a_secret_every_webhook_is_refused(quiet: Door) -> None:
    refused(await post(quiet, EVENT, headers(EVENT, time.time())), 400, "invalid_signature")


async def test_a_good_one_makes_its_batch_be_looked_at_at_once(hooked: Door) -> None:
    call = await hooked.client.post("/v1/responses", json={"model": "gpt-4o", "input": "hook"})
    batch_id = (await hooked.in_batch(call.json()["id"])).json()["batching"]["batch_id"]
    event = {"object": "event", "type": "batch.completed", "data": {"id": batch_id}}
    body = json.dumps(event).encode()

    async def woken() -> bool:
        # Sent anew until it tells: the first may come before the batch's row is ready for it.
        given = headers(body, time.time(), id_=f"wh_{uuid.uuid4().hex}")
        assert (await post(hooked, body, given)).status_code == 204
        reply = await hooked.client.get(
            f"/v1/responses/{call.json()['id']}", headers={"Prefer": "wait=1"}
        )
        return reply.status_code == 200

    await until(woken)
    again = await hooked.client.get(f"/v1/responses/{call.json()['id']}", headers=WAIT)
    assert again.json()["batching"]["batch_id"] == batch_id


async def test_twice_late_out_of_order_or_with_two_signatures_each_still_tells(
    cluster: Cluster, tmp_path: Path
) -> None:
    clock = Clock()
    simulator = Simulator(
        lag=100,
        clock=lambda: clock().timestamp(),
        webhook_url="http://127.0.0.1:9/not-yet",
        webhook_secret=SECRET,
        faults=Faults(
            seed=2, webhook_duplicated=0.5, webhook_late=0.5, webhook_late_s=0.2,
            webhook_out_of_order=0.5, webhook_two_secrets=0.5,
        ),
    )  # fmt: skip
    async with open_door(
        cluster, tmp_path, simulator=simulator, batch_poll_s=3600, batch_requests_max=1,
        openai_webhook_secret=SECRET,
    ) as door:  # fmt: skip
        simulator.webhook_url = f"{door.service.url}/webhooks/openai"
        ids = []
        for n in range(8):
            call = await door.client.post(
                "/v1/responses", json={"model": "gpt-4o", "input": f"told {n}"}
            )
            ids.append(call.json()["id"])
        for id_ in ids:
            await door.in_batch(id_)
        clock.advance(100)  # all end at once, and nobody would look for an hour
        for id_ in ids:
            reply = await door.client.get(f"/v1/responses/{id_}", headers=WAIT)
            assert reply.status_code == 200


async def test_a_replay_or_a_forgery_makes_nobody_ask_openai(hooked: Door) -> None:
    call = await hooked.client.post("/v1/responses", json={"model": "gpt-4o", "input": "replay"})
    reply = (await hooked.in_batch(call.json()["id"])).json()
    event = {"object": "event", "type": "batch.completed"}
    body = json.dumps(event | {"data": {"id": reply["batching"]["batch_id"]}}).encode()
    look = "GET /batches/{id}"

    async def looked() -> bool:
        given = headers(body, time.time(), id_=f"wh_{uuid.uuid4().hex}")
        assert (await post(hooked, body, given)).status_code == 204
        caught.update(given)
        return hooked.simulator.requests.count(look) > before

    caught: dict[str | bytes, str | bytes] = {}
    before = hooked.simulator.requests.count(look)
    await until(looked)
    looks = hooked.simulator.requests.count(look)
    for _ in range(20):
        assert (await post(hooked, body, caught)).status_code == 204
        forged = caught | {"webhook-id": "wh_other"}
        assert (await post(hooked, body, forged)).status_code == 400
    await hooked.client.get(f"/v1/responses/{call.json()['id']}", headers={"Prefer": "wait=1"})
    assert hooked.simulator.requests.count(look) <= looks + 1  # one may have been under way
