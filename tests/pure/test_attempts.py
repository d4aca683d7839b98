"""Whether a request is sent again, and with which reason it ends."""

from __future__ import annotations

import uuid

from openaibatching.server.pipeline.attempts import settle
from openaibatching.server.providers.openai.output_lines import missing

ID = uuid.UUID(int=7)


def test_the_last_real_reason_outlives_a_sending_that_came_to_nothing() -> None:
    result = settle(missing(ID), attempts=3, attempts_max=3, earlier=500)
    assert (result.state, result.answer, result.status_code) == ("failed", None, None)
    result = settle(missing(ID), attempts=3, attempts_max=3, earlier=None)
    assert (result.state, result.status_code) == ("failed", 502)


def test_attempts_that_are_left_are_used() -> None:
    assert settle(missing(ID), attempts=2, attempts_max=3, earlier=None).state == "queued"
