"""Faults of single calls: what acted, what was answered."""

from email.utils import parsedate_to_datetime

import httpx2
import openai
import pytest

from openaibatching.simulator import Faults
from simulator.kit import CHAT, World, said, world
from support.deadline import until


def create(w: World, file_id: str) -> str:
    return w.client.batches.create(input_file_id=file_id, endpoint=CHAT, completion_window="24h").id


def test_a_lost_create_reply_leaves_a_batch_behind() -> None:
    with world(faults=Faults(lose_create_reply=1)) as w:
        with pytest.raises(openai.APIConnectionError):
            w.create(said("a"))
        assert len(w.sim.batches()) == 1
        assert w.sim.ledger.lines == 1


def test_retries_on_create_pay_three_times() -> None:
    with world(faults=Faults(lose_create_reply=1)) as w:
        file = w.upload(said("a"))
        patient = w.strict(max_retries=2).batches
        with pytest.raises(openai.APIConnectionError):
            patient.create(input_file_id=file.id, endpoint=CHAT, completion_window="24h")
        assert len(w.sim.batches()) == 3
        assert [call.retry for call in w.sim.requests.latest if call.method == "POST"][1:] == [
            0,
            1,
            2,
        ]


def test_a_lost_upload_reply_leaves_a_file_behind() -> None:
    with world(faults=Faults(lose_upload_reply=1)) as w:
        with pytest.raises(openai.APIConnectionError):
            w.upload(said("a"))
        assert len(w.sim.files()) == 1


def test_an_upload_can_act_and_answer_500() -> None:
    with world(faults=Faults(upload_500_after_acting=1)) as w:
        with pytest.raises(openai.InternalServerError):
            w.upload(said("a"))
        assert len(w.sim.files()) == 1


def test_a_late_upload_acts_after_its_reply() -> None:
    with world(faults=Faults(late_upload=1, late_s=20)) as w:
        for _ in range(2):  # once by a 503, once by a cut
            with pytest.raises((openai.InternalServerError, openai.APIConnectionError)):
                w.upload(said("a"))
        w.clock.advance(19.9)
        assert w.client.files.list().data == []
        w.clock.advance(0.2)
        found = w.client.files.list().data
        assert [file.filename for file in found] == ["in.jsonl", "in.jsonl"]
        assert w.client.batches.retrieve(create(w, found[0].id)).status == "completed"


def test_a_create_can_act_and_answer_500() -> None:
    with world(faults=Faults(create_500_after_acting=1)) as w:
        with pytest.raises(openai.InternalServerError):
            w.create(said("a"))
        assert len(w.sim.batches()) == 1


def test_a_late_create_acts_after_its_reply() -> None:
    with world(faults=Faults(late_create=1, late_s=5)) as w:
        file = w.upload(said("a"))
        for _ in range(2):  # once by a 503, once by a cut
            with pytest.raises((openai.InternalServerError, openai.APIConnectionError)):
                create(w, file.id)
        w.clock.advance(4.9)
        assert w.client.batches.list().data == []
        w.clock.advance(0.2)
        assert len(w.client.batches.list().data) == 2
        assert w.sim.ledger.lines == 2


@pytest.mark.parametrize("status", [429, 500, 502, 503])
def test_an_error_comes_instead_of_acting(status: int) -> None:
    with world() as w:
        file = w.upload(said("a"))
        w.sim.faults = Faults(**{f"error_{status}": 1.0})  # type: ignore[arg-type]
        with pytest.raises(openai.APIStatusError) as refused:
            create(w, file.id)
        assert refused.value.status_code == status
        assert refused.value.response.json()["error"]["message"]
        assert w.sim.batches() == []


def test_a_429_names_seconds_or_a_date_or_no_time_to_come_back() -> None:
    with world(faults=Faults(error_429=1)) as w:
        for _ in range(2):
            named = []
            for _ in range(3):
                with pytest.raises(openai.RateLimitError) as refused:
                    w.client.batches.list()
                named.append(refused.value.response.headers.get("retry-after"))
            seconds, date, nothing = named
            assert seconds == "1"
            assert date
            now = parsedate_to_datetime(refused.value.response.headers["date"])
            assert 0 <= (parsedate_to_datetime(date) - now).total_seconds() < 30
            assert nothing is None


def test_html_comes_instead_of_json() -> None:
    with world(faults=Faults(html_instead_of_json=1)) as w:
        for status in (200, 502):
            raw = w.sim.requests.count("GET /batches")
            with pytest.raises(openai.APIError):
                w.client.batches.list()
            assert w.sim.requests.count("GET /batches") == raw + 1, status


def test_a_connection_is_reset_before_acting() -> None:
    with world() as w:
        file = w.upload(said("a"))
        w.sim.faults = Faults(reset=1)
        with pytest.raises(openai.APIConnectionError, match="Connection error"):
            create(w, file.id)
        assert w.sim.batches() == []


def test_a_reply_that_is_held_has_acted() -> None:
    with world() as w:
        file = w.upload(said("a"))
        w.sim.faults = Faults(timeouts=1, hold_s=36_000)
        with pytest.raises(openai.APITimeoutError):
            w.strict(timeout=0.2).batches.create(
                input_file_id=file.id, endpoint=CHAT, completion_window="24h"
            )
        until(lambda: len(w.sim.batches()) == 1)
        w.sim.faults = Faults()
    # The world has closed, though the reply is still held.


