"""Where the server connects is its operator's to say, never a caller's."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx2

from openaibatching.server.domain.endpoints import ENDPOINTS
from openaibatching.simulator import Simulator, running
from openaibatching.simulator.api.webhooks import sign
from support.deadline import DEADLINE_S
from support.postgres import ONE_KIND, Cluster
from support.process import environment, server_process
from support.wire import Wire
from support.world import KEY, TLS

SECRET = "whsec_MDEyMzQ1Njc4OWFiY2RlZg=="
AUTH = {"Authorization": f"Bearer {KEY}"}


@contextmanager
def trap() -> Iterator[socket.socket]:
    """A place that nobody has a reason to connect to."""
    with socket.create_server(("127.0.0.1", 0), backlog=16) as listening:
        listening.setblocking(False)
        yield listening


def lures(address: str) -> dict[str, Any]:
    """Members of bodies that name a place, at OpenAI or with other servers."""
    url = f"http://{address}/lure"
    parts = [
        {"type": "input_image", "image_url": url},
        {"type": "input_file", "file_url": url},
        {"type": "input_text", "text": url},
    ]
    tool = {"type": "mcp", "server_label": "lure", "server_url": url}
    names = (
        "base_url", "api_base", "url", "endpoint", "proxy", "webhook_url", "callback_url",
        "openai_base_url", "host", "organization", "image", "image_url", "$ref", "upstream",
    )  # fmt: skip
    return {
        "input": [{"role": "user", "content": parts}],
        "tools": [tool],
        "metadata": {"url": url},
        **dict.fromkeys(names, url),
    }


def lure_headers(address: str) -> dict[str, str]:
    url = f"http://{address}/"
    names = (
        "X-Forwarded-Host", "X-Forwarded-Server", "X-Original-URL", "X-Rewrite-URL", "X-Proxy-URL",
        "X-Forwarded-For", "X-Forwarded-Proto", "Referer", "Origin", "OpenAI-Base-URL", "Via",
        "OpenAI-Organization", "OpenAI-Project", "X-HTTP-Host-Override", "Destination", "Location",
    )  # fmt: skip
    given = {name: url if "URL" in name or name in ("Referer", "Location") else address
             for name in names}  # fmt: skip
    return given | {"Host": address, "Forwarded": f"host={address};proto=http;for={address}"}


def calls(client: httpx2.Client, address: str) -> list[str]:
    """Every endpoint with lures in body and headers, waited for; what was answered."""
    headers = lure_headers(address) | {"Prefer": "wait=240"}
    texts = []
    for path in ENDPOINTS:
        for extra in (lures(address), {"input": address}):
            reply = client.post(path, json={"model": "gpt-4o", **extra}, headers=headers)
            assert "location" not in reply.headers
            assert reply.json()["has_completed"] is True
            texts.append(reply.text)
    for path in (f"/v1/responses/http:%2F%2F{address}%2F", f"/v1/requests?after=http://{address}/"):
        assert client.get(path, headers=headers).status_code == 404
    line = {"custom_id": "x", "method": "POST", "body": {"model": "m", **lures(address)}}
    content = json.dumps(line | {"url": f"http://{address}/v1/responses"}).encode()
    jsonl = headers | {"Content-Type": "application/jsonl"}
    reply = client.post("/v1/requests", content=content, headers=jsonl)
    assert reply.json()["response"]["body"]["error"]["code"] == "invalid_url"
    return texts


def webhook(client: httpx2.Client, address: str) -> None:
    """One that is rightly signed: only an id is taken from it."""
    data = {"id": f"../../../{address}", "url": f"http://{address}/"}
    body = json.dumps({"type": "batch.completed", "data": data}).encode()
    now = int(time.time())
    headers = {"webhook-id": "wh_lure", "webhook-timestamp": str(now)}
    headers["webhook-signature"] = sign(SECRET, "wh_lure", now, body)
    reply = client.post("/webhooks/openai", content=body, headers=headers | lure_headers(address))
    assert reply.status_code == 204


@ONE_KIND
async def test_no_caller_decides_where_the_server_connects(
    cluster: Cluster, tmp_path: Path
) -> None:
    simulator = Simulator(lag=0.0)
    with (
        cluster.database("openaibatching_template") as url,
        running(simulator) as base_url,
        trap() as trapped,
    ):
        address = f"127.0.0.1:{trapped.getsockname()[1]}"
        env = environment(base_url, tmp_path, POSTGRES_URL=url, OPENAI_WEBHOOK_SECRET=SECRET)
        with (
            server_process(env) as server,
            httpx2.Client(
                base_url=server.url, headers=AUTH, timeout=DEADLINE_S, verify=TLS
            ) as client,
        ):
            assert len(calls(client, address)) == 2 * len(ENDPOINTS)
            webhook(client, address)
            # A request line for a proxy: the path counts, and nobody is asked on anyone's behalf.
            wire = await Wire.at(server.url)
            line = f"GET http://{address}/health HTTP/1.1\r\nHost: {address}\r\n\r\n"
            await wire.send(line.encode())
            assert (await wire.reply()).json() == {"status": "ok"}
            await wire.send(f"CONNECT {address} HTTP/1.1\r\nHost: {address}\r\n\r\n".encode())
            assert (await wire.reply()).status in (400, 404, 405)
            wire.abort()
            assert server.terminate() == 0
        assert simulator.batches()
        assert "127.0.0.1" not in json.dumps([b["endpoint"] for b in simulator.batches()])
        try:
            connection, _ = trapped.accept()
        except BlockingIOError:
            return
        connection.close()
        raise AssertionError("somebody came to the trap")
