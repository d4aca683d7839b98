"""Lines that say in their body that the model did not finish, and images that did not come."""

from typing import Any

import pytest
from openai.types.responses import Response

from openaibatching.simulator import Faults
from simulator.kit import line, world

RESPONSES = "/v1/responses"


def body(text: str, model: str = "gpt-4o") -> dict[str, Any]:
    return {"model": model, "input": text}


@pytest.mark.parametrize("code", ["server_error", "rate_limit_exceeded", "invalid_prompt"])
def test_a_response_may_be_failed_in_a_line_of_200(code: str) -> None:
    with world() as w:
        given = body(f"a [[simulate:failed={code}]]")
        batch = w.finish([line("a", given, RESPONSES)], RESPONSES)
        [one] = w.read(batch.output_file_id)
        assert (batch.error_file_id, one["error"]) == (None, None)
        assert one["response"]["status_code"] == 200
        response = Response.model_validate(one["response"]["body"], strict=True)
        assert response.status == "failed"
        assert response.error
        assert response.error.code == code
        assert response.output == []
        assert response.usage is None
        assert w.sim.ledger.lines == 0
        assert sum(w.sim.ledger.failures.values()) == 1


def test_a_response_may_be_incomplete_and_is_paid() -> None:
    with world() as w:
        given = body("a [[simulate:incomplete=content_filter]]")
        answer = w.answer(given, RESPONSES)
        response = Response.model_validate(answer["body"], strict=True)
        assert response.status == "incomplete"
        assert response.incomplete_details
        assert response.incomplete_details.reason == "content_filter"
        assert response.output_text
        assert w.sim.ledger.lines == 1


@pytest.mark.parametrize(
    ("value", "code", "param"),
    [("", "invalid_image_url", None), ("=invalid_value", "invalid_value", "url")],
)
def test_an_image_may_not_come_in_time(value: str, code: str, param: str | None) -> None:
    with world() as w:
        answer = w.answer(body(f"a [[simulate:image_timeout{value}]]"), RESPONSES)
        assert answer["status_code"] == 400
        error = answer["body"]["error"]
        assert (error["code"], error["param"]) == (code, param)
        assert error["message"].startswith("Timeout while downloading ")


def test_all_these_come_by_chance_too() -> None:
    faults = Faults(
        failed_response_line=0.3, incomplete_response_line=0.3, image_timeout_line=0.3, seed=1
    )
    with world(faults=faults) as w:
        lines = [line(f"a{n}", body(f"question {n}"), RESPONSES) for n in range(40)]
        batch = w.finish(lines, RESPONSES)
        statuses = {one["response"]["body"]["status"] for one in w.read(batch.output_file_id)}
        assert statuses == {"failed", "incomplete", "completed"}
        assert w.read(batch.error_file_id)
