"""The framing of calls, by two parsers: the server sees the calls that h11 sees, or refuses."""

from __future__ import annotations

from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st

from security.strategies import spoiled, steady
from security.two_parsers import h11_hears, we_hear

INNER = b"POST /v1/flush HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n"
HARMLESS = (
    b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c", b"Connection: upgrade",
    b"Upgrade: websocket", b"Connection: close", b"Connection: keep-alive", b"Expect: 100-continue",
    b"X: \xff\xfe", b"X:", b"Trailer: Content-Length", b"TE: trailers", b"Cookie: a=\"b\"",
)  # fmt: skip
DOUBTFUL = (
    b"Content-Length: 5", b"Content-Length: 0", b"Content-Length: 05", b"Content-Length: +5",
    b"Content-Length: 5, 5", b"Content-Length:", b"Content-Length: 0x5",
    b"Content-Length: 99999999999999999999", b"Content-Length : 5", b"Content_Length: 5",
    b" Content-Length: 5", b"X: y\rContent-Length: 5", b"X: y\nContent-Length: 5",
    b"Content-Length: 5\0", b"Content-Length: \t5\t", b"Content-Length: 5 5",
    b"Transfer-Encoding: chunked", b"Transfer-Encoding: CHUNKED", b"Transfer-Encoding: xchunked",
    b"Transfer-Encoding: identity", b"Transfer-Encoding: gzip, chunked", b"Transfer-Encoding:",
    b"Transfer-Encoding: chunked, identity", b"Transfer-Encoding: chunked, chunked",
    b"Transfer-Encoding:\x0bchunked", b"Transfer-Encoding: \"chunked\"",
    b"Transfer-encoding:chunked", b"Transfer-Encoding: chunked;q=1",
    b"Transfer-Encoding\t: chunked", b"Host: y", b"Host:", b"Host: x, y", b"Host: x\xff",
    b"\0: x", b":", b"x",
)  # fmt: skip
FIRST = (
    b"GET / HTTP/1.1", b"POST /a?b=c HTTP/1.1", b"HEAD / HTTP/1.1", b"DELETE /%00 HTTP/1.1",
    b"POST / HTTP/1.0", b"POST / HTTP/2.0", b"POST / HTTP/0.9", b"POST / HTTP/1.2", b"POST /",
    b"POST  / HTTP/1.1", b"POST / HTTP/1.1 ", b"post / HTTP/1.1", b"POST /\t HTTP/1.1",
    b"CONNECT x:80 HTTP/1.1", b"CONNECT / HTTP/1.1", b"OPTIONS * HTTP/1.1", b"PRI * HTTP/2.0",
    b"POST /\xff HTTP/1.1", b"POST /a\0 HTTP/1.1", b"\r\nPOST / HTTP/1.1",
)  # fmt: skip
CHUNKS = (
    b"5\r\nhello\r\n", b"05\r\nhello\r\n", b"5;a=b\r\nhello\r\n", b"5;a=\"\r\n\"\r\nhello\r\n",
    b"5 \r\nhello\r\n", b"5\nhello\n", b"0x5\r\nhello\r\n", b"5\r\nhelloX\r\n", b"5\r\nhell\r\n",
    b"FFFFFFFFFFFFFFFFF\r\n", b"-1\r\n", b"5\r\nhello", b"\r\n",
    b"%x\r\n%s\r\n" % (len(INNER), INNER),
)  # fmt: skip
ENDS = (
    b"0\r\n\r\n",
    b"0\r\nX: y\r\n\r\n",
    b"0\r\nContent-Length: 5\r\n\r\n",
    b"00\r\n\r\n",
    b"0\r\n",
    b"",
)


@st.composite
def sound(draw: st.DrawFn) -> tuple[bytes, bytes]:
    """A call as it goes over the wire, and its body."""
    body = draw(st.binary(max_size=30) | st.just(INNER))
    lines = [b"POST / HTTP/1.1", b"Host: x", *draw(st.lists(st.sampled_from(HARMLESS[:3])))]
    if draw(st.booleans()):
        lines.append(b"Content-Length: %d" % len(body))
        sent = body
    else:
        lines.append(b"Transfer-Encoding: chunked")
        at = draw(st.integers(0, len(body)))
        pieces = [b"%x\r\n%s\r\n" % (len(p), p) for p in (body[:at], body[at:]) if p]
        sent = b"".join(pieces) + b"0\r\n\r\n"
    lines[1:] = draw(st.permutations(lines[1:]))
    return b"\r\n".join(lines) + b"\r\n\r\n" + sent, body


@st.composite
def odd(draw: st.DrawFn) -> bytes:
    """Something like a call."""
    lines = [draw(st.sampled_from(FIRST[:4]) | st.sampled_from(FIRST)), b"Host: x"]
    lines += draw(st.lists(st.sampled_from(HARMLESS) | st.sampled_from(DOUBTFUL), max_size=3))
    chunks = st.lists(st.sampled_from(CHUNKS), max_size=3).map(b"".join)
    ends = st.sampled_from(ENDS)
    body: bytes = draw(
        st.sampled_from((b"", b"hello", INNER)) | st.builds(bytes.__add__, chunks, ends)
    )
    end: bytes = draw(st.sampled_from((b"\r\n\r\n",) * 8 + (b"\n\n", b"\r\n\n", b"\r\r\n")))
    return b"\r\n".join(lines) + end + body


def packets(data: bytes, cuts: list[int]) -> list[bytes]:
    """The bytes, cut in places that any numbers name."""
    places = sorted({cut % (len(data) + 1) for cut in cuts})
    return [data[a:b] for a, b in zip([0, *places], [*places, len(data)], strict=True) if a < b]


some_cuts = st.lists(st.integers(0, 10_000), max_size=8)


@given(calls=st.lists(sound(), min_size=1, max_size=4), cuts=some_cuts)
@steady
async def test_sound_calls_are_heard_as_they_are_whatever_the_packets(
    calls: Sequence[tuple[bytes, bytes]], cuts: list[int]
) -> None:
    whole = b"".join(sent for sent, _ in calls)
    heard = await we_hear(packets(whole, cuts))
    assert heard.calls == [(b"POST", b"/", body) for _, body in calls] == h11_hears(whole).calls
    assert not heard.closed


@given(whole=spoiled(st.lists(odd(), min_size=1, max_size=4).map(b"".join)), cuts=some_cuts)
@steady
async def test_of_odd_bytes_no_call_is_heard_that_another_parser_does_not_hear(
    whole: bytes, cuts: list[int]
) -> None:
    ours, theirs = await we_hear([whole]), h11_hears(whole)
    assert ours.calls == theirs.calls[: len(ours.calls)]
    assert ours.closed or len(ours.calls) == len(theirs.calls)
    assert await we_hear(packets(whole, cuts)) == ours
