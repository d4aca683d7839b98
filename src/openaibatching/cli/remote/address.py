"""Where the batch server is and what opens it, and what a reply means that is none of its own."""

from __future__ import annotations

import argparse
import os
from collections.abc import Mapping
from importlib import import_module
from typing import Any, NoReturn
from urllib.parse import urljoin

from openai import DefaultAsyncHttpxClient, OpenAIError

from openaibatching import surroundings
from openaibatching.cli.remote.exit_codes import Away, CannotRun
from openaibatching.client.options import DEFAULT_URL, api_url
from openaibatching.secret_file import from_file

HTTP: Any = import_module(DefaultAsyncHttpxClient.__mro__[1].__module__.partition(".")[0])
"""httpx with openai 2, httpx2 with openai 3."""

KEY = "BATCH_SERVER_API_KEY"
CONNECT_S = 10.0
TOO_BUSY = (408, 425, 429)
OF_THE_KEY = (401, 403)


def add_to(parser: argparse.ArgumentParser) -> None:
    """The option that says where the server is. Its key is no option: others would see it."""
    parser.add_argument(
        "--batch-server-url", metavar="URL",
        help=f"where the batch server is [BATCH_SERVER_URL, or {DEFAULT_URL}]",
    )  # fmt: skip


def address(url: str | None) -> tuple[str, str]:
    """The URL of the server's API, which ends in /v1, and its key. Raises CannotRun."""
    if why := surroundings.wrong():
        raise CannotRun(why)
    try:
        key = (from_file(KEY) or os.environ.get(KEY, "")).strip()
    except ValueError as error:
        raise CannotRun(str(error)) from None
    if not key or not (key.isascii() and key.isprintable()):
        raise CannotRun(f"set {KEY} in the environment to the batch server's key")
    given = url or os.environ.get("BATCH_SERVER_URL") or DEFAULT_URL
    try:
        HTTP.URL(given)
        return api_url(given), key
    except OpenAIError as error:
        raise CannotRun(str(error)) from None
    except (HTTP.InvalidURL, UnicodeError) as error:
        raise CannotRun(f"{given} is not a URL: {error}") from None


def refuse(shown: str, status: int, reason: str, headers: Mapping[str, str]) -> NoReturn:
    """Raise what a reply means that does not answer; `shown` is the server's URL."""
    told = f"{status} {reason}"
    if 300 <= status < 400:
        place = urljoin(f"{shown}/v1/", headers.get("location", "")).partition("?")[0]
        raise CannotRun(
            f"{shown} answers {told}, a redirect to {place}: set --batch-server-url to the "
            "batch server's own address"
        )
    if status >= 500 or status in TOO_BUSY:
        raise Away(f"{shown} answers {told}")
    if status == 401:
        raise CannotRun(f"{shown} answers {told}: BATCH_SERVER_API_KEY is not a key of this server")
    if status == 403:
        raise CannotRun(f"{shown} answers {told}: the scope of BATCH_SERVER_API_KEY is too small")
    if status == 413:
        raise CannotRun(f"{shown} answers {told}: let larger bodies pass the proxy before it")
    raise CannotRun(f"{shown} is no batch server: it answers {told}")


def said(error: Exception) -> str:
    """An error in words, even one that has none."""
    return str(error) or type(error).__name__
