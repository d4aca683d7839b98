"""Every way in which a batch fails when its file is validated."""

from typing import Any

import pytest

from openaibatching.simulator import Limits
from simulator.kit import CHAT, Line, World, chat, line, said, world


def problems(w: World, lines: list[Line], endpoint: str = CHAT) -> list[dict[str, Any]]:
    batch = w.finish(lines, endpoint)
    assert batch.status == "failed"
    assert batch.failed_at == int(w.clock.now)
    assert batch.output_file_id is batch.error_file_id is None
    assert batch.errors
    assert batch.errors.object == "list"
    assert w.sim.ledger.lines == 0
    return [error.to_dict() for error in batch.errors.data or []]


def without(name: str) -> dict[str, Any]:
    return {key: value for key, value in line("b", chat("hi")).items() if key != name}


NO_MODEL = {"messages": [{"role": "user", "content": "hi"}]}
CASES: list[tuple[Line, str, str | None, str]] = [
    (b"{nonsense\n", "invalid_json_line", None, "This line is not parseable as valid JSON."),
    (b"[1]\n", "invalid_json_line", None, "This line is not parseable as valid JSON."),
    (b'{"a": NaN}\n', "invalid_json_line", None, "This line is not parseable as valid JSON."),
    (b'{"a": "\xff"}\n', "invalid_json_line", None, "This line is not parseable as valid JSON."),
    (b"\n", "invalid_json_line", None, "This line is not parseable as valid JSON."),
    *(
        (
            without(name),
            "missing_required_parameter",
            name,
            f"Missing required parameter: '{name}'.",
        )
        for name in ("custom_id", "method", "url", "body")
    ),
    (
        line("b", chat("hi"), "/v1/responses"),
        "invalid_url",
        "url",
        "The URL provided for this request does not match the batch endpoint.",
    ),
    (
        line("b", {**chat("hi"), "model": "o3-pro"}),
        "model_not_found",
        "body.model",
        "The provided model 'o3-pro' is not supported by the Batch API.",
    ),
    (line("b", NO_MODEL), "invalid_request", "body.model", "Model parameter is required."),
    (
        line("b", {"model": "gpt-4o"}),
        "missing_required_parameter",
        "body.messages",
        "Missing required parameter: 'messages'.",
    ),
    (
        line("b", chat("hi", stream=True)),
        "streaming_unsupported",
        "body.stream",
        "Chat Completions: Streaming is not supported in the Batch API.",
    ),
    (
        line("good", chat("again")),
        "duplicate_custom_id",
        "custom_id",
        (
            "The custom_id 'good' for this request is a duplicate of another request. "
            "The custom_id parameter must be unique for each request in a batch."
        ),
    ),
    (
        line("b", {**chat("hi"), "model": "gpt-4o-mini"}),
        "mismatched_model",
        "body.model",
        (
            "The model 'gpt-4o-mini' for this request does not match the rest of the batch. "
            "Each batch must contain requests for a single model."
        ),
    ),
]


@pytest.mark.parametrize(("bad", "code", "param", "message"), CASES)
def test_one_bad_line_fails_the_batch_and_is_named(
    bad: Line, code: str, param: str | None, message: str
) -> None:
    with world() as w:
        lines = [line("good", chat("hi")), bad, line("last", chat("hi"))]
        expected = {"code": code, "message": message, "param": param, "line": 2}
        assert problems(w, lines) == [expected]


def test_several_bad_lines_are_reported_at_once() -> None:
    with world() as w:
        lines = [case[0] for case in CASES]
        lines[:0] = [line("good", chat("hi"))]
        found = problems(w, lines)
        assert [error["line"] for error in found] == list(range(2, len(lines) + 1))


@pytest.mark.parametrize(
    ("endpoint", "needed"),
    [
        ("/v1/responses", "input"),
        ("/v1/embeddings", "input"),
        ("/v1/moderations", "input"),
        ("/v1/completions", "prompt"),
        ("/v1/images/generations", "prompt"),
    ],
)
def test_each_endpoint_needs_its_input(endpoint: str, needed: str) -> None:
    with world() as w:
        found = problems(w, [line("a", {"model": "m"}, endpoint)], endpoint)
        assert found[0]["param"] == f"body.{needed}"
        assert found[0]["message"] == f"Missing required parameter: '{needed}'."


def test_an_empty_last_line_is_no_line() -> None:
    with world() as w:
        batch = w.finish([*said("hi"), b"\n"])
        assert batch.status == "completed"
        assert batch.request_counts
        assert batch.request_counts.total == 1


def test_a_last_line_needs_no_line_end() -> None:
    with world() as w:
        batch = w.finish([*said("hi")[:1], b'{"custom_id":"z"'])
        assert batch.errors
        assert batch.errors.data
        assert batch.errors.data[0].line == 2


def test_only_line_feeds_end_a_line() -> None:
    with world() as w:
        raw = line("u", chat("one\u2028two\u0085three\r"))
        import json

        batch = w.finish([json.dumps(raw, ensure_ascii=False).encode() + b"\r\n"])
        assert batch.status == "completed"


