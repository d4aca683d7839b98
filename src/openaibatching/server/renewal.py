"""What is in files may change while a server runs: secrets and certificates, read again on SIGHUP.

All of it is taken, or none: what is wrong with the files is one log line, and the server goes on
with what it has.
"""

from __future__ import annotations

import asyncio
import os
import ssl
import sys
from collections.abc import Callable

from psycopg.conninfo import conninfo_to_dict
from pydantic import SecretStr

from openaibatching.server.config import settings as config_settings
from openaibatching.server.config.settings import Settings
from openaibatching.server.errors import ConfigError
from openaibatching.server.telemetry import logs

log = logs.get()

# What lets us into the same database, and is changed without moving it.
_OF_ACCESS = {"password", "passfile", "sslpassword", "sslcert", "sslkey", "sslrootcert", "sslcrl"}


async def run(
    asked: asyncio.Event, read: Callable[[], Settings], take: Callable[[Settings], list[str]]
) -> None:
    """Each time that it is asked for, read the settings and take them, until cancelled.

    `take` returns what has changed, and raises ConfigError if nothing of it can be taken.
    """
    while True:
        await asked.wait()
        asked.clear()
        try:
            changed = take(await asyncio.to_thread(read))
        except ConfigError as error:
            log.error("reload_refused", detail=str(error))
        except Exception as error:  # nobody else would hear the next signal
            log.error("reload_refused", exc_info=error)
        else:
            log.info("settings_reloaded", changed=changed)


def changed(old: Settings, new: Settings) -> list[str]:
    """The names of the secrets that differ. Raises ConfigError if the database is another one."""
    names = [name for name in config_settings.SECRETS if getattr(old, name) != getattr(new, name)]
    if "postgres_url" in names and _place(old.postgres_url) != _place(new.postgres_url):
        raise ConfigError("POSTGRES_URL names another database: restart the server for that")
    return [name.upper() for name in names]


def _place(url: SecretStr | None) -> dict[str, object]:
    parts = conninfo_to_dict(url.get_secret_value()) if url else {}
    return {name: value for name, value in parts.items() if name not in _OF_ACCESS}


def check_tls(settings: Settings) -> None:
    """Raises ConfigError for certificates that cannot be used."""
    tls_context(settings)


def tls_context(settings: Settings) -> ssl.SSLContext | None:
    """What the port speaks TLS with, if it does. Raises ConfigError."""
    if settings.ssl_certfile is None:
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    load_tls(context, settings)
    return context


def load_tls(context: ssl.SSLContext, settings: Settings) -> None:
    """Put the certificate of the settings into `context`, for connections that are made from now
    on. Raises ConfigError; check it elsewhere first, because then a context in use is spoilt."""
    assert settings.ssl_certfile is not None
    try:
        # A password, if only an empty one: without it, OpenSSL asks for one on the terminal.
        context.load_cert_chain(settings.ssl_certfile, settings.ssl_keyfile, password="")
    except (OSError, ssl.SSLError) as error:
        raise ConfigError(f"SSL_CERTFILE and SSL_KEYFILE cannot be used: {error}") from None


class Terminal:
    """The terminal that a server was started on. When it closes, that is a SIGHUP too."""

    def __init__(self) -> None:
        self._had_one = self._is_there()

    @property
    def is_gone(self) -> bool:
        """Whether there was one, and is no more."""
        return self._had_one and not self._is_there()

    def _is_there(self) -> bool:
        try:
            return os.isatty(sys.stdin.fileno())
        except (AttributeError, OSError, ValueError):  # none, or closed
            return False
