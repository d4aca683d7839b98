"""Where the batch server is, what opens it, and which options the clients take."""

import os
from collections.abc import Mapping
from typing import Any, TypedDict

from openai import NotGiven, OpenAIError, Timeout

DEFAULT_URL = "http://localhost:9487"


class Options(TypedDict, total=False):
    """The options of the official clients that make sense here; all of them are passed through."""

    api_key: Any
    base_url: Any
    organization: str | None
    project: str | None
    webhook_secret: str | None
    websocket_base_url: Any
    timeout: float | Timeout | NotGiven | None
    max_retries: int
    default_headers: Mapping[str, str] | None
    default_query: Mapping[str, object] | None
    http_client: Any  # httpx.Client with openai 2, httpx2.Client with openai 3
    _strict_response_validation: bool


class CopyOptions(Options, total=False):
    """What `copy()` and `with_options()` take besides."""

    set_default_headers: Mapping[str, str] | None
    set_default_query: Mapping[str, object] | None


def located(url: str | None, key: str | None, options: Mapping[str, Any]) -> dict[str, Any]:
    """The official options for a new client: `options` with `base_url` and `api_key` settled.

    Nothing is left for the official client to read from the environment: `OPENAI_API_KEY` and
    `OPENAI_BASE_URL` belong to OpenAI, and a batch server must never be shown that key. Raises
    `OpenAIError` when there is no key, or when an option is given under both of its names.
    """
    settled = renamed(url, key, options)
    if not settled.get("base_url"):
        settled["base_url"] = api_url(os.environ.get("BATCH_SERVER_URL") or DEFAULT_URL)
    if not settled.get("api_key"):
        settled["api_key"] = os.environ.get("BATCH_SERVER_API_KEY")
    if not settled["api_key"]:
        raise OpenAIError(
            "The batch server's key is missing: pass `batch_server_api_key` or set the "
            "BATCH_SERVER_API_KEY environment variable. (OPENAI_API_KEY is not used here: it "
            "belongs to the server.)"
        )
    return settled


def renamed(url: str | None, key: str | None, options: Mapping[str, Any]) -> dict[str, Any]:
    """`options` with our two names for `base_url` and `api_key` replaced by the official ones."""
    settled = dict(options)
    for ours, official, value in (
        ("batch_server_url", "base_url", url and api_url(url)),
        ("batch_server_api_key", "api_key", key),
    ):
        if not value:
            continue
        if settled.get(official):
            raise OpenAIError(f"`{ours}` and `{official}` mean the same: pass only one of them.")
        settled[official] = value
    return settled


def api_url(server_url: str) -> str:
    """The URL of the API of the server at `server_url`, which may already end in `/v1`."""
    url = server_url.strip().rstrip("/")
    if not url.startswith(("http://", "https://")):
        raise OpenAIError(
            f"The batch server's URL must begin with http:// or https://, not {server_url!r}."
        )
    return url.removesuffix("/v1").rstrip("/") + "/v1"


def without_environment(client: Any, options: Mapping[str, Any]) -> None:
    """Take back what the official constructor read from OPENAI_* variables.

    They describe the way to OpenAI. An admin key, an organization or an `Authorization` among
    OPENAI_CUSTOM_HEADERS would otherwise be sent to the batch server.
    """
    client.admin_api_key = options.get("admin_api_key")
    client.organization = options.get("organization")
    client.project = options.get("project")
    client._custom_headers = dict(options.get("default_headers") or {})