def test_a_given_set_of_models_is_all_there_are() -> None:
    with world(models={"gpt-4o-mini"}) as w:
        assert problems(w, said("hi"))[0]["code"] == "model_not_found"
        assert [model.id for model in w.client.models.list()] == ["gpt-4o-mini"]


def test_too_many_lines_fail_the_batch() -> None:
    with world(limits=Limits(lines=3)) as w:
        assert w.finish(said(*"abc")).status == "completed"
    with world(limits=Limits(lines=3)) as w:
        (found,) = problems(w, said(*"abcd"))
        assert found["line"] is None
        assert "maximum is 3 requests" in found["message"]


def test_a_file_too_large_fails_the_batch() -> None:
    with world(limits=Limits(batch_file_bytes=200)) as w:
        (found,) = problems(w, said(*"abcd"))
        assert found["message"] == (
            "The batch input file is larger than the 200 maximum for the gpt-4o model"
        )


def test_too_many_embedding_inputs_fail_the_batch() -> None:
    endpoint = "/v1/embeddings"
    with world(limits=Limits(embedding_inputs=4)) as w:
        two = {"model": "text-embedding-3-small", "input": ["a", "b"]}
        one = {"model": "text-embedding-3-small", "input": [1, 2, 3]}
        lines: list[Line] = [line("a", two, endpoint), line("b", two, endpoint)]
        (found,) = problems(w, [*lines, line("c", one, endpoint)], endpoint)
        assert "5 embedding inputs" in found["message"]
        assert w.finish(lines, endpoint).status == "completed"


def test_the_published_limits_are_the_defaults() -> None:
    limits = Limits()
    assert (limits.lines, limits.embedding_inputs) == (50_000, 50_000)
    assert limits.batch_file_bytes == 209_715_200


def test_an_input_deleted_before_it_ran_cannot_be_found() -> None:
    with world(lag=100) as w:
        batch = w.create(said("hi"))
        w.clock.advance(9)
        w.client.files.delete(batch.input_file_id)
        w.clock.advance(1)
        batch = w.client.batches.retrieve(batch.id)
        assert batch.status == "failed"
        assert batch.errors
        assert batch.errors.data
        assert "Cannot find file" in (batch.errors.data[0].message or "")


def test_an_input_deleted_while_it_runs_changes_nothing() -> None:
    with world(lag=100) as w:
        batch = w.create(said("hi"))
        w.clock.advance(10)
        w.client.files.delete(batch.input_file_id)
        w.clock.advance(90)
        assert w.client.batches.retrieve(batch.id).status == "completed"


TOKENS = "x" * 400  # 100 of them


def test_enqueued_tokens_are_counted_over_the_batches_that_have_not_ended() -> None:
    with world(lag=100, enqueued_token_limits={"gpt-4o": 250}) as w:
        first, second = w.create(said(TOKENS)), w.create(said(TOKENS))
        third = w.create(said(TOKENS))
        w.clock.advance(10)
        # The newest is looked at first: the older ones count all the same.
        third = w.client.batches.retrieve(third.id)
        assert third.status == "failed"
        assert third.errors
        assert third.errors.data
        assert third.errors.data[0].to_dict() == {
            "code": "token_limit_exceeded",
            "message": "Enqueued token limit reached for gpt-4o in organization org-simulated. "
            "Limit: 250 enqueued tokens. Please try again once some in_progress batches "
            "have been completed.",
            "param": None,
            "line": None,
        }
        w.clock.advance(90)
        again = w.create(said(TOKENS))
        w.clock.advance(100)
        for batch in (first, second, again):
            assert w.client.batches.retrieve(batch.id).status == "completed"


def test_a_cancelled_batch_frees_its_tokens() -> None:
    with world(lag=100, cancel_s=5, enqueued_token_limits={"gpt-4o": 150}) as w:
        first = w.create(said(TOKENS))
        w.clock.advance(20)
        w.client.batches.cancel(first.id)
        w.clock.advance(5)
        second = w.create(said(TOKENS))
        w.clock.advance(10)
        assert w.client.batches.retrieve(second.id).status == "in_progress"


def test_a_token_limit_is_for_its_model_only() -> None:
    with world(enqueued_token_limits={"gpt-4.1": 1}) as w:
        assert w.finish(said(TOKENS)).status == "completed"


@pytest.mark.parametrize(
    ("endpoint", "body", "model"),
    [
        ("/v1/moderations", {"input": "A fine day."}, "omni-moderation-latest"),
        ("/v1/responses", {"prompt": {"id": "pmpt_0"}, "input": "Hello"}, "gpt-4o-2024-08-06"),
    ],
)
def test_a_body_may_name_no_model_where_there_is_another(
    endpoint: str, body: dict[str, Any], model: str
) -> None:
    with world() as w:
        batch = w.finish([line("a", body, endpoint)], endpoint)
        assert batch.model == model
        assert w.results(batch)["a"]["response"]["body"]["model"] == model
