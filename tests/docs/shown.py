"""Whether a command said what a page shows."""

from __future__ import annotations

import re

# What is another one each time: (what it looks like, what stands in its place on both sides).
CHANGING = (
    (r"\b\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z?", "<time>"),
    (r"\b(batchreq_|batch_|file-|resp_|chatcmpl-|req_)[0-9A-Za-z]{16,}\b", r"\1<id>"),
    (r"\b[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}\b", "<uuid>"),
    (r"\b1[789]\d{8}\b", "<seconds>"),
    (r"retry-after: \d+", "retry-after: <seconds>"),
    (r"127\.0\.0\.1:\d+", "127.0.0.1:<port>"),
    (r"\x1b\[[0-9;]*m", ""),
    (r"\s+", ""),
)
# A progress bar is there in a terminal, the set-up the first time, an opened folder for root, and
# the first round of classifying may be late enough to have it all.
ONLY_SOMETIMES = re.compile(
    r"^(?:━|Setting up |0 of \d+ classified).*\n?|^.* embedded_programs_copied .*\n?", re.MULTILINE
)


def plain(text: str) -> str:
    """The text without what changes from time to time, and without spaces: pages wrap lines."""
    for pattern, instead in CHANGING:
        text = re.sub(pattern, instead, text)
    return text


def matches(shown: str, said: str) -> bool:
    """Whether `said` is what is shown, in which an ellipsis stands for anything.

    Where nothing is shown, anything may be said.
    """
    shown, said = ONLY_SOMETIMES.sub("", shown), ONLY_SOMETIMES.sub("", said)
    if not shown:
        return True
    # The beginning of an id or a key is as much an example as its end.
    shown = re.sub(r"\b(?=\w*\d)\w+…", "…", shown)
    parts = [re.escape(plain(part)) for part in shown.split("…")]
    return re.fullmatch(".*".join(parts), plain(said), re.DOTALL) is not None
