"""What the environment says about the way to other machines: proxies and certificates.

HTTP clients read these variables by themselves, and end in a traceback where one is wrong. Server
and commands ask here first; imports nothing of either.
"""

from __future__ import annotations

import os
import ssl
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import urlsplit

PROXIES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY")
_SOCKS = ("socks5", "socks5h")


def wrong() -> str | None:
    """One line that names the first variable that is wrong, and why; no value of a proxy, which may
    have a password in it."""
    return _certificates() or _proxies()


def _certificates() -> str | None:
    file, folder = os.environ.get("SSL_CERT_FILE"), os.environ.get("SSL_CERT_DIR")
    if file:
        try:
            ssl.create_default_context(cafile=file)
        except (OSError, ssl.SSLError) as error:
            why = error.strerror or str(error)
            return f"SSL_CERT_FILE: {file} cannot be used: {why}"
    if folder and not any(Path(part).is_dir() for part in folder.split(os.pathsep)):
        return f"SSL_CERT_DIR: {folder} is no folder"
    return None


def _proxies() -> str | None:
    if "*" in (os.environ.get("no_proxy") or os.environ.get("NO_PROXY") or "").split(","):
        return None  # none is used
    for name in (spelled for upper in PROXIES for spelled in (upper, upper.lower())):
        if (value := os.environ.get(name)) and (why := _wrong_proxy(value)):
            return f"{name}: {why}"
    return None


def _wrong_proxy(value: str) -> str | None:
    form = "it must look like http://host:port"
    try:
        parts = urlsplit(value if "://" in value else f"http://{value}")
        host, _ = parts.hostname, parts.port
    except ValueError:
        return f"not a proxy's URL: {form}"
    if parts.scheme in _SOCKS:
        if find_spec("socksio") is None:
            return "a SOCKS proxy needs one more package: pip install socksio"
    elif parts.scheme not in ("http", "https"):
        return f"a proxy cannot be reached by {parts.scheme}: {form}"
    return None if host else f"not a proxy's URL: {form}"
