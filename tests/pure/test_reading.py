"""Reading an HTTP request's headers: the key, the media type, how long to wait."""

from __future__ import annotations

import tracemalloc

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from starlette.requests import Request
from starlette.types import Message

from openaibatching.server import errors
from openaibatching.server.api.http import reading
from openaibatching.server.auth.keyring import Keyring
from openaibatching.server.database.pool import Database


async def no_body() -> Message:
    return {"type": "http.request"}


def request(**headers: str | list[str]) -> Request:
    pairs = [
        (name.replace("_", "-").encode(), text.encode("latin-1"))
        for name, value in headers.items()
        for text in ([value] if isinstance(value, str) else value)
    ]
    return Request({"type": "http", "headers": pairs}, no_body)


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        ("wait=10", 10),
        ("wait=0", 0),
        ("wait=0.25", 0.25),
        ('wait="10"', 10),
        ("WAIT = 10", 10),
        ("wait=10; foo=bar", 10),
        ("respond-async, wait=10", 10),
        ("respond-async,wait=10,handling=lenient", 10),
        ("wait=1, wait=2", 1),
        ("wait=soon, wait=2", 2),
        ("wait=600", 100),
        ("wait=" + "9" * 5000, 100),
        (['foo="a,b"', "wait=10"], 10),
    ],
)
def test_the_wait_is_read_and_held_below_the_most(header: str | list[str], seconds: float) -> None:
    assert reading.wait_s(request(prefer=header), 100) == seconds


@pytest.mark.parametrize(
    "header",
    [
        "",
        "wait",
        "wait=",
        "wait=soon",
        "wait=-1",
        "wait=+1",
        "wait=1e3",
        "wait=nan",
        "wait=inf",
        "wait=10s",
        "wait=10 20",
        "wait=\u00b2",
        "await=10",
        "foo; wait=10",
        'foo="x, wait=10"',
        "respond-async",
        '"',
        '"wait=10',
        ",,;;==",
    ],
)
def test_a_preference_that_is_not_understood_is_ignored(header: str) -> None:
    assert reading.wait_s(request(prefer=header), 100) is None


@settings(deadline=None)
@given(st.text(st.characters(max_codepoint=255), max_size=200))
def test_no_preference_whatsoever_is_an_error(header: str) -> None:
    wait = reading.wait_s(request(prefer=header), 100)
    assert wait is None or 0 <= wait <= 100


def test_a_very_long_preference_is_read_in_no_time() -> None:
    for header in (',"' * 30_000, '",' * 30_001, "=;" * 30_000, "wait=1x," * 8_000):
        assert reading.wait_s(request(prefer=header), 100) is None


KEYRING = Keyring({"alpha": "key-a", "beta": "key-b"}, Database("postgresql://nowhere.invalid/"))


@pytest.mark.parametrize("header", ["Bearer key-a", "bearer key-a", "BEARER  key-a "])
async def test_the_key_says_who_calls(header: str) -> None:
    assert await reading.tenant(request(authorization=header), KEYRING) == "alpha"


@pytest.mark.parametrize(
    "header",
    [
        "",
        "Bearer",
        "Bearer ",
        "Bearer key-c",
        "Basic key-a",
        "key-a",
        "Bearer key-a key-b",
        "Bearer \xff\x80",
    ],
)
async def test_any_other_key_is_refused(header: str) -> None:
    with pytest.raises(errors.InvalidApiKey):
        await reading.tenant(request(authorization=header), KEYRING)
    with pytest.raises(errors.InvalidApiKey):
        await reading.tenant(request(), KEYRING)


@pytest.mark.parametrize("media", ["application/json", "Application/JSON; charset=utf-8"])
async def test_json_is_taken(media: str) -> None:
    await reading.check_media(request(content_type=media), "application/json")
    await reading.check_media(request(), "application/json")


@pytest.mark.parametrize(
    "media", ["text/plain", "multipart/form-data; boundary=x", "", "application/jsonl"]
)
async def test_another_media_type_is_refused(media: str) -> None:
    with pytest.raises(errors.UnsupportedMediaType):
        await reading.check_media(request(content_type=media), "application/json")


TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"


@pytest.mark.parametrize(
    ("header", "kept"),
    [
        (f"00-{TRACE}-{SPAN}-01", True),
        (f" 00-{TRACE}-{SPAN}-03 ", True),
        (f"00-{TRACE}-{SPAN}-00", False),
        (f"00-{TRACE}-{SPAN}-02", False),
        (f"00-{'0' * 32}-{SPAN}-01", False),
        (f"00-{TRACE}-{'0' * 16}-01", False),
        (f"ff-{TRACE}-{SPAN}-01", False),
        (f"00-{TRACE.upper()}-{SPAN}-01", False),
        (f"00-{TRACE}-{SPAN}-01-more", False),
        (f"00-{TRACE}-{SPAN}-1", False),
        ("", False),
        ("nonsense", False),
    ],
)
def test_only_a_trace_that_is_sampled_is_kept(header: str, kept: bool) -> None:
    assert reading.traceparent(request(traceparent=header)) == (header.strip() if kept else None)


def test_a_call_without_a_trace_has_none() -> None:
    assert reading.traceparent(request()) is None


# ----- the body -----

PART = b"x" * 65_536


def sending(parts: list[bytes], **headers: str | list[str]) -> Request:
    """A request whose body comes in these parts."""
    left = iter([*parts, None])

    async def receive() -> Message:
        part = next(left)
        return {"type": "http.request", "body": part or b"", "more_body": part is not None}

    return Request({**request(**headers).scope}, receive)


@pytest.mark.parametrize("declared", [{}, {"content_length": "9"}, {"content_length": "7"}])
async def test_a_body_is_what_came_whatever_was_declared(declared: dict[str, str]) -> None:
    http = sending([b"123", b"", b"4567"], **declared)

    assert await reading.read_body(http, 100) == b"1234567"


async def test_a_body_of_a_known_length_is_not_put_together_at_the_end() -> None:
    size = 200 * len(PART)
    http = sending([PART] * 200, content_length=str(size))
    tracemalloc.start()
    try:
        body = await reading.read_body(http, size)
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert len(body) == size
    assert most < 1.5 * size  # twice, if its parts and the whole are there at a time
