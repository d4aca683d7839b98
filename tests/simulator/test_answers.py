import base64
import hashlib
import json
import struct
from typing import Any

import pytest
from openai.types import (
    Completion,
    CreateEmbeddingResponse,
    ImagesResponse,
    ModerationCreateResponse,
    Video,
)
from openai.types.chat import ChatCompletion, ChatCompletionMessageFunctionToolCall
from openai.types.responses import Response, ResponseFunctionToolCall
from pydantic import BaseModel

from openaibatching.simulator import body_sha256
from simulator.kit import chat, world

BODIES: list[tuple[str, type[BaseModel], dict[str, Any]]] = [
    ("/v1/chat/completions", ChatCompletion, chat("hi", n=2)),
    (
        "/v1/responses",
        Response,
        {"model": "gpt-5", "input": "hi", "tools": [], "metadata": {"a": "b"}},
    ),
    ("/v1/completions", Completion, {"model": "m", "prompt": ["hi", "ho"]}),
    ("/v1/embeddings", CreateEmbeddingResponse, {"model": "m", "input": ["hi", "ho"]}),
    ("/v1/moderations", ModerationCreateResponse, {"model": "m", "input": ["hi", "ho"]}),
    ("/v1/images/generations", ImagesResponse, {"model": "m", "prompt": "hi", "n": 2}),
    ("/v1/images/edits", ImagesResponse, {"model": "m", "prompt": "hi", "images": []}),
    ("/v1/videos", Video, {"model": "sora-2", "prompt": "hi"}),
]


@pytest.mark.parametrize(("endpoint", "model", "body"), BODIES)
def test_an_answer_fits_the_sdks_types(
    endpoint: str, model: type[BaseModel], body: dict[str, Any]
) -> None:
    with world() as w:
        response = w.answer(body, endpoint)
        assert response["status_code"] == 200
        model.model_validate(response["body"])


def test_a_chat_answer_echoes_the_last_user_message_and_names_the_body() -> None:
    body = chat("first")
    body["messages"] += [
        {"role": "assistant", "content": "no"},
        {
            "role": "user",
            "content": [{"type": "text", "text": "sec"}, {"type": "text", "text": "ond é"}],
        },
    ]
    with world() as w:
        answer = ChatCompletion.model_validate(w.answer(body)["body"])
        assert answer.choices[0].message.content == "You said: second é"
        digest = hashlib.sha256(json.dumps(body, sort_keys=True, separators=(",", ":")).encode())
        assert digest.hexdigest() == body_sha256(body)
        assert answer.system_fingerprint == f"fp_{digest.hexdigest()[:10]}"
        assert w.sim.ledger.counts() == {digest.hexdigest(): 1}


@pytest.mark.parametrize(
    "given",
    [
        "hi",
        [{"role": "user", "content": "hi"}],
        [
            {"role": "user", "content": "older"},
            {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "hi"}]},
            {"type": "function_call_output", "call_id": "1", "output": "x"},
        ],
    ],
)
def test_a_response_echoes_the_last_user_text(given: Any) -> None:
    body = {"model": "gpt-4o", "input": given}
    with world() as w:
        answer = Response.model_validate(w.answer(body, "/v1/responses")["body"])
        assert answer.output_text == "You said: hi"
        assert answer.metadata
        assert answer.metadata["body_sha256"] == body_sha256(body)


def test_usage_is_about_a_token_in_four_characters() -> None:
    with world() as w:
        answer = w.answer({"model": "gpt-5", "input": "x" * 8000}, "/v1/responses")
        usage = Response.model_validate(answer["body"]).usage
        assert usage
        assert usage.input_tokens == 2000
        assert usage.input_tokens_details.cached_tokens == 960
        assert usage.output_tokens == 2003 + usage.output_tokens_details.reasoning_tokens
        assert usage.output_tokens_details.reasoning_tokens == 64
        assert usage.total_tokens == usage.input_tokens + usage.output_tokens


def test_the_same_body_gets_the_same_answer_under_another_id() -> None:
    with world() as w:
        one, two = (w.answer(chat("hi"))["body"] for _ in range(2))
        assert one.pop("id") != two.pop("id")
        assert one == two


def test_an_embedding_belongs_to_its_input_in_both_formats() -> None:
    body = {"model": "m", "input": ["a", "b", "a"], "dimensions": 16}
    with world() as w:
        plain = w.answer(body, "/v1/embeddings")["body"]["data"]
        packed = w.answer({**body, "encoding_format": "base64"}, "/v1/embeddings")["body"]["data"]
        vectors = [one["embedding"] for one in plain]
        assert vectors[0] == vectors[2] != vectors[1]
        assert [one["index"] for one in packed] == [0, 1, 2]
        for one, vector in zip(packed, vectors, strict=True):
            assert list(struct.unpack("<16f", base64.b64decode(one["embedding"]))) == vector


def test_moderations_and_pictures_belong_to_their_input() -> None:
    with world() as w:
        one, two = (
            w.answer({"model": "m", "input": text}, "/v1/moderations")["body"]["results"]
            for text in ("a", "b")
        )
        assert one[0]["category_scores"] != two[0]["category_scores"]
        assert one[0]["flagged"] == any(one[0]["categories"].values())
        picture = w.answer({"model": "m", "prompt": "a"}, "/v1/images/generations")["body"]
        assert base64.b64decode(picture["data"][0]["b64_json"]).startswith(b"\x89PNG")


class Step(BaseModel):
    why: str
    cost: float
    sub: list["Step"]


