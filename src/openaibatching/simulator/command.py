"""`openaibatching simulate`: the simulator alone, until it is interrupted."""

import argparse
import contextlib
import dataclasses
import signal
import textwrap
import threading
from collections.abc import Sequence

from openaibatching import terminal
from openaibatching.simulator.core import Simulator
from openaibatching.simulator.engine.account import Account
from openaibatching.simulator.engine.world import RECORDED, Lag
from openaibatching.simulator.faults.faults import Faults
from openaibatching.simulator.faults.markers import AT_VALIDATION, IN_RESULT
from openaibatching.simulator.running import running

PORT = 9488


def parser() -> argparse.ArgumentParser:
    """The command's arguments."""
    made = terminal.Parser(
        prog="openaibatching simulate",
        description="A stand-in for OpenAI's Files and Batches API, for tests and trials.\n"
        "Prints the base URL for the SDK, and runs until it is interrupted.",
        epilog=_epilog(),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    made.add_argument("--host", default="127.0.0.1", help="(default 127.0.0.1)")
    made.add_argument("--port", type=int, default=PORT, help=f"0 takes a free one (default {PORT})")
    made.add_argument(
        "--lag",
        type=_lag,
        default=5.0,
        metavar="S",
        help="seconds from create to completed (default 5); `recorded`: as long as at OpenAI",
    )
    made.add_argument(
        "--window",
        type=float,
        default=86400.0,
        metavar="S",
        help="seconds until a batch expires (default 86400)",
    )
    made.add_argument(
        "--cancel",
        type=float,
        metavar="S",
        help="seconds from cancelling to cancelled (default lag / 10, or as recorded)",
    )
    made.add_argument(
        "--api-key",
        action="append",
        metavar="KEY",
        help="a key that is accepted; repeatable (default any)",
    )
    made.add_argument(
        "--model",
        action="append",
        metavar="NAME",
        help="a model that there is; repeatable (default any but o3-pro)",
    )
    made.add_argument(
        "--creates-per-hour", type=int, default=2000, metavar="N", help="(default 2000)"
    )
    _add_trouble(made)
    return made


def _lag(text: str) -> Lag:
    return RECORDED if text == RECORDED else float(text)


def _add_trouble(made: argparse.ArgumentParser) -> None:
    """Options of what goes wrong, of limits and of events."""
    made.add_argument(
        "--seed", type=int, default=0, metavar="N", help="chooses which faults strike whom"
    )
    made.add_argument(
        "--fault",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="a probability such as lose_create_reply=0.05, or a duration; repeatable",
    )
    made.add_argument(
        "--account",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="the state of the account, such as credit_lines=100; repeatable",
    )
    made.add_argument("--webhook-url", metavar="URL", help="where batch.* events are sent")
    made.add_argument("--webhook-secret", metavar="SECRET", help="what signs them (whsec_…)")
    made.add_argument(
        "--token-limit",
        action="append",
        default=[],
        metavar="MODEL=N",
        help="enqueued input tokens allowed for a model; repeatable",
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Run until SIGINT or SIGTERM; prints the base URL. Returns the exit status."""
    options = parser().parse_args(argv)
    try:
        simulator = Simulator(
            lag=options.lag,
            window_s=options.window,
            cancel_s=options.cancel,
            api_keys=options.api_key,
            models=options.model,
            creates_per_hour=options.creates_per_hour,
            faults=_faults(options.seed, options.fault),
            account=_account(options.account),
            enqueued_token_limits={
                model: int(value) for model, value in map(_pair, options.token_limit)
            },
            webhook_url=options.webhook_url,
            webhook_secret=options.webhook_secret,
        )
    except ValueError as wrong:
        return _complain(str(wrong))
    stopped = threading.Event()
    with _on_signal(stopped):
        try:
            with running(simulator, options.host, options.port) as base_url:
                terminal.out(base_url)  # the one line of output
                stopped.wait()
        except (OSError, OverflowError, TypeError, UnicodeError) as failure:
            where = f"{options.host}:{options.port}"
            reason = getattr(failure, "strerror", None) or failure
            return _complain(f"cannot listen on {where}: {reason}")
    return 0


def _epilog() -> str:
    kinds = [field.name for field in dataclasses.fields(Faults) if field.name != "seed"]
    parts = {
        "Faults": [name for name in kinds if not _is_measure(name)],
        "Their measures (seconds, or reads)": list(filter(_is_measure, kinds)),
        "The account's state": [field.name for field in dataclasses.fields(Account)],
        "Markers in a body, as in [[simulate:status=500*2]]": sorted(AT_VALIDATION | IN_RESULT),
    }
    return "\n\n".join(
        f"{title}:\n" + textwrap.fill(" ".join(names), 78, initial_indent="  ",
                                      subsequent_indent="  ")
        for title, names in parts.items()
    )  # fmt: skip


def _is_measure(name: str) -> bool:
    return name.endswith("_s") or name == "content_reads"


def _faults(seed: int, given: Sequence[str]) -> Faults:
    kinds = {field.name: field.type for field in dataclasses.fields(Faults)}
    values: dict[str, float | int] = {}
    for name, value in map(_pair, given):
        if name not in kinds or name == "seed":
            raise ValueError(f"--fault {name}: no such fault; known are {', '.join(kinds)}")
        values[name] = int(value) if kinds[name] is int else float(value)
    return Faults(**{"seed": seed, **values})  # type: ignore[arg-type]


def _account(given: Sequence[str]) -> Account:
    kinds = {field.name: field.type for field in dataclasses.fields(Account)}
    values: dict[str, str | int | float] = {}
    for name, _, value in (text.partition("=") for text in given):
        if name not in kinds or not value:
            raise ValueError(f"--account {name}: expected NAME=VALUE, of {', '.join(kinds)}")
        values[name] = value if kinds[name] is str else float(value)
    return Account(**values)  # type: ignore[arg-type]


def _pair(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not name or not equals or not value.replace(".", "", 1).isdecimal():
        raise ValueError(f"{text}: expected NAME=NUMBER")
    return name, value


def _complain(message: str) -> int:
    terminal.say(f"openaibatching simulate: {message}")
    return 1


@contextlib.contextmanager
def _on_signal(stopped: threading.Event):  # type: ignore[no-untyped-def]
    """Let SIGINT and SIGTERM set the event, and put the old handlers back afterwards."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    names = (signal.SIGINT, signal.SIGTERM)
    old = {name: signal.signal(name, lambda *_: stopped.set()) for name in names}
    try:
        yield
    finally:
        for name, handler in old.items():
            signal.signal(name, handler)
