"""All that OpenAI was seen to do wrong, each alone: every call ends well and is paid once."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

import pytest

from openaibatching.server.pipeline.context import Context
from openaibatching.simulator import Faults, body_sha256
from support.steps import answer, chat, drive, look, openai_of, put, said
from support.world import Clock

MINUTE_S, HOUR_S = 60.0, 3600.0


@dataclass(frozen=True)
class Case:
    """A fault, and what it may cost: `again` if lines have to be sent once more; `fails` is the
    code of those that end without an answer, because sending them again needs a person."""

    faults: dict[str, float]
    again: bool = False
    fails: str | None = None
    lag: float = 5 * MINUTE_S
    round_s: float = 30.0
    call_timeout_s: float = 60.0


CASES = {
    "the create's reply is lost": Case({"lose_create_reply": 0.7}),
    "the upload's reply is lost": Case({"lose_upload_reply": 0.7}),
    "the create answers 500 and acts": Case({"create_500_after_acting": 0.7}),
    "the upload answers 500 and acts": Case({"upload_500_after_acting": 0.7}),
    "the create acts 20 s late": Case({"late_create": 0.7, "late_s": 20}),
    "the upload acts 20 s late": Case({"late_upload": 0.7, "late_s": 20}),
    "429, with Retry-After in seconds, as a date, without": Case({"error_429": 0.5}),
    "500": Case({"error_500": 0.4}),
    "502": Case({"error_502": 0.4}),
    "503": Case({"error_503": 0.4}),
    "HTML in place of JSON": Case({"html_instead_of_json": 0.4}),
    "connections are reset": Case({"reset": 0.4}),
    "calls act and time out": Case({"timeouts": 0.3, "hold_s": 1.0}, call_timeout_s=0.3),
    "nearly all polls fail": Case({"polls_fail": 0.95}),
    "polls fail for an hour": Case({"polls_blackout": 1.0}, round_s=MINUTE_S),
    "downloads break off": Case({"truncated_download": 0.6}),
    "downloads end early, unseen": Case({"short_download": 0.3}),
    "downloads have a broken byte": Case({"garbled_download": 0.3}),
    "downloads answer 502": Case({"content_502": 0.8}),
    "downloads answer 404 at first": Case({"content_404": 0.8}),
    "files are not visible for 30 s": Case({"file_invisible": 1.0, "file_invisible_s": 30}),
    "a garbled line": Case({"garbled_line": 0.3}, again=True),
    "invalid UTF-8": Case({"invalid_utf8_line": 0.3}, again=True),
    "U+2028 in a line": Case({"u2028_line": 0.5}),
    "a line twice": Case({"duplicate_line": 0.5}),
    "lines of nobody": Case({"unknown_custom_id": 0.5}, again=True, fails="result_missing"),
    "a missing line": Case({"missing_line": 0.3}, again=True),
    "a line without its custom_id": Case(
        {"missing_custom_id": 0.3}, again=True, fails="result_missing"
    ),
    "status_code 0": Case({"status_zero_line": 0.3}, again=True),
    "200 with an empty body": Case({"empty_body_line": 0.3}, again=True),
    "lines with 500": Case({"line_500": 0.3}, again=True),
    "lines with 429": Case({"line_429": 0.3}, again=True),
    "lines that timed out": Case({"request_timeout_line": 0.3}, again=True),
    "the result file has no id": Case({"null_file_id": 0.5}, fails="result_missing"),
    "the error file's id is empty": Case({"empty_file_id": 1.0}),
    "counts that lie": Case({"lying_counts": 1.0}),
    "statuses that nobody knows": Case({"unknown_status": 0.7}),
    "fields that nobody knows": Case({"unknown_fields": 1.0}),
    "fields that are missing": Case({"missing_fields": 1.0}),
    "finalizing for 18 minutes": Case({"stuck_finalizing": 1.0}, round_s=MINUTE_S),
    "stuck until its expiry": Case({"stuck": 0.5}, again=True, round_s=HOUR_S),
    "stuck beyond its expiry": Case(
        {"stuck": 0.5, "expires_late": 1.0, "expires_late_s": 1800}, again=True, round_s=HOUR_S
    ),
    "stuck for days": Case(
        {"stuck": 0.5, "expires_late": 1.0, "expires_late_s": 72 * HOUR_S},
        again=True,
        round_s=HOUR_S,
    ),
    "expired half done": Case({"expire": 0.5}, again=True, lag=4 * HOUR_S, round_s=HOUR_S),
    "expired, though all was done": Case({"expires_done": 0.5}),
    "file ids come late": Case({"late_file_ids": 1.0, "late_file_ids_s": 900}),
    "no line says whose it is": Case({"unreadable_custom_ids": 0.3}, fails="result_missing"),
    "lists without data": Case({"lose_create_reply": 0.7, "list_without_data": 0.5}),
    "lists with an empty page": Case({"lose_create_reply": 0.7, "list_empty_page": 0.5}),
    "lists that ignore `after`": Case({"lose_create_reply": 0.7, "list_ignores_after": 0.5}),
    "images that could not be fetched": Case({"image_timeout_line": 0.3}, again=True),
    "cancelled before it began": Case({"cancel_before_start": 0.5}, fails="batch_cancelled"),
    "cancelled from outside": Case({"cancel_from_outside": 0.5}, fails="batch_cancelled"),
    "cancelling for ten minutes": Case(
        {"cancel_from_outside": 0.5, "stuck_cancelling": 1.0}, fails="batch_cancelled"
    ),
}
# A batch of one that is refused is its own culprit, and fails: test_batches.py.
ELSEWHERE = {
    "seed", "content_reads", "fail_validation_no_line", "failed_response_line",
    "model_fault_first_line",
    "incomplete_response_line",
}  # fmt: skip


def test_no_fault_of_the_simulator_is_left_out() -> None:
    tried = {name for case in CASES.values() for name in case.faults}
    known = {field.name for field in fields(Faults)} - ELSEWHERE
    durations = {name for name in known if name.endswith("_s")}
    # A lost webhook is what all these tests have; the others are in test_door_webhooks.py.
    webhooks = {name for name in known if name.startswith("webhook_")}
    assert known - durations - webhooks == tried - durations


@pytest.mark.parametrize("cluster", ["embedded"], indirect=True)
@pytest.mark.parametrize("name", CASES)
async def test_all_calls_end_well_and_none_is_paid_twice(
    ctx: Context, clock: Clock, name: str
) -> None:
    case = CASES[name]
    settings = ctx.settings.model_copy(
        update={
            "batch_requests_max": 8, "batch_poll_s": 30.0, "batch_settle_s": 60.0,
            "batch_attempts_max": 20,
        }
    )  # fmt: skip
    ctx.settings = settings
    bodies: list[dict[str, Any]] = [chat(f"{name} {n}") for n in range(40)]
    faults: dict[str, Any] = {"seed": 5, **case.faults}
    async with openai_of(
        ctx, clock, lag=case.lag, faults=Faults(**faults), call_timeout_s=case.call_timeout_s
    ) as simulator:
        requests = await put(ctx, *bodies)
        await drive(ctx, clock, case.round_s)
        found = await look(ctx, requests)
        executed, spoiled = simulator.ledger.counts(), simulator.ledger.spoiled
        files = simulator.files()
    failed = [request for request in found if request.state != "completed"]
    assert {answer(request)["error"]["code"] for request in failed} <= {case.fails}
    assert {request.state for request in failed} <= {"failed"}
    assert len(failed) < len(found), "the fault strikes some batches and not all"
    for body, request in zip(bodies, found, strict=True):
        if request in failed:
            sha = body_sha256(body)
            assert executed.get(sha, 0) <= max(1, spoiled.get(sha, 0)), "bought again"
            continue
        assert said(request).replace("\u2028", "") == f"You said: {body['messages'][0]['content']}"
        sha = body_sha256(body)
        assert executed[sha] == 1 + spoiled.get(sha, 0), "paid twice without need"
    if not case.again:
        assert {request.attempts for request in found} <= {0, 1}
    # Lines that name nobody are left where a person can read them.
    kept = {"batch_output"} if case.fails == "result_missing" else set()
    assert {file["purpose"] for file in files} <= kept
