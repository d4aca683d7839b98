"""What all seeded worlds have in common: a seed's trouble, its calls, the books at the end."""

from __future__ import annotations

import json
import random
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import psycopg

from openaibatching.server.providers.openai.output_lines import owner
from openaibatching.simulator import Account, Faults, Simulator, body_sha256
from openaibatching.simulator.engine.account import REFUSALS
from support.books import untrue_receipts
from support.steps import chat

REFUSED = ("[[simulate:invalid=invalid_request]]", "[[simulate:poison]]")
REFUSED_SHARE = 0.03
UNCLEAR = REFUSALS["project_archived"][1]


@dataclass
class Report:
    """What a world did, and what was wrong with it."""

    kind: str
    seed: int
    kills: int = 0
    batches: int = 0
    seconds: float = 0.0
    states: Counter[str] = field(default_factory=Counter)
    more: dict[str, object] = field(default_factory=dict)
    wrong: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        what = {**self.states, "batches": self.batches, "kills": self.kills, **self.more}
        told = ", ".join(f"{value} {name}" for name, value in what.items())
        return f"{self.kind} {self.seed}: {told}, {self.seconds:.0f} s"


def faults(seed: int, **more: float) -> Faults:
    """This seed's trouble: each kind is there or not, and differently often.

    `more` are the most of each kind that only some worlds can live with, and durations as they are.
    """
    dice = random.Random(f"faults {seed}")
    most = {
        "lose_create_reply": 0.4, "lose_upload_reply": 0.4, "create_500_after_acting": 0.3,
        "late_create": 0.2, "error_429": 0.1, "error_500": 0.1, "error_502": 0.1,
        "error_503": 0.1, "html_instead_of_json": 0.1, "reset": 0.1, "polls_fail": 0.3,
        "truncated_download": 0.3, "garbled_download": 0.3, "content_502": 0.3,
        "file_invisible": 0.3, "garbled_line": 0.05, "invalid_utf8_line": 0.05,
        "u2028_line": 0.05, "duplicate_line": 0.1, "missing_line": 0.05,
        "status_zero_line": 0.05, "empty_body_line": 0.05, "line_500": 0.1, "line_429": 0.1,
        "request_timeout_line": 0.05, "empty_file_id": 0.5, "unknown_status": 0.3,
        "unknown_fields": 0.5, "expire": 0.2, "cancel_from_outside": 0.1,
        "late_upload": 0.2, "upload_500_after_acting": 0.3, "missing_fields": 0.5,
        "polls_blackout": 0.3, "stuck_cancelling": 0.5, "short_download": 0.1,
        "late_file_ids": 0.5, "list_without_data": 0.2, "list_ignores_after": 0.2,
        "cancel_before_start": 0.1, "expires_done": 0.1, "image_timeout_line": 0.05,
    }  # fmt: skip
    given: dict[str, Any] = {}
    for name, value in {**most, **more}.items():
        there = name.endswith("_s") or dice.random() < 0.5
        given[name] = value if name.endswith("_s") else there * dice.uniform(0.0, value)
    return Faults(seed=seed, **given)


def bodies(seed: int, count: int) -> list[dict[str, Any]]:
    """This seed's calls; a few of them are refused, alone or with all their company."""
    dice = random.Random(f"bodies {seed}")

    def mark() -> str:
        return f" {dice.choice(REFUSED)}" if dice.random() < REFUSED_SHARE else ""

    return [
        chat(f"world {seed} question {n}{mark()}", model=f"gpt-4o-{n % 2}") for n in range(count)
    ]


def text_of(body: dict[str, Any]) -> str:
    """What the call asks."""
    text: str = body["messages"][0]["content"]
    return text


def check_answers(
    answers: Iterable[tuple[dict[str, Any], str, Any]], simulator: Simulator, report: Report
) -> None:
    """Every call has its own answer or the failure that its seed gave it, and was paid once.

    `answers` are (body of the call, state, answer as JSON).
    """
    spoiled, executed = simulator.ledger.spoiled, simulator.ledger.counts()
    faults = simulator.faults
    for body, state, answer in answers:
        text, sha = text_of(body), body_sha256(body)
        report.states[state] += 1
        if state == "completed":
            # The fault puts a line separator into the answer; it belongs there.
            said = answer["choices"][0]["message"]["content"].replace("\u2028", "")
            if said != f"You said: {text}":
                report.wrong.append(f"{text!r} was answered with {said!r}")
        elif state != "failed":
            report.wrong.append(f"{text!r} is {state}")
        elif not (_is_refused(text, answer) or _is_mourned(answer, faults, spoiled.get(sha, 0))):
            report.wrong.append(f"{text!r} is {state}: {json.dumps(answer)}")
        if executed.get(sha, 0) > 1 + spoiled.get(sha, 0):
            report.wrong.append(f"{text!r} was paid {executed[sha]} times")


