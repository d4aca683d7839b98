import json
from typing import Any

import openai
import pytest

from simulator.kit import CHAT, World, said, world

AS_JSON: Any = {"headers": {"Content-Type": "application/json"}}
GOOD = {"input_file_id": "file-x", "endpoint": CHAT, "completion_window": "24h"}


def refusal(w: World, body: object) -> tuple[str, str | None, str | None]:
    with pytest.raises(openai.BadRequestError) as refused:
        w.client.post("/batches", body=body, cast_to=object)
    error = refused.value.response.json()["error"]
    assert error["type"] == "invalid_request_error"
    return error["message"], error["param"], error["code"]


@pytest.mark.parametrize("name", list(GOOD))
def test_a_missing_field_is_named(name: str) -> None:
    body = {key: value for key, value in GOOD.items() if key != name}
    with world() as w:
        assert refusal(w, body) == (
            f"Missing required parameter: '{name}'.",
            name,
            "missing_required_parameter",
        )


def test_an_unknown_endpoint_is_refused_with_the_known_ones() -> None:
    with world() as w:
        message, param, code = refusal(w, {**GOOD, "endpoint": "/v1/invalid/endpoint"})
        assert message == (
            "Invalid value: '/v1/invalid/endpoint'. Supported values are: '/v1/chat/completions', "
            "'/v1/completions', '/v1/embeddings', '/v1/responses', '/v1/moderations', "
            "'/v1/images/generations', '/v1/images/edits', and '/v1/videos'."
        )
        assert (param, code) == ("endpoint", "invalid_value")


def test_ids_of_other_things_are_refused_by_their_beginning() -> None:
    with world() as w:
        assert refusal(w, {**GOOD, "input_file_id": "wrong-id"}) == (
            "Invalid 'input_file_id': 'wrong-id'. Expected an ID that begins with 'file'.",
            "input_file_id",
            "invalid_value",
        )
        for call in (w.client.batches.retrieve, w.client.batches.cancel):
            with pytest.raises(openai.BadRequestError) as refused:
                call("invalid")
            assert refused.value.response.json()["error"] == {
                "message": "Invalid 'batch_id': 'invalid'. "
                "Expected an ID that begins with 'batch'.",
                "type": "invalid_request_error",
                "param": "batch_id",
                "code": "invalid_value",
            }


def test_a_lone_surrogate_is_kept_and_disturbs_nobody() -> None:
    with world() as w:
        raw = json.dumps({**GOOD, "metadata": {"note": "\ud800"}}).encode()
        made = w.client.post("/batches", content=raw, cast_to=object, options=AS_JSON)
        assert isinstance(made, dict)
        assert w.client.batches.retrieve(made["id"]).metadata == {"note": "\ud800"}
        assert [batch.id for batch in w.client.batches.list()] == [made["id"]]
        raw = json.dumps({**GOOD, "endpoint": "\ud800"}).encode()
        with pytest.raises(openai.BadRequestError, match="Invalid value"):
            w.client.post("/batches", content=raw, cast_to=object, options=AS_JSON)


@pytest.mark.parametrize("window", ["1h", "48h", ""])
def test_only_24h_is_a_window(window: str) -> None:
    with world() as w:
        message, param, _ = refusal(w, {**GOOD, "completion_window": window})
        assert param == "completion_window"
        assert "24h" in message


@pytest.mark.parametrize(
    ("metadata", "param", "code"),
    [
        ({"tags": []}, "metadata.tags", "invalid_type"),
        ({"n": 1}, "metadata.n", "invalid_type"),
        ({f"k{n}": "" for n in range(17)}, "metadata", "object_above_max_properties"),
        ({"k" * 65: ""}, "metadata", "string_above_max_length"),
        ({"k": "v" * 513}, "metadata.k", "string_above_max_length"),
        ([], "metadata", "invalid_type"),
    ],
)
def test_metadata_has_its_limits(metadata: Any, param: str, code: str) -> None:
    with world() as w:
        message, *where = refusal(w, {**GOOD, "metadata": metadata})
        assert where == [param, code]
        if metadata == {"tags": []}:
            assert message == (
                "Invalid type for 'metadata.tags': expected a string, but got an array instead."
            )


def test_metadata_at_its_limits_is_kept() -> None:
    metadata = {f"{n:064}": "v" * 512 for n in range(16)}
    with world() as w:
        batch = w.create(said("hi"), metadata=metadata)
        assert w.client.batches.retrieve(batch.id).metadata == metadata


@pytest.mark.parametrize(
    "wanted", [{"anchor": "now", "seconds": 3600}, {"anchor": "created_at", "seconds": 1}, {}]
)
def test_a_wrong_output_expiry_is_refused(wanted: object) -> None:
    with world() as w:
        _, param, _ = refusal(w, {**GOOD, "output_expires_after": wanted})
        assert param
        assert param.startswith("output_expires_after.")


def test_an_unknown_parameter_is_refused() -> None:
    with world() as w:
        assert refusal(w, {**GOOD, "priority": 1})[1:] == ("priority", "unknown_parameter")


