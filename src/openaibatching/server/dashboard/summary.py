"""The first thing on the page: what is stuck, why, until when, what to do, and what it cost.

Pure: from what `GET /v1/stats` says to sentences.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from openaibatching.server.dashboard.formatting import (
    DAY_S,
    clock,
    duration,
    model,
    money,
    number,
    plural,
)
from openaibatching.server.telemetry.logs import HINT

Json = dict[str, Any]

NOT_YET_SENT = ("claimed", "uploading", "uploaded", "creating")
TROUBLE_S = 30.0
"""A single failure on the way to OpenAI is everyday; the next try mends it."""
OVERDUE_S = 300.0
"""A batch is formed within seconds of its turn. Nobody does it if it is late by so much."""
HELD = {
    "held": "are held back after a refusal",
    "token_limit": "wait for OpenAI to have room for their tokens",
    "creations_full": "wait because OpenAI takes 2,000 batches an hour",
    "budget_at_openai": "wait until it is known what others cost",
}

DENIED = Markup(
    "Give this server the right OPENAI_API_KEY (and OPENAI_ORG_ID, OPENAI_PROJECT_ID) and restart"
    " it. Until then nothing reaches OpenAI, whatever else this page says; nothing is lost."
)
PASSING = Markup("Nothing: it is tried again by itself, and nothing is lost.")


@dataclass(frozen=True, slots=True)
class Trouble:
    """One thing that is wrong. `level`: "bad" stands still, "warn" goes on by itself later."""

    level: str
    what: Markup
    why: str
    until: Markup
    do: Markup


@dataclass(frozen=True, slots=True)
class Summary:
    """`level` is that of the worst trouble, "good" without one."""

    level: str
    title: str
    sentences: list[Markup]
    troubles: list[Trouble]


def summary(stats: Json, linger_s: float) -> Summary:
    """What an operator has to know first. `linger_s`: how long a queue waits for more requests."""
    troubles = _troubles(stats, linger_s)
    levels = {trouble.level for trouble in troubles}
    level = next((level for level in ("bad", "warn") if level in levels), "good")
    if not any(stats["requests"].values()):
        sentences = [Markup("No request has come yet.")]
    else:
        sentences = [_waiting(stats, linger_s), *_in_flight(stats), *_failed(stats)]
    # Without it nobody who looks at a picture of the page knows what is late.
    now = Markup("It is {}.").format(clock(stats["created_at"], stats["created_at"]))
    return Summary(level, _title(troubles), [now, *sentences, _cost(stats)], troubles)


def _title(troubles: list[Trouble]) -> str:
    bad = sum(trouble.level == "bad" for trouble in troubles)
    if bad:
        return "One thing is stuck" if bad == 1 else f"{number(bad)} things are stuck"
    if troubles:
        n = len(troubles)
        return f"Nothing is stuck, but {'one thing has' if n == 1 else f'{n} things have'} to wait"
    return "Nothing is stuck"


# ----- what goes well -----


def _waiting(stats: Json, linger_s: float) -> Markup:
    now, queue, queued = stats["created_at"], stats["queue"], stats["requests"]["queued"]
    if not queued or not queue:
        return Markup("No request waits.")
    first = queue[0]
    wait = "request waits" if queued == 1 else "requests wait"
    for_s = duration(now - first["oldest_queued_at"])
    said = Markup("{} {}, the oldest for {}").format(number(queued), wait, for_s)
    if first["reason"] == "lingering" and first["until"]:
        return said + Markup(": its batch is sent at {}.").format(clock(first["until"], now))
    if first["reason"] == "due" and not _overdue(first, now, linger_s):
        return said + ": its batch is being made."
    return said + "."


def _in_flight(stats: Json) -> list[Markup]:
    now, said = stats["created_at"], []
    well = [batch for batch in stats["batches"] if not batch["stuck"]]
    working = [batch for batch in well if batch["status"] == "submitted"]
    if working:
        said.append(_at_openai(working, now))
    on_the_way = sum(
        batch["status"] in NOT_YET_SENT and not _in_trouble(batch, now) for batch in well
    )
    if on_the_way:
        said.append(
            Markup("{} on the way there.").format(
                f"{plural(on_the_way, 'batch')} {_is(on_the_way)}"
            )
        )
    coming = sum(batch["status"] == "ended" for batch in well)
    if coming:
        said.append(Markup("The answers of {} are being read.").format(plural(coming, "batch")))
    return said


def _at_openai(batches: list[Json], now: int) -> Markup:
    n, requests = len(batches), sum(batch["requests"] for batch in batches)
    said = Markup("{} with {} {} at OpenAI").format(
        plural(n, "batch"), plural(requests, "request"), _is(n)
    )
    expected = sorted(t for batch in batches if (t := batch["estimated_completion_at"]))
    if not expected:
        latest = max(batch["submitted_at"] or batch["created_at"] for batch in batches) + DAY_S
        return said + Markup("; OpenAI promises an answer by {}.").format(clock(latest, now))
    if n == 1:
        return said + Markup("; it is expected back at {}.").format(clock(expected[0], now))
    said += Markup("; the next is expected back at {}").format(clock(expected[0], now))
    if len(expected) == n and expected[-1] - expected[0] >= 60:
        said += Markup(", the last at {}").format(clock(expected[-1], now))
    return said + "."


def _failed(stats: Json) -> list[Markup]:
    now = stats["created_at"]
    hours = [hour for hour in stats["answers_by_hour"] if hour["hour"] > now - DAY_S]
    failed = sum(hour["failed"] for hour in hours)
    if not failed:
        return []
    answers = failed + sum(hour["answers"] for hour in hours)
    return [
        Markup('In the last 24 hours <a href="#failures">{} of {} failed</a>.').format(
            number(failed), plural(answers, "request")
        )
    ]


def _cost(stats: Json) -> Markup:
    today = stats["costs"]["today"]
    said = Markup("Today <b>{}</b> paid, <b>{}</b> saved").format(
        money(today["paid"]), money(today["saved"])
    )
    if today["lost"]:
        said += Markup(", {} of it for answers that never came").format(money(today["lost"]))
    if today["unpriced"]:
        said += Markup("; {} without a known price not counted").format(
            plural(today["unpriced"], "answer")
        )
    if today["incomplete"]:
        said += Markup("; {} with an incomplete receipt").format(
            plural(today["incomplete"], "answer")
        )
    return said + "."


def _is(n: int) -> str:
    return "is" if n == 1 else "are"


# ----- what does not -----


def _troubles(stats: Json, linger_s: float) -> list[Trouble]:
    now = stats["created_at"]
    found = [_stuck(batch, now) for batch in stats["stuck"]]
    found += _over_budget(stats)
    found += [
        _troubled(batch, now)
        for batch in stats["batches"]
        if not batch["stuck"] and _in_trouble(batch, now)
    ]
    for group in stats["queue"]:
        if group["reason"] in HELD:
            found.append(_held(group, now))
        elif group["reason"] == "due" and _overdue(group, now, linger_s):
            found.append(_late(group, now, linger_s))
    return sorted(found, key=lambda trouble: trouble.level != "bad")


def _in_trouble(batch: Json, now: int) -> bool:
    return bool(now - (batch["trouble_since"] or now) >= TROUBLE_S)


def _stuck(batch: Json, now: int) -> Trouble:
    since = batch["ended_at"] or batch["submitted_at"] or batch["created_at"]
    what = Markup("<a href='/batches/{}'>A batch of {} for {}</a> has stood still since {}.")
    if batch["status"] == "submitted":
        do = Markup(
            "Look at {} in OpenAI's dashboard. If you stop it, there or on its page, the answers"
            " that it has are kept, and the rest is not sent again."
        ).format(batch["batch_id"])
    else:
        do = Markup("The server's log has the reason of each try: look for this batch's number.")
    return Trouble(
        "bad",
        what.format(batch["id"], plural(batch["requests"], "request"), model(batch["model"]),
                    clock(since, now)),
        batch["reason"],
        _next_try(batch, now),
        do,
    )  # fmt: skip


def _troubled(batch: Json, now: int) -> Trouble:
    what = Markup("<a href='/batches/{}'>A batch of {} for {}</a> {} since {}.")
    sent = batch["status"] not in NOT_YET_SENT
    # A key does not mend itself.
    denied = HINT in batch["reason"]
    return Trouble(
        "bad" if denied else "warn",
        what.format(
            batch["id"], plural(batch["requests"], "request"), model(batch["model"]),
            "cannot be looked after" if sent else "cannot be sent",
            clock(batch["trouble_since"], now),
        ),
        batch["reason"],
        _next_try(batch, now),
        DENIED if denied else PASSING,
    )  # fmt: skip


def _next_try(batch: Json, now: int) -> Markup:
    at = batch["next_look_at"]
    if at is None:
        return Markup("No time is known.")
    if at <= now:
        return Markup("It is looked at now.")
    return Markup("It is looked at again at {}.").format(clock(at, now))


def _at_least(group: Json) -> str:
    return ("at least " if group["requests_capped"] else "") + plural(group["requests"], "request")


def _held(group: Json, now: int) -> Trouble:
    what = Markup("{} for {} {}.").format(
        _at_least(group).capitalize(), model(group["model"]), HELD[group["reason"]]
    )
    until = Markup("It goes on when OpenAI has finished some of what it has.")
    if group["until"]:
        until = Markup("It goes on at {}.").format(clock(group["until"], now))
    do = Markup("Nothing: it goes on by itself.")
    if group["reason"] == "budget_at_openai":
        do = Markup("Nothing; or let calls say max_output_tokens, or raise BATCH_BUDGET_USD_DAY.")
    if (group.get("token_limit") or {}).get("others"):
        do = Markup(
            "Nothing: it is tried again, and more is sent with each batch that OpenAI takes."
        )
    if group["reason"] == "held":
        do = Markup("If it is the account's quota, top it up; else nothing: it goes on by itself.")
    return Trouble("warn", what, group["detail"], until, do)


def _overdue(group: Json, now: int, linger_s: float) -> bool:
    return bool(now > group["oldest_queued_at"] + linger_s + OVERDUE_S)


def _late(group: Json, now: int, linger_s: float) -> Trouble:
    return Trouble(
        "bad",
        Markup("{} for {} should have been sent at {}.").format(
            _at_least(group).capitalize(), model(group["model"]),
            clock(group["oldest_queued_at"] + linger_s, now),
        ),
        group["detail"],
        Markup("No time is known."),
        Markup("See in the server's log why it forms no batches."),
    )  # fmt: skip


def _over_budget(stats: Json) -> list[Trouble]:
    budget, now = stats["budget"], stats["created_at"]
    if budget["usd_day"] is None or budget["spent"] + budget["reserved"] < budget["usd_day"]:
        return []
    also = " and nothing more is sent" if budget["spent"] >= budget["usd_day"] else ""
    midnight = (now // DAY_S + 1) * DAY_S
    return [
        Trouble(
            "bad",
            Markup("The day's budget of {} is used up: new calls are refused{}.").format(
                money(budget["usd_day"]), also
            ),
            f"{money(budget['spent'])} is paid, {money(budget['reserved'])} is what the requests"
            " that wait or are at OpenAI may cost.",
            Markup("The next day begins at {}.").format(clock(midnight, now)),
            Markup("Wait, or raise BATCH_BUDGET_USD_DAY and restart."),
        )
    ]
