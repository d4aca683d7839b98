"""OpenAI gets the body that the caller wrote: read from the file that arrives there."""

from __future__ import annotations

import asyncio
import json

import httpx2
from pydantic import BaseModel

from openaibatching import AsyncOpenAIBatching
from openaibatching.server.domain.endpoints import CHAT, RESPONSES
from support.door import Door
from support.world import KEY

JSON = {"Content-Type": "application/json"}
JSONL = {"Content-Type": "application/jsonl"}


def arrived(door: Door, id_: str) -> bytes:
    """The body of a request in the input file at OpenAI, byte for byte."""
    engine = door.simulator.engine
    for file in engine.store.files(engine.clock()):
        for line in file.content.read().split(b"\n"):
            if id_.encode() in line:
                return line[line.index(b'"body":') + len(b'"body":') : -1]
    raise AssertionError(f"{id_} is in no file")


async def post(door: Door, path: str, body: bytes, **headers: str) -> httpx2.Response:
    reply = await door.client.post(path, content=body, headers={**JSON, **headers})
    assert reply.status_code == 202, reply.text
    return reply


async def arrives(door: Door, path: str, body: bytes) -> bytes:
    """The body as it arrives at OpenAI."""
    id_ = (await post(door, path, body)).headers["x-batching-id"]
    await door.in_batch(id_)
    return arrived(door, id_)


SCHEMA = b'{"type":"object","properties":{"steps":{"type":"array","items":{}},"answer":{}}}'
TURNED = b'{"type":"object","properties":{"answer":{},"steps":{"type":"array","items":{}}}}'


def chat_body(text: bytes, schema: bytes, before: bytes = b"") -> bytes:
    return (
        b'{%s"model":"gpt-4o","messages":[{"role":"user","content":"%s"}],"response_format":'
        b'{"type":"json_schema","json_schema":{"name":"x","schema":%s}}}' % (before, text, schema)
    )  # fmt: skip


async def test_members_and_numbers_arrive_as_they_were_written(sent: Door) -> None:
    body = chat_body(
        b"as written", SCHEMA, b'"top_p":1.0,"temperature":1e0,"logit_bias":{"9":1,"10":-0},'
    )
    spaced = (
        b'\n{ "stream" : false, ' + body[1:-1] + b',\t"background": null,"stream_options":null }'
    )
    assert await arrives(sent, CHAT, spaced) == body


async def test_a_text_that_is_hard_to_read_does_not_change_the_order(sent: Door) -> None:
    body = b'{"user":"\\ud800","model":"gpt-4o","input":"z","metadata":{"z":"1","a":"2"}}'
    assert await arrives(sent, RESPONSES, body) == body


async def test_messages_on_responses_arrive_in_their_order(sent: Door) -> None:
    body = b'{"user":"u","model":"gpt-4o","messages":[{"role":"user","content":"moved"}]}'
    assert await arrives(sent, RESPONSES, body[:-1] + b',"input":null}') == body


async def test_two_schemas_that_differ_in_order_are_two_requests(sent: Door) -> None:
    bodies = [chat_body(b"two schemas", schema) for schema in (SCHEMA, TURNED)]
    assert [await arrives(sent, CHAT, body) for body in bodies] == bodies


async def test_of_two_orders_of_one_request_the_first_is_sent(quiet: Door) -> None:
    body = chat_body(b"two orders", SCHEMA)
    turned = b'{"user":"u",' + body[1:]
    ids = {
        (await post(quiet, CHAT, text)).headers["x-batching-id"]
        for text in (turned, body[:-1] + b',"user":"u"}')
    }
    assert [quiet.stored(id_) for id_ in ids] == [turned]


async def test_lines_of_a_bulk_call_arrive_as_they_were_written(sent: Door) -> None:
    bodies = [chat_body(b"bulk order", schema) for schema in (SCHEMA, TURNED)]
    line = b'{"body":%s,"url":"/v1/chat/completions","method":"POST","custom_id":"c"}\n'
    reply = await sent.client.post(
        "/v1/requests", content=b"".join(line % body for body in bodies), headers=JSONL
    )
    ids = [json.loads(text)["id"] for text in reply.content.splitlines()]
    for id_ in ids:
        await sent.in_batch(id_)
    assert [arrived(sent, id_) for id_ in ids] == bodies


class Verdict(BaseModel):
    """A schema whose order is not that of the alphabet."""

    reasoning: str
    evidence: list[str]
    confidence: float
    answer: str


async def test_a_class_given_to_our_client_arrives_in_its_order(sent: Door) -> None:
    fields = list(Verdict.model_fields)
    async with AsyncOpenAIBatching(
        batch_server_url=sent.service.url, batch_server_api_key=KEY
    ) as client:
        answers = await asyncio.gather(  # so that they travel as lines of a bulk call
            *(
                client.responses.parse(model="gpt-4o", input=f"Class {n}?", text_format=Verdict)
                for n in range(3)
            )
        )
    for answer in answers:
        await sent.in_batch(answer.id)
        body = json.loads(arrived(sent, answer.id))
        assert list(body["text"]["format"]["schema"]["properties"]) == fields
