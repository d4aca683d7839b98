"""The demonstration: a server with its embedded PostgreSQL, the simulator in OpenAI's place, and
the call of the README, asked twice."""

from __future__ import annotations

import argparse
import secrets
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from openaibatching import OpenAIBatching, Response, terminal
from openaibatching.server.app import in_thread
from openaibatching.server.config.settings import Settings
from openaibatching.server.errors import ConfigError
from openaibatching.simulator import Simulator, running

LAG_S = 3.0
POLL_S = 0.5


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the demonstration; 0 when the call was answered."""
    parser().parse_args(arguments)
    key = secrets.token_urlsafe(16)
    terminal.out("Starting a simulator of OpenAI, a PostgreSQL and the batch server …")
    try:
        with (
            tempfile.TemporaryDirectory(prefix="openaibatching-demo-") as folder,
            running(Simulator(lag=LAG_S)) as upstream,
            in_thread(settings(upstream, key, Path(folder))) as url,
        ):
            return _call(url, key)
    except ConfigError as error:
        terminal.say(f"openaibatching: {error}")
        return 2


def parser() -> argparse.ArgumentParser:
    """What the command takes: nothing."""
    return terminal.Parser(
        prog="openaibatching demo",
        description="A server with its embedded PostgreSQL, and the simulator in OpenAI's place: "
        "the call of the README, asked until it is answered.",
    )


def settings(upstream: str, key: str, folder: Path) -> Settings:
    """Settings of the demonstration's server."""
    given: dict[str, Any] = {
        # Nothing is read from the environment: its POSTGRES_URL may name a database that matters.
        "_env_prefix": "OPENAIBATCHING_DEMO_",
        "openai_api_key": "sk-simulated",
        "openai_base_url": upstream,
        "batch_server_api_key": key,
        "data_dir": folder,
        "port": 0,
        "batch_linger_s": 0.2,
        "batch_poll_s": POLL_S,
    }
    return Settings(**given)


def _call(url: str, key: str) -> int:
    """The call of the README, and the same call again until it is answered."""
    terminal.out(f"The batch server listens on {url}\n")
    with OpenAIBatching(batch_server_url=url, batch_server_api_key=key) as client:
        terminal.out('client.responses.create(model="gpt-4o", input="Hello, world!")')
        response = client.responses.create(model="gpt-4o", input="Hello, world!")
        if not response.has_completed:
            terminal.out("Still in progress.. we should query it again after a few mins.")
        response = client.with_options(wait=True).responses.create(
            model="gpt-4o", input="Hello, world!"
        )
    terminal.out("\nThe same call, later:")
    terminal.out(response.output_text)
    _print_price(response)
    return 0 if response.has_completed else 1


def _print_price(response: Response) -> None:
    usage, cost = response.usage, response.batching.cost
    assert usage is not None
    assert cost is not None
    terminal.out(
        f"\n{usage.input_tokens} tokens in, {usage.output_tokens} out: at OpenAI's prices "
        f"${cost.paid:.7f} by batch, ${cost.realtime:.7f} in real time."
    )
