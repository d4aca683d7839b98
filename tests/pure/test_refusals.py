"""What becomes of a batch that OpenAI refused as a whole."""

from __future__ import annotations

import json
from typing import Any

import pytest

from openaibatching.server.providers.openai.refusals import (
    ALONE_MAX,
    ALONE_TRUSTED_MAX,
    Again,
    Culprits,
    Halve,
    Hold,
    Sibling,
    TokenLimit,
    Trust,
    Verdict,
    Wait,
    blame,
    judge,
    sibling_of,
    words,
)


def reasons(*errors: dict[str, Any]) -> bytes:
    return json.dumps(errors).encode()


def test_named_lines_are_the_culprits() -> None:
    verdict = judge(
        reasons(
            {"code": "invalid_request", "message": "a", "line": 2},
            {"code": "model_not_found", "message": "b", "line": 5},
        ),
        requests=10,
    )
    assert isinstance(verdict, Culprits)
    assert {line: reason.message for line, reason in verdict.reasons.items()} == {1: "a", 4: "b"}


def test_a_refusal_without_a_line_is_halved() -> None:
    assert judge(reasons({"code": "x", "message": "?", "line": None}), 10) == Halve()
    assert judge(None, 10) == Halve()
    assert judge(b"[]", 10) == Halve()


def test_a_line_that_does_not_exist_names_nobody() -> None:
    assert judge(reasons({"code": "x", "line": 11}), 10) == Halve()


UNNAMED = reasons({"code": "x", "message": "?"})


def test_the_only_request_is_the_culprit() -> None:
    verdict = blame(UNNAMED, 1, Trust(), Sibling.NONE)
    assert isinstance(verdict, Culprits)
    assert verdict.reasons[0].code == "x"


def test_single_requests_that_are_refused_alike_are_no_culprits_any_more() -> None:
    often = Trust(refused_alone=ALONE_MAX, refused_words=words(UNNAMED))
    assert blame(UNNAMED, 1, often, Sibling.NONE) == Hold()
    assert blame(UNNAMED, 1, Trust(probing=True), Sibling.NONE) == Hold()
    otherwise = reasons({"code": "y"})
    assert isinstance(blame(otherwise, 1, often, Sibling.NONE), Culprits)
    alike = words(UNNAMED)
    accepted_since = Trust(refused_alone=7, refused_words=alike, lines_at_fault=True)
    assert isinstance(blame(UNNAMED, 1, accepted_since, Sibling.NONE), Culprits)
    too_many = Trust(refused_alone=ALONE_TRUSTED_MAX, refused_words=alike, lines_at_fault=True)
    assert blame(UNNAMED, 1, too_many, Sibling.NONE) == Hold()


@pytest.mark.parametrize(
    ("sibling", "verdict"),
    [
        (Sibling.NONE, Halve()),
        (Sibling.ACCEPTED, Halve()),
        (Sibling.UNDECIDED, Wait()),
        (Sibling.REFUSED_ALIKE, Hold()),
    ],
)
def test_halves_that_are_both_refused_alike_are_not_halved_on(
    sibling: Sibling, verdict: Verdict
) -> None:
    assert blame(UNNAMED, 20, Trust(), sibling) == verdict
    assert blame(UNNAMED, 20, Trust(lines_at_fault=True), sibling) == Halve()


@pytest.mark.parametrize(
    ("state", "status", "errors", "sibling"),
    [
        ("uploading", None, None, Sibling.UNDECIDED),
        ("submitted", "validating", None, Sibling.UNDECIDED),
        ("submitted", "in_progress", None, Sibling.ACCEPTED),
        ("closed", "completed", None, Sibling.ACCEPTED),
        ("refused", "failed", UNNAMED, Sibling.REFUSED_ALIKE),
        ("closed", "failed", reasons({"code": "token_limit_exceeded"}), Sibling.ACCEPTED),
    ],
)
def test_what_became_of_the_other_half(
    state: str, status: str | None, errors: bytes | None, sibling: Sibling
) -> None:
    assert sibling_of(state, status, errors, UNNAMED) is sibling


