"""What a bulk call costs the disk of the server, however it is made up."""

from __future__ import annotations

import asyncio
import itertools
from pathlib import Path

import pytest

from openaibatching.server.api.bulk import endpoint
from openaibatching.server.api.bulk import lines as bulk_lines
from openaibatching.server.api.bulk.spool import Roll
from support.door import Door
from support.postgres import ONE_KIND
from support.wire import wire_to
from support.world import KEY, settings_for

TINY = {
    "a number": b"1",
    "an array": b"[",
    "an object": b"{}",
    "no JSON": b"\xff",
    "a deep one": b"[[",
    "a name": b'{"custom_id":"x"}',
    "a method": b'{"custom_id":"x","method":"GET"}',
    "an address": b'{"custom_id":"x","method":"POST","url":"/v1"}',
    "a call": b'{"custom_id":"x","method":"POST","url":"/v1/responses","body":{"model":"m"}}',
}


@pytest.mark.parametrize("what", TINY)
def test_tiny_lines_take_little_of_the_disk(
    what: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    line, settings, sent = TINY[what], settings_for("http://x", tmp_path), 0
    roll = Roll(tmp_path)
    request.addfinalizer(roll.close)
    for _ in range(20):
        read = endpoint._understand(
            lambda line: bulk_lines.read_line(settings, "default", line),
            [line] * endpoint.LINES_AT_ONCE,
        )
        roll.write([entry for entry, _ in read])
        sent += endpoint.LINES_AT_ONCE * (len(line) + 1)
    assert roll.size <= 2 * sent
    assert sum(map(len, roll.read())) == 20 * endpoint.LINES_AT_ONCE


@ONE_KIND
async def test_bad_lines_that_differ_are_each_answered(quiet: Door) -> None:
    lines = [b"1", b"[", b"{}", b'{"custom_id":"x"}', b"\xff"]
    sent = b"\n".join(itertools.islice(itertools.cycle(lines), 2000)) + b"\n" * 100_000
    reply = await quiet.client.post(
        "/v1/requests", content=sent, headers={"Content-Type": "application/jsonl"}
    )
    said = reply.content.splitlines()
    assert len(said) == 2000
    assert len(set(said)) == len(lines)
    assert said[:5] * 400 == said
    assert all(b'"status_code":400' in line for line in said)


@ONE_KIND
async def test_others_are_answered_during_a_stream_of_blank_lines(quiet: Door) -> None:
    async with wire_to(quiet) as wire:
        auth, jsonl = ("Authorization", f"Bearer {KEY}"), ("Content-Type", "application/jsonl")
        await wire.head("POST", "/v1/requests", [auth, jsonl, ("Transfer-Encoding", "chunked")])
        blank = b"10000\r\n" + b"\n" * 65_536 + b"\r\n"

        async def stream() -> None:
            while True:
                await wire.send(blank)

        streaming = asyncio.create_task(stream())
        for _ in range(20):
            assert (await quiet.client.get("/health")).status_code == 200
        streaming.cancel()
        await asyncio.gather(streaming, return_exceptions=True)
        await wire.send(b"0\r\n\r\n")
        reply = await wire.reply()
    assert (reply.status, reply.content) == (200, b"")
