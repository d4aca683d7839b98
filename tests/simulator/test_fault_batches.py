import pytest

from openaibatching.simulator import Faults
from simulator.kit import said, world


def test_an_output_file_may_be_missing_though_it_was_paid_for() -> None:
    with world(faults=Faults(null_file_id=1)) as w:
        batch = w.finish(said("a", "[[simulate:status=500]]"))
        assert batch.status == "completed"
        assert batch.output_file_id is None
        assert len(w.read(batch.error_file_id)) == 1
        assert w.sim.ledger.spoiled == w.sim.ledger.counts()


def test_the_error_file_id_of_a_clean_batch_may_be_empty() -> None:
    with world(faults=Faults(empty_file_id=1)) as w:
        assert w.finish(said("a")).error_file_id == ""
        assert w.finish(said("[[simulate:status=500]]")).error_file_id


def test_file_ids_may_come_later_than_the_end() -> None:
    with world(faults=Faults(late_file_ids=1)) as w:
        batch = w.finish(said("a", "[[simulate:status=500]]"))
        assert batch.status == "completed"
        assert batch.request_counts
        assert batch.request_counts.to_dict() == {"total": 2, "completed": 1, "failed": 1}
        assert batch.usage
        assert batch.usage.total_tokens > 0
        assert (batch.output_file_id, batch.error_file_id) == (None, None)
        w.clock.advance(9)
        assert w.client.batches.list().data[0].output_file_id is None
        w.clock.advance(1)
        batch = w.client.batches.retrieve(batch.id)
        assert len(w.read(batch.output_file_id)) == len(w.read(batch.error_file_id)) == 1


def test_no_custom_id_may_be_readable() -> None:
    with world(faults=Faults(unreadable_custom_ids=1)) as w:
        batch = w.finish(said("a", "b", "[[simulate:status=500]]"))
        lines = w.read(batch.output_file_id) + w.read(batch.error_file_id)
        assert {one["custom_id"] for one in lines} == {"\ufffd" * 3}
        assert sum(w.sim.ledger.spoiled.values()) == w.sim.ledger.lines == 2


def test_counts_may_lie() -> None:
    with world(faults=Faults(lying_counts=1)) as w:
        batch = w.finish(said("a", "[[simulate:status=500]]"))
        assert batch.request_counts
        assert batch.request_counts.to_dict() == {"total": 2, "completed": 2, "failed": 0}


def test_statuses_and_members_may_be_new() -> None:
    with world(faults=Faults(unknown_status=1, unknown_fields=1)) as w:
        lax = w.strict(_strict_response_validation=False)
        batch = lax.batches.retrieve(w.create(said("a")).id)
        assert str(batch.status) == "rebalancing"
        assert batch.model_extra
        w.sim.faults = Faults()
        assert lax.batches.retrieve(batch.id).status == "completed"


def test_members_may_be_missing() -> None:
    with world(faults=Faults(missing_fields=1)) as w:
        batch = w.create(said("a"), metadata={"key": "k"})
        assert set(batch.to_dict()) == {
            "id", "object", "endpoint", "input_file_id", "completion_window", "status",
            "created_at", "metadata",
        }  # fmt: skip
        batch = w.client.batches.retrieve(batch.id)
        assert set(batch.to_dict()) & {"expires_at", "request_counts", "usage", "model"} == set()
        assert len(w.read(batch.output_file_id)) == 1


def test_finalizing_may_take_long() -> None:
    with world(lag=10, faults=Faults(stuck_finalizing=1, stuck_finalizing_s=600)) as w:
        id_ = w.create(said("a")).id
        w.clock.advance(609)
        assert w.client.batches.retrieve(id_).status == "finalizing"
        w.clock.advance(1)
        assert w.client.batches.retrieve(id_).status == "completed"


def test_a_stuck_batch_does_nothing_until_it_expires() -> None:
    with world(faults=Faults(stuck=1)) as w:
        id_ = w.create(said("a")).id
        w.clock.advance(86399)
        batch = w.client.batches.retrieve(id_)
        assert batch.status == "in_progress"
        assert batch.request_counts
        assert batch.request_counts.to_dict() == {"total": 1, "completed": 0, "failed": 0}
        w.clock.advance(1)
        batch = w.client.batches.retrieve(id_)
        assert batch.status == "expired"
        assert w.read(batch.error_file_id)[0]["error"]["code"] == "batch_expired"
        assert w.sim.ledger.lines == 0


