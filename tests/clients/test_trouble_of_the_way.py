"""What happens on the way to the server is not the answer: a call that waits is asked again."""

import asyncio
import gc
import os
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx2
import openai
import pytest

from clients.real_server import BatchServer
from clients.scripted_server import ScriptedServer
from openaibatching import AsyncOpenAIBatching, OpenAIBatching
from openaibatching.client import sync
from openaibatching.client.coalescer_sync import Coalescer
from openaibatching.client.patience import PAUSE_S_MAX, REMEMBERED_S, Way
from support.balancer import CUT, HALF, HTML_502, HTML_504, RESET, Balancer

DONE = {"id": "r", "object": "response", "output": [], "status": "completed", "has_completed": True}
REFUSED = {"error": {"message": "no", "type": "t", "param": None, "code": "c"}}


@pytest.fixture
def way(scripted: ScriptedServer) -> Iterator[Balancer]:
    """A load balancer in front of a server that has the answer."""
    scripted.says(DONE)
    balancer = Balancer(scripted.url)
    yield balancer
    balancer.close()


def asked(balancer: Balancer, **options: Any) -> OpenAIBatching:
    return OpenAIBatching(
        batch_server_url=balancer.url, batch_server_api_key="k", wait=True, **options
    )


def test_cuts_resets_and_pages_of_a_proxy_are_asked_again(
    way: Balancer, pauses: list[float]
) -> None:
    way.troubles.extend([CUT, RESET, HTML_504, HTML_502, HALF, CUT, CUT, CUT])
    way.open()
    with asked(way, max_retries=2) as client:
        assert client.responses.create(model="m", input="Hi").has_completed
    # The official client's retries do not multiply with ours. Its HTTP library may send once more
    # what it sent on a kept connection that the way had just closed. A head and its body are one
    # packet or two.
    sent = b"".join(way.asked).lower()
    assert sent.count(b"post /") >= 9
    assert sent.count(b"x-stainless-retry-count: 0\r\n") == sent.count(b"post /")
    assert len(pauses) == 8
    assert 0.25 <= pauses[0] <= 0.5
    assert pauses[0] < pauses[-1] <= PAUSE_S_MAX


async def test_so_they_are_by_the_asynchronous_client(way: Balancer, pauses: list[float]) -> None:
    way.troubles.extend([CUT, HTML_504, HALF] * 4)
    way.open()
    async with AsyncOpenAIBatching(
        batch_server_url=way.url, batch_server_api_key="k", wait=True
    ) as client:
        assert (await client.responses.create(model="m", input="Hi")).has_completed
    assert len(pauses) == 12


def test_a_server_that_is_away_is_waited_for(
    way: Balancer, monkeypatch: pytest.MonkeyPatch
) -> None:
    refused: list[float] = []

    def pause(seconds: float) -> None:
        refused.append(seconds)
        if len(refused) == 20:
            way.open()

    monkeypatch.setattr(sync, "sleep", pause)
    with asked(way) as client:
        assert client.responses.create(model="m", input="Hi").has_completed
    assert len(refused) >= 20
    assert max(refused) <= PAUSE_S_MAX


@pytest.mark.parametrize(
    ("status", "headers"),
    [
        (401, {}),
        (404, {}),
        (400, {}),
        (502, {"x_should_retry": "false"}),  # `result_missing`
        (504, {"x_batching_status": "failed"}),  # `batch_expired`
        (429, {"x_should_retry": "false"}),
    ],
)
def test_what_is_final_ends_at_once(
    scripted: ScriptedServer,
    foreign: OpenAIBatching,
    pauses: list[float],
    status: int,
    headers: dict[str, str],
) -> None:
    scripted.says(REFUSED, status, **headers)
    with pytest.raises(openai.APIStatusError):
        foreign.with_options(wait=True, max_retries=2).responses.create(model="m", input="Hi")
    assert (len(scripted.asked), pauses) == (1, [])


def test_too_many_requests_are_waited_for_as_long_as_is_asked(
    scripted: ScriptedServer, foreign: OpenAIBatching, pauses: list[float]
) -> None:
    scripted.says(REFUSED, 429, retry_after="40").says(REFUSED, 503).says(DONE)
    foreign.with_options(wait=True).responses.create(model="m", input="Hi")
    assert pauses[0] == 40
    assert pauses[1] <= 1


def test_the_callers_deadline_ends_it_with_the_last_error(way: Balancer) -> None:
    with asked(way).with_options(wait=0.3) as client, pytest.raises(openai.APIConnectionError):
        client.responses.create(model="m", input="Hi")  # nobody listens there


def test_a_deadline_ends_a_wait_for_a_request_that_does_not_finish(
    patient_server: BatchServer,
) -> None:
    with patient_server.client(wait=1.5) as client, pytest.raises(openai.APITimeoutError):
        client.responses.create(model="gpt-4o", input="Hi")


