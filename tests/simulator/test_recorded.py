"""What recorded replies of OpenAI have, member by member, and a reader may rely on."""

import re
import string
from typing import Any

import httpx2
import openai
import pytest
from openai.types.responses import Response

from openaibatching.simulator import Faults
from openaibatching.simulator.faults.durations import quantile
from simulator.kit import CHAT, World, chat, line, said, world

RESPONSES, EMBEDDINGS = "/v1/responses", "/v1/embeddings"
DATA_URL = "data:image/png;base64," + "A" * 600_000


def get(w: World, path: str, method: str = "GET") -> httpx2.Response:
    headers = {"authorization": "Bearer sk-any"}
    return httpx2.request(method, f"{w.url}{path}", headers=headers, trust_env=False)


# ----- inline images and files -----


@pytest.mark.parametrize(
    ("endpoint", "part"),
    [
        (CHAT, {"type": "image_url", "image_url": {"url": DATA_URL}}),
        (CHAT, {"type": "file", "file": {"filename": "a.pdf", "file_data": DATA_URL}}),
        (CHAT, {"type": "input_audio", "input_audio": {"data": "A" * 600_000, "format": "wav"}}),
        (RESPONSES, {"type": "input_image", "image_url": DATA_URL}),
        (RESPONSES, {"type": "input_file", "filename": "a.pdf", "file_data": DATA_URL}),
    ],
)
def test_what_is_inline_is_not_counted_as_text(endpoint: str, part: dict[str, Any]) -> None:
    messages = [{"role": "user", "content": [part]}]
    name = "messages" if endpoint == CHAT else "input"
    with world(enqueued_token_limits={"gpt-4o": 2000}) as w:
        answer = w.answer({"model": "gpt-4o", name: messages}, endpoint)
        assert answer["status_code"] == 200
        usage = answer["body"]["usage"]
        assert 0 < usage.get("prompt_tokens", usage.get("input_tokens")) <= 2000


# ----- models, reasoning, and the members of answers -----


@pytest.mark.parametrize("model", ["o3-mini", "gpt-5"])
def test_a_reasoning_model_answers_with_reasoning_first(model: str) -> None:
    with world() as w:
        plain = {"model": model, "input": "hi"}
        for body, summaries in ((plain, 0), ({**plain, "reasoning": {"summary": "auto"}}, 1)):
            response = Response.model_validate(w.answer(body, RESPONSES)["body"])
            assert [item.type for item in response.output] == ["reasoning", "message"]
            assert response.output[0].type == "reasoning"
            assert len(response.output[0].summary) == summaries
            assert response.output_text == "You said: hi"


def test_a_plain_model_answers_with_a_message_alone() -> None:
    with world() as w:
        response = w.answer({"model": "gpt-4o", "input": "hi"}, RESPONSES)["body"]
        assert [item["type"] for item in response["output"]] == ["message"]


def test_there_may_be_two_messages_the_first_one_empty() -> None:
    with world() as w:
        body = {"model": "gpt-5", "input": "hi [[simulate:two_messages]]"}
        response = Response.model_validate(w.answer(body, RESPONSES)["body"])
        reasoning, first, second = response.output
        assert (reasoning.type, first.type, second.type) == ("reasoning", "message", "message")
        assert first.to_dict()["content"][0]["text"] == ""  # type: ignore[index]
        assert response.output_text.startswith("You said: hi")


@pytest.mark.parametrize(
    ("asked", "answered"),
    [
        ("gpt-4o-mini", "gpt-4o-mini-2024-07-18"),
        ("gpt-4o-mini-2024-07-18", "gpt-4o-mini-2024-07-18"),
        ("gpt-6-luna", "gpt-6-luna"),
    ],
)
def test_the_model_that_answers_has_its_date(asked: str, answered: str) -> None:
    with world() as w:
        batch = w.finish([line("a", chat("hi") | {"model": asked})])
        assert batch.model == answered
        assert w.results(batch)["a"]["response"]["body"]["model"] == answered


def test_a_response_has_the_members_that_were_recorded() -> None:
    with world() as w:
        response = w.answer({"model": "gpt-4o", "input": "hi"}, RESPONSES)["body"]
        assert response["billing"] == {"payer": "developer"}
        assert response["tool_usage"]["web_search"] == {"num_requests": 0}
        assert response["tool_usage"]["image_gen"]["total_tokens"] == 0
        assert set(response) >= {
            "frequency_penalty", "presence_penalty", "max_tool_calls", "moderation",
            "prompt_cache_key", "prompt_cache_retention", "safety_identifier", "top_logprobs",
        }  # fmt: skip
        assert response["text"]["verbosity"] == "medium"
        assert set(response["reasoning"]) == {"context", "effort", "mode", "summary"}
        assert response["output"][0]["phase"] == "final_answer"


