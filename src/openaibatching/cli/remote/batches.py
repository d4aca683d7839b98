"""`openaibatching batches`: what has been sent to OpenAI, and how far it is."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import Any

from openaibatching.cli.remote import command, formatting
from openaibatching.cli.remote.api_client import Server, at
from openaibatching.cli.remote.exit_codes import DONE
from openaibatching.cli.remote.page import Column, For, Kind, Page, Table, facts

COLUMNS = (
    Column("id", seen_by=For.SCRIPTS), Column("batch", seen_by=For.PEOPLE),
    Column("batch_id", seen_by=For.SCRIPTS), Column("status", seen_by=For.SCRIPTS),
    Column("upstream_status", seen_by=For.SCRIPTS), Column("model"),
    Column("endpoint", seen_by=For.SCRIPTS), Column("done", Kind.PROGRESS, For.PEOPLE),
    Column("requests", Kind.NUMBER, For.SCRIPTS), Column("own", Kind.NUMBER, For.SCRIPTS),
    Column("completed", Kind.NUMBER, For.SCRIPTS), Column("failed", Kind.NUMBER, For.WHERE_ANY),
    Column("requeued", Kind.NUMBER, For.WHERE_ANY), Column("stuck", seen_by=For.WHERE_ANY),
    Column("created", Kind.TIME, For.WIDE), Column("submitted", Kind.TIME, For.SCRIPTS),
    Column("ended", Kind.TIME, For.SCRIPTS), Column("closed", Kind.TIME, For.SCRIPTS),
    Column("expected", Kind.AHEAD, For.WHERE_ANY), Column("reason"),
)  # fmt: skip


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; its exit code."""
    return command.run(parser(), command.with_word(arguments))


def parser() -> argparse.ArgumentParser:
    """What the command takes."""
    made = command.parser(
        "batches",
        "Batches with requests of this key's tenant. Without a word, they are listed.",
    )
    words = command.add_words(made)
    command.add_list(words, list_)
    shown = words.add_parser("show", help="all that is known of one")
    shown.add_argument("id", metavar="ID", help="the batch's id: a UUID")
    command.asks(shown, show)
    cancelled = words.add_parser("cancel", help="stop one; its answers are kept")
    cancelled.add_argument("id", metavar="ID", help="the batch's id: a UUID, or OpenAI's")
    command.asks(cancelled, cancel)
    return made


def list_(server: Server, options: argparse.Namespace) -> int:
    """The batches, newest first."""
    return command.show_list(
        server,
        options,
        "/upstream_batches",
        lambda found: table(found, empty="There are no batches."),
    )


def show(server: Server, options: argparse.Namespace) -> int:
    """One batch."""
    command.show(options, server.get(at("upstream_batches", options.id)), described)
    return DONE


def cancel(server: Server, options: argparse.Namespace) -> int:
    """Stop a batch, and show it."""
    command.show(options, server.post(at("upstream_batches", options.id, "cancel")), described)
    return DONE


def table(batches: Sequence[dict[str, Any]], title: str = "", empty: str = "") -> Table:
    """The batches, a row each."""
    return Table(COLUMNS, [_row(batch) for batch in batches], title, empty)


def _row(batch: dict[str, Any]) -> list[Any]:
    counts = batch["request_counts"]
    return [
        batch["id"], name(batch), batch["batch_id"], batch["status"], batch["upstream_status"],
        batch["model"], batch["endpoint"], _progress(batch),
        batch["requests"], batch["own_requests"], counts["completed"], counts["failed"],
        batch["requeued"], "stuck" if batch["stuck"] else "", batch["created_at"],
        batch["submitted_at"], batch["ended_at"], batch["closed_at"],
        batch["estimated_completion_at"], batch["reason"],
    ]  # fmt: skip


def name(batch: dict[str, Any]) -> str:
    """OpenAI's name of a batch, or ours while it has none."""
    return str(batch["batch_id"] or batch["id"])


def _progress(batch: dict[str, Any]) -> tuple[int, int]:
    counts = batch["request_counts"]
    return counts["completed"] + counts["failed"], counts["total"] or batch["requests"]


def described(batch: dict[str, Any]) -> Page:
    """All that is known of a batch."""
    done, all_ = _progress(batch)
    times = ("created", "submitted", "ended", "closed", "next_look", "estimated_completion")
    return [
        facts([
            ("id", batch["id"]), ("batch", batch["batch_id"]), ("status", batch["status"]),
            ("at OpenAI", batch["upstream_status"]), ("what", batch["reason"]),
            ("stuck", "yes" if batch["stuck"] else None),
            ("endpoint", batch["endpoint"]), ("model", batch["model"]),
            ("requests", f"{batch['requests']} ({batch['own_requests']} of yours)"),
            ("done", f"{done} of {all_}, {batch['request_counts']['failed']} failed"),
            ("to go again", str(batch["requeued"])), ("tries", str(batch["tries"])),
            *((time.replace("_", " "), formatting.when(batch[f"{time}_at"]))
              for time in times if batch[f"{time}_at"] is not None),
        ])
    ]  # fmt: skip
