"""Attacks of a tenant with a key of its own. Each goes on until it is cancelled."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json

from attack.strangers import Attack
from attack.target import Target

JSONL = ("Content-Type", "application/jsonl")
MEGABYTE = 1_000_000


async def nested_lists(target: Target) -> None:
    """A valid body of 33 MB whose values are millions of lists."""
    body = b'{"model":"m","input":[' + b"[],".ljust(3) * (11 * MEGABYTE) + b"[]]}"
    while True:
        await target.ask("nested_lists", "POST", "/v1/responses", body, key=target.key)


async def many_models(target: Target) -> None:
    """A bulk call of 2,050 model names, and a flush behind it, so that each is a batch."""
    for number in itertools.count():
        lines = [
            {"custom_id": f"{n}", "method": "POST", "url": "/v1/responses",
             "body": {"model": f"model-{number}-{n}", "input": "x"}}
            for n in range(2050)
        ]  # fmt: skip
        body = "\n".join(map(json.dumps, lines)).encode()
        await target.ask("many_models", "POST", "/v1/requests", body, JSONL, key=target.key)
        await target.ask("many_models", "POST", "/v1/flush", key=target.key)
        await target.ask("many_models", "GET", "/v1/stats", key=target.key)


async def flush_after_each(target: Target) -> None:
    """A batch for each call."""
    for number in itertools.count():
        body = json.dumps({"model": "m", "input": f"alone {number}"}).encode()
        await target.ask("flush_after_each", "POST", "/v1/responses", body, key=target.key)
        await target.ask("flush_after_each", "POST", "/v1/flush", key=target.key)


async def blank_lines(target: Target) -> None:
    """A bulk call of nothing but line breaks."""
    await _stream(target, "blank_lines", b"\n" * MEGABYTE)


async def bad_lines(target: Target) -> None:
    """A bulk call of millions of the smallest wrong lines."""
    await _stream(target, "bad_lines", b"1\n" * (MEGABYTE // 2))


async def callers_that_leave(target: Target) -> None:
    """Calls that wait, whose callers go away."""
    for number in itertools.count():
        body = json.dumps({"model": "m", "input": f"left {number}"}).encode()
        with contextlib.suppress(OSError, TimeoutError):
            async with target.connection() as wire:
                await wire.send(
                    target.head(
                        "POST",
                        "/v1/responses",
                        ("Prefer", "wait=600"),
                        ("Content-Type", "application/json"),
                        ("Content-Length", str(len(body))),
                        key=target.key,
                    ),
                    body,
                )
                await asyncio.sleep(0.05)
        target.note("callers_that_leave", "left")


async def _stream(target: Target, name: str, part: bytes) -> None:
    """A chunked body of 100 parts, sent as fast as it is taken."""
    while True:
        with contextlib.suppress(OSError, TimeoutError):
            async with target.connection() as wire:
                chunked = ("Transfer-Encoding", "chunked")
                await wire.send(target.head("POST", "/v1/requests", JSONL, chunked, key=target.key))
                for _ in range(100):
                    await wire.send(b"%x\r\n" % len(part), part, b"\r\n")
                await wire.send(b"0\r\n\r\n")
                await wire.rest()
        target.note(name, "sent")
        await asyncio.sleep(1)


GREEDY: tuple[Attack, ...] = (
    nested_lists, many_models, flush_after_each, blank_lines, bad_lines, callers_that_leave,
)  # fmt: skip
