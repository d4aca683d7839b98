"""A pending object is judged by the types of OpenAI's own SDK, as a caller's code would meet it."""

import json
from typing import Any, get_args

import pytest
from openai import BaseModel
from openai.types import (
    Completion,
    CreateEmbeddingResponse,
    ImagesResponse,
    ModerationCreateResponse,
)
from openai.types.chat import ChatCompletion
from openai.types.responses import Response

from openaibatching.server.api.pending_objects import Pending, pending
from openaibatching.server.domain.endpoints import ENDPOINTS

TYPES: dict[str, type[BaseModel]] = {
    "/v1/responses": Response,
    "/v1/chat/completions": ChatCompletion,
    "/v1/completions": Completion,
    "/v1/embeddings": CreateEmbeddingResponse,
    "/v1/moderations": ModerationCreateResponse,
    "/v1/images/generations": ImagesResponse,
    "/v1/images/edits": ImagesResponse,
}
ID = "batchreq_" + "5f" * 16
STATUSES: tuple[Pending, ...] = get_args(Pending)


def shape(
    endpoint: str, status: Pending = "queued", body: dict[str, Any] | None = None
) -> dict[str, Any]:
    return pending(
        endpoint, id=ID, model="gpt-4o", created_at=1_795_342_800, status=status, body=body
    )


def nested_models(model: BaseModel) -> list[BaseModel]:
    """`model` and every SDK object inside it."""
    found = [model]
    for value in model.__dict__.values():
        for item in value if isinstance(value, list) else [value]:
            if isinstance(item, BaseModel):
                found += nested_models(item)
    return found


def assert_valid(endpoint: str, value: dict[str, Any]) -> BaseModel:
    # Strict, so nothing is coerced; the SDK itself would accept missing members silently.
    parsed = TYPES[endpoint].model_validate(value, strict=True)
    for model in nested_models(parsed):
        assert not model.model_extra, "a member that the schema does not have"
    assert parsed.model_dump(exclude_unset=True) == value
    return parsed


def test_every_endpoint_has_a_type_to_be_checked_against() -> None:
    assert set(ENDPOINTS) == set(TYPES)


@pytest.mark.parametrize("status", STATUSES)
@pytest.mark.parametrize("endpoint", ENDPOINTS)
def test_a_pending_object_is_valid_and_has_no_member_of_its_own(
    endpoint: str, status: Pending
) -> None:
    assert_valid(endpoint, shape(endpoint, status))


@pytest.mark.parametrize("endpoint", ENDPOINTS)
def test_a_pending_object_lacks_nothing_the_schema_requires(endpoint: str) -> None:
    value = shape(endpoint)
    required = {name for name, field in TYPES[endpoint].model_fields.items() if field.is_required()}
    assert required <= set(value)


@pytest.mark.parametrize("endpoint", ENDPOINTS)
def test_it_carries_our_id_exactly_where_the_schema_has_one(endpoint: str) -> None:
    value = shape(endpoint)
    assert ("id" in value) == ("id" in TYPES[endpoint].model_fields)
    assert value.get("id", ID) == ID


@pytest.mark.parametrize("endpoint", ENDPOINTS)
def test_it_has_nothing_in_it(endpoint: str) -> None:
    value = shape(endpoint)
    contents = [value[name] for name in ("output", "choices", "data", "results") if name in value]
    assert contents == [[]]


@pytest.mark.parametrize("status", STATUSES)
def test_a_response_says_how_far_it_is(status: Pending) -> None:
    response = Response.model_validate(shape("/v1/responses", status), strict=True)
    assert response.status == status
    assert response.output_text == ""


def test_a_response_repeats_what_it_was_asked_for() -> None:
    asked = {
        "instructions": "Be brief.",
        "max_output_tokens": 20,
        "metadata": {"run": "7"},
        "parallel_tool_calls": False,
        "previous_response_id": "resp_1",
        "temperature": 0,
        "top_p": 0.5,
    }
    value = shape("/v1/responses", body={"model": "gpt-4o", "input": "Hi", **asked})
    assert_valid("/v1/responses", value)
    assert asked.items() <= value.items()
    assert "input" not in value


@pytest.mark.parametrize(
    "nonsense",
    [
        *(None, True, 3, 10**400, float("inf"), float("nan"), "text", "\ud800", [], [1], {}),
        *({"a": 1}, {"a": "\udfff"}, {"\udfff": "a"}, {"type": "function", "name": "f"}),
    ],
    ids=repr,
)
def test_a_wrong_body_does_not_make_the_response_wrong(nonsense: object) -> None:
    body = dict.fromkeys(Response.model_fields, nonsense)
    value = shape("/v1/responses", body=body)
    assert_valid("/v1/responses", value)
    assert (value["id"], value["model"], value["output"]) == (ID, "gpt-4o", [])
    json.dumps(value, ensure_ascii=False, allow_nan=False).encode()


def test_an_unknown_endpoint_is_an_error_of_the_caller() -> None:
    with pytest.raises(KeyError):
        shape("/v1/audio/speech")
