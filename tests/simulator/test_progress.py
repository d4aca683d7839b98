import openai
import pytest

from simulator.kit import World, said, world


def status(w: World, id_: str) -> str:
    return w.client.batches.retrieve(id_).status


def test_a_batch_goes_through_its_states_in_time() -> None:
    with world(lag=100) as w:
        start = int(w.clock.now)
        id_ = w.create(said(*"abcdefgh")).id
        assert status(w, id_) == "validating"
        w.clock.advance(10)
        batch = w.client.batches.retrieve(id_)
        assert batch.status == "in_progress"
        assert batch.model == "gpt-4o-2024-08-06"
        assert batch.request_counts
        assert (batch.request_counts.total, batch.request_counts.completed) == (8, 0)
        w.clock.advance(40)
        batch = w.client.batches.retrieve(id_)
        assert batch.request_counts
        assert batch.request_counts.completed == 4
        assert batch.output_file_id is None
        assert w.sim.ledger.lines == 4
        w.clock.advance(40)
        assert status(w, id_) == "finalizing"
        w.clock.advance(10)
        batch = w.client.batches.retrieve(id_)
        assert batch.status == "completed"
        assert batch.request_counts
        assert batch.request_counts.to_dict() == {"total": 8, "completed": 8, "failed": 0}
        assert batch.in_progress_at == start + 10
        assert batch.finalizing_at == start + 90
        assert batch.completed_at == start + 100
        assert batch.usage
        assert batch.usage.to_dict() == w.sim.ledger.usage


def test_a_batch_nobody_looks_at_is_executed_all_the_same() -> None:
    with world() as w:
        w.create(said("a", "b"))
        assert w.sim.ledger.lines == 2
        assert [batch["status"] for batch in w.sim.batches()] == ["completed"]


def test_the_output_is_in_another_order_than_the_input() -> None:
    with world() as w:
        batch = w.finish(said(*map(str, range(50))))
        ids = [one["custom_id"] for one in w.read(batch.output_file_id)]
        assert sorted(ids) == sorted(f"a{n}" for n in range(50))
        assert ids != [f"a{n}" for n in range(50)]


def test_good_lines_go_to_the_output_and_bad_ones_to_the_error_file() -> None:
    with world() as w:
        batch = w.finish(said("fine", "[[simulate:status=400]]"))
        assert batch.status == "completed"
        assert [one["custom_id"] for one in w.read(batch.output_file_id)] == ["a0"]
        assert [one["custom_id"] for one in w.read(batch.error_file_id)] == ["a1"]
        assert batch.request_counts
        assert batch.request_counts.to_dict() == {"total": 2, "completed": 1, "failed": 1}


def test_without_failures_there_is_no_error_file() -> None:
    with world() as w:
        assert w.finish(said("fine")).error_file_id is None


def test_without_successes_the_batch_completes_with_an_error_file_only() -> None:
    with world() as w:
        batch = w.finish(said("[[simulate:status=500]]"))
        assert batch.status == "completed"
        assert batch.output_file_id is None
        assert batch.error_file_id


def test_an_expired_batch_keeps_what_was_done() -> None:
    with world(lag=100, window_s=50) as w:
        made = w.create(said(*"abcdefgh"))
        w.clock.advance(1000)
        batch = w.client.batches.retrieve(made.id)
        assert batch.status == "expired"
        assert batch.expires_at == batch.finalizing_at == made.created_at + 50
        assert batch.expired_at == batch.expires_at + 10
        assert len(w.read(batch.output_file_id)) == 4 == w.sim.ledger.lines
        left = w.read(batch.error_file_id)
        assert {one["error"]["code"] for one in left} == {"batch_expired"}
        assert all(one["response"] is None for one in left)
        assert len(w.results(batch)) == 8
        # The expired ones are in neither counter (seen in the field).
        assert batch.request_counts
        assert batch.request_counts.to_dict() == {"total": 8, "completed": 4, "failed": 0}


def test_a_cancelled_batch_keeps_what_was_done() -> None:
    with world(lag=100, cancel_s=600) as w:
        id_ = w.create(said(*"abcdefgh")).id
        w.clock.advance(50)
        batch = w.client.batches.cancel(id_)
        assert batch.status == "cancelling"
        assert batch.cancelling_at == int(w.clock.now)
        w.clock.advance(599)
        assert status(w, id_) == "cancelling"
        assert w.client.batches.cancel(id_).status == "cancelling"
        w.clock.advance(1)
        batch = w.client.batches.retrieve(id_)
        assert batch.status == "cancelled"
        assert batch.cancelled_at == int(w.clock.now)
        assert len(w.read(batch.output_file_id)) == 4 == w.sim.ledger.lines
        codes = {one["error"]["code"] for one in w.read(batch.error_file_id)}
        assert codes == {"batch_cancelled"}


def test_cancelling_what_is_cancelled_changes_nothing() -> None:
    with world(lag=100) as w:
        id_ = w.create(said("a")).id
        w.client.batches.cancel(id_)
        w.clock.advance(10)
        assert status(w, id_) == "cancelled"
        assert w.client.batches.cancel(id_).status == "cancelled"
        assert w.sim.ledger.lines == 0


@pytest.mark.parametrize("ended", ["completed", "failed", "expired"])
def test_cancelling_what_has_ended_is_a_conflict(ended: str) -> None:
    with world(lag=100, window_s=50 if ended == "expired" else 86400) as w:
        id_ = w.create([b"{}\n"] if ended == "failed" else said("a", "b")).id
        w.clock.advance(100)
        with pytest.raises(openai.ConflictError) as refused:
            w.client.batches.cancel(id_)
        assert refused.value.response.json()["error"] == {
            "message": f"Cannot cancel a batch with status '{ended}'.",
            "type": "invalid_request_error",
            "param": None,
            "code": None,
        }


def test_the_same_body_twice_is_executed_twice() -> None:
    with world() as w:
        w.finish(said("a", "a", "b"))
        w.finish(said("a"))
        from simulator.kit import chat

        assert w.sim.ledger.count(chat("a")) == 3
        assert (
            w.sim.ledger.count(b'{"messages":[{"content":"b","role":"user"}],"model":"gpt-4o"}')
            == 1
        )
        assert w.sim.ledger.count(chat("c")) == 0
        assert sorted(w.sim.ledger.counts().values()) == [1, 3]


def test_calls_are_counted_by_route() -> None:
    with world() as w:
        batch = w.finish(said("a"))
        w.client.batches.retrieve(batch.id)
        assert w.sim.requests.count("GET /batches/{id}") == 2
        assert w.sim.requests.counts["POST", "/files"] == 1
