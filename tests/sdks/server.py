"""The batch server, as a test of somebody else's SDK sees it."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from urllib.request import Request, urlopen

from support.deadline import DEADLINE_S
from support.source import ROOT

PAGE = ROOT / "docs" / "any-sdk.md"
# What its examples print: before, and after.
PENDING = "Still in progress.. we should query it again after a few mins.\n"
ANSWER = "You said: Hello, world!\n"
WAIT = {"Prefer": "wait=540"}
Printed = Callable[..., str]


@dataclass(frozen=True)
class Server:
    """The server as a tenant sees it that only this test is: nothing finishes until `finish()`."""

    url: str
    key: str
    _control: str

    @property
    def base_url(self) -> str:
        return f"{self.url}/v1"

    def finish(self) -> None:
        """Let OpenAI finish what it has, and at once whatever it gets later in this test."""
        control(f"{self._control}/finish?key={self.key}")

    def requests(self) -> list[dict[str, Any]]:
        """The tenant's requests, newest first."""
        asked = Request(f"{self.url}/v1/requests?limit=100")
        asked.add_header("Authorization", f"Bearer {self.key}")
        with urlopen(asked, timeout=DEADLINE_S) as reply:
            return list(json.load(reply)["data"])


def control(url: str) -> Any:
    """Tell the servers what to do (tests/clients/served.py)."""
    with urlopen(Request(url, method="POST"), timeout=DEADLINE_S) as reply:
        return json.load(reply)
