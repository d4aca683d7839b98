"""What every reply carries: an id that the log has too, and what keeps answers out of caches."""

from __future__ import annotations

import asyncio
import json
import re

import httpx2
import pytest

from openaibatching.server.reporting.reports import Reports
from support.door import WAIT, Door
from support.postgres import ONE_KIND
from support.world import sdk

pytestmark = ONE_KIND

ID = re.compile(r"req_[0-9a-f]{32}")
JSONL = {"Content-Type": "application/jsonl"}
BODY = {"model": "gpt-4o", "input": "with an id"}


def check(reply: httpx2.Response) -> str:
    """The reply's id; it has what all of them have."""
    (id_,) = reply.headers.get_list("x-request-id")
    assert ID.fullmatch(id_)
    assert reply.headers["x-content-type-options"] == "nosniff"
    assert "strict-transport-security" not in reply.headers
    return id_


async def test_every_reply_has_an_id_of_its_own_and_is_kept_nowhere(lively: Door) -> None:
    line = {"custom_id": "x", "method": "POST", "url": "/v1/responses", "body": BODY}
    replies = [
        await lively.client.post("/v1/responses", json=BODY, headers=WAIT),
        await lively.client.post("/ask/v1/responses", json=BODY),
        await lively.client.post("/v1/requests", content=json.dumps(line), headers=JSONL),
        await lively.client.post("/v1/responses", content=b"{"),
        await lively.client.get("/v1/requests/none"),
        await lively.client.head("/v1/requests"),
        await lively.client.get("/v1/stats"),
        await lively.client.get("/nowhere"),
        await lively.client.put("/health"),
        await lively.client.get("/metrics"),
        await lively.client.get("/health"),
        await lively.nobody.get("/v1/requests"),
        await lively.nobody.get("/"),
        await lively.nobody.get("/sign-in"),
        await lively.nobody.post("/webhooks/openai", content=b"{}"),
    ]
    assert {reply.status_code for reply in replies} >= {200, 303, 400, 401, 404, 405}
    ids = [check(reply) for reply in replies]
    assert len(set(ids)) == len(ids)
    for reply in replies:
        assert reply.headers.get_list("cache-control") == ["no-store"], reply.url


async def test_what_may_be_kept_for_ever_still_may(lively: Door) -> None:
    form = (await lively.nobody.get("/sign-in")).text
    (address,) = re.findall(r'href="(/page/page.css\?\w+)"', form)
    reply = await lively.nobody.get(address)
    check(reply)
    assert "immutable" in reply.headers["cache-control"]


async def test_an_id_that_a_caller_sends_is_not_taken(lively: Door) -> None:
    for sent in ("req_" + "0" * 32, "mine", "a\tb"):
        reply = await lively.client.get("/v1/requests", headers={"X-Request-ID": sent})
        assert check(reply) != sent


async def test_the_official_sdk_shows_the_id(lively: Door) -> None:
    async with sdk(lively.service) as client:
        raw = await client.responses.with_raw_response.create(model="gpt-4o", input="with an id")
        assert raw.request_id == raw.headers["x-request-id"]
        assert ID.fullmatch(raw.request_id or "")


async def test_the_log_line_of_a_fault_has_the_id_that_its_caller_got(
    lively: Door, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def fails(*_: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(Reports, "costs", fails)
    replies = await asyncio.gather(*(lively.client.get("/v1/costs") for _ in range(5)))
    assert {reply.status_code for reply in replies} == {500}
    logged = [
        getattr(record, "request_id", None)
        for record in caplog.records
        if record.getMessage() == "handler_failed"
    ]
    assert sorted(map(str, logged)) == sorted(check(reply) for reply in replies)


@pytest.mark.parametrize(
    ("sent", "status"),
    [(b"nonsense\r\n\r\n", 400), (b"GET / HTTP/1.1\r\nA: " + b"x" * 70_000, 431)],
)
async def test_a_reply_to_what_is_no_request_has_one_too(
    lively: Door, sent: bytes, status: int
) -> None:
    url = httpx2.URL(lively.service.url)
    reader, writer = await asyncio.open_connection(url.host, url.port)
    writer.write(sent)
    head = (await reader.readuntil(b"\r\n\r\n")).decode().lower().split("\r\n")
    writer.close()
    assert head[0].startswith(f"http/1.1 {status}")
    headers = dict(line.split(": ", 1) for line in head[1:] if line)
    assert ID.fullmatch(headers["x-request-id"])
    assert headers["cache-control"] == "no-store"


@pytest.mark.parametrize("path", ["/v1/requests", "/sign-in", "/nowhere"])
async def test_a_browser_behind_a_proxy_that_speaks_https_is_told_to_stay_with_it(
    lively: Door, path: str
) -> None:
    reply = await lively.client.get(path, headers={"X-Forwarded-Proto": "https"})
    assert reply.headers["strict-transport-security"] == "max-age=31536000"
