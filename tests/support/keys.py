"""`openaibatching keys`, in this process."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any

import pytest

from openaibatching.cli.main import main


class KeysCommand:
    """The command on a database. `said` is what the last call wrote to stderr."""

    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self._capsys = capsys
        self.said = ""

    def __call__(self, *arguments: str, code: int = 0) -> str:
        """What the command writes to stdout. Its exit code has to be `code`."""
        self._capsys.readouterr()
        found = main(["keys", *arguments])
        out, self.said = self._capsys.readouterr()
        assert found == code, self.said
        return out

    def create(self, name: str, *more: str) -> str:
        """A new key."""
        return self("create", name, *more).removesuffix("\n")

    def listed(self, name: str) -> list[dict[str, Any]]:
        """The keys of that name, the oldest first."""
        return [key for key in json.loads(self("list", "--json")) if key["name"] == name]


async def beside(do: Callable[..., Any], *arguments: str) -> Any:
    """Do it in a thread, while the servers of this process go on."""
    return await asyncio.to_thread(do, *arguments)


def command(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """What a command writes to stdout; it has to succeed."""
    capsys.readouterr()
    code = main(list(arguments))
    out, said = capsys.readouterr()
    assert code == 0, said
    return out
