"""A load balancer between a client and a server: TCP, with what the field has seen of them.

It cuts a connection on which nothing comes back for `silent_s` seconds, plays `troubles` to as many
connections, in order, before it passes any on, and refuses connections until it is opened.
"""

import select
import socket
import struct
import threading
from collections import deque
from urllib.parse import urlsplit

from support.deadline import DEADLINE_S

HTML_504 = (
    b"HTTP/1.1 504 Gateway Time-out\r\nContent-Type: text/html\r\nContent-Length: 28\r\n"
    b"Connection: close\r\n\r\n<html>Gateway Timeout</html>"
)
HTML_502 = HTML_504.replace(b"504 Gateway Time-out", b"502 Bad Gateway")
HALF = (
    b'HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 999\r\n\r\n{"id": "half'
)
CUT, RESET = b"", b"RESET"


class Balancer:
    """One on a free port of loopback, in front of the server at `behind`."""

    def __init__(self, behind: str, *, silent_s: float = 600.0) -> None:
        split = urlsplit(behind)
        assert split.hostname is not None
        assert split.port is not None
        self._behind = (split.hostname, split.port)
        self.silent_s = silent_s
        self.troubles: deque[bytes] = deque()
        self.cuts = 0
        self.asked: list[bytes] = []
        self._came = threading.Condition()
        self._listening = socket.socket()
        self._listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._listening.bind(("127.0.0.1", 0))  # bound, so that nobody else has the port
        self._closing = False
        self.url = f"http://127.0.0.1:{self._listening.getsockname()[1]}"
        self._thread = threading.Thread(target=self._accept)

    def open(self) -> "Balancer":
        """Until now connections are refused."""
        self._listening.listen()
        self._listening.settimeout(0.05)
        self._thread.start()
        return self

    def close(self) -> None:
        self._closing = True
        if self._thread.ident is not None:
            self._thread.join()
        self._listening.close()

    def wait_for(self, text: bytes) -> None:
        """Return when `text` has been in what a client sent."""
        with self._came:
            assert self._came.wait_for(
                lambda: any(text in asked for asked in self.asked), DEADLINE_S
            )

    def _accept(self) -> None:
        while not self._closing:
            try:
                client, _ = self._listening.accept()
            except TimeoutError:
                continue
            threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        client.settimeout(None)
        with client:
            if self.troubles:
                self._trouble(client, self.troubles.popleft())
                return
            with socket.create_connection(self._behind) as server:
                self._pass_on(client, server)

    def _trouble(self, client: socket.socket, trouble: bytes) -> None:
        self._note(client.recv(65536))
        if trouble is RESET:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        else:
            client.sendall(trouble)

    def _pass_on(self, client: socket.socket, server: socket.socket) -> None:
        while True:
            ready, _, _ = select.select([client, server], [], [], self.silent_s)
            if not ready:
                self.cuts += 1
                return
            for source in ready:
                data = source.recv(65536)
                if not data:
                    return
                if source is client:
                    self._note(data)
                (server if source is client else client).sendall(data)

    def _note(self, data: bytes) -> None:
        with self._came:
            self.asked.append(data)
            self._came.notify_all()
