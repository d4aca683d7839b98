"""Bodies as tools write them: a byte order mark is skipped, what is no plain UTF-8 is named."""

from __future__ import annotations

import gzip
import json
import zlib

import httpx2
import pytest

from openaibatching.server.api.http import reading
from support.door import Door, refused
from support.wire import Wire
from support.world import KEY

BOM = b"\xef\xbb\xbf"
BODY = b'{"model":"m","input":"with a mark"}'
LINE = b'{"custom_id":"a","method":"POST","url":"/v1/responses","body":%s}\n' % BODY
ZSTD = b"\x28\xb5\x2f\xfd" + b"\0" * 20
CALLS = [("/v1/responses", "application/json", BODY), ("/v1/requests", "application/jsonl", LINE)]


async def post(door: Door, path: str, media: str, body: bytes, **more: str) -> httpx2.Response:
    return await door.client.post(path, content=body, headers={"Content-Type": media, **more})


async def test_a_byte_order_mark_is_skipped(quiet: Door) -> None:
    plain, marked = [
        await post(quiet, "/v1/responses", "application/json", each) for each in (BODY, BOM + BODY)
    ]
    assert marked.status_code == 202
    assert marked.json()["id"] == plain.json()["id"]
    lines = await post(
        quiet, "/v1/requests", "application/jsonl", BOM + LINE.replace(b"\n", b"\r\n")
    )
    (line,) = lines.text.splitlines()
    assert json.loads(line)["id"] == plain.json()["id"]
    assert (await post(quiet, "/v1/requests", "application/jsonl", BOM)).content == b""


async def test_a_byte_order_mark_is_skipped_however_it_is_cut(quiet: Door) -> None:
    wire = await Wire.to(quiet.service)
    head = (
        "POST /v1/requests HTTP/1.1\r\nHost: x\r\nContent-Type: application/jsonl\r\n"
        f"Authorization: Bearer {KEY}\r\nTransfer-Encoding: chunked\r\n"
        "Connection: close\r\n\r\n"
    )
    await wire.send(head.encode())
    for cut in (BOM[:1], BOM[1:2], BOM[2:] + LINE[:1], LINE[1:]):
        await wire.send(b"%x\r\n%s\r\n" % (len(cut), cut))
    await wire.send(b"0\r\n\r\n")
    reply = await wire.rest()
    await wire.close()
    assert b'"custom_id":"a","response":{"status_code":202' in reply


@pytest.mark.parametrize(("path", "media", "body"), CALLS)
@pytest.mark.parametrize("coding", ["gzip", "br", "deflate", "gzip, identity", "nonsense"])
async def test_a_content_encoding_is_refused_by_its_name(
    quiet: Door, path: str, media: str, body: bytes, coding: str
) -> None:
    more = {"Content-Encoding": coding}
    reply = await post(quiet, path, media, gzip.compress(body), **more)
    assert f"Content-Encoding: {coding}" in refused(reply, 415, "unsupported_media_type")
    assert reply.headers["accept-encoding"] == "identity"
    assert (await post(quiet, path, media, body, **{"Content-Encoding": "identity"})).is_success


@pytest.mark.parametrize(("path", "media", "body"), CALLS)
async def test_a_body_that_is_no_plain_utf_8_is_refused_by_its_name(
    quiet: Door, path: str, media: str, body: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    # What has come to its end is not waited for: a refusal comes at once.
    monkeypatch.setattr(reading, "BODY_IDLE_S", 36_000.0)
    text = body.decode()
    for encoded, name in (
        (gzip.compress(body), "gzip"),
        (gzip.compress(body * 20_000, 0), "gzip"),  # more than is sent at once
        (ZSTD, "zstd"),
        (b"PK\x03\x04rest", "zip"),
        (text.encode("utf-16"), "UTF-16"),
        (text.encode("utf-16-le"), "UTF-16"),
        (text.encode("utf-16-be"), "UTF-16"),
        (text.encode("utf-32"), "UTF-32"),
        (text.encode("utf-32-be"), "UTF-32"),
    ):
        assert name in refused(await post(quiet, path, media, encoded), 400, "invalid_json")


async def test_a_line_that_begins_with_nonsense_harms_no_other(quiet: Door) -> None:
    for start in (b"\0", b"{\0", b"\xff", zlib.compress(b"x")):
        lines = await post(quiet, "/v1/requests", "application/jsonl", start + b"\n" + LINE)
        bad, good = [json.loads(line)["response"] for line in lines.text.splitlines()]
        assert (bad["status_code"], bad["body"]["error"]["code"]) == (400, "invalid_json")
        assert good["status_code"] == 202
