"""The enqueued-token limit in the words of a refusal. Pure."""

from __future__ import annotations

import re

# OpenAI: "Limit: 900,000 enqueued tokens."; Azure: "The number of enqueued tokens has surpassed the
# configured limit of 30K for the deployment 'X'", also "1.35M".
_LIMIT = re.compile(r"\blimit(?::| of)\s*(\d[\d,]*(?:\.\d+)?)([KMB]?)\b", re.IGNORECASE)
_MOST = 4e18  # no number that PostgreSQL cannot hold
_TIMES = {"": 1, "k": 10**3, "m": 10**6, "b": 10**9}


def told_limit(message: str | None) -> int | None:
    """The number of tokens in OpenAI's or Azure's message; None if it has none."""
    found = _LIMIT.search(message or "")
    if found is None:
        return None
    return round(min(float(found[1].replace(",", "")) * _TIMES[found[2].lower()], _MOST))
