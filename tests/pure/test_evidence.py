"""Whether a request without a line may be sent again: evidence decides."""

from __future__ import annotations

from datetime import timedelta
from uuid import uuid4

import pytest

from openaibatching.server.pipeline.evidence import Read, Silence, Told, judge


@pytest.mark.parametrize(
    ("told", "read", "reads", "hours", "then"),
    [
        (Told("completed", 20, True), Read(), 1, 0, Silence.LOOK_AGAIN),
        (Told("completed", 20, True), Read(), 99, 11, Silence.LOOK_AGAIN),
        (Told("completed", 20, True), Read(), 99, 13, Silence.GIVE_UP),
        (Told("completed", 0, True), Read(), 99, 1, Silence.LOOK_AGAIN),
        (Told("completed", 0, False), Read(), 3, 0, Silence.LOOK_AGAIN),
        (Told("completed", 0, False), Read(), 3, 1, Silence.SEND_AGAIN),
        (Told("expired", 5, False), Read(), 3, 0, Silence.LOOK_AGAIN),
        (Told("expired", 0, True), Read(), 99, 1, Silence.LOOK_AGAIN),
        (Told("expired", 0, True), Read(), 99, 13, Silence.GIVE_UP),
        (Told("expired", 0, False), Read(), 3, 0, Silence.LOOK_AGAIN),
        (Told("expired", 0, False), Read(), 3, 1, Silence.SEND_AGAIN),
        (Told("expired", 0, False), Read(idle={uuid4()}), 3, 0, Silence.SEND_AGAIN),
        (Told("cancelled", 0, False), Read(), 3, 0, Silence.SEND_AGAIN),
        (Told("expired", 1, False), Read(broken=1, gone=True), 3, 13, Silence.GIVE_UP),
        (Told("completed", 2, False), Read(unknown=2), 99, 11, Silence.LOOK_AGAIN),
        (Told("completed", 2, False), Read(unknown=2), 99, 13, Silence.GIVE_UP),
    ],
)
def test_what_openai_says_decides_and_not_the_number_of_looks(
    told: Told, read: Read, reads: int, hours: int, then: Silence
) -> None:
    since, poll = timedelta(hours=hours, seconds=1), timedelta(seconds=30)
    assert judge(told, read, reads, since, poll) is then