def _is_mourned(answer: Any, faults: Faults, spoiled: int) -> bool:
    """Whether a failure is one that is promised: somebody cancelled the batch at OpenAI, or OpenAI
    counts the request as executed and has no answer to show."""
    code = answer["error"]["code"]
    if code == "batch_cancelled":
        return bool(faults.cancel_from_outside or faults.cancel_before_start)
    # Where nobody can tell whom a batch answers, those that it dropped end like the others.
    untold = faults.lying_counts or faults.unreadable_custom_ids or faults.null_file_id
    return code == "result_missing" and bool(spoiled or untold)


def _is_refused(text: str, answer: Any) -> bool:
    """Whether its seed let this call be refused, or OpenAI refused it alone with words that do not
    say that they are about the account: the first ones in a row are believed to be about it."""
    return any(m in text for m in REFUSED) or answer["error"]["message"] == UNCLEAR


class Fortunes:
    """An account that gets into trouble and out of it, by a seed; in the end all is well."""

    def __init__(self, seed: int, simulator: Simulator, turns: int) -> None:
        self._dice, self._simulator, self._left = random.Random(f"account {seed}"), simulator, turns

    def turn(self) -> None:
        """Perhaps something happens to the account now."""
        self._left -= 1
        if self._simulator.account != Account():
            if self._left < 0 or self._dice.random() < 0.3:
                self._simulator.account = Account()
        elif self._left > 0 and self._dice.random() < 0.1:
            self._simulator.account = self._trouble()

    def _trouble(self) -> Account:
        at_validation = self._dice.random() < 0.3
        return self._dice.choice(
            [
                Account(refusal=self._dice.choice(list(REFUSALS)), at_validation=at_validation),
                Account(credit_lines=self._dice.randrange(60), at_validation=at_validation),
                Account(outage_status=self._dice.choice((500, 503))),
                Account(other_tokens=10**9),
            ]
        )


def check_books(url: str, simulator: Simulator, report: Report) -> None:
    """Nothing is left upstream that a person need not read, every batch there is known here, and
    all counts agree."""
    upstream = simulator.batches()
    report.batches = len(upstream)
    with psycopg.connect(url) as conn:
        conn.execute("set search_path = openaibatching")
        if files := _left(conn, simulator):
            report.wrong.append(f"left upstream: {files}")
        known = {id_ for (id_,) in conn.execute("select upstream_id from batch")}
        for batch in upstream:
            ended = batch["status"] in ("completed", "failed", "expired", "cancelled")
            if batch["id"] not in known or not ended:
                report.wrong.append(f"left upstream: {batch['id']}, {batch['status']}")
        off = conn.execute(
            "select b.id, b.completed, b.failed, count(r.*) filter (where r.state = 'completed'),"
            "       count(r.*) filter (where r.state = 'failed')"
            "  from batch b left join result r on r.batch_id = b.id group by b.id"
            " having b.completed <> count(r.*) filter (where r.state = 'completed')"
            "     or b.failed <> count(r.*) filter (where r.state = 'failed')"
        ).fetchall()
        if off:
            report.wrong.append(f"books that say other than the requests: {off}")
        if said := untrue_receipts(conn, simulator):
            report.wrong.append(said)
        for what, table in (("request", "shown_request"), ("batch", "batch")):
            counted: dict[str, int] = dict(
                conn.execute(
                    "select state, sum(n)::int from tally where what = %s"
                    " group by state having sum(n) <> 0", [what],
                ).fetchall()
            )  # fmt: skip
            statement = f"select state, count(*)::int from {table} group by state"
            rows: dict[str, int] = dict(conn.execute(statement.encode()).fetchall())
            if counted != rows:
                report.wrong.append(f"{what}: the tally says {counted}, the rows say {rows}")


def _left(conn: psycopg.Connection[Any], simulator: Simulator) -> list[str]:
    """The names of the files at OpenAI, but for those that tell nobody whom they answer: they are
    kept, and the batch's events name them."""
    notes = conn.execute("select note from event where note like 'left at OpenAI%'").fetchall()
    told = " ".join(note for (note,) in notes)
    return [
        file["filename"]
        for file in simulator.files()
        if file["id"] not in told or _names_somebody(simulator, file["id"])
    ]


def _names_somebody(simulator: Simulator, file_id: str) -> bool:
    file = simulator.engine.store.file(file_id, simulator.clock())
    return file is not None and any(map(owner, file.content.read().splitlines()))