def test_a_mistake_of_the_caller_is_no_trouble_of_the_way(way: Balancer) -> None:
    client = asked(way)
    client.close()
    with pytest.raises((RuntimeError, openai.APIConnectionError)):  # openai 3, and 2
        client.responses.create(model="m", input="Hi")


def test_holds_become_as_short_as_a_balancer_wants_them(batch_server: BatchServer) -> None:
    balancer = Balancer(batch_server.url, silent_s=2.5).open()

    def finish() -> None:
        balancer.wait_for(b"wait=1\r\n")
        batch_server.finish()

    finishing = threading.Thread(target=finish)
    finishing.start()
    with OpenAIBatching(
        batch_server_url=balancer.url, batch_server_api_key=batch_server.key, wait=100
    ) as client:
        assert client.responses.create(model="gpt-4o", input="Hi").has_completed
    finishing.join()
    balancer.close()
    assert balancer.cuts >= 1


def test_a_cut_is_remembered_and_holds_grow_below_it() -> None:
    way = Way()
    way.cut(0.2, now=0)  # a reset of a server that restarts
    way.held(540)
    assert way.allows(0) == float("inf")
    for _ in range(100):
        way.cut(60, now=10)  # by each of the calls in the air
    assert way.allows(10) == 30
    way.held(5)  # a shorter one says nothing
    assert way.allows(10) == 30
    for _ in range(100):
        way.held(int(way.allows(10)))
    assert 40 < way.allows(10) <= 48
    assert 40 < way.allows(11 + REMEMBERED_S) <= 48
    way.held(48)
    assert way.allows(11 + REMEMBERED_S) > 48


async def test_calls_that_travel_together_go_on_together(batch_server: BatchServer) -> None:
    balancer = Balancer(batch_server.url)
    balancer.troubles.extend([HTML_504, CUT])
    balancer.open()
    async with AsyncOpenAIBatching(
        batch_server_url=balancer.url, batch_server_api_key=batch_server.key, wait=True
    ) as client:
        calls = [client.responses.create(model="gpt-4o", input=f"Number {n}") for n in range(6)]
        finishing = asyncio.create_task(asyncio.to_thread(batch_server.finish))
        answers = await asyncio.gather(*calls)
        await finishing
    balancer.close()
    assert [answer.output_text for answer in answers] == [f"You said: Number {n}" for n in range(6)]
    assert b"POST /v1/requests " in balancer.asked[0]


def test_a_fork_leaves_the_calls_of_its_parent_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    together = Coalescer(None, "/v1/")
    together._in_flight["company"] = 9  # type: ignore[index]  # of threads that are not in a child
    together._lock.acquire()
    process = os.getpid()
    monkeypatch.setattr(os, "getpid", lambda: process + 1)
    request = httpx2.Request("GET", "http://h/v1/models")
    assert together.send(request, lambda request, stream: "sent") == "sent"
    assert not together._in_flight
    assert together._lock.acquire(blocking=False)


@contextmanager
def leaving_connections() -> Iterator[None]:
    """For clients that nobody closes: the connections of an ended loop end with the client."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        yield
        gc.collect()


def test_two_loops_in_two_threads_share_an_asynchronous_client(batch_server: BatchServer) -> None:
    with leaving_connections():
        _two_loops_at_once(batch_server)


def _two_loops_at_once(batch_server: BatchServer) -> None:
    answers: list[Any] = []
    both = threading.Barrier(2)
    client = AsyncOpenAIBatching(
        batch_server_url=batch_server.url, batch_server_api_key=batch_server.key, wait=True
    )

    async def ask(name: str) -> None:
        both.wait(60)
        calls = [client.responses.create(model="gpt-4o", input=f"{name} {n}") for n in range(4)]
        answers.extend(await asyncio.gather(*calls))

    threads = [
        threading.Thread(target=asyncio.run, args=(ask(name),), daemon=True) for name in ("a", "b")
    ]
    for thread in threads:
        thread.start()
    batch_server.finish()
    for thread in threads:
        thread.join(120)
    assert sorted(answer.output_text for answer in answers) == sorted(
        f"You said: {name} {n}" for name in ("a", "b") for n in range(4)
    )


def test_one_loop_after_the_other_shares_an_asynchronous_client(scripted: ScriptedServer) -> None:
    scripted.says(DONE)
    with leaving_connections():
        _one_loop_after_the_other(scripted.url)
    assert len(scripted.asked) == 3


def _one_loop_after_the_other(url: str) -> None:
    client = AsyncOpenAIBatching(batch_server_url=url, batch_server_api_key="k", max_retries=0)

    async def ask() -> Any:
        return await client.responses.create(model="m", input="Hi")

    for _ in range(3):  # the connection of the first one is still open
        assert asyncio.run(ask()).has_completed
    asyncio.run(client.close())
    assert client.is_closed()
