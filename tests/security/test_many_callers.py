"""As many connections as anybody likes: ordinary callers are still answered."""

from __future__ import annotations

import asyncio
import contextlib
import resource
from collections.abc import AsyncIterator, Iterator
from itertools import chain
from pathlib import Path

import httpx2
import psutil
import pytest
from structlog.testing import capture_logs

from openaibatching.server.api.http import limits
from openaibatching.simulator import Simulator, running
from support.door import Door, open_door
from support.postgres import ONE_KIND, Cluster
from support.process import ServerProcess, environment
from support.wire import Wire
from support.world import KEY, TLS, until

pytestmark = ONE_KIND

MOST = 12
HEALTH = b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n"
BODY = b'{"model":"m","input":"many"}'
CALL = (
    b"POST /v1/responses HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
    b"Authorization: Bearer %s\r\nContent-Length: %d\r\nPrefer: wait=%d\r\n\r\n"
)


def call(wait_s: int, key: str = KEY) -> bytes:
    return CALL % (key.encode(), len(BODY), wait_s)


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, bool]]:
    """The event loop of `serve`, whose transports are stricter than asyncio's own."""
    return "asyncio", {"use_uvloop": True}


# ----- few places -----


@pytest.fixture
async def narrow(
    cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Door]:
    """A server with few places, and no patience with callers that do not read."""
    monkeypatch.setattr(limits, "CONNECTIONS_MAX", MOST)
    monkeypatch.setattr(limits, "UNREAD_S", 0.3)
    monkeypatch.setattr(limits, "LOOK_S", 0.05)
    async with open_door(cluster, tmp_path, batch_linger_s=3600, wait_s_max=3) as door:
        yield door


async def answered(door: Door) -> bool:
    """Whether somebody who comes now is answered."""
    async with httpx2.AsyncClient(base_url=door.service.url, verify=TLS) as client:
        with contextlib.suppress(httpx2.TransportError):
            return (await client.get("/health")).status_code == 200
    return False


async def known(door: Door) -> Wire:
    """A connection that has shown a key."""
    wire = await Wire.to(door.service)
    await wire.send(
        b"GET /v1/requests HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer %s\r\n\r\n" % KEY.encode()
    )
    assert (await wire.reply()).status == 200
    return wire


async def test_when_all_places_are_taken_the_longest_idle_one_makes_room(narrow: Door) -> None:
    with capture_logs() as events:
        wires = [await Wire.to(narrow.service) for _ in range(MOST * 3)]
        for _ in range(MOST * 3):
            assert await answered(narrow)
        assert await wires[0].rest() == b""
    assert [e["event"] for e in events if e["event"].startswith("connections")] == [
        "connections_full"  # said once, not with each
    ]
    for wire in wires:
        wire.abort()


async def test_who_is_being_served_never_makes_room(narrow: Door) -> None:
    wires = [await known(narrow) for _ in range(MOST)]
    for wire in wires:
        await wire.send(call(3), BODY)
    # All of them are heard before the next one knocks.
    await until(lambda: asyncio.sleep(0, narrow.rows("default") == 1))
    late = [await Wire.to(narrow.service) for _ in range(MOST)]
    replies = [await wire.reply() for wire in wires]
    assert {reply.status for reply in replies} == {202}
    for wire in (*wires, *late):
        wire.abort()
    assert await until(lambda: answered(narrow))


@pytest.mark.parametrize(
    "first",
    [b"", b"GET /v1/requests HTTP/1.1\r\nX-Slow: ", call(0, "wrong") + BODY[:9],
     b"POST /sign-in HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\nkey",
     b"POST /webhooks/openai HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n{"],
    ids=["nothing", "half a head", "a wrong key", "sign-in", "webhook"],
)  # fmt: skip
async def test_strangers_in_the_middle_of_anything_keep_nobody_out_and_evict_no_key(
    narrow: Door, first: bytes
) -> None:
    old = [await known(narrow) for _ in range(2)]
    strangers = []
    for _ in range(MOST * 3):
        strangers.append(await Wire.to(narrow.service))
        await strangers[-1].send(first)
        new = await known(narrow)
        new.abort()
    for wire in old:  # idle all the while
        await wire.send(HEALTH)
        assert (await wire.reply()).status == 200
    await strangers[0].rest()  # it is closed
    for wire in (*old, *strangers):
        wire.abort()