class Plan(BaseModel):
    name: str
    steps: list[Step]
    done: bool
    grade: int | None


def test_structured_output_fits_its_schema() -> None:
    from openai.lib._parsing._completions import type_to_response_format_param

    wanted: Any = type_to_response_format_param(Plan)
    with world() as w:
        answer = w.answer(chat("plan", response_format=wanted))["body"]
        plan = Plan.model_validate_json(answer["choices"][0]["message"]["content"])
        assert plan.name == "You said: plan"
        text = {"format": {"type": "json_schema", **wanted["json_schema"]}}
        body = {"model": "m", "input": "plan", "text": text}
        response = Response.model_validate(w.answer(body, "/v1/responses")["body"])
        assert Plan.model_validate_json(response.output_text) == plan


FUNCTION = {"name": "plan", "parameters": Plan.model_json_schema()}


@pytest.mark.parametrize("required", [False, True])
def test_a_function_that_has_to_be_called_is_called_with_fitting_arguments(
    *, required: bool
) -> None:
    other = {"name": "other", "parameters": {"type": "object"}}
    functions = [FUNCTION, other] if required else [other, FUNCTION]
    in_chat = chat(
        "plan",
        tools=[{"type": "function", "function": function} for function in functions],
        tool_choice="required" if required else {"type": "function", "function": {"name": "plan"}},
    )
    in_response = {
        "model": "m",
        "input": "plan",
        "tools": [{"type": "function", **function} for function in functions],
        "tool_choice": "required" if required else {"type": "function", "name": "plan"},
    }
    with world() as w:
        (choice,) = ChatCompletion.model_validate(w.answer(in_chat)["body"]).choices
        assert choice.message.content is None
        assert choice.message.tool_calls
        (called,) = choice.message.tool_calls
        assert isinstance(called, ChatCompletionMessageFunctionToolCall)
        assert called.function.name == "plan"
        plan = Plan.model_validate_json(called.function.arguments)
        assert plan.name == "You said: plan"
        assert choice.finish_reason == ("tool_calls" if required else "stop")

        response = Response.model_validate(w.answer(in_response, "/v1/responses")["body"])
        (item,) = response.output
        assert isinstance(item, ResponseFunctionToolCall)
        assert (item.name, Plan.model_validate_json(item.arguments)) == ("plan", plan)


def test_a_function_that_may_be_called_is_not() -> None:
    body = chat("plan", tools=[{"type": "function", "function": FUNCTION}])
    with world() as w:
        (choice,) = w.answer(body)["body"]["choices"]
        assert choice["message"]["content"] == "You said: plan"
        assert "tool_calls" not in choice["message"]


def test_lone_surrogates_and_nulls_pass() -> None:
    raw = b'{"custom_id":"s","method":"POST","url":"/v1/chat/completions","body":{"model":"gpt-4o",'
    raw += b'"messages":[{"role":"user","content":"\\ud800 \\u0000"}]}}\n'
    with world() as w:
        batch = w.finish([raw])
        assert batch.status == "completed"
        content = w.results(batch)["s"]["response"]["body"]["choices"][0]["message"]["content"]
        assert content == "You said: \ud800 \0"


REFUSED: list[tuple[str, dict[str, Any], str | None, str | None]] = [
    ("/v1/chat/completions", chat("x", temperature=2.5), "temperature", "decimal_above_max_value"),
    ("/v1/chat/completions", chat("x", temperature="hot"), "temperature", "invalid_type"),
    ("/v1/chat/completions", chat("x", n=0), "n", "integer_below_min_value"),
    ("/v1/chat/completions", chat("x", unknown_param=1), "unknown_param", "unknown_parameter"),
    ("/v1/chat/completions", {"model": "gpt-4o", "messages": "hi"}, "messages", "invalid_type"),
    ("/v1/chat/completions", {"model": "gpt-4o", "messages": []}, "messages", "empty_array"),
    (
        "/v1/chat/completions",
        {"model": "gpt-4o", "messages": [{"role": "boss", "content": ""}]},
        "messages[0].role",
        "invalid_value",
    ),
    (
        "/v1/chat/completions",
        chat("x", response_format={"type": "yaml"}),
        "response_format.type",
        "invalid_value",
    ),
    ("/v1/chat/completions", chat("x" * 512_004), "messages", "context_length_exceeded"),
    ("/v1/responses", {"model": "m", "input": 5}, "input", "invalid_type"),
    (
        "/v1/responses",
        {"model": "m", "input": "x", "messages": []},
        "messages",
        "unknown_parameter",
    ),
    ("/v1/embeddings", {"model": "m", "input": ""}, "input", "invalid_value"),
    (
        "/v1/embeddings",
        {"model": "m", "input": "x", "dimensions": 0},
        None,
        None,
    ),
    ("/v1/responses", {"model": "m", "input": "x", "reasoning": "hard"}, None, None),
]


@pytest.mark.parametrize(("endpoint", "body", "param", "code"), REFUSED)
def test_a_body_that_makes_no_sense_gets_its_own_400(
    endpoint: str, body: dict[str, Any], param: str | None, code: str | None
) -> None:
    with world() as w:
        response = w.answer(body, endpoint)
        assert response["status_code"] == 400
        error = response["body"]["error"]
        assert error["type"] == "invalid_request_error"
        assert (error["param"], error["code"]) == (param, code)
        assert w.sim.ledger.lines == 0
        assert w.sim.ledger.failures == {body_sha256(body): 1}
