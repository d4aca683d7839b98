"""Where a call ends and the next one begins: what a proxy takes for a body is never read as a call.

httptools reads HTTP as strictly as we need, but for what is here. It is kept for its speed: with
h11 as uvicorn's parser a call costs 100 us of processor time in place of 26, and uvicorn's class
would have to be extended all the same, for the limits in api/http/limits.py.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from httptools import HttpParserUpgrade, HttpRequestParser
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from openaibatching.server import errors
from openaibatching.server.api.http.reading import ARRIVED
from openaibatching.server.api.http.whole_reply import TAKEN, Exchange

VERSIONS = ("1.1", "1.0")
_FRAMING = (b"content-length", b"transfer-encoding")
# RFC 3986, 3.2.2, without a comma: two Hosts that somebody joined are not one.
_HOST = re.compile(rb"[A-Za-z0-9\-._~%!$&'()*+;=:\[\]]*")


def check_head(method: bytes, version: str, headers: Iterable[tuple[bytes, bytes]]) -> None:
    """Raises InvalidHttp for a head that two servers may read differently; `headers` have names
    in lower case. (RFC 9112, 3.2 and 6.1.)"""
    if version not in VERSIONS or method == b"CONNECT":
        raise errors.InvalidHttp
    hosts = 0
    for name, value in headers:
        if name == b"host":
            hosts += 1
            if not _HOST.fullmatch(value):
                raise errors.InvalidHttp("The Host header is not the name of a host.")
        elif name == b"transfer-encoding" and (version == "1.0" or value.lower() != b"chunked"):
            raise errors.InvalidHttp("The only Transfer-Encoding is 'chunked', of HTTP/1.1.")
    if hosts > 1 or (hosts == 0 and version == "1.1"):
        raise errors.InvalidHttp("There must be one Host header.")


class Framing(HttpToolsProtocol):
    """uvicorn's protocol, for callers that may want to confuse a proxy."""

    _resuming = False

    def feed(self, data: bytes) -> None:
        """Read what has come. Raises HttpParserError for what is not HTTP/1.1."""
        rest = memoryview(data)
        while rest:
            try:
                self.parser.feed_data(rest)
                return
            except HttpParserUpgrade as stopped:
                rest = rest[stopped.args[0] :]
                self._ignore_upgrade()

    def _ignore_upgrade(self) -> None:
        """Go on with the body of a call whose head offers another protocol, such as h2c.

        httptools takes all behind that head for the other protocol, even if nobody wants it, and
        has no way to decline. So another parser, which has read the same framing without the
        offer, reads on.
        """
        self.parser = HttpRequestParser(self)
        self.parser.set_dangerous_leniencies(lenient_data_after_close=True)  # as uvicorn does
        framing = [
            b"%s: %s\r\n" % header for header in self.scope["headers"] if header[0] in _FRAMING
        ]
        self._resuming = True
        try:
            self.parser.feed_data(b"POST / HTTP/1.1\r\n%s\r\n" % b"".join(framing))
        finally:
            self._resuming = False

    def on_message_begin(self) -> None:
        if not self._resuming:
            super().on_message_begin()

    def on_headers_complete(self) -> None:
        if self._resuming:
            return
        check_head(self.parser.get_method(), self.parser.get_http_version(), self.headers)
        super().on_headers_complete()
        self.cycle.__class__ = Exchange  # uvicorn lets nobody choose
        self.scope[TAKEN] = True  # type: ignore[literal-required]
        self.headers = []  # trailers come here, and not to the headers (RFC 9110, 6.5.1)

    def on_message_complete(self) -> None:
        if not self.parser.should_upgrade():  # else its body is still to come
            self.scope[ARRIVED] = True  # type: ignore[literal-required]
            super().on_message_complete()
