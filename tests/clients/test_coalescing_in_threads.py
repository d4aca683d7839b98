"""The same for threads: calls in the air together travel together, and no caller can tell."""

from __future__ import annotations

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from typing import Any

import openai
import pytest

from clients.real_server import BatchServer
from clients.wire import Wire
from openaibatching import OpenAIBatching

BULK, CHAT = "/v1/requests", "/v1/chat/completions"
THREADS = 40
TEXTS = [f"threads {n}" for n in range(THREADS)]


@pytest.fixture
def wire() -> Iterator[Wire]:
    with closing(Wire()) as wire:
        yield wire


@pytest.fixture
def client(batch_server: BatchServer, wire: Wire) -> OpenAIBatching:
    return client_of(batch_server, wire)


def client_of(server: BatchServer, wire: Wire, **options: Any) -> OpenAIBatching:
    return OpenAIBatching(
        batch_server_url=server.url, batch_server_api_key=options.pop("key", server.key),
        http_client=wire.http_client(), max_retries=0, **options,
    )  # fmt: skip


def all_of(client: OpenAIBatching, *texts: str, **options: Any) -> list[Any]:
    """What each call, in a thread of its own, gave or raised."""

    def ask(text: str) -> Any:
        try:
            return client.chat.completions.create(
                model="gpt-4o", messages=[{"role": "user", "content": text}], **options
            )
        except openai.OpenAIError as error:
            return error

    with ThreadPoolExecutor(len(texts)) as pool:
        return list(pool.map(ask, texts))


def test_a_call_that_is_alone_is_sent_as_it_is(client: OpenAIBatching, wire: Wire) -> None:
    all_of(client, "alone in its thread")
    assert wire.paths == [CHAT]


def test_many_threads_are_few_requests_and_each_has_its_own_answer(
    client: OpenAIBatching, wire: Wire, batch_server: BatchServer
) -> None:
    pending = all_of(client, *TEXTS)
    assert not any(each.has_completed for each in pending)
    assert len({each.batching.id for each in pending}) == THREADS
    batch_server.finish()
    answers = all_of(client, *TEXTS)
    assert [a.choices[0].message.content for a in answers] == [f"You said: {t}" for t in TEXTS]


def test_threads_that_wait_hold_a_handful_of_connections(
    client: OpenAIBatching, wire: Wire, batch_server: BatchServer
) -> None:
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(all_of, client.with_options(wait=True), *TEXTS)
        batch_server.finish()
        answers = waiting.result()
    assert [a.choices[0].message.content for a in answers] == [f"You said: {t}" for t in TEXTS]
    assert wire.most_at_once <= 8
    assert BULK in wire.paths


def test_a_failure_is_its_own_callers_alone(
    client: OpenAIBatching, wire: Wire, batch_server: BatchServer
) -> None:
    texts = [f"{text}{' [[simulate:status=400]]' if n == 17 else ''}"
             for n, text in enumerate(TEXTS)]  # fmt: skip
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(all_of, client.with_options(wait=True), *texts)
        batch_server.finish()
        results = waiting.result()
    assert isinstance(results.pop(17), openai.BadRequestError)
    assert all(each.has_completed for each in results)


def test_a_body_that_the_server_cannot_read_harms_no_other(
    client: OpenAIBatching, wire: Wire
) -> None:
    nested = json.loads("[" * 300 + "]" * 300)
    with ThreadPoolExecutor(4) as pool:
        deep = [pool.submit(all_of, client, f"deep {n}", extra_body={"metadata": nested})
                for n in range(4)]  # fmt: skip
        results = all_of(client, *TEXTS)
    assert not any(each.has_completed for each in results)
    refused = [each for one in deep for each in one.result()]
    assert [type(each) for each in refused] == [openai.BadRequestError] * 4
    assert BULK in wire.paths


def test_a_timeout_ends_every_wait(patient_server: BatchServer, wire: Wire) -> None:
    client = client_of(patient_server, wire)
    held = {"Prefer": "wait=60"}
    results = all_of(client, *TEXTS[:12], extra_headers=held, timeout=1.0)
    assert [type(each) for each in results] == [openai.APITimeoutError] * 12


def test_a_refusal_of_the_whole_is_every_callers(batch_server: BatchServer, wire: Wire) -> None:
    results = all_of(client_of(batch_server, wire, key="wrong"), *TEXTS)
    assert [type(each) for each in results] == [openai.AuthenticationError] * THREADS
