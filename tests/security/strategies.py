"""What may be sent to the door, from nearly right to nonsense."""

from __future__ import annotations

import json
import os
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

from openaibatching.server.domain.endpoints import ENDPOINTS
from support.world import KEY

# The same examples in every run, however slow the machine; bodies are large on purpose.
steady = settings(
    derandomize=True, deadline=None, database=None, max_examples=int(os.environ.get("CASES", "60")),
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)  # fmt: skip

JSONL = b"application/jsonl"
texts = st.text(max_size=20) | st.sampled_from(["\0", "\u2028", "\ud800", "[[simulate:x]]"])
numbers = st.integers() | st.floats() | st.sampled_from([1e400, 10**400, -0.0])
values = st.recursive(
    st.none() | st.booleans() | numbers | texts,
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(texts, inner, max_size=5),
    max_leaves=10,
)
KNOWN = ("model", "input", "messages", "stream", "background", "custom_id", "url", "body", "method")
odd_calls = st.dictionaries(st.sampled_from(KNOWN), values, max_size=4)
models = st.sampled_from(("gpt-4o", "m")) | texts
calls = st.fixed_dictionaries({"model": models}, optional={"input": values, "stream": values})
lines = st.fixed_dictionaries(
    {"custom_id": values, "method": st.just("POST"), "url": st.sampled_from(ENDPOINTS)},
    optional={"body": calls | values, "idempotency_key": values},
)


def as_json(value: Any) -> bytes:
    return json.dumps(value).encode()


@st.composite
def spoiled(draw: st.DrawFn, whole: st.SearchStrategy[bytes]) -> bytes:
    """Some of the bytes are others, or gone."""
    data = bytearray(draw(whole))
    for _ in range(draw(st.integers(0, 3))):
        start = draw(st.integers(0, len(data)))
        data[start : start + draw(st.integers(0, 4))] = draw(st.binary(max_size=4))
    return bytes(data)


good = calls.map(as_json)
bodies = good | spoiled((calls | odd_calls | values).map(as_json)) | st.binary(max_size=200)
many = st.lists(lines.map(as_json) | spoiled((lines | odd_calls).map(as_json)), max_size=6).map(
    b"\n".join
)
names = st.sampled_from(
    (b"Prefer", b"Idempotency-Key", b"Authorization", b"Content-Type", b"Content-Encoding",
     b"Expect", b"Cookie", b"Accept", b"Host", b"X-Forwarded-For", b"Transfer-Encoding", b"Upgrade",
     b"Connection", b"Range", b"X-HTTP-Method-Override"),
)  # fmt: skip
some_values = st.sampled_from(
    (b"wait=1", b"wait=0.1, wait=x", b"Bearer x", b"Basic eA==", b"gzip", b"chunked", b"identity",
     b"100-continue", b"websocket", b"upgrade", b"close", b"a" * 300, b"\xff\xfe", b'"', b",;=,"),
)  # fmt: skip
headers = st.lists(
    st.tuples(
        names, some_values | st.binary(max_size=20).map(lambda b: b.translate(None, b"\r\n"))
    ),
    max_size=3,
)


def request(path: str, body: bytes, more: list[tuple[bytes, bytes]], media: bytes) -> bytes:
    """A POST with the key, as it goes over the wire. `more` are headers, in place of ours."""
    given = [(b"Host", b"x"), (b"Content-Type", media), (b"Content-Length", b"%d" % len(body))]
    given += [(b"Authorization", b"Bearer " + KEY.encode())]
    named = {name for name, _ in more}
    pairs = [pair for pair in given if pair[0] not in named] + more
    head = [b"POST %s HTTP/1.1" % path.encode(), *(b"%s: %s" % pair for pair in pairs)]
    return b"\r\n".join(head) + b"\r\n\r\n" + body