def test_the_other_half_of_a_refused_upload_is_accepted_once_it_is_uploaded() -> None:
    own = reasons({"message": "Invalid file format", "at": "upload"})
    assert sibling_of("uploaded", None, None, own) is Sibling.ACCEPTED
    assert sibling_of("uploading", None, None, own) is Sibling.UNDECIDED


def test_a_models_fault_for_the_first_line_is_everybodys_unless_the_model_works() -> None:
    errors = reasons({"code": "model_not_found", "param": "body.model", "line": 1})
    verdict = judge(errors, 3)
    assert isinstance(verdict, Culprits)
    assert set(verdict.reasons) == {0, 1, 2}
    verdict = judge(errors, 3, model_works=True)
    assert isinstance(verdict, Culprits)
    assert set(verdict.reasons) == {0}


@pytest.mark.parametrize("code", ["server_error", "rate_limit_exceeded"])
def test_passing_trouble_of_the_validation_is_no_lines_fault(code: str) -> None:
    assert judge(reasons({"code": code, "line": 1}), 10) == Again()


def test_a_token_limit_is_read_from_the_message() -> None:
    message = (
        "Enqueued token limit reached for gpt-4.1 in organization org-123. "
        "Limit: 900,000 enqueued tokens."
    )
    error = {"code": "token_limit_exceeded", "message": message, "line": None}
    assert judge(reasons(error), 10) == TokenLimit(900_000)
    assert judge(reasons({"code": "token_limit_exceeded"}), 1) == TokenLimit(None)


AZURE = (
    "The number of enqueued tokens has surpassed the configured limit of 30K for the "
    "deployment 'gpt-4o-batch'."
)


@pytest.mark.parametrize(
    ("message", "told"),
    [
        ("Limit: 90,000 enqueued tokens. Please try again once …", 90_000),
        ("Limit: 5000000", 5_000_000),
        (AZURE, 30_000),
        ("Limit: " + "9" * 400, 4 * 10**18),
        ("… has surpassed the configured limit of 1.35M for the deployment 'X'", 1_350_000),
        ("… the configured limit of 15B for …", 15_000_000_000),
        ("You are above your limit.", None),
        (None, None),
    ],
)
def test_a_token_limit_is_read_as_openai_and_azure_write_it(
    message: str | None, told: int | None
) -> None:
    error = {"code": "token_limit_exceeded", "message": message}
    assert judge(reasons(error), 3) == TokenLimit(told)


def test_trouble_of_the_account_or_the_file_is_no_requests_fault() -> None:
    assert judge(reasons({"code": "billing_hard_limit_reached"}), 1) == Again(account=True)
    gone = {"code": "invalid_request", "param": "file_id", "message": "Cannot find file f, or …"}
    assert judge(reasons(gone), 1) == Again()


def test_members_of_other_types_or_unknown_ones_do_no_harm() -> None:
    error = {"code": "x", "message": "m", "line": 1, "param": None, "new": {"a": 1}}
    assert isinstance(judge(reasons(error), 3), Culprits)


def test_a_file_that_is_refused_is_no_requests_fault() -> None:
    refused = {"code": None, "message": "Storage is full.", "at": "upload"}
    assert judge(reasons(refused), 10) == Again(account=True)


def test_a_wrong_parameter_of_the_batch_fails_all_of_it_without_halving() -> None:
    verdict = judge(reasons({"code": "invalid_value", "param": "endpoint"}), 3)
    assert isinstance(verdict, Culprits)
    assert set(verdict.reasons) == {0, 1, 2}


def test_reasons_that_are_not_as_documented_still_lead_to_a_verdict() -> None:
    assert judge(reasons({"code": 5, "line": "abc"}), 3) == Halve()
    assert judge(b'[null, {"line": 1.5}]', 3) == Halve()
    assert judge(b"{}", 3) == Halve()
    assert judge(b"no json", 3) == Halve()
