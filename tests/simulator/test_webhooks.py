import contextlib
import http.server
import queue
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from openai import InvalidWebhookSignatureError, OpenAI

from openaibatching.simulator import Faults
from openaibatching.simulator.api.webhooks import sign
from simulator.kit import World, said, world

SECRET = "whsec_MDEyMzQ1Njc4OWFiY2RlZg=="
Got = tuple[dict[str, str], bytes]


class Receiver:
    """A webhook endpoint that answers with the statuses it is given, then with 200."""

    def __init__(self) -> None:
        self.got: queue.Queue[Got] = queue.Queue()
        self.statuses: list[int] = []
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                outer.got.put(({k.lower(): v for k, v in self.headers.items()}, body))
                self.send_response(outer.statuses.pop(0) if outer.statuses else 200)
                self.send_header("content-length", "0")
                self.end_headers()

            def log_message(self, *args: Any) -> None:
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}/hook"

    def next(self, timeout: float = 5) -> Got:
        return self.got.get(timeout=timeout)


@contextlib.contextmanager
def receiving(**arguments: Any) -> Iterator[tuple[World, Receiver]]:
    receiver = Receiver()
    thread = threading.Thread(target=receiver.server.serve_forever, args=(0.01,))
    thread.start()
    try:
        more = {"webhook_url": receiver.url, "webhook_secret": SECRET, **arguments}
        with world(webhook_backoff_s=0.01, **more) as w:
            yield w, receiver
    finally:
        receiver.server.shutdown()
        thread.join()
        receiver.server.server_close()


def unwrap(got: Got, secret: str = SECRET) -> Any:
    headers, body = got
    with OpenAI(api_key="k", webhook_secret=secret) as client:
        return client.webhooks.unwrap(body, headers)


def test_the_signature_is_the_recorded_one() -> None:
    body = b'{"object":"event","id":"evt_1","type":"batch.completed","created_at":1750287018,'
    body += b'"data":{"id":"batch_abc123"}}'
    assert sign(SECRET, "wh_test1", 1750287078, body) == (
        "v1,eOWqfD74ZRmWu8k8C4NGTL1BmisE3rHvn6uYerC/gYI="
    )


def test_a_finished_batch_is_told_though_nobody_looks() -> None:
    with receiving() as (w, receiver):
        batch = w.create(said("a"))
        got = receiver.next()
        event = unwrap(got)
        assert event.type == "batch.completed"
        assert event.data.id == batch.id
        assert event.created_at == int(w.clock.now)
        assert got[0]["user-agent"].startswith("OpenAI/1.0")
        with pytest.raises(InvalidWebhookSignatureError):
            unwrap(got, "whsec_b3RoZXI=")


def test_every_end_has_its_event() -> None:
    with receiving(lag=100, window_s=80) as (w, receiver):
        w.create([b"{}\n"])
        w.clock.advance(10)
        assert unwrap(receiver.next()).type == "batch.failed"
        cancelled = w.create(said("a"))
        w.client.batches.cancel(cancelled.id)
        w.clock.advance(10)
        assert unwrap(receiver.next()).type == "batch.cancelled"
        w.create(said("a"))
        w.clock.advance(90)
        assert unwrap(receiver.next()).type == "batch.expired"


def test_a_refused_webhook_comes_again_under_the_same_id() -> None:
    with receiving() as (w, receiver):
        receiver.statuses += [500, 302]
        w.create(said("a"))
        ids = {receiver.next()[0]["webhook-id"] for _ in range(3)}
        assert len(ids) == 1
        assert receiver.got.empty()


def test_webhooks_come_twice() -> None:
    with receiving(faults=Faults(webhook_duplicated=1)) as (w, receiver):
        w.create(said("a"))
        assert receiver.next()[0]["webhook-id"] == receiver.next()[0]["webhook-id"]


def test_webhooks_come_out_of_order() -> None:
    with receiving(faults=Faults(webhook_out_of_order=1, webhook_late_s=0.3)) as (w, receiver):
        one, two = w.finish(said("a")), w.finish(said("b"))
        assert [unwrap(receiver.next()).data.id for _ in range(2)] == [two.id, one.id]


def test_webhooks_get_lost_and_late() -> None:
    with receiving(faults=Faults(webhook_lost=1)) as (w, receiver):
        w.finish(said("a"))
        w.sim.faults = Faults(webhook_late=1, webhook_late_s=0.2)
        late = w.finish(said("b"))
        w.sim.faults = Faults()
        prompt = w.finish(said("c"))
        assert [unwrap(receiver.next()).data.id for _ in range(2)] == [prompt.id, late.id]
        assert receiver.got.empty()


def test_during_rotation_either_signature_may_match() -> None:
    with receiving(faults=Faults(webhook_two_secrets=1)) as (w, receiver):
        w.create(said("a"))
        got = receiver.next()
        assert len(got[0]["webhook-signature"].split()) == 2
        assert unwrap(got).type == "batch.completed"