@pytest.mark.parametrize("what", ["batches", "files"])
def test_a_list_may_have_no_data(what: str) -> None:
    with world(faults=Faults(list_without_data=1)) as w:
        w.create(said("a"))
        url = f"{w.url}/{what}"
        headers = {"authorization": "Bearer sk-any"}
        replies = [httpx2.get(url, headers=headers, trust_env=False).json() for _ in range(2)]
        assert replies[0] == {"object": "list"}
        assert set(replies[1]) == {"value"}
        assert len(replies[1]["value"]) >= 1


@pytest.mark.parametrize("what", ["batches", "files"])
def test_a_list_may_answer_its_first_page_again_and_again(what: str) -> None:
    with world(faults=Faults(list_ignores_after=1)) as w:
        for _ in range(3):
            w.create(said("a"))
        headers, query = {"authorization": "Bearer sk-any"}, {"limit": "2"}
        url = f"{w.url}/{what}"
        first = httpx2.get(url, params=query, headers=headers, trust_env=False).json()
        query["after"] = first["data"][-1]["id"]
        second = httpx2.get(url, params=query, headers=headers, trust_env=False).json()
        assert first["data"] == second["data"]
        assert first["has_more"] is True
        assert "has_more" not in second


def test_polls_fail_and_nothing_else() -> None:
    with world(faults=Faults(polls_fail=1)) as w:
        batch = w.create(said("a"))
        with pytest.raises(openai.InternalServerError):
            w.client.batches.retrieve(batch.id)
        assert len(w.client.batches.list().data) == 1


def test_polls_of_a_batch_fail_for_an_hour() -> None:
    with world(faults=Faults(polls_blackout=1)) as w:
        batch = w.create(said("a"))
        w.clock.advance(3599)
        with pytest.raises(openai.InternalServerError):
            w.client.batches.retrieve(batch.id)
        assert [one.status for one in w.client.batches.list()] == ["completed"]
        w.clock.advance(1)
        assert w.client.batches.retrieve(batch.id).status == "completed"


def test_a_download_breaks_off_in_the_middle() -> None:
    with world() as w:
        batch = w.finish(said("a"))
        w.sim.faults = Faults(truncated_download=1)
        assert batch.output_file_id
        with pytest.raises(openai.APIConnectionError):
            w.client.files.content(batch.output_file_id)
        w.sim.faults = Faults()
        assert len(w.read(batch.output_file_id)) == 1


def test_a_download_may_be_short_without_any_sign_of_it() -> None:
    with world() as w:
        batch = w.finish(said(*"abcdef"))
        sound = w.client.files.content(batch.output_file_id or "").content
        w.sim.faults = Faults(short_download=1)
        assert (
            w.client.files.content(batch.output_file_id or "").content == (sound[: len(sound) // 2])
        )
        assert w.client.files.retrieve(batch.output_file_id or "").bytes == len(sound)


def test_a_garbled_download_is_sound_the_next_time() -> None:
    with world() as w:
        batch = w.finish(said("a"))
        sound = w.raw(batch.output_file_id)
        w.sim.faults = Faults(garbled_download=1)
        broken = w.raw(batch.output_file_id)
        assert broken != sound
        with pytest.raises(UnicodeDecodeError):
            b"".join(broken).decode()
        w.sim.faults = Faults()
        assert w.raw(batch.output_file_id) == sound


@pytest.mark.parametrize(
    ("fault", "error"),
    [("content_502", openai.InternalServerError), ("content_404", openai.NotFoundError)],
)
def test_content_fails_for_the_first_reads(fault: str, error: type[openai.APIError]) -> None:
    faults = Faults(content_reads=2, **{fault: 1.0})  # type: ignore[arg-type]
    with world(faults=faults) as w:
        batch = w.finish(said("a"))
        for _ in range(2):
            with pytest.raises(error):
                w.read(batch.output_file_id)
        assert len(w.read(batch.output_file_id)) == 1


def test_a_file_just_uploaded_may_not_be_visible() -> None:
    with world(faults=Faults(file_invisible=1, file_invisible_s=3)) as w:
        file = w.upload(said("a"))
        with pytest.raises(openai.BadRequestError, match=f"Cannot find file {file.id}, or project"):
            create(w, file.id)
        failed = w.client.batches.retrieve(create(w, file.id))
        assert failed.status == "failed"
        w.clock.advance(3)
        assert w.client.batches.retrieve(create(w, file.id)).status == "completed"


def test_the_same_seed_gives_the_same_trouble() -> None:
    def outcomes(seed: int) -> list[bool]:
        found = []
        with world(faults=Faults(seed=seed, error_500=0.5)) as w:
            for _ in range(20):
                try:
                    w.client.batches.list()
                except openai.InternalServerError:
                    found.append(False)
                else:
                    found.append(True)
        return found

    assert outcomes(1) == outcomes(1) != outcomes(2)
    assert 3 < sum(outcomes(1)) < 17
