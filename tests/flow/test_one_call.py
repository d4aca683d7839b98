"""One call, one answer: from the stock SDK through the server to OpenAI and back."""

from __future__ import annotations

from openaibatching.server.app import Service
from openaibatching.simulator import Simulator
from support.world import http, sdk


async def test_the_first_call_is_queued_and_the_same_call_later_is_answered(
    service: Service, simulator: Simulator
) -> None:
    async with sdk(service) as client, http(service) as plain:
        first = await client.responses.create(model="gpt-4o", input="Hello, world!")
        assert first.status == "queued"
        assert first.output == []
        waited = await plain.post(
            "/v1/responses",
            json={"model": "gpt-4o", "input": "Hello, world!"},
            headers={"Prefer": "wait=240"},
        )
        assert waited.status_code == 200
        assert waited.headers["preference-applied"] == "wait"
        later = await client.responses.create(model="gpt-4o", input="Hello, world!")
        assert later.output_text == "You said: Hello, world!"
        assert (await client.responses.retrieve(first.id)).output_text == later.output_text
        assert (await client.responses.retrieve(later.id)).output_text == later.output_text
    assert simulator.ledger.lines == 1