def test_the_other_endpoints_count_as_recorded() -> None:
    with world() as w:
        image = w.answer({"model": "m", "prompt": "a"}, "/v1/images/generations")["body"]
        details = image["usage"]["output_tokens_details"]
        assert details == {"image_tokens": image["usage"]["output_tokens"], "text_tokens": 0}
        old = w.answer({"model": "m", "prompt": "a"}, "/v1/completions")["body"]
        assert list(old["usage"]) == ["prompt_tokens", "completion_tokens", "total_tokens"]
        assert re.fullmatch("fp_[0-9a-f]{10}", w.answer(chat("a"))["body"]["system_fingerprint"])


@pytest.mark.parametrize(("model", "written"), [("gpt-6-luna", 960), ("gpt-4o", 0)])
def test_cache_writes_are_counted_in_the_line_and_not_in_the_batch(
    model: str, written: int
) -> None:
    with world() as w:
        body = {"model": model, "input": "x" * 8000}
        batch = w.finish([line("a", body, RESPONSES)], RESPONSES)
        usage = w.results(batch)["a"]["response"]["body"]["usage"]
        assert usage["input_tokens_details"]["cache_write_tokens"] == written
        assert batch.usage
        assert batch.usage.input_tokens_details.to_dict() == {"cached_tokens": 960}


# ----- embeddings -----


def test_an_embedding_has_1536_numbers_unless_a_body_asks_for_fewer() -> None:
    with world() as w:
        for model, size in (("text-embedding-3-small", 1536), ("text-embedding-3-large", 3072)):
            body = {"model": model, "input": "hi"}
            assert len(w.answer(body, EMBEDDINGS)["body"]["data"][0]["embedding"]) == size
        assert len(w.answer({**body, "dimensions": 8}, EMBEDDINGS)["body"]["data"][0]["embedding"])


def test_an_embedding_takes_8192_tokens() -> None:
    with world() as w:
        body = {"model": "text-embedding-3-small", "input": ["a", "x" * (4 * 8192)]}
        assert w.answer(body, EMBEDDINGS)["status_code"] == 200
        body["input"] = ["a", "x" * (4 * 8192 + 1)]
        error = w.answer(body, EMBEDDINGS)["body"]["error"]
        assert error["message"].startswith(
            "This model's maximum context length is 8192 tokens, however you requested 8193 tokens"
        )
        assert (error["param"], error["code"]) == (None, None)


def test_dimensions_have_a_refusal_of_their_own() -> None:
    with world() as w:
        body = {"model": "text-embedding-3-small", "input": "a", "dimensions": -42}
        assert w.answer(body, EMBEDDINGS)["body"]["error"] == {
            "message": "-42 is less than the minimum of 1 - 'dimensions'",
            "type": "invalid_request_error",
            "param": None,
            "code": None,
        }


# ----- files -----


@pytest.mark.parametrize("name", ["upload", "test-batch-file"])
def test_a_file_needs_no_ending(name: str) -> None:
    with world() as w:
        file = w.client.files.create(file=(name, b"{}\n"), purpose="batch")
        assert file.filename == name


@pytest.mark.parametrize(
    ("method", "path"),
    [("GET", "/files/file-x"), ("DELETE", "/files/file-x"), ("GET", "/files/file-x/content")],
)
def test_a_file_that_is_not_there_has_a_detail(method: str, path: str) -> None:
    with world() as w:
        reply = get(w, path, method)
        message = "No such File object: file-x"
        assert reply.status_code == 404
        assert reply.json()["detail"] == {"message": message, "code": None}
        assert reply.json()["error"]["message"] == message


def test_a_download_is_chunked_and_has_a_name() -> None:
    with world() as w:
        batch = w.finish(said("a"))
        reply = get(w, f"/files/{batch.output_file_id}/content")
        name = f'attachment; filename="{batch.id}_output.jsonl"'
        assert reply.headers["content-disposition"] == name
        assert reply.headers["transfer-encoding"] == "chunked"
        assert "content-length" not in reply.headers


def test_result_files_are_ascii_with_spaces() -> None:
    with world() as w:
        batch = w.finish(said("é \u2028 \U0001f600", "[[simulate:status=400]]"))
        for raw in (*w.raw(batch.output_file_id), *w.raw(batch.error_file_id)):
            assert raw.isascii()
            assert b'", "custom_id": "a' in raw
        assert b"\\u00e9 \\u2028 \\ud83d\\ude00" in w.raw(batch.output_file_id)[0]


# ----- order and ids -----


def test_members_come_in_their_order() -> None:
    with world() as w:
        batch = w.finish(said("a"))
        names = list(get(w, f"/batches/{batch.id}").json())
        stamps = [name for name in names if name.endswith("_at")]
        assert stamps == [
            "created_at", "in_progress_at", "expires_at", "finalizing_at", "completed_at",
            "failed_at", "expired_at", "cancelling_at", "cancelled_at",
        ]  # fmt: skip
        assert list(get(w, f"/batches/{batch.id}").json()["usage"]) == [
            "input_tokens", "output_tokens", "total_tokens", "input_tokens_details",
            "output_tokens_details",
        ]  # fmt: skip
        file = list(get(w, f"/files/{batch.output_file_id}").json())
        assert file[:5] == ["object", "id", "purpose", "filename", "bytes"]
        assert list(get(w, "/files").json())[-3:] == ["has_more", "first_id", "last_id"]


