"""The `openaibatching` command: serve, run, simulate, demo; each only puts the parts together."""

from __future__ import annotations

import argparse
import asyncio
import sys
from collections.abc import Callable, Sequence
from importlib.metadata import version
from typing import Any

NEEDS_SERVER = "this command needs the server: pip install 'openaibatching[server]'"


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; its exit code. Errors are one line on stderr."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    command = arguments[0] if arguments else ""
    try:
        if command == "serve":
            return _serve(arguments[1:])
        if command == "simulate":
            from openaibatching.simulator import command as simulate

            return simulate.main(arguments[1:])
        if command == "run":
            from openaibatching.run import command as run

            return run.main(arguments[1:])
        if command == "keys":
            from openaibatching.keys import command as keys

            return keys.main(arguments[1:])
    except ModuleNotFoundError as error:
        if (error.name or "").startswith("openaibatching"):
            raise
        return _fail(f"{NEEDS_SERVER} ({error.name} is not installed)")
    parser = argparse.ArgumentParser(
        prog="openaibatching",
        description="OpenAI's half-price Batch API behind the ordinary call.",
    )
    parser.add_argument("--version", action="version", version=version("openaibatching"))
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("serve", help="run the service")
    commands.add_parser("run", help="send a batch input file to the service, and get its answers")
    commands.add_parser("keys", help="make, list, rotate and revoke the keys that callers present")
    commands.add_parser("simulate", help="run OpenAI's side alone, for trying and testing")
    commands.add_parser("demo", help="server, database and simulator at once: one call, answered")
    parser.parse_args(arguments)
    return _demo()


def _fail(message: str) -> int:
    print(f"openaibatching: {message}", file=sys.stderr)
    return 2


def _serve(arguments: Sequence[str]) -> int:
    from openaibatching.server import config, journal
    from openaibatching.server.errors import ConfigError

    flags = vars(_serve_parser().parse_args(arguments))
    try:
        settings = config.load(flags)
        journal.configure(settings.log_format, settings.log_level)
        from openaibatching.server.service import serve  # after: a bad setting is said at once

        _run(lambda: serve(settings))
    except ConfigError as error:
        return _fail(str(error))
    return 0


def _run(main_: Callable[[], Any]) -> None:
    try:
        import uvloop
    except ModuleNotFoundError:  # no wheel for this platform
        asyncio.run(main_())
    else:
        uvloop.run(main_())


def _serve_parser() -> argparse.ArgumentParser:
    """One flag for every setting but the secrets, which are environment only."""
    from openaibatching.server.config import SECRETS, Settings

    parser = argparse.ArgumentParser(
        prog="openaibatching serve",
        description="Run the service. Every flag is also an environment variable; a flag wins.",
        epilog="From the environment only: " + ", ".join(name.upper() for name in SECRETS) + ".",
    )
    for name, field in Settings.model_fields.items():
        if name not in SECRETS:
            default = "" if field.default_factory or field.default is None else field.default
            parser.add_argument(
                "--" + name.replace("_", "-"),
                metavar=name.upper(),
                help=f"{field.description} [{default}]" if default != "" else field.description,
            )
    return parser


def _demo() -> int:
    try:
        from openaibatching.demo import run
    except ModuleNotFoundError as error:
        if (error.name or "").startswith("openaibatching"):
            raise
        return _fail(f"{NEEDS_SERVER} ({error.name} is not installed)")
    return run()
