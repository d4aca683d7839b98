"""Answers of servers that are not ours, or that a proxy has had its hands on."""

from typing import Any

import pytest

from clients.scripted_server import ScriptedServer
from openaibatching import OpenAIBatching


def response(text: str) -> dict[str, Any]:
    content = {"type": "output_text", "text": text, "annotations": []}
    message = {"id": "m", "type": "message", "role": "assistant", "content": [content]}
    return {"id": "r", "object": "response", "output": [message], "status": "completed"}


@pytest.mark.parametrize(
    ("status", "has_completed"), [("completed", True), ("queued", False), ("in_progress", False)]
)
def test_an_answer_counts_as_complete_unless_it_says_otherwise(
    *, status: str, has_completed: bool, scripted: ScriptedServer, foreign: OpenAIBatching
) -> None:
    scripted.says(response("Hello!") | {"status": status, "created_at": 3})
    answer = foreign.responses.create(model="m", input="Hi")
    assert answer.has_completed is has_completed
    assert (answer.batching.status, answer.batching.batch_id) == (status, None)
    assert (answer.batching.created_at, answer.batching.attempts) == (3, 0)


def test_an_incomplete_answer_is_complete_for_us(
    scripted: ScriptedServer, foreign: OpenAIBatching
) -> None:
    scripted.says(response("Hel") | {"status": "incomplete"})
    answer = foreign.responses.create(model="m", input="Hi")
    assert (answer.status, answer.has_completed) == ("incomplete", True)


def test_an_embedding_is_decoded(scripted: ScriptedServer, foreign: OpenAIBatching) -> None:
    item = {"object": "embedding", "index": 0, "embedding": "AAAAAAAAgD8="}
    scripted.says({"object": "list", "data": [item], "model": "m"})
    answer = foreign.embeddings.create(model="m", input="Hi")
    assert answer.data[0].embedding == [0.0, 1.0]
    assert answer.has_completed is True


def test_the_request_id_of_a_reply_is_there(
    scripted: ScriptedServer, foreign: OpenAIBatching
) -> None:
    scripted.says(response("Hello!"), x_request_id="req_1")
    assert foreign.responses.create(model="m", input="Hi")._request_id == "req_1"
