"""The stories that the clients of both languages are told: stories.json, run by this one.

A story is a list of steps. A step makes a `call` (with a `body`, `files`, `headers`, the `id` given
or that `of` an earlier answer, one that waits or not), and says what is answered (`expect`) or
raised (`raises`); `finish` lets OpenAI finish what it has. In `expect`, a name leads into the
answer (`choices.0.message.content`), and what it should find there is a value, or one of `length`,
`in`, and `same` and `other`, which compare with the answer that an earlier step kept by `as`. At
the end there were these `replies`, and so many `requests`, where the story says so.
"""

import base64
import json
from inspect import isawaitable
from operator import attrgetter
from pathlib import Path
from typing import Any

import httpx2
import openai
import pytest

from clients.real_server import BatchServer
from openaibatching import AsyncOpenAIBatching, OpenAIBatching
from support.world import TLS

STORIES = json.loads(Path(__file__).with_name("stories.json").read_text("utf-8"))
Client = OpenAIBatching | AsyncOpenAIBatching


def found(root: Any, path: str) -> Any:
    """What the dotted path leads to."""
    for name in path.split("."):
        if isinstance(root, list):
            root = root[int(name)]
        elif isinstance(root, dict):
            root = root[name]
        else:
            root = getattr(root, name)
    return root


def check(answer: Any, expected: dict[str, Any], kept: dict[str, Any]) -> None:
    for path, wanted in expected.items():
        value = found(answer, path)
        match wanted:
            case {"length": length}:
                assert len(value) == length, path
            case {"in": values}:
                assert value in values, path
            case {"same": other}:
                assert value == found(kept, other), path
            case {"other": other}:
                assert value != found(kept, other), path
            case _:
                assert (value, type(value)) == (wanted, type(wanted)), path


async def made(client: Client, step: dict[str, Any], kept: dict[str, Any]) -> Any:
    """The answer to a step's call."""
    asking = client.with_options(wait=True) if step.get("wait") else client
    method: Any = attrgetter(step["call"])(asking)
    ids = [found(kept, step["of"])] if "of" in step else [step["id"]] if "id" in step else []
    files = {name: base64.b64decode(file) for name, file in step.get("files", {}).items()}
    headers = {"extra_headers": step["headers"]} if "headers" in step else {}
    answer: Any = method(*ids, **step.get("body", {}), **files, **headers)
    return await answer if isawaitable(answer) else answer


async def told(story: dict[str, Any], client: Client, server: BatchServer) -> None:
    kept: dict[str, Any] = {}
    for step in story["steps"]:
        if "finish" in step:
            server.finish()
        elif "raises" in step:
            wanted = step["raises"]
            with pytest.raises(openai.APIStatusError) as raised:
                await made(client, step, kept)
            assert type(raised.value) is getattr(openai, wanted["error"])
            assert raised.value.status_code == wanted["status"]
            assert raised.value.code == wanted["code"]
            assert raised.value.param == wanted.get("param", raised.value.param)
            assert raised.value.message
        else:
            answer = await made(client, step, kept)
            check(answer, step.get("expect", {}), kept)
            kept[step.get("as", "")] = answer


@pytest.mark.parametrize("kind", ["sync", "async"])
@pytest.mark.parametrize("story", STORIES, ids=[story["name"] for story in STORIES])
async def test_story(
    story: dict[str, Any], kind: str, batch_server: BatchServer, patient_server: BatchServer
) -> None:
    server = patient_server if story.get("server") == "patient" else batch_server
    replies: list[int] = []

    def note(reply: httpx2.Response) -> None:
        replies.append(reply.status_code)

    async def note_later(reply: httpx2.Response) -> None:
        note(reply)

    # The official retries stay on: what is final must not be asked for again.
    if kind == "sync":
        with server.client(note) as client:
            await told(story, client, server)
    else:
        hooks: Any = {"response": [note_later]}
        http = openai.DefaultAsyncHttpxClient(verify=TLS, event_hooks=hooks)
        async with AsyncOpenAIBatching(
            batch_server_url=server.url, batch_server_api_key=server.key, http_client=http
        ) as async_client:
            await told(story, async_client, server)
    assert replies == story.get("replies", replies)
    assert len(server.requests()) == story.get("requests", len(server.requests()))
