"""`openaibatching flush`: what is queued is sent now."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import Any

from openaibatching.cli.remote import command
from openaibatching.cli.remote.api_client import Server
from openaibatching.cli.remote.exit_codes import DONE
from openaibatching.cli.remote.page import Column, Kind, Page, Table


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; its exit code."""
    return command.run(parser(), arguments)


def parser() -> argparse.ArgumentParser:
    """What the command takes."""
    made = command.parser(
        "flush",
        "Send what this key's tenant has queued now, before BATCH_LINGER_S has passed. "
        "OpenAI's limits are kept all the same.",
    )
    command.asks(made, flush)
    return made


def flush(server: Server, options: argparse.Namespace) -> int:
    """Send what is queued."""
    command.show(options, server.post("/flush"), flushed)
    return DONE


def flushed(data: dict[str, Any]) -> Page:
    """How many were queued."""
    return [Table((Column("flushed requests", Kind.NUMBER),), [(data["requests"],)])]
