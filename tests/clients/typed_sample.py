"""What a user's code looks like to a type checker; checked by test_types.py, never run.

Each `assert_type` fails the check when the type is another one, and each ignore that is not needed
fails it as well.
"""

import os
from typing import assert_type

from pydantic import BaseModel

from openaibatching import (
    AsyncOpenAIBatching,
    Batching,
    BatchRequest,
    ChatCompletion,
    Completion,
    CreateEmbeddingResponse,
    ImagesResponse,
    ModerationCreateResponse,
    OpenAIBatching,
    ParsedChatCompletion,
    ParsedResponse,
    Response,
)


class Answer(BaseModel):
    number: int


def readme() -> None:
    client = OpenAIBatching(
        batch_server_url="http://localhost:9487",
        batch_server_api_key=os.environ["BATCH_SERVER_API_KEY"],
    )
    completion = client.responses.create(
        model="gpt-4o", messages=[{"role": "user", "content": "Hello, world!"}]
    )
    if completion.has_completed:
        print(completion.choices[0].message.content)
    else:
        print("Still in progress.. we should query it again after a few mins.")


def synchronous(client: OpenAIBatching) -> None:
    response = client.responses.create(model="gpt-4o", input="Hi", temperature=0.5)
    assert_type(response, Response)
    assert_type(response.has_completed, bool)
    assert_type(response.batching, Batching)
    assert_type(response.batching.estimated_completion_at, int | None)
    chat = client.chat.completions
    messages = client.responses.create(model="m", messages=[{"role": "user", "content": "Hi"}], n=2)
    assert_type(messages, ChatCompletion)
    assert_type(client.responses.retrieve("id"), Response | ChatCompletion)
    assert_type(client.responses.retrieve("id").has_completed, bool)
    assert_type(client.responses.cancel("id"), BatchRequest)
    assert_type(chat.create(model="m", messages=[]), ChatCompletion)
    assert_type(chat.retrieve("id"), ChatCompletion)
    assert_type(client.completions.create(model="m", prompt="p"), Completion)
    assert_type(client.embeddings.create(model="m", input=["p"]), CreateEmbeddingResponse)
    assert_type(client.moderations.create(input="p"), ModerationCreateResponse)
    assert_type(client.images.generate(prompt="p"), ImagesResponse)
    assert_type(client.images.edit(image=b"", prompt="p"), ImagesResponse)
    parsed = client.responses.parse(model="m", input="p", text_format=Answer)
    assert_type(parsed, ParsedResponse[Answer])
    assert_type(parsed.output_parsed, Answer | None)
    choices = chat.parse(model="m", messages=[], response_format=Answer)
    assert_type(choices, ParsedChatCompletion[Answer])
    assert_type(choices.choices[0].message.parsed, Answer | None)
    assert_type(client.with_options(wait=True, timeout=5, max_retries=0), OpenAIBatching)


async def asynchronous(client: AsyncOpenAIBatching) -> None:
    chat = client.chat.completions
    messages = await client.responses.create(
        model="m", messages=[{"role": "user", "content": "Hi"}]
    )
    assert_type(messages, ChatCompletion)
    assert_type(await client.responses.create(model="m", input="Hi"), Response)
    assert_type(await client.responses.retrieve("id"), Response | ChatCompletion)
    assert_type(await client.responses.cancel("id"), BatchRequest)
    assert_type(await chat.create(model="m", messages=[]), ChatCompletion)
    assert_type(await chat.retrieve("id"), ChatCompletion)
    assert_type(await client.completions.create(model="m", prompt="p"), Completion)
    assert_type(await client.embeddings.create(model="m", input="p"), CreateEmbeddingResponse)
    assert_type(await client.moderations.create(input="p"), ModerationCreateResponse)
    assert_type(await client.images.generate(prompt="p"), ImagesResponse)
    assert_type(await client.images.edit(image=b"", prompt="p"), ImagesResponse)
    parsed = await client.responses.parse(model="m", input="p", text_format=Answer)
    assert_type(parsed, ParsedResponse[Answer])
    choices = await chat.parse(model="m", messages=[], response_format=Answer)
    assert_type(choices, ParsedChatCompletion[Answer])
    assert_type(client.with_options(wait=True), AsyncOpenAIBatching)


def mistakes(client: OpenAIBatching) -> None:
    client.embeddings.create(model="m")  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    client.responses.create(model="m", imput="Hi")  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue]
    client.responses.create(model="m", input="p", stream=True)  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType]
    OpenAIBatching(timeuot=3)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
