"""The keys of BATCH_SERVER_API_KEY, or the one that a server makes at its first start."""

from __future__ import annotations

import os
import secrets
import tempfile
from pathlib import Path

from openaibatching.server.config.settings import DEFAULT_TENANT, Settings, parse_keys
from openaibatching.server.errors import ConfigError

KEY_FILE = "api_key"


def keys(settings: Settings) -> tuple[dict[str, str], Path | None]:
    """({tenant: key}, the file that a key was just made in, or None)."""
    if settings.batch_server_api_key is not None:
        return parse_keys(settings.batch_server_api_key.get_secret_value()), None
    path = settings.data_dir / KEY_FILE
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        made = not path.exists() and _make_key(path)
        return {DEFAULT_TENANT: _read_own(path)}, path if made else None
    except OSError as error:
        raise ConfigError(f"DATA_DIR: the key cannot be kept there: {error}") from None


def _read_own(path: Path) -> str:
    """What is in a file that nobody else has written or can read. Raises OSError, ConfigError."""
    with path.open() as file:
        found = os.fstat(file.fileno())
        if found.st_uid not in (os.geteuid(), 0):
            raise ConfigError(f"DATA_DIR: {path} belongs to another user: delete it")
        if found.st_mode & 0o007:  # a group may be the volume driver's own
            raise ConfigError(f"DATA_DIR: other users can read or write {path}: make a new key")
        return file.read().strip()


def _make_key(path: Path) -> bool:
    """Put a new key there, whole or not at all; false if another server just did."""
    with tempfile.NamedTemporaryFile("w", dir=path.parent) as part:  # made with mode 0600
        part.write(secrets.token_urlsafe(32))
        part.flush()
        try:
            os.link(part.name, path)
        except FileExistsError:
            return False
    return True