async def test_who_does_not_read_its_replies_loses_its_place(
    narrow: Door, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("ERROR", logger="uvicorn.error")  # the simulator's has silenced it
    document = b"GET /openapi.json HTTP/1.1\r\nHost: x\r\n\r\n"
    wires = [await known(narrow) for _ in range(MOST)]  # none is closed for a newcomer
    for wire in wires:
        wire.stop_reading()
        await wire.send(document * 1000)  # far more than any buffer holds
    assert await until(lambda: answered(narrow))
    for wire in wires:
        wire.abort()
    # Each had a call at work and others behind it: none of them goes on without its caller.
    assert [record for record in caplog.records if record.levelname == "ERROR"] == []


# ----- a thousand -----


def held(server: ServerProcess) -> int:
    """How many files the server has open, connections among them."""
    return psutil.Process(server.pid).num_fds()


@contextlib.contextmanager
def files(most: int) -> Iterator[None]:
    """What is started meanwhile may open so many files at first, and more when it asks."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.fixture
def crowded(cluster: Cluster, tmp_path: Path) -> Iterator[ServerProcess]:
    """A server process that was started with few files."""
    limits.allow_files()  # the callers are in this process
    with cluster.database("openaibatching_template") as url, running(Simulator()) as base_url:
        with files(256):
            server = ServerProcess(
                environment(base_url, tmp_path, POSTGRES_URL=url, BATCH_LINGER_S=3600)
            )
        try:
            server.wait_ready()
            yield server
        finally:
            server.kill()


async def trickle(wires: list[Wire], byte: bytes, said: asyncio.Event) -> None:
    """A byte now and then on each."""
    while True:
        for wire in wires:
            with contextlib.suppress(ConnectionError):
                await wire.send(byte)
        said.set()
        await asyncio.sleep(1)


async def test_slow_idle_and_waiting_callers_by_the_hundred_do_not_stop_the_door(
    crowded: ServerProcess,
) -> None:
    if resource.getrlimit(resource.RLIMIT_NOFILE)[1] < 4096:
        pytest.skip("this system lets a process open fewer files than this takes")
    nobody, tenant = call(0, "wrong"), call(0)
    kinds = {
        b"": 1000,
        b"GET /v1/requests HTTP/1.1\r\nX-Slow: ": 300,
        nobody + BODY[:9]: 150,
        tenant + BODY[:9]: 150,
        call(120) + BODY: 1000,
    }
    wires: dict[bytes, list[Wire]] = {}
    async with asyncio.TaskGroup() as group:
        slow = []
        for first, number in kinds.items():
            wires[first] = [await Wire.at(crowded.url) for _ in range(number)]
            for wire in wires[first]:
                await wire.send(first)
            if first and not first.endswith(BODY):
                said = asyncio.Event()
                slow.append(group.create_task(trickle(wires[first], b"x", said)))
                await said.wait()
        # The first may have been given up by now; most of them are there.
        await until(lambda: asyncio.sleep(0, held(crowded) > 2000))
        await ordinary_calls(crowded)
        for task in slow:
            task.cancel()
    waiting = wires[call(120) + BODY]
    await cancelled(crowded)
    assert {(await wire.reply()).status for wire in waiting} == {409}
    for wire in chain(*wires.values()):
        wire.abort()


async def ordinary_calls(server: ServerProcess) -> None:
    headers = {"Authorization": f"Bearer {KEY}"}
    async with httpx2.AsyncClient(
        base_url=server.url, headers=headers, timeout=60, verify=TLS
    ) as client:
        for n in range(20):
            reply = await client.post("/v1/responses", json={"model": "m", "input": f"{n}"})
            assert reply.status_code == 202
            assert (await client.get(f"/v1/requests/{reply.json()['id']}")).status_code == 200
            assert (await client.get("/ready")).status_code == 200


async def cancelled(server: ServerProcess) -> None:
    """End what the thousand are waiting for."""
    headers = {"Authorization": f"Bearer {KEY}", "Content-Type": "application/json"}
    async with httpx2.AsyncClient(
        base_url=server.url, headers=headers, timeout=60, verify=TLS
    ) as client:
        id_ = (await client.post("/v1/responses", content=BODY)).json()["id"]
        assert (await client.post(f"/v1/requests/{id_}/cancel")).status_code == 200
