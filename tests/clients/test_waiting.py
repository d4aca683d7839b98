"""`wait=True`: a call returns when its request is finished, and never spins on the way there."""

import threading
from typing import Any

import anyio
import httpx2
import pytest
from openai import Timeout

from clients.real_server import BatchServer
from clients.scripted_server import ScriptedServer
from openaibatching import AsyncOpenAIBatching, OpenAIBatching, Response
from openaibatching.client.waiting import DEFAULT_PAUSE_S, Hold

PENDING: dict[str, Any] = {
    "id": "r",
    "object": "response",
    "output": [],
    "status": "queued",
    "has_completed": False,
    "batching": {"id": "r", "status": "queued", "attempts": 0, "created_at": 0},
}
DONE = PENDING | {
    "status": "completed",
    "has_completed": True,
    "batching": PENDING["batching"] | {"status": "completed"},
}


@pytest.fixture
def waiting(foreign: OpenAIBatching) -> OpenAIBatching:
    """A client that waits for the scripted server."""
    return foreign.with_options(wait=True)


def test_a_waiting_call_returns_the_answer_once_it_is_there(
    client: OpenAIBatching, batch_server: BatchServer
) -> None:
    # Whichever comes first, the call or the end of its request: the answer is the same.
    finishing = threading.Thread(target=batch_server.finish)
    finishing.start()
    done = client.with_options(wait=True).responses.create(model="gpt-4o", input="Hi")
    finishing.join()
    assert done.has_completed is True
    assert done.output_text


async def test_many_waiting_calls_share_one_asynchronous_client(
    async_client: AsyncOpenAIBatching, batch_server: BatchServer
) -> None:
    waiting, answers = async_client.with_options(wait=True), []

    async def ask(prompt: str) -> None:
        answers.append(await waiting.responses.create(model="gpt-4o", input=prompt))

    async with anyio.create_task_group() as tasks:
        for number in range(5):
            tasks.start_soon(ask, f"Number {number}")
        tasks.start_soon(anyio.to_thread.run_sync, batch_server.finish)
    assert [answer.has_completed for answer in answers] == [True] * 5


def test_a_call_is_asked_again_through_as_many_held_replies_as_it_takes(
    batch_server: BatchServer,
) -> None:
    replies: list[tuple[int, str | None]] = []

    def note(reply: httpx2.Response) -> None:
        replies.append((reply.status_code, reply.headers.get("preference-applied")))
        if len(replies) == 2:
            batch_server.finish()

    with batch_server.client(note, wait=True, max_retries=0) as client:
        done = client.responses.create(
            model="gpt-4o", input="Hi", extra_headers={"Prefer": "wait=1"}
        )
    assert done.output_text == "You said: Hi"
    assert replies == [(202, "wait"), (202, "wait"), (200, "wait")]


def test_a_call_that_does_not_wait_asks_for_no_hold(client: OpenAIBatching) -> None:
    raw = client.with_options(wait=False).with_raw_response.responses.create(model="m", input="Hi")
    assert (raw.status_code, raw.headers.get("preference-applied")) == (202, None)


def test_it_asks_again_after_the_pause_the_server_names(
    scripted: ScriptedServer, waiting: OpenAIBatching, pauses: list[float]
) -> None:
    scripted.says(PENDING, 202, retry_after="7").says(PENDING, 202, retry_after="7").says(DONE)
    answer = waiting.responses.create(
        model="m", input="Hi", extra_headers={"Idempotency-Key": "once"}
    )
    assert answer.has_completed is True
    assert len(pauses) == 2
    assert all(6 < pause <= 7 for pause in pauses)
    first, *again = scripted.asked
    assert first.headers["prefer"] == "wait=540"
    for asked in again:
        assert (asked.method, asked.path, asked.body) == (first.method, first.path, first.body)
        assert asked.headers["idempotency-key"] == "once"


async def test_so_does_the_asynchronous_client(
    scripted: ScriptedServer, pauses: list[float]
) -> None:
    scripted.says(PENDING, 202, retry_after="7").says(DONE)
    async with AsyncOpenAIBatching(
        batch_server_url=scripted.url, batch_server_api_key="k", wait=True
    ) as client:
        raw = await client.with_raw_response.responses.create(model="m", input="Hi")
    assert (raw.status_code, raw.parse(to=Response).has_completed) == (200, True)
    assert len(pauses) == 1


def test_images_and_parsed_calls_are_asked_again_whole(
    scripted: ScriptedServer, waiting: OpenAIBatching, pauses: list[float]
) -> None:
    scripted.says(PENDING, 202).says(PENDING, 202).says(DONE)
    waiting.images.edit(image=b"\x89PNG", prompt="A dot", model="m")
    first, second, third = scripted.asked
    assert first.body == second.body == third.body
    assert pauses == [pytest.approx(DEFAULT_PAUSE_S, abs=1)] * 2


def test_a_preference_of_the_callers_own_is_left_alone(
    scripted: ScriptedServer, waiting: OpenAIBatching
) -> None:
    scripted.says(DONE)
    waiting.responses.create(model="m", input="Hi", extra_headers={"prefer": "wait=5"})
    assert scripted.asked[0].headers["prefer"] == "wait=5"


@pytest.mark.parametrize(
    ("timeout", "expected"),
    [(None, "wait=600"), (10_000, "wait=600"), (60, "wait=54"), (2, "wait=1"), (1, None)],
)
def test_the_hold_is_shorter_than_the_read_timeout_and_the_servers_maximum(
    timeout: float | None, expected: str | None
) -> None:
    assert Hold.within(timeout, now=0).headers({}).get("Prefer") == expected


def test_of_several_timeouts_the_one_for_reading_counts() -> None:
    assert Hold.within(Timeout(5, read=100), now=0).seconds == 90


def test_the_timeout_of_one_call_counts_more_than_the_clients(
    scripted: ScriptedServer, waiting: OpenAIBatching
) -> None:
    scripted.says(DONE)
    waiting.responses.create(model="m", input="Hi", timeout=20)
    assert scripted.asked[0].headers["prefer"] == "wait=18"


@pytest.mark.parametrize(
    ("held", "retry_after", "expected"),
    [
        (54, "60", 0),  # held for the whole time: ask again at once
        (0, "10", 10),  # not held at all
        (4, "10", 6),
        (20, "10", 0),
        (0, "", DEFAULT_PAUSE_S),
        (0, "soon", DEFAULT_PAUSE_S),
        (0, "0", DEFAULT_PAUSE_S),
        (0, "-3", DEFAULT_PAUSE_S),
        (0, "nan", DEFAULT_PAUSE_S),
        (0, "inf", DEFAULT_PAUSE_S),
    ],
)
def test_the_pause_is_what_is_left_of_retry_after(
    held: float, retry_after: str, expected: float
) -> None:
    hold = Hold.within(60, now=100)
    assert hold.pause({"retry-after": retry_after}, now=100 + held) == expected


async def test_a_waiting_call_can_be_cancelled(async_client: AsyncOpenAIBatching) -> None:
    waiting = async_client.with_options(wait=True)
    with anyio.move_on_after(0.05) as scope:
        await waiting.responses.create(model="m", input="Hi")
    assert scope.cancelled_caught
