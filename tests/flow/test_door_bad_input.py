"""What is wrong is refused in OpenAI's shape, and leaves nothing behind."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

import httpx2
import pytest

from openaibatching.server.domain.endpoints import ENDPOINTS, MODERATIONS
from openaibatching.server.domain.request import ID_PREFIX
from support.door import Door, refused
from support.world import KEY

JSON = {"Content-Type": "application/json"}
GOOD = b'{"model":"m","input":"x"}'
NOBODY = ID_PREFIX + "0" * 32


async def post(
    door: Door, body: bytes, headers: dict[str, str] = JSON, path: str = "/v1/responses"
) -> httpx2.Response:
    """The reply to a tenant that never has a request."""
    return await door.bad.post(path, content=body, headers=headers)


NO_OBJECTS = [
    b"",
    b"   ",
    b"hello",
    b"{",
    b'{"model":"m"',
    b'{"model":"m"} {}',
    b"[]",
    b'"text"',
    b"42",
    b"null",
    b'{"model":"m","input":"\xff"}',
    b'{"model":"m","input":"\xed\xa0\x80"}',
    b'{"model":"m","temperature":NaN}',
    b'{"model":"m","temperature":-Infinity}',
    b'{"model":"m","input":' + b"[" * 10_000 + b"]" * 10_000 + b"}",
    b'{"model":"m","input":' + b'{"a":' * 10_000 + b"1" + b"}" * 10_000 + b"}",
    b"[" * 2_000_000,
    b'{"model":"m","input":[' + b"[]," * 333_334 + b"[]]}",
    b'{"model":"m","metadata":{' + b'"a":1,' * 500_000 + b'"b":1}}',
]


async def test_a_body_that_is_no_json_object_is_refused(quiet: Door) -> None:
    for body in NO_OBJECTS:
        refused(await post(quiet, body), 400, "invalid_json")
    assert quiet.rows("bad") == 0


MODELS = [
    b"null",
    b"1",
    b"true",
    b'""',
    b"[]",
    b"{}",
    b'"a\\u0000"',
    b'"\\ud800"',
    b'"%s"' % (b"m" * 300),
]


async def test_a_model_that_is_missing_or_no_name_is_refused(quiet: Door) -> None:
    for model in MODELS:
        reply = await post(quiet, b'{"input":"x","model":%s}' % model)
        refused(reply, 400, "missing_required_parameter", "model")
    assert quiet.rows("bad") == 0


async def test_every_endpoint_wants_a_model_and_no_stream(quiet: Door) -> None:
    for path in ENDPOINTS:
        # Moderations have a default, if nothing is said at all.
        unnamed = b'{"model":null,"input":"x"}' if path == MODERATIONS else b'{"input":"x"}'
        reply = await post(quiet, unnamed, path=path)
        refused(reply, 400, "missing_required_parameter", "model")
        reply = await post(quiet, b'{"model":"m","stream":true}', path=path)
        refused(reply, 400, "streaming_unsupported", "stream")
        reply = await post(quiet, b'{"model":"m","background":true}', path=path)
        refused(reply, 400, "background_unsupported", "background")
    assert quiet.rows("bad") == 0


async def test_another_media_type_is_refused(quiet: Door) -> None:
    for media in ("text/plain", "application/jsonl", "multipart/form-data; boundary=x", ""):
        refused(await post(quiet, GOOD, {"Content-Type": media}), 415, "unsupported_media_type")
    assert quiet.rows("bad") == 0


WRONG_KEYS = (
    None,
    "",
    "Bearer",
    "Bearer wrong",
    f"Basic {KEY}",
    KEY,
    f"Bearer {KEY}x",
    b"Bearer \xff",
    b"\xf0\x9f",
)


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/v1/responses"),
        ("GET", "/v1/requests"),
        ("GET", f"/v1/responses/{NOBODY}"),
        ("GET", f"/v1/requests/{NOBODY}"),
        ("POST", f"/v1/requests/{NOBODY}/cancel"),
        ("POST", f"/v1/requests/{NOBODY}/retry"),
        ("DELETE", f"/v1/requests/{NOBODY}"),
        ("GET", "/metrics"),
    ],
)
async def test_a_wrong_or_missing_key_is_refused(quiet: Door, method: str, path: str) -> None:
    before = quiet.rows("default")
    content = GOOD if method == "POST" else None
    for authorization in WRONG_KEYS:
        headers: list[tuple[Any, Any]] = [(b"Content-Type", b"application/json")]
        if authorization is not None:
            headers.append((b"Authorization", authorization))
        reply = await quiet.nobody.request(method, path, content=content, headers=headers)
        refused(reply, 401, "invalid_api_key")
        assert reply.headers["www-authenticate"] == "Bearer"
    assert quiet.rows("default") == before


async def test_a_wrong_method_is_told_the_right_ones(quiet: Door) -> None:
    for method, path, allowed in (
        ("GET", "/v1/responses", {"POST"}),
        ("PUT", "/v1/chat/completions", {"POST"}),
        ("OPTIONS", "/v1/embeddings", {"POST"}),
        ("POST", f"/v1/responses/{NOBODY}", {"GET", "HEAD", "DELETE"}),
        ("PATCH", f"/v1/requests/{NOBODY}", {"GET", "HEAD", "DELETE"}),
        ("GET", f"/v1/requests/{NOBODY}/cancel", {"POST"}),
        ("POST", "/health", {"GET", "HEAD"}),
        ("GET", "/webhooks/openai", {"POST"}),
    ):
        reply = await quiet.client.request(method, path)
        refused(reply, 405, "method_not_allowed")
        assert set(reply.headers["allow"].split(", ")) == allowed


PATHS = [
    "/v1",
    "/v1/",
    "/v1/responses/",
    "/v1/files",
    "/v1/videos",
    "/responses",
    "/v1/requests/a/b/c",
    "/v1/requests/a%2Fb",
    "//v1/responses",
    "/%00",
    "/v1/%F0%9F%98%80",
    "/..%2f..%2fetc/passwd",
]


async def test_an_unknown_path_is_refused(quiet: Door) -> None:
    for path in PATHS:
        for method in ("GET", "POST"):
            reply = await quiet.client.request(method, quiet.service.url + path)
            refused(reply, 404, "unknown_endpoint")


NAMES = [
    NOBODY,
    "resp_nobody",
    "batchreq_",
    "batchreq_" + "0" * 31,
    "batchreq_" + "A" * 32,
    "batchreq_" + "\u0665" * 32,
    "%00",
    "a%00b",
    "%ff%fe",
    "%ED%A0%80",
    "\U0001f600",
    "x" * 5000,
    "' or 1=1 --",
    "%2e%2e",
    "%",
    "null",
]


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/v1/responses/{}"),
        ("GET", "/v1/chat/completions/{}"),
        ("GET", "/v1/requests/{}"),
        ("DELETE", "/v1/requests/{}"),
        ("DELETE", "/v1/responses/{}"),
        ("POST", "/v1/requests/{}/cancel"),
        ("POST", "/v1/responses/{}/cancel"),
        ("POST", "/v1/requests/{}/retry"),
        ("GET", "/v1/requests?after={}"),
    ],
)
async def test_an_id_that_does_not_exist_is_not_found(quiet: Door, method: str, path: str) -> None:
    for name in NAMES:
        target = path.format(quote(name, safe="%")).encode()
        url = httpx2.URL(quiet.service.url).copy_with(raw_path=target)
        refused(await quiet.client.request(method, url), 404, "not_found", "id")


async def test_a_limit_out_of_bounds_is_refused(quiet: Door) -> None:
    for limit in ("0", "101", "-1", "abc", "1.5", "1e1", "%00", "\u0665", "9" * 99, "+5"):
        reply = await quiet.client.get(f"/v1/requests?limit={limit}")
        refused(reply, 400, "invalid_value", "limit")


async def test_a_parameter_that_is_there_twice_is_refused_and_an_empty_one_is_none(
    quiet: Door,
) -> None:
    for name in ("limit", "status", "after"):
        reply = await quiet.client.get(f"/v1/requests?{name}=5&{name}=")
        refused(reply, 400, "invalid_value", name)
    assert (await quiet.client.get("/v1/requests?limit=&status=&after=")).status_code == 200


async def test_an_unknown_status_is_refused(quiet: Door) -> None:
    for status in ("done", "QUEUED", "%00", "queued,failed"):
        reply = await quiet.client.get(f"/v1/requests?status={status}")
        refused(reply, 400, "invalid_value", "status")


async def test_a_preference_that_is_not_understood_is_ignored(quiet: Door) -> None:
    for prefer in ("wait", "wait=soon", "wait=-1", "respond-async", '"', b"\xff=\xfe"):
        headers: Any = [(b"Prefer", prefer), (b"Content-Type", b"application/json")]
        reply = await quiet.client.post("/v1/responses", content=GOOD, headers=headers)
        assert reply.status_code == 202
        assert "preference-applied" not in reply.headers