def test_ids_have_their_lengths() -> None:
    word = string.ascii_letters + string.digits
    with world() as w:
        batch = w.finish(said("a"))
        assert batch.output_file_id
        assert len(batch.output_file_id.removeprefix("file-")) == 22
        response = w.results(batch)["a0"]["response"]
        assert re.fullmatch("[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", response["request_id"])
        id_ = response["body"]["id"]
        assert re.fullmatch(f"chatcmpl-[{word}]{{29}}", id_)
        answer = w.answer({"model": "gpt-4o", "input": "hi"}, RESPONSES)["body"]
        assert re.fullmatch("resp_[0-9a-f]{50}", answer["id"])
        assert re.fullmatch("batch_[0-9a-f]{32}", batch.id)


# ----- times -----


def test_a_batch_that_expires_is_finalizing_for_ten_minutes_as_recorded() -> None:
    with world(lag="recorded", window_s=86_400, faults=Faults(stuck=1)) as w:
        id_ = w.create(said("a")).id
        w.clock.advance(86_400)
        assert w.client.batches.retrieve(id_).status == "in_progress"
        w.clock.advance(1)
        batch = w.client.batches.retrieve(id_)
        assert batch.status == "finalizing"
        assert batch.expires_at
        assert batch.finalizing_at == batch.expires_at + 1
        w.clock.advance(605)
        assert w.client.batches.retrieve(id_).status == "finalizing"
        w.clock.advance(2)
        batch = w.client.batches.retrieve(id_)
        assert batch.status == "expired"
        assert batch.finalizing_at
        assert batch.expired_at
        assert 606 <= batch.expired_at - batch.finalizing_at <= 607


def test_an_expired_batch_may_have_all_its_answers_and_count_none() -> None:
    with world(faults=Faults(expires_done=1)) as w:
        batch = w.finish(said("a"))
        assert batch.status == "expired"
        assert batch.request_counts
        assert batch.request_counts.to_dict() == {"total": 1, "completed": 0, "failed": 0}
        assert len(w.read(batch.output_file_id)) == 1
        assert batch.error_file_id is None


@pytest.mark.parametrize("begun", [False, True])
def test_cancelling_takes_ten_minutes_as_recorded(*, begun: bool) -> None:
    with world(lag="recorded", faults=Faults(stuck=1)) as w:
        id_ = w.create(said("a")).id
        w.clock.advance(200 * begun)
        assert w.client.batches.cancel(id_).status == "cancelling"
        w.clock.advance(604)
        assert w.client.batches.retrieve(id_).status == "cancelling"
        w.clock.advance(2802 - 604)
        assert w.client.batches.retrieve(id_).status == "cancelled"


def test_batches_take_as_long_as_recorded_ones() -> None:
    with world(lag="recorded") as w:
        for _ in range(200):
            w.create(said("a"))
        w.clock.advance(2 * 86_400)
        batches = [batch for batch in w.sim.batches() if batch["status"] == "completed"]
        assert len(batches) > 190
        run = sorted(batch["finalizing_at"] - batch["in_progress_at"] for batch in batches)
        assert 60 < run[len(run) // 2] < 230
        assert run[-1] > 3600
        assert all(batch["in_progress_at"] - batch["created_at"] <= 121 for batch in batches)
        assert all(batch["completed_at"] - batch["finalizing_at"] <= 585 for batch in batches)


@pytest.mark.parametrize(
    ("step", "share", "seconds"),
    [
        ("validating", 0.5, 1),
        ("validating", 0.99, 62),
        ("validating", 1, 121),
        ("running", 0.5, 114),
        ("running", 0.9, 3.1 * 3600),
        ("running", 0.99, 13.5 * 3600),
        ("finalizing", 1, 584),
        ("cancelling", 0.5, 606),
        ("cancelling", 1, 2802),
    ],
)
def test_the_recorded_quantiles_are_met(step: str, share: float, seconds: float) -> None:
    assert quantile(step, share) == pytest.approx(seconds)


def test_a_missing_input_is_noticed_after_a_quarter_of_an_hour() -> None:
    with world(lag="recorded") as w:
        id_ = w.client.batches.create(
            input_file_id="file-none", endpoint=CHAT, completion_window="24h"
        ).id
        w.clock.advance(899)
        assert w.client.batches.retrieve(id_).status == "validating"
        w.clock.advance(1)
        assert w.client.batches.retrieve(id_).status == "failed"


def test_a_lag_is_seconds_or_recorded() -> None:
    with pytest.raises(ValueError, match="lag=-1"), world(lag=-1):
        pass
    with world(lag="recorded") as w:
        assert w.sim.lag == "recorded"
        w.sim.lag = 3
        assert w.sim.lag == 3
        with pytest.raises(openai.NotFoundError):
            w.client.batches.retrieve("batch_none")
