"""Many calls the whole way, beside a script that does the same by hand; and what both send.

Both begin with the bodies and end with the parsed answers, one after the other against the same
simulator with the same poll interval. Of each one's time the simulator's own is taken away: the
processor time that its process used meanwhile. It answers as soon as it has computed, and computes
in one thread at a time, so that this is what nobody could have been faster than.
"""

from __future__ import annotations

import http.client
import json
import statistics
import time
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

import openai

from benchmarks import stack
from benchmarks.bulk import CHUNK, chunks
from benchmarks.figure import Row, Sizes, check, median_of_ratios

POLL_S = 1.0
WORDS = "Is this review positive or negative? The battery lasts two days and the screen is bright."
Answers = dict[int, dict[str, Any]]


def measure(sizes: Sizes) -> list[Row]:
    rounds = 1 if sizes.short else 3
    ours: list[float] = []
    by_hand: list[float] = []
    sent: dict[str, int] = {}
    poll_s = 0.2 if sizes.short else POLL_S
    settings = {"BATCH_POLL_S": poll_s, "BATCH_LINGER_S": 0.2 if sizes.short else 60}
    with stack.simulator() as openai_, stack.server(openai_.base_url, **settings) as server:
        for round_ in range(rounds):
            bodies = [body(round_, n) for n in range(sizes.calls)]
            before = openai_.requests()
            ours.append(_overhead(openai_, bodies, lambda b: through_us(server.url, b)))
            sent = _until_clean(openai_, before)
            by_hand.append(
                _overhead(openai_, bodies, lambda b: script(openai_.base_url, b, poll_s))
            )
    fewest = 4 + sent.get("DELETE /files/{id}", 0)  # upload, create, one look, one download
    detail = f"{statistics.median(ours):.1f} s; by hand {statistics.median(by_hand):.1f} s"
    told = ", ".join(f"{n} {route}" for route, n in sorted(sent.items()))
    return [
        Row(f"{sizes.calls:,} calls the whole way, less the simulator's own time",
            "a script with the official SDK", median_of_ratios(ours, by_hand), 1.5, False, detail),
        Row(f"requests sent upstream for {sizes.calls:,} calls", "the fewest possible",
            sum(sent.values()) / fewest, 2, False, told),
    ]  # fmt: skip


def body(round_: int, n: int) -> dict[str, Any]:
    text = f"{WORDS} (round {round_}, call {n})"
    return {"model": "gpt-4o-mini", "messages": [{"role": "user", "content": text}]}


def _overhead(
    openai_: stack.Simulated,
    bodies: list[dict[str, Any]],
    way: Callable[[list[dict[str, Any]]], Answers],
) -> float:
    before, started = openai_.cpu_s(), time.perf_counter()
    answers = way(bodies)
    seconds = time.perf_counter() - started
    own = openai_.cpu_s() - before
    check(len(answers) == len(bodies), f"{len(answers)} answers to {len(bodies)} calls")
    for n in (0, len(bodies) - 1):
        said = answers[n]["choices"][0]["message"]["content"]
        check(f"call {n})" in said, f"call {n} was answered {said!r}")
    return seconds - own


def _until_clean(openai_: stack.Simulated, before: dict[str, int]) -> dict[str, int]:
    """What was sent, once the files are deleted: that is the last of it."""
    deadline = time.monotonic() + 30
    while True:
        after = openai_.requests()
        sent = {k: n - before.get(k, 0) for k, n in after.items() if n > before.get(k, 0)}
        if sent.get("DELETE /files/{id}", 0) >= 2:
            return sent
        check(time.monotonic() < deadline, "the files are deleted")
        time.sleep(0.1)


def through_us(url: str, bodies: list[dict[str, Any]]) -> Answers:
    """One POST, which is answered when all have finished."""
    data = _lines(bodies)
    headers = {
        "Authorization": f"Bearer {stack.KEY}",
        "Content-Type": "application/jsonl",
        "Content-Length": str(len(data)),
        "Prefer": "wait=600, order=finished",
    }
    connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=600)
    connection.request("POST", "/v1/requests", body=chunks(data), headers=headers)
    reply = connection.getresponse()
    check(reply.status == 200, f"status {reply.status}")
    return _answers(reply)


def script(base_url: str, bodies: list[dict[str, Any]], poll_s: float) -> Answers:
    """What one would write: the file, upload, create, poll, download, parse."""
    client = openai.OpenAI(base_url=base_url, api_key="sk-simulated")
    file = client.files.create(file=("in.jsonl", _lines(bodies)), purpose="batch")
    batch = client.batches.create(
        input_file_id=file.id, endpoint="/v1/chat/completions", completion_window="24h"
    )
    while batch.status not in ("completed", "failed", "expired", "cancelled"):
        time.sleep(poll_s)
        batch = client.batches.retrieve(batch.id)
    check(batch.status == "completed" and batch.output_file_id, f"the batch is {batch.status}")
    assert batch.output_file_id is not None
    with client.files.with_streaming_response.content(batch.output_file_id) as reply:
        return _answers(reply.iter_bytes(CHUNK))


def _lines(bodies: list[dict[str, Any]]) -> bytes:
    return b"".join(
        json.dumps(
            {
                "custom_id": str(n),
                "method": "POST",
                "url": "/v1/chat/completions",
                "body": body,
            }
        ).encode()
        + b"\n"
        for n, body in enumerate(bodies)
    )


def _answers(stream: Any) -> Answers:
    rest = b""
    answers: Answers = {}
    chunks_ = stream if not hasattr(stream, "read1") else iter(lambda: stream.read(CHUNK), b"")
    for chunk in chunks_:
        *lines, rest = (rest + chunk).split(b"\n")
        for line in lines:
            answer = json.loads(line)
            check(answer["response"]["status_code"] == 200, line[:200])
            answers[int(answer["custom_id"])] = answer["response"]["body"]
    return answers
