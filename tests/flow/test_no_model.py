"""Calls that leave the model to OpenAI: moderations, and Responses with a stored prompt."""

from __future__ import annotations

import json
from typing import Any

import pytest

from openaibatching.server.domain.endpoints import MODERATIONS, RESPONSES
from support.door import WAIT, Door, refused
from support.world import sdk

CASES = [
    (MODERATIONS, {"input": "A fine day."}),
    (RESPONSES, {"prompt": {"id": "pmpt_0"}, "input": "Hello"}),
]
JSONL = {"Content-Type": "application/jsonl"}


@pytest.mark.parametrize(("path", "body"), CASES)
async def test_a_call_without_a_model_is_answered(
    lively: Door, path: str, body: dict[str, Any]
) -> None:
    first = await lively.client.post(path, json=body)
    assert (first.status_code, first.json()["model"]) == (202, "")
    done = await lively.answered(body, path)
    assert done.status_code == 200
    assert done.json()["model"]
    id_ = done.headers["x-batching-id"]
    described = (await lively.client.get(f"/v1/requests/{id_}")).json()
    assert described["model"] is None
    assert json.loads(lively.stored(id_)) == body


async def test_lines_without_a_model_are_answered(lively: Door) -> None:
    lines = [
        json.dumps({"custom_id": str(n), "method": "POST", "url": path, "body": body})
        for n, (path, body) in enumerate(CASES)
    ]
    reply = await lively.client.post(
        "/v1/requests", content="\n".join(lines), headers={**JSONL, **WAIT}
    )
    answers = [json.loads(text)["response"] for text in reply.content.splitlines()]
    assert [answer["status_code"] for answer in answers] == [200, 200]


async def test_the_sdk_takes_what_is_pending(quiet: Door) -> None:
    async with sdk(quiet.service, _strict_response_validation=True) as client:
        moderation = await client.moderations.create(input="pending")
        response = await client.responses.create(prompt={"id": "pmpt_0"}, input="pending")
    assert (moderation.results, response.status) == ([], "queued")


async def test_they_share_no_batch_with_calls_that_name_one(patient: Door) -> None:
    bodies = [{"input": "a"}, {"input": "b"}, {"input": "c", "model": "omni-moderation-latest"}]
    lines = [
        json.dumps({"custom_id": str(n), "method": "POST", "url": MODERATIONS, "body": body})
        for n, body in enumerate(bodies)
    ]
    reply = await patient.client.post("/v1/requests", content="\n".join(lines), headers=JSONL)
    ids = [json.loads(text)["id"] for text in reply.content.splitlines()]
    assert (await patient.client.post("/v1/flush")).status_code == 202
    batches = []
    for id_ in ids:
        answered = await patient.client.get(f"/v1/responses/{id_}", headers=WAIT)
        assert answered.status_code == 200
        batches.append(answered.json()["batching"]["batch_id"])
    assert batches[0] == batches[1] != batches[2]
    listed = (await patient.client.get("/v1/upstream_batches")).json()["data"]
    models = {batch["batch_id"]: batch["model"] for batch in listed}
    assert [models[batch] for batch in batches] == [None, None, "omni-moderation-latest"]


async def test_reports_and_metrics_know_them(lively: Door) -> None:
    reply = await lively.answered({"input": "reported"}, MODERATIONS)
    wrong = {"input": "[[simulate:status=400]] reported"}
    failed = await lively.answered(wrong, MODERATIONS)
    assert (reply.status_code, failed.status_code) == (200, 400)
    costs = (await lively.client.get("/v1/costs?group_by=model")).json()["data"]
    assert None in [row["model"] for row in costs]
    stats = (await lively.client.get("/v1/stats")).json()
    assert None in [row["model"] for row in stats["failures"]]
    metrics = (await lively.client.get("/metrics")).text
    assert 'openaibatching_answers_total{endpoint="/v1/moderations",model=""}' in metrics


async def test_a_queue_of_them_is_reported(quiet: Door) -> None:
    assert (await quiet.client.post(MODERATIONS, json={"input": "queue"})).status_code == 202
    stats = (await quiet.client.get("/v1/stats")).json()
    assert (MODERATIONS, None) in [(row["endpoint"], row["model"]) for row in stats["queue"]]


async def test_all_others_are_refused_without_one(quiet: Door) -> None:
    reply = await quiet.client.post(RESPONSES, json={"input": "no model"})
    refused(reply, 400, "missing_required_parameter", "model")
