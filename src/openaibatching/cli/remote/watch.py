"""The same page again and again: in place on a terminal, else one after the other."""

from __future__ import annotations

import argparse
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Protocol

from openaibatching import terminal
from openaibatching.cli.remote import formatting, screen
from openaibatching.cli.remote.api_client import Reply, Server
from openaibatching.cli.remote.exit_codes import DONE, Away
from openaibatching.cli.remote.page import Note, Page

Draw = Callable[[dict[str, Any]], Page]


class Watched(Protocol):
    """Where the looks are shown."""

    def look(self, reply: Reply) -> None:
        """How things are now."""

    def away(self, why: str) -> None:
        """The server cannot say at the moment."""


class InTurn:
    """Not drawn: a page, or the API's JSON, after the other; trouble on stderr, once until it is
    over."""

    def __init__(self, draw: Draw, *, json: bool) -> None:
        self._draw, self._json, self._away = draw, json, False

    def look(self, reply: Reply) -> None:
        """See Watched."""
        if self._away:
            terminal.say("The batch server answers again")
        self._away = False
        if self._json:
            terminal.out_json(reply.text.strip())
        else:
            terminal.out(screen.plain(self._draw(reply.data)) + "\n")

    def away(self, why: str) -> None:
        """See Watched."""
        if not self._away:
            terminal.say(f"{why}: trying again until it works")
        self._away = True


class InPlace:
    """A terminal: each page takes the place of the one before."""

    def __init__(self, draw: Draw, live: Any) -> None:
        self._draw, self._live = draw, live
        self._last: Page = ()
        self._away_since = 0.0

    def look(self, reply: Reply) -> None:
        """See Watched."""
        self._last, self._away_since = self._draw(reply.data), 0.0
        self._show(self._last)

    def away(self, why: str) -> None:
        """See Watched."""
        self._away_since = self._away_since or time.time()
        since = formatting.when(self._away_since)
        trouble = Note(f"{why}, since {since}: trying again until it works", urgent=True)
        # First, because the end of a page that is longer than the terminal is not seen.
        self._show([trouble, *self._last])

    def _show(self, page: Page) -> None:
        # The width is asked for each time: the terminal may be made wider.
        self._live.update(screen.drawn(page, self._live.console.width), refresh=True)


def watch(server: Server, path: str, options: argparse.Namespace, draw: Draw) -> int:
    """Look every `options.every` seconds until interrupted; the exit code.

    The first look has to succeed: a wrong address is said at once. Later ones may fail for a while.
    """
    if threading.current_thread() is threading.main_thread():
        # So that a terminal gets its cursor back.
        signal.signal(signal.SIGTERM, signal.default_int_handler)
    reply = server.get(path)
    try:
        with _watched(options, draw) as watched:
            watched.look(reply)
            while True:
                time.sleep(options.every)
                try:
                    watched.look(server.get(path))
                except Away as error:
                    watched.away(str(error))
    except KeyboardInterrupt:
        return DONE


@contextmanager
def _watched(options: argparse.Namespace, draw: Draw) -> Iterator[Watched]:
    if options.json or not screen.rich_terminal():
        yield InTurn(draw, json=options.json)
        return
    from rich.live import Live

    with Live(auto_refresh=False) as live:
        yield InPlace(draw, live)
