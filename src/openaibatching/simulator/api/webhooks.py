"""Delivery of `batch.*` events, signed as Standard Webhooks.

https://platform.openai.com/docs/guides/webhooks; https://www.standardwebhooks.com.
"""

import base64
import hashlib
import heapq
import hmac
import json
import secrets
import threading
import time
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any
from urllib.error import URLError

from openaibatching.simulator.faults.faults import Dice

_AGENT = "OpenAI/1.0 (+https://platform.openai.com/docs/webhooks)"
REPLY_WITHIN_S = 5.0
RETRIED_FOR_S = 72 * 3600.0


def sign(secret: str, id_: str, timestamp: int, body: bytes) -> str:
    """`v1,<base64>`: HMAC-SHA256 over `{id}.{timestamp}.{body}`."""
    if secret.startswith("whsec_"):
        key = base64.b64decode(secret.removeprefix("whsec_"))
    else:
        key = secret.encode()
    signed = f"{id_}.{timestamp}.".encode() + body
    return "v1," + base64.b64encode(hmac.new(key, signed, hashlib.sha256).digest()).decode()


@dataclass(order=True)
class _Delivery:
    due: float
    order: int
    id: str = field(compare=False)
    body: bytes = field(compare=False)
    tries: int = field(compare=False, default=0)
    until: float = field(compare=False, default=0.0)


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *args: Any) -> None:
        """A 3xx counts as a failure."""
        return


class Webhooks:
    """A queue and the thread that empties it. Times here are real ones, not the clock's."""

    def __init__(
        self, url: str, secret: str, dice: Callable[[], Dice], backoff_s: float = 1.0
    ) -> None:
        self.url = url
        self._secret = secret
        self._dice = dice
        self._backoff_s = backoff_s
        self._changed = threading.Condition()
        self._queue: list[_Delivery] = []
        self._count = 0
        self._stopped = True
        self._thread: threading.Thread | None = None
        self._opener = urllib.request.build_opener(_NoRedirects, urllib.request.ProxyHandler({}))

    def event(self, kind: str, batch_id: str, created: float) -> None:
        """Queue one event; faults may lose, double, delay or swap it."""
        document = {
            "object": "event",
            "id": f"evt_{secrets.token_hex(16)}",
            "type": kind,
            "created_at": int(created),
            "data": {"id": batch_id},
        }
        body = json.dumps(document, separators=(",", ":")).encode()
        if self._dice().hits("webhook_lost"):
            return
        due = time.monotonic()
        swapped = self._dice().hits("webhook_out_of_order") and self._dice().nth("swap") % 2
        if swapped or self._dice().hits("webhook_late"):
            due += self._dice().faults.webhook_late_s
        times = 2 if self._dice().hits("webhook_duplicated") else 1
        with self._changed:
            id_ = f"wh_{secrets.token_hex(16)}"
            # A duplicate has the same id: that is what receivers tell it by.
            for _ in range(times):
                heapq.heappush(self._queue, self._delivery(due, id_, body))
            self._changed.notify()

    def _delivery(self, due: float, id_: str, body: bytes) -> _Delivery:
        self._count += 1
        until = time.monotonic() + RETRIED_FOR_S
        return _Delivery(due, self._count, id_, body, 0, until)

    def start(self) -> None:
        """Begin to deliver."""
        self._stopped = False
        self._thread = threading.Thread(target=self._deliver_all, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Deliver no more."""
        with self._changed:
            self._stopped = True
            self._changed.notify()
        if self._thread is not None:
            self._thread.join(REPLY_WITHIN_S + 1)

    def _deliver_all(self) -> None:
        while True:
            with self._changed:
                if self._stopped:
                    return
                wait = self._queue[0].due - time.monotonic() if self._queue else None
                if wait is None or wait > 0:
                    self._changed.wait(wait)
                    continue
                delivery = heapq.heappop(self._queue)
            self._deliver(delivery)

    def _deliver(self, delivery: _Delivery) -> None:
        if self._post(delivery):
            return
        delivery.tries += 1
        delivery.due = time.monotonic() + self._backoff_s * 2 ** (delivery.tries - 1)
        if delivery.due < delivery.until:
            with self._changed:
                heapq.heappush(self._queue, delivery)

    def _post(self, delivery: _Delivery) -> bool:
        timestamp = int(time.time())
        signature = sign(self._secret, delivery.id, timestamp, delivery.body)
        if self._dice().hits("webhook_two_secrets"):
            # During rotation the old secret signs as well; any one may match.
            old = sign("a secret that was rotated out", delivery.id, timestamp, delivery.body)
            signature = f"{old} {signature}"
        request = urllib.request.Request(  # noqa: S310 the operator's own address
            self.url,
            delivery.body,
            {
                "content-type": "application/json",
                "user-agent": _AGENT,
                "webhook-id": delivery.id,
                "webhook-timestamp": str(timestamp),
                "webhook-signature": signature,
            },
            method="POST",
        )
        try:
            with self._opener.open(request, timeout=REPLY_WITHIN_S) as reply:
                return 200 <= int(reply.status) < 300
        except URLError as failure:
            # An HTTP error reply holds its connection until it is closed.
            if hasattr(failure, "close"):
                failure.close()
            return False
        except OSError:
            return False