def test_a_batch_may_expire_later_than_it_says() -> None:
    with world(faults=Faults(stuck=1, expires_late=1)) as w:
        id_ = w.create(said("a")).id
        w.clock.advance(86400 + 1799)
        assert w.client.batches.retrieve(id_).status == "in_progress"
        w.clock.advance(1)
        batch = w.client.batches.retrieve(id_)
        assert batch.status == "expired"
        assert batch.expires_at == batch.created_at + 86400
        assert batch.expired_at == batch.expires_at + 1800


def test_a_late_expiry_does_no_harm_to_what_is_done_in_time() -> None:
    with world(lag=100, faults=Faults(expires_late=1)) as w:
        id_ = w.create(said("a")).id
        w.clock.advance(100)
        assert w.client.batches.retrieve(id_).status == "completed"


def test_a_batch_may_expire_half_done() -> None:
    with world(faults=Faults(expire=1)) as w:
        batch = w.finish(said(*"abcdef"))
        assert batch.status == "expired"
        assert len(w.read(batch.output_file_id)) == 3
        assert len(w.read(batch.error_file_id)) == 3
        assert batch.request_counts
        assert batch.request_counts.to_dict() == {"total": 6, "completed": 3, "failed": 0}


def test_a_batch_may_be_cancelled_from_outside() -> None:
    with world(lag=100, faults=Faults(cancel_from_outside=1)) as w:
        id_ = w.create(said(*"abcdef")).id
        w.clock.advance(50)
        assert w.client.batches.retrieve(id_).status == "cancelling"
        w.clock.advance(10)
        batch = w.client.batches.retrieve(id_)
        assert batch.status == "cancelled"
        assert len(w.read(batch.output_file_id)) == 3
        assert w.read(batch.error_file_id)[0]["error"]["code"] == "batch_cancelled"


@pytest.mark.parametrize("lag", [0, 100])
def test_a_batch_may_be_cancelled_before_it_began(lag: int) -> None:
    with world(lag=lag, faults=Faults(cancel_before_start=1)) as w:
        id_ = w.create(said(*"abc")).id
        w.clock.advance(lag)
        batch = w.client.batches.retrieve(id_)
        assert batch.status == "cancelled"
        assert batch.in_progress_at is None
        assert (batch.output_file_id, batch.error_file_id) == (None, None)
        assert w.sim.ledger.lines == 0


def test_cancelling_may_take_long() -> None:
    with world(lag=100, faults=Faults(stuck_cancelling=1)) as w:
        id_ = w.create(said(*"abcdef")).id
        w.clock.advance(50)
        w.client.batches.cancel(id_)
        w.clock.advance(609)
        assert w.client.batches.retrieve(id_).status == "cancelling"
        w.clock.advance(1)
        assert w.client.batches.retrieve(id_).status == "cancelled"


def test_a_batch_may_be_refused_without_a_line() -> None:
    with world(faults=Faults(fail_validation_no_line=1)) as w:
        batch = w.finish(said("a"))
        assert batch.status == "failed"
        assert batch.errors
        assert batch.errors.data
        assert batch.errors.data[0].line is None


def test_a_fault_of_the_model_may_name_the_first_line_alone() -> None:
    with world(models=["gpt-4o-mini"]) as w:
        for faults, named in ((Faults(), [1, 2, 3]), (Faults(model_fault_first_line=1), [1])):
            w.sim.faults = faults
            batch = w.finish(said(*"abc"))
            assert batch.errors
            assert batch.errors.data
            assert {one.code for one in batch.errors.data} == {"model_not_found"}
            assert [one.line for one in batch.errors.data] == named


def test_trouble_without_end_still_leaves_books_that_balance() -> None:
    faults = Faults(
        seed=11,
        line_500=0.1,
        missing_line=0.1,
        garbled_line=0.1,
        status_zero_line=0.1,
        expire=0.3,
        duplicate_line=0.1,
    )
    with world(faults=faults) as w:
        for number in range(10):
            w.finish(said(*(f"{number}:{n}" for n in range(30))))
        ledger = w.sim.ledger
        assert ledger.lines + sum(ledger.failures.values()) <= 300
        assert 10 < sum(ledger.spoiled.values()) < 100
        assert set(ledger.spoiled) <= set(ledger.counts())
