"""The OpenAPI document is valid, complete by the contract, and true of the pending objects."""

import json
from collections.abc import Iterator
from typing import Any

import pytest
from openapi_schema_validator import OAS31Validator
from openapi_spec_validator import OpenAPIV31SpecValidator, validate

from openaibatching.server import errors as server_errors
from openaibatching.server.api.openapi.components import STATUSES
from openaibatching.server.api.openapi.document import document
from openaibatching.server.api.pending_objects import pending
from openaibatching.server.domain.endpoints import ENDPOINTS

DOCUMENT = document("1.2.3")
METHODS = {"get", "post", "delete"}
REFUSALS = {
    error.code
    for error in vars(server_errors).values()
    if isinstance(error, type) and issubclass(error, server_errors.Refusal)
} - {server_errors.Refusal.code}
ENDINGS = {"batch_expired", "result_missing", "request_timeout", "request_cancelled"}
CODES = sorted(REFUSALS | ENDINGS)
ROUTES = {
    *(("post", endpoint) for endpoint in ENDPOINTS),
    ("get", "/v1/responses/{id}"),
    ("delete", "/v1/responses/{id}"),
    ("post", "/v1/responses/{id}/cancel"),
    ("get", "/v1/chat/completions/{id}"),
    ("get", "/v1/models"),
    ("get", "/v1/models/{id}"),
    ("get", "/v1/requests"),
    ("post", "/v1/requests"),
    ("get", "/v1/requests/{id}"),
    ("delete", "/v1/requests/{id}"),
    ("post", "/v1/requests/{id}/cancel"),
    ("post", "/v1/requests/{id}/retry"),
    ("get", "/v1/requests/{id}/events"),
    ("get", "/v1/stats"),
    ("post", "/v1/requests/cancel"),
    ("get", "/v1/batches/{id}"),
    ("get", "/v1/upstream_batches"),
    ("get", "/v1/upstream_batches/{id}"),
    ("post", "/v1/upstream_batches/{id}/cancel"),
    ("get", "/v1/costs"),
    ("post", "/v1/flush"),
    ("get", "/health"),
    ("get", "/ready"),
    ("get", "/metrics"),
    ("get", "/openapi.json"),
    ("post", "/webhooks/openai"),
}
BATCHING: dict[str, Any] = {
    "id": "batchreq_" + "5f" * 16,
    "status": "queued",
    "batch_id": None,
    "attempts": 0,
    "created_at": 1795342800,
    "completed_at": None,
    "estimated_completion_at": None,
}


def operations() -> Iterator[tuple[str, str, dict[str, Any]]]:
    for path, item in DOCUMENT["paths"].items():
        for method, operation in item.items():
            yield method, path, operation


def errors(schema: str, value: object) -> list[str]:
    whole = {"$ref": f"#/components/schemas/{schema}", "components": DOCUMENT["components"]}
    validator = OAS31Validator(whole)
    return [error.message for error in validator.iter_errors(value)]


def test_the_document_is_valid_openapi_3_1() -> None:
    validate(DOCUMENT, cls=OpenAPIV31SpecValidator)
    assert DOCUMENT["info"]["version"] == "1.2.3"
    assert json.loads(json.dumps(DOCUMENT)) == DOCUMENT


def test_it_has_every_route_of_the_contract_and_no_other() -> None:
    assert {(method, path) for method, path, _ in operations()} == ROUTES


@pytest.mark.parametrize("code", CODES)
def test_every_code_of_the_contract_is_in_it(code: str) -> None:
    assert f"`{code}`" in json.dumps(DOCUMENT)


def test_operations_have_names_of_their_own() -> None:
    names = [operation["operationId"] for _, _, operation in operations()]
    assert len(names) == len(set(names))


def test_all_but_four_doors_need_the_key() -> None:
    assert DOCUMENT["security"] == [{"bearer": []}]
    open_doors = {path for _, path, operation in operations() if operation.get("security") == []}
    # The webhook has a signature instead.
    assert open_doors == {"/health", "/ready", "/openapi.json", "/webhooks/openai"}


@pytest.mark.parametrize("endpoint", ENDPOINTS)
def test_a_call_is_answered_now_or_later(endpoint: str) -> None:
    responses = DOCUMENT["paths"][endpoint]["post"]["responses"]
    assert set(responses["200"]["headers"]) >= {"X-Batching-Id", "X-Batching-Status"}
    assert "Retry-After" in responses["202"]["headers"]
    assert "x-should-retry" in responses["default"]["headers"]
    refused = {"400", "401", "409", "413", "415", "422", "502", "503", "504"}
    assert refused <= set(responses)


@pytest.mark.parametrize("endpoint", ENDPOINTS)
def test_a_pending_object_with_our_two_members_is_an_answer(endpoint: str) -> None:
    value = pending(endpoint, id=BATCHING["id"], model="m", created_at=1, status="queued")
    assert errors("Answer", value) != []
    assert errors("Answer", value | {"has_completed": False, "batching": BATCHING}) == []


@pytest.mark.parametrize("status", STATUSES)
def test_batching_knows_every_status(status: str) -> None:
    assert errors("Batching", BATCHING | {"status": status}) == []


@pytest.mark.parametrize(
    "wrong", [{"status": "done"}, {"id": "resp_1"}, {"attempts": -1}, {"batch_id": 3}]
)
def test_batching_knows_what_it_is_not(wrong: dict[str, Any]) -> None:
    assert errors("Batching", BATCHING | wrong) != []


def test_a_failure_keeps_the_status_and_code_that_openai_gave_it() -> None:
    refusal = DOCUMENT["paths"]["/v1/embeddings"]["post"]["responses"]["400"]
    schema = refusal["content"]["application/json"]["schema"]
    whole = schema | {"components": DOCUMENT["components"]}
    error = {"message": "No.", "type": "invalid_request_error", "param": None, "code": "theirs"}
    failed = {"error": error, "has_completed": True, "batching": BATCHING | {"status": "failed"}}
    assert not list(OAS31Validator(whole).iter_errors(failed))
    assert not list(OAS31Validator(whole).iter_errors({"error": error | {"code": "invalid_json"}}))
    assert list(OAS31Validator(whole).iter_errors({"error": error}))
