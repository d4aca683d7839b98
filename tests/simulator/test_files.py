import socket
from typing import Any

import openai
import pytest

from openaibatching.simulator import Limits
from simulator.kit import chat, line, said, world
from support.deadline import until


def test_an_uploaded_file_has_the_shape_openai_was_seen_to_give() -> None:
    with world() as w:
        file = w.upload(said("hi"))
        assert file.object == "file"
        assert file.purpose == "batch"
        assert file.status == "processed"
        assert file.filename == "in.jsonl"
        assert file.created_at == int(w.clock.now)
        assert file.expires_at == file.created_at + 2_592_000
        assert w.client.files.retrieve(file.id) == file


def test_the_bytes_come_back_as_they_were_sent() -> None:
    with world() as w:
        data = b'{"a":"\xe2\x80\xa8"}\r\n' + b"x" * 3_000_000
        file = w.client.files.create(file=("in.jsonl", data), purpose="batch")
        assert file.bytes == len(data)
        assert w.client.files.content(file.id).content == data


@pytest.mark.parametrize(
    ("name", "data"),
    [("in.txt", b"Buy milk.\n"), ("in.jsonl", b""), ("in.jsonl", b"not json\n{}\n")],
)
def test_a_file_of_the_wrong_format_is_refused_at_once(name: str, data: bytes) -> None:
    with world() as w:
        with pytest.raises(openai.BadRequestError) as refused:
            w.client.files.create(file=(name, data), purpose="batch")
        message = "Invalid file format for Batch API. Must be .jsonl"
        assert refused.value.response.json() == {
            "error": {
                "message": message,
                "type": "invalid_request_error",
                "param": None,
                "code": None,
            },
            "detail": {"message": message, "code": None},
        }
        assert w.sim.files() == []


def test_a_first_line_may_be_refused_that_others_can_read() -> None:
    with world() as w:
        with pytest.raises(openai.BadRequestError, match=r"Must be \.jsonl"):
            w.upload(said("[[simulate:unparseable]]", "a"))
        batch = w.finish(said("a", "[[simulate:unparseable]]"))
        assert batch.status == "failed"
        assert batch.errors
        assert batch.errors.data
        [found] = batch.errors.data
        assert (found.code, found.line) == ("invalid_json_line", 2)


def test_lines_that_miss_keys_pass_the_upload() -> None:
    with world() as w:
        assert w.client.files.create(file=("in.jsonl", b"{}\nnonsense\n"), purpose="batch").id


def test_an_unknown_purpose_is_refused() -> None:
    with world() as w:
        purpose: Any = "batch-api"
        with pytest.raises(openai.BadRequestError) as refused:
            w.client.files.create(file=("in.jsonl", b"{}"), purpose=purpose)
        message = (
            "'batch-api' is not one of ['fine-tune', 'assistants', 'batch', 'user_data', "
            "'vision', 'evals'] - 'purpose'"
        )
        document: Any = refused.value.response.json()
        assert document["error"]["message"] == message
        assert document["error"]["code"] is None
        assert document["detail"] == {"message": message, "code": None}


@pytest.mark.parametrize("seconds", [3599, 2_592_001])
def test_an_expiry_out_of_bounds_is_refused(seconds: int) -> None:
    with world() as w:
        with pytest.raises(openai.BadRequestError) as refused:
            w.upload(said("hi"), expires_after={"anchor": "created_at", "seconds": seconds})
        assert refused.value.param == "expires_after[seconds]".replace("[", ".").rstrip("]")


def test_a_file_is_gone_when_it_has_expired() -> None:
    with world() as w:
        file = w.upload(said("hi"), expires_after={"anchor": "created_at", "seconds": 3600})
        w.clock.advance(3599)
        assert w.client.files.retrieve(file.id).expires_at == file.created_at + 3600
        w.clock.advance(1)
        with pytest.raises(openai.NotFoundError):
            w.client.files.retrieve(file.id)


def test_a_deleted_file_is_gone() -> None:
    with world() as w:
        file = w.upload(said("hi"))
        gone = w.client.files.delete(file.id)
        assert gone.to_dict() == {"id": file.id, "object": "file", "deleted": True}
        for call in (w.client.files.retrieve, w.client.files.content, w.client.files.delete):
            with pytest.raises(openai.NotFoundError):
                call(file.id)


def test_an_upload_that_breaks_off_leaves_nothing() -> None:
    with world() as w:
        host, port = w.url.removeprefix("http://").removesuffix("/v1").split(":")
        with socket.create_connection((host, int(port))) as connection:
            connection.sendall(
                b"POST /v1/files HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer k\r\n"
                b"Content-Type: multipart/form-data; boundary=b\r\nContent-Length: 1000\r\n\r\n"
                b'--b\r\nContent-Disposition: form-data; name="purpose"\r\n\r\nbatch\r\n'
                b'--b\r\nContent-Disposition: form-data; name="file"; filename="a.jsonl"\r\n\r\n{}'
            )
            until(lambda: w.sim.requests.count("POST /files") > 0)
        assert w.client.files.list().data == []


def test_a_file_larger_than_any_may_be_is_refused() -> None:
    with world(limits=Limits(file_bytes=1000)) as w:
        assert w.client.files.create(file=("in.jsonl", b"{}" + b" " * 998), purpose="batch").id
        with pytest.raises(openai.APIStatusError, match="Maximum file size") as refused:
            w.client.files.create(file=("in.jsonl", b"{}" + b" " * 999), purpose="batch")
        assert refused.value.status_code == 413
        assert len(w.sim.files()) == 1
    assert Limits().file_bytes == 512 * 1024 * 1024


def test_files_are_listed_newest_first_and_in_pages() -> None:
    with world() as w:
        ids = [w.upload(said(str(number))).id for number in range(5)]
        first = w.client.files.list(limit=2)
        assert [file.id for file in first.data] == ids[:2:-1]
        assert first.has_more
        assert [file.id for file in w.client.files.list(limit=2)] == ids[::-1]
        assert [file.id for file in w.client.files.list(order="asc")] == ids
        assert w.client.files.list(purpose="vision").data == []


@pytest.mark.parametrize("limit", [0, 10_001])
def test_a_page_of_files_has_its_bounds(limit: int) -> None:
    with world() as w, pytest.raises(openai.BadRequestError) as refused:
        w.client.files.list(limit=limit)
    assert refused.value.param == "limit"


def test_uploads_are_limited_per_minute() -> None:
    with world(limits=Limits(uploads_per_minute=2)) as w:
        w.upload(said("1"))
        w.upload(said("2"))
        with pytest.raises(openai.RateLimitError) as refused:
            w.upload(said("3"))
        assert refused.value.response.headers["retry-after"] == "60"
        w.clock.advance(60)
        w.upload(said("3"))


def test_a_file_of_another_purpose_makes_no_batch() -> None:
    with world() as w:
        file = w.client.files.create(file=("in.jsonl", b"{}"), purpose="user_data")
        with pytest.raises(openai.BadRequestError) as refused:
            w.client.batches.create(
                input_file_id=file.id, endpoint="/v1/responses", completion_window="24h"
            )
        assert refused.value.param == "input_file_id"


def test_result_files_expire_as_the_batch_asked() -> None:
    with world() as w:
        made = w.create(
            [line("a", chat("hi"))],
            output_expires_after={"anchor": "created_at", "seconds": 7200},
        )
        batch = w.client.batches.retrieve(made.id)
        assert batch.output_file_id
        file = w.client.files.retrieve(batch.output_file_id)
        assert file.purpose == "batch_output"
        assert file.expires_at == file.created_at + 7200
