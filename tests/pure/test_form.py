"""What goes into a batch, and when."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta

from hypothesis import given
from hypothesis import strategies as st

from openaibatching.server.pipeline import form
from openaibatching.server.pipeline.form import Limits
from openaibatching.server.pipeline.queue import Queued

LONG, SHORT = timedelta(seconds=60), timedelta(seconds=59.9)
LIMITS = Limits(requests=5, bytes=1000, linger=timedelta(seconds=60), inputs=50)


def choose(queue: Sequence[Queued], limits: Limits, waited: timedelta) -> list[int]:
    return [request.seq for request in form.choose(queue, limits, waited)]


def queued(seq: int, *, size: int = 10, tokens: int = 1, inputs: int = 1) -> Queued:
    return Queued(seq, size, tokens, inputs)


def test_a_young_request_waits_for_company() -> None:
    assert choose([queued(1)], LIMITS, SHORT) == []


def test_the_oldest_that_has_waited_takes_the_young_ones_along() -> None:
    assert choose([queued(1), queued(2), queued(3)], LIMITS, LONG) == [1, 2, 3]


def test_a_batch_full_by_lines_is_sent_at_once() -> None:
    assert choose([queued(n) for n in range(9)], LIMITS, SHORT) == [0, 1, 2, 3, 4]


def test_a_batch_full_by_bytes_is_sent_at_once_and_stays_below_the_limit() -> None:
    queue = [queued(1, size=600), queued(2, size=400), queued(3, size=1)]
    assert choose(queue, LIMITS, SHORT) == [1, 2]


def test_a_batch_full_by_embedding_inputs_is_sent_at_once() -> None:
    queue = [queued(1, inputs=30), queued(2, inputs=20), queued(3, inputs=1)]
    assert choose(queue, LIMITS, SHORT) == [1, 2]


def test_tokens_that_are_free_bound_a_batch() -> None:
    limits = Limits(5, 1000, timedelta(seconds=60), tokens_free=10, alone=False)
    assert choose([queued(1, tokens=6), queued(2, tokens=5)], limits, SHORT) == [1]


def test_without_free_tokens_nothing_is_sent_while_others_are_upstream() -> None:
    limits = Limits(5, 1000, timedelta(seconds=60), tokens_free=0, alone=False)
    assert choose([queued(1)], limits, LONG) == []


def test_one_request_larger_than_the_limit_is_sent_alone_because_only_openai_knows() -> None:
    limits = Limits(5, 1000, timedelta(seconds=60), tokens_free=10, alone=True)
    assert choose([queued(1, tokens=99), queued(2, tokens=99)], limits, SHORT) == [1]


def test_an_empty_queue_makes_no_batch() -> None:
    assert choose([], LIMITS, LONG) == []


requests = st.builds(
    queued,
    st.integers(0, 10**6),
    size=st.integers(1, 1000),
    tokens=st.integers(1, 100),
    inputs=st.integers(1, 50),
)


@given(st.lists(requests, max_size=20), st.sampled_from([SHORT, LONG]))
def test_no_limit_is_ever_passed_and_the_order_is_kept(
    queue: list[Queued], waited: timedelta
) -> None:
    chosen = choose(queue, LIMITS, waited)
    taken = queue[: len(chosen)]
    assert chosen == [request.seq for request in taken]
    assert len(chosen) <= LIMITS.requests
    assert sum(request.line_bytes for request in taken) <= LIMITS.bytes
    assert sum(request.inputs for request in taken) <= LIMITS.inputs
