"""The API of a batch server, through our own client: one question, one reply."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

import openai

from openaibatching.cli.remote.address import CONNECT_S, HTTP, OF_THE_KEY, TOO_BUSY, refuse, said
from openaibatching.cli.remote.exit_codes import Away, CannotRun, SaidNo
from openaibatching.client.sync import OpenAIBatching

REPLY_S = 60.0


@dataclass(frozen=True)
class Reply:
    """A JSON object: the server's own bytes, and what they say."""

    text: str
    data: dict[str, Any]


class Server:
    """A batch server. Every method raises Away, CannotRun, or SaidNo."""

    def __init__(self, api_url: str, key: str) -> None:
        """`api_url` ends in /v1."""
        self.shown = api_url.removesuffix("/v1")
        # Nothing is tried again here: whoever asked is there and can, and a watch does.
        self._client = OpenAIBatching(
            batch_server_url=api_url,
            batch_server_api_key=key,
            max_retries=0,
            timeout=openai.Timeout(REPLY_S, connect=CONNECT_S),
        )

    def close(self) -> None:
        """Close its connections."""
        self._client.close()

    def get(self, path: str, **query: object) -> Reply:
        """What is there; a query of None is left out."""
        given: Any = {"params": {name: v for name, v in query.items() if v is not None}}
        return self._asked(self._client.get, path, options=given)

    def post(self, path: str, body: object = None, *, member: str = "object") -> Reply:
        """Have something done; the reply has this member."""
        return self._asked(self._client.post, path, member, body=body)

    def _asked(self, ask: Any, path: str, member: str = "object", **options: Any) -> Reply:
        try:
            reply = ask(path, cast_to=HTTP.Response, **options)
        except openai.APIStatusError as error:
            self._refused(error)
        except openai.APIConnectionError as error:
            cause = error.__cause__
            why = said(cause) if isinstance(cause, Exception) else said(error)
            raise Away(f"{self.shown} cannot be reached: {why}") from None
        except (HTTP.HTTPError, HTTP.InvalidURL, UnicodeError) as error:
            raise CannotRun(f"{self.shown} cannot be reached: {said(error)}") from None
        try:
            text = reply.content.decode()
            data = json.loads(text)
        except ValueError:
            data = None
        if not isinstance(data, dict) or member not in data:
            raise CannotRun(f"{self.shown} is no batch server")
        return Reply(text, data)

    def _refused(self, error: openai.APIStatusError) -> None:
        """Raise what a reply that is no success means."""
        status, code = error.status_code, error.code
        own = isinstance(error.body, dict) and "message" in error.body and status < 500
        final = error.response.headers.get("x-should-retry") == "false"
        if code == "unknown_endpoint":
            raise CannotRun(
                f"{self.shown} does not know this command: it is an older server"
            ) from None
        if own and status not in OF_THE_KEY and (final or status not in TOO_BUSY):
            assert isinstance(error.body, dict)
            raise SaidNo(f"{error.body['message']} ({code})" if code else error.body["message"])
        refuse(self.shown, status, error.response.reason_phrase, error.response.headers)


def at(*parts: str) -> str:
    """The path of a thing; an id may be any text."""
    return "".join("/" + quote(part, safe="") for part in parts)
