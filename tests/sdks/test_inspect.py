"""inspect_ai, with nothing but the base URL and the key changed: what becomes of an evaluation."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from sdks.server import Server

inspect_ai = pytest.importorskip("inspect_ai", reason="inspect_ai is not installed")

# What it warns of in its own code is its own matter.
pytestmark = pytest.mark.filterwarnings("ignore")

SAMPLES = 40


def evaluate(
    server: Server, folder: Path, prefix: str, *, responses: bool, samples: int = 2, **more: Any
) -> Any:
    """The log of an evaluation whose answers are all right, if there are any."""
    from inspect_ai.dataset import Sample
    from inspect_ai.model import get_model
    from inspect_ai.scorer import includes
    from inspect_ai.solver import generate

    model = get_model(
        "openai/gpt-4o", base_url=f"{server.url}{prefix}", api_key=server.key,
        responses_api=responses, memoize=False,
    )  # fmt: skip
    questions = [Sample(input=f"Say {n}", target=f"Say {n}") for n in range(samples)]
    task = inspect_ai.Task(dataset=questions, solver=generate(), scorer=includes())
    [log] = inspect_ai.eval(task, model=model, display="none", log_dir=str(folder), **more)
    return log


def accuracy(log: Any) -> float:
    assert log.status == "success"
    return float(log.results.scores[0].metrics["accuracy"].value)


def test_by_v1_an_unfinished_evaluation_succeeds_with_nothing_right(
    server: Server, tmp_path: Path
) -> None:
    log = evaluate(server, tmp_path, "/v1", responses=True)
    assert accuracy(log) == 0.0
    assert {sample.output.completion for sample in log.samples} == {""}
    assert evaluate(server, tmp_path, "/v1", responses=False).status == "error"  # IndexError


@pytest.mark.parametrize("responses", [True, False])
def test_by_ask_it_fails_and_succeeds_when_it_is_run_again(
    server: Server, tmp_path: Path, responses: bool
) -> None:
    log = evaluate(server, tmp_path, "/ask/v1", responses=responses)
    assert log.status == "error"
    assert "425" in log.error.message
    server.finish()
    rest = evaluate(server, tmp_path, "/ask/v1", responses=responses, fail_on_error=False)
    server.finish()
    again = evaluate(server, tmp_path, "/ask/v1", responses=responses)
    assert accuracy(again) == 1.0, rest.status
    assert len(server.requests()) == 2


def test_without_fail_on_error_all_is_sent_by_the_first_run(server: Server, tmp_path: Path) -> None:
    options: dict[str, Any] = {"responses": True, "samples": SAMPLES, "fail_on_error": False}
    evaluate(server, tmp_path, "/ask/v1", **options)
    assert len(server.requests()) == SAMPLES
    server.finish()
    assert accuracy(evaluate(server, tmp_path, "/ask/v1", **options)) == 1.0
    assert len(server.requests()) == SAMPLES
