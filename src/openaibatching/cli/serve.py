"""`openaibatching serve`: the service, with a flag for each of its settings."""

from __future__ import annotations

import argparse
import asyncio
from collections.abc import Callable, Sequence
from typing import Any

from openaibatching import terminal
from openaibatching.server.config import settings as config_settings
from openaibatching.server.errors import ConfigError
from openaibatching.server.telemetry import logs


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the service until it is told to stop; the exit code."""
    flags = vars(parser().parse_args(arguments))
    try:
        settings = config_settings.load(flags)
        logs.configure(settings.log_format, settings.log_level)
        from openaibatching.server.app import serve  # after: a bad setting is said at once

        _run(lambda: serve(settings, lambda: config_settings.load(flags)))
    except ConfigError as error:
        terminal.say(f"openaibatching: {error}")
        return 2
    return 0


def parser() -> argparse.ArgumentParser:
    """One flag for every setting but the secrets, which are environment only."""
    made = terminal.Parser(
        prog="openaibatching serve",
        description="Run the service. Every flag is also an environment variable; a flag wins.",
        epilog="From the environment only: "
        + ", ".join(name.upper() for name in config_settings.SECRETS)
        + ". Each of these can be in a file, which NAME_FILE names.",
    )  # fmt: skip
    for name, field in config_settings.Settings.model_fields.items():
        if name not in config_settings.SECRETS:
            default = "" if field.default_factory or field.default is None else field.default
            made.add_argument(
                "--" + name.replace("_", "-"),
                metavar=name.upper(),
                help=f"{field.description} [{default}]" if default != "" else field.description,
            )
    return made


def _run(main_: Callable[[], Any]) -> None:
    try:
        import uvloop
    except ModuleNotFoundError:  # no wheel for this platform
        asyncio.run(main_())
    else:
        uvloop.run(main_())
