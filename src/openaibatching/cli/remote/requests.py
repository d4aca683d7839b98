"""`openaibatching requests`: list them, tell one's whole story, try some again, call some off."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from typing import Any

from openaibatching import terminal
from openaibatching.cli.remote import command, formatting, screen
from openaibatching.cli.remote.api_client import Server, at
from openaibatching.cli.remote.exit_codes import DONE, SAID_NO, CannotRun, SaidNo
from openaibatching.cli.remote.page import Column, For, Kind, Note, Page, Part, Table, Text, facts

STATUSES = ("queued", "in_progress", "completed", "failed", "cancelled")

COLUMNS = (
    Column("id"), Column("status"), Column("endpoint"), Column("model"),
    Column("attempts", Kind.NUMBER), Column("created", Kind.TIME), Column("completed", Kind.TIME),
    Column("batch", seen_by=For.SCRIPTS),
)  # fmt: skip
EVENTS = (
    Column("at", Kind.TIME), Column("of"), Column("from"), Column("to"), Column("batch"),
    Column("note", seen_by=For.WHERE_ANY),
)  # fmt: skip


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; its exit code."""
    return command.run(parser(), command.with_word(arguments))


def parser() -> argparse.ArgumentParser:
    """What the command takes."""
    made = command.parser(
        "requests", "Requests of this key's tenant. Without a word, they are listed."
    )
    words = command.add_words(made)
    listed = command.add_list(words, list_)
    listed.add_argument("--status", choices=STATUSES, help="only those")
    listed.add_argument("--key", help="only those that this Idempotency-Key names")
    shown = words.add_parser("show", help="one's whole story: its events, its answer or error")
    shown.add_argument("id", metavar="ID", help="batchreq_…, or OpenAI's id")
    command.asks(shown, show)
    retried = words.add_parser("retry", help="queue failed or cancelled ones again")
    retried.add_argument("ids", nargs="+", metavar="ID")
    command.asks(retried, act)
    _add_cancel(words)
    return made


def _add_cancel(words: Any) -> None:
    cancelled = words.add_parser(
        "cancel",
        help="cancel what is still queued: these, or all that fit",
        description="Cancel queued requests: those with these ids, or in bulk all that fit the "
        "options. In bulk, it prints how many were cancelled.",
    )
    cancelled.add_argument("ids", nargs="*", metavar="ID")
    cancelled.add_argument("--model", metavar="M", help="all for this model")
    cancelled.add_argument(
        "--created-before", type=command.time, metavar="T",
        help="all that were made before this time: 2026-11-28T17:00 (local unless it has a zone), "
        "or Unix seconds",
    )  # fmt: skip
    cancelled.add_argument("--all", action="store_true", help="everything that is queued")
    command.asks(cancelled, cancel)


def list_(server: Server, options: argparse.Namespace) -> int:
    """The requests, newest first."""
    return command.show_list(
        server, options, "/requests", table, status=options.status, idempotency_key=options.key
    )


def table(requests: Sequence[dict[str, Any]]) -> Table:
    """The requests, a row each."""
    rows = [
        (r["id"], r["status"], r["endpoint"], r["model"], r["attempts"], r["created_at"],
         r["completed_at"], r["batch_id"]) for r in requests
    ]  # fmt: skip
    return Table(COLUMNS, rows, empty="No such requests.")


def show(server: Server, options: argparse.Namespace) -> int:
    """One request; as JSON with `events`, its events as the API lists them."""
    request = server.get(at("requests", options.id))
    events = server.get(at("requests", request.data["id"], "events"))
    if options.json:
        head = request.text.strip().removesuffix("}")
        terminal.out_json(f'{head},"events":{events.text.strip()}}}')
    else:
        screen.show(story(request.data, events.data["data"]))
    return DONE


def story(request: dict[str, Any], events: Sequence[dict[str, Any]]) -> Page:
    """All that is known of a request."""
    error, response = request["error"], request["response"]
    parts: list[Part] = [
        facts([
            ("id", request["id"]), ("status", request["status"]),
            ("endpoint", request["endpoint"]), ("model", request["model"]),
            ("batch", request["batch_id"]), ("attempts", str(request["attempts"])),
            ("created", formatting.when(request["created_at"])),
            ("completed", request["completed_at"] and formatting.when(request["completed_at"])),
            ("error", error and f"{error['message']} ({error['code'] or error['type']})"),
        ]),
        Table(
            EVENTS,
            [(e["at"], e["of"], e["from"], e["to"], e["batch_id"] or e["batch"], e["note"])
             for e in events],
            title="events", empty="No event of it is kept any more.",
        ),
    ]  # fmt: skip
    if response:
        body = json.dumps(response["body"], indent=2, ensure_ascii=False)
        parts += [Note(f"Answer, {response['status_code']}:"), Text(body.split("\n"))]
    return parts


def cancel(server: Server, options: argparse.Namespace) -> int:
    """Cancel these, or all that fit; never all because nothing was named."""
    filters = {"model": options.model, "created_before": options.created_before}
    wanted = {name: value for name, value in filters.items() if value is not None}
    if [bool(options.ids), bool(wanted), options.all].count(True) != 1:
        raise CannotRun("cancel takes ids, or --model and --created-before, or --all")
    if options.ids:
        return act(server, options)
    reply = server.post("/requests/cancel", wanted, member="cancelled")
    command.show(options, reply, cancelled)
    return DONE


def cancelled(data: dict[str, Any]) -> Page:
    """How many were cancelled."""
    return [Table((Column("cancelled requests", Kind.NUMBER),), [(data["cancelled"],)])]


def act(server: Server, options: argparse.Namespace) -> int:
    """Retry or cancel each of these; one that cannot be does not keep the others from it."""
    done: list[tuple[str, str]] = []
    code = DONE
    try:
        for id_ in options.ids:
            try:
                reply = server.post(at("requests", id_, options.word))
            except SaidNo as error:
                terminal.say(f"openaibatching requests {options.word}: {id_}: {error}")
                code = SAID_NO
                continue
            if options.json:
                terminal.out_json(reply.text.strip())
            else:
                done.append((reply.data["id"], reply.data["status"]))
    finally:  # also when the server goes away in between
        if done:
            screen.show([Table((Column("id"), Column("status")), done)])
    return code
