"""What an answer becomes: parsed, refused, failed. The simulator says what the prompt asks it to.

Its answers carry the digest of the body that it was sent, so that what arrives can be compared.
"""

import base64
import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import openai
import pytest
from pydantic import BaseModel

from clients.real_server import BatchServer
from openaibatching import OpenAIBatching, ParsedChatCompletion, ParsedResponse
from openaibatching.simulator import body_sha256
from openaibatching.simulator.engine import arrays

PNG = b"\x89PNG\r\n\x1a\n"


class Answer(BaseModel):
    said: str
    number: int


def messages(text: str) -> Any:
    return [{"role": "user", "content": text}]


# ----- parsed -----


def test_a_response_is_parsed_into_the_model_once_it_has_completed(
    client: OpenAIBatching, batch_server: BatchServer
) -> None:
    def ask() -> ParsedResponse[Answer]:
        return client.responses.parse(model="gpt-4o", input="Hi", text_format=Answer)

    pending = ask()
    assert (pending.output_parsed, pending.has_completed) == (None, False)
    assert pending.batching.status in ("queued", "in_progress")
    batch_server.finish()
    parsed = ask()
    assert isinstance(parsed, ParsedResponse)
    assert parsed.output_parsed == Answer(said="You said: Hi", number=0)
    assert parsed.has_completed is True
    assert parsed.batching.id == pending.batching.id


def test_a_chat_is_parsed_into_the_model_once_it_has_completed(
    client: OpenAIBatching, batch_server: BatchServer
) -> None:
    def ask() -> ParsedChatCompletion[Answer]:
        return client.chat.completions.parse(
            model="gpt-4o", messages=messages("Hi"), response_format=Answer
        )

    pending = ask()
    assert (pending.choices, pending.has_completed) == ([], False)
    batch_server.finish()
    parsed = ask()
    assert isinstance(parsed, ParsedChatCompletion)
    assert parsed.choices[0].message.parsed == Answer(said="You said: Hi", number=0)
    assert (parsed.has_completed, parsed.batching.attempts) == (True, 1)


def test_a_parsed_answer_has_the_members_of_the_answer_and_no_others(
    client: OpenAIBatching, batch_server: BatchServer
) -> None:
    batch_server.finish()
    asking = client.with_options(wait=True).chat.completions
    parsed = asking.parse(model="gpt-4o", messages=messages("Hi"), response_format=Answer)
    plain = client.get(f"/chat/completions/{parsed.id}", cast_to=openai.BaseModel)
    assert parsed.to_dict().keys() == plain.to_dict().keys()
    assert parsed.to_dict()["id"] == parsed.id


# ----- as OpenAI has it -----


def test_members_we_do_not_know_are_kept(client: OpenAIBatching, batch_server: BatchServer) -> None:
    batch_server.finish()
    answer = client.with_options(wait=True).chat.completions.create(
        model="gpt-4o", messages=messages("[[simulate:u2028]]")
    )
    assert answer.to_dict()["simulated_note"] == "one\u2028two\u2029three\x85four"


def test_embeddings_asked_for_in_a_format_are_not_decoded(
    client: OpenAIBatching, batch_server: BatchServer
) -> None:
    batch_server.finish()
    answer: Any = client.with_options(wait=True).embeddings.create(
        model="m", input="Hi", encoding_format="base64"
    )
    assert answer.data[0].embedding == arrays.packed(arrays.vector("Hi", 1536))


# ----- refused and failed -----


def refused(ask: Callable[[], object], kind: type[openai.APIStatusError]) -> str | None:
    """The code of the error that `ask` raises."""
    with pytest.raises(kind) as raised:
        ask()
    return raised.value.code


def test_what_the_batch_server_refuses_is_raised_as_well(
    client: OpenAIBatching, batch_server: BatchServer
) -> None:
    named = client.with_options(default_headers={"Idempotency-Key": "one"}).responses
    named.create(model="m", input="Hi")
    reused = refused(lambda: named.create(model="m", input="Ho"), openai.UnprocessableEntityError)
    assert reused == "idempotency_key_reused"

    nobody = client.with_options(batch_server_api_key="sk-of-openai").responses
    wrong = refused(lambda: nobody.create(model="m", input="Hi"), openai.AuthenticationError)
    assert wrong == "invalid_api_key"

    unknown = refused(lambda: client.responses.retrieve("resp_1"), openai.NotFoundError)
    assert unknown == "not_found"
    assert len(batch_server.requests()) == 1


# ----- images -----


def images(*files: bytes, kind: str = "image/png") -> list[dict[str, str]]:
    urls = (f"data:{kind};base64,{base64.b64encode(file).decode()}" for file in files)
    return [{"image_url": url} for url in urls]


def drawn(body: dict[str, Any]) -> str:
    """What the simulator draws for this body and no other."""
    return arrays.picture(f"{body_sha256(body)}:0")


def test_an_image_edit_is_sent_as_json_with_the_files_in_it(
    client: OpenAIBatching, batch_server: BatchServer, tmp_path: Path
) -> None:
    path = tmp_path / "dot.png"
    path.write_bytes(PNG)
    batch_server.finish()
    answer: Any = client.with_options(wait=True).images.edit(
        model="gpt-image-1", prompt="Red", image=[PNG, io.BytesIO(PNG), path], mask=PNG
    )
    body = {
        "model": "gpt-image-1",
        "prompt": "Red",
        "images": images(PNG, PNG, PNG),
        "mask": images(PNG)[0],
    }
    assert answer.data[0].b64_json == drawn(body)


@pytest.mark.parametrize(
    ("file", "kind"),
    [
        (b"\xff\xd8\xff\xe0", "image/jpeg"),
        (b"RIFF0000WEBP", "image/webp"),
        (("a.gif", b"GIF89a"), "image/gif"),
        (("a", b"?", "image/avif"), "image/avif"),
        (("a.png", b"?", None, {"X-A": "b"}), "image/png"),
        (b"?", "image/png"),
    ],
)
def test_an_image_is_sent_as_what_it_is(
    file: Any, kind: str, client: OpenAIBatching, batch_server: BatchServer
) -> None:
    batch_server.finish()
    answer: Any = client.with_options(wait=True).images.edit(model="m", prompt="p", image=file)
    content = file[1] if isinstance(file, tuple) else file
    body = {"model": "m", "prompt": "p", "images": images(content, kind=kind)}
    assert answer.data[0].b64_json == drawn(body)
