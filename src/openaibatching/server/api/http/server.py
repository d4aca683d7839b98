"""The web server: the port that it listens on, and uvicorn with our limits."""

from __future__ import annotations

import contextlib
import errno
import socket

import uvicorn

from openaibatching.server.api.http.limits import Connections, backlog
from openaibatching.server.config.settings import Settings
from openaibatching.server.errors import ConfigError

CLOSE_S = 3
_PORT_ERRORS = (errno.EADDRINUSE, errno.EACCES)


def listen(settings: Settings) -> socket.socket:
    """Take the port. Raises ConfigError when it is in use."""
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    # By its protocol asyncio knows that it may send at once what does not fill a packet. Else the
    # second half of a short reply waits for the caller's kernel: 40 ms with each call.
    listening = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((settings.host, settings.port))
    except (OSError, UnicodeError) as error:  # UnicodeError: a name that cannot be one
        listening.close()
        name = "PORT" if getattr(error, "errno", None) in _PORT_ERRORS else "HOST"
        raise ConfigError(
            f"{name}: cannot listen on {settings.host}:{settings.port}: "
            f"{getattr(error, 'strerror', None) or error}"
        ) from None
    return listening


def web_server(settings: Settings, app: object, connections: Connections) -> uvicorn.Server:
    """uvicorn for this app, whose connections keep our limits."""
    config = uvicorn.Config(
        app,  # type: ignore[arg-type]
        http=connections.factory,  # type: ignore[arg-type]
        ws="none",
        log_config=None,
        access_log=False,
        lifespan="off",
        timeout_graceful_shutdown=CLOSE_S,
        timeout_keep_alive=75,
        server_header=False,
        proxy_headers=False,  # nobody reads who the client is
        backlog=backlog(),
    )
    server = uvicorn.Server(config)
    # The process has one handler of signals (`serve`), not one in every library.
    server.capture_signals = contextlib.nullcontext  # type: ignore[method-assign,assignment]
    return server