def test_a_new_batch_is_validating_and_has_counted_nothing() -> None:
    with world() as w:
        file = w.upload(said("hi"))
        batch = w.client.batches.create(
            input_file_id=file.id, endpoint=CHAT, completion_window="24h"
        )
        assert batch.status == "validating"
        assert batch.request_counts
        assert batch.request_counts.to_dict() == {"total": 0, "completed": 0, "failed": 0}
        assert batch.output_file_id is batch.error_file_id is None
        assert batch.errors is None
        assert batch.expires_at == batch.created_at + 86400
        assert batch.usage
        assert batch.usage.total_tokens == 0


def test_a_file_that_is_not_there_fails_the_batch_and_not_the_call() -> None:
    with world() as w:
        batch = w.client.batches.create(
            input_file_id="file-x", endpoint=CHAT, completion_window="24h"
        )
        batch = w.client.batches.retrieve(batch.id)
        assert batch.status == "failed"
        assert batch.errors
        assert batch.errors.data
        assert batch.errors.data[0].to_dict() == {
            "code": "invalid_request",
            "message": "Cannot find file file-x, or organization org-simulated "
            "does not have access to it.",
            "param": "file_id",
            "line": None,
        }


def test_creations_are_limited_per_hour() -> None:
    with world(creates_per_hour=2) as w:
        w.create(said("1"))
        w.clock.advance(600)
        w.create(said("2"))
        with pytest.raises(openai.RateLimitError) as refused:
            w.create(said("3"))
        assert refused.value.response.headers["retry-after"] == "3000"
        w.clock.advance(3000)
        w.create(said("3"))
        assert len(w.sim.batches()) == 3


def test_a_refused_call_does_not_count_as_a_creation() -> None:
    with world(creates_per_hour=1) as w:
        refusal(w, {})
        w.create(said("1"))


def test_batches_are_listed_newest_first_and_in_pages() -> None:
    with world() as w:
        ids = [w.create(said(str(number))).id for number in range(5)]
        first = w.client.batches.list(limit=2)
        assert [batch.id for batch in first.data] == ids[:2:-1]
        assert first.has_more
        assert [batch.id for batch in w.client.batches.list(limit=2)] == ids[::-1]
        assert w.client.batches.list(after=ids[0]).data == []


@pytest.mark.parametrize("limit", [0, 101])
def test_a_page_of_batches_has_its_bounds(limit: int) -> None:
    with world() as w, pytest.raises(openai.BadRequestError) as refused:
        w.client.batches.list(limit=limit)
    assert refused.value.param == "limit"


def test_a_page_is_twenty_unless_asked_otherwise() -> None:
    with world() as w:
        for number in range(21):
            w.create(said(str(number)))
        page = w.client.batches.list()
        assert len(page.data) == 20
        assert page.has_more


def test_what_does_not_exist_is_a_404_in_openais_shape() -> None:
    with world() as w:
        for path in ("/batches/batch_x", "/files/file-x", "/files//content", "/nothing"):
            with pytest.raises(openai.NotFoundError) as refused:
                w.client.get(path, cast_to=object)
            assert set(refused.value.response.json()["error"]) == {
                "message",
                "type",
                "param",
                "code",
            }
            assert refused.value.request_id
        for call in (w.client.batches.retrieve, w.client.batches.cancel):
            with pytest.raises(openai.NotFoundError) as refused:
                call("batch_x")
            assert refused.value.response.json()["error"] == {
                "message": "No batch found with id 'batch_x'.",
                "type": "invalid_request_error",
                "param": None,
                "code": None,
            }


def test_a_wrong_method_is_a_405() -> None:
    with world() as w:
        with pytest.raises(openai.APIStatusError) as refused:
            w.client.delete("/batches/batch_x", cast_to=object)
        assert refused.value.status_code == 405
        assert refused.value.request_id


def test_a_wrong_key_is_refused_and_never_repeated_whole() -> None:
    with world(api_keys=["sk-right"]) as w:
        with pytest.raises(openai.AuthenticationError) as refused:
            w.strict(api_key="sk-wrong-and-very-secret").batches.list()
        assert refused.value.code == "invalid_api_key"
        assert "Incorrect API key provided: sk-" in str(refused.value)
        assert "secret" not in str(refused.value)
        assert w.strict(api_key="sk-right").batches.list().data == []


def test_any_key_will_do_unless_keys_are_given_but_none_will_not() -> None:
    with world() as w:
        w.strict(api_key="anything").batches.list()
        with pytest.raises(openai.AuthenticationError, match="Missing bearer or basic") as refused:
            w.client.get("/batches", cast_to=object, options={"headers": {"Authorization": ""}})
        assert refused.value.code is None


def test_every_reply_has_an_id_of_its_own() -> None:
    with world() as w:
        replies = [w.client.batches.with_raw_response.list() for _ in range(2)]
        ids = {reply.headers["x-request-id"] for reply in replies}
        assert len(ids) == 2
        assert all(id_.startswith("req_") for id_ in ids)
