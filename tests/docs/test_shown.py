"""What the tests of the pages stand on: that a page which shows something else does fail."""

from __future__ import annotations

import pytest

from docs.pages import Block
from docs.shown import matches

ID = "batchreq_737a00fef23095e5ac03ded5e5b19a02"
OTHER_ID = "batchreq_86ce27e38b0f1b3348fcd049afea8554"


@pytest.mark.parametrize(
    ("shown", "said"),
    [
        ("", "anything"),
        ("2 of 2", "2 of 2\n"),
        ("0 of 2\n…\n2 of 2", "0 of 2\n1 of 2\n2 of 2\n"),
        (f'{{"id":"{ID}",\n "at":1795356178}}', f'{{"id":"{OTHER_ID}","at":1795558427}}'),
        ('{"id":"batchreq_…","error":null}', f'{{"id":"{ID}","error":null}}'),
        ("2026-11-24T14:00:48.9Z ready …", "2026-11-25T01:02:03.4Z ready now"),
        ('{"sha256":"e82a…"}', '{"sha256":"0f3c77"}'),
    ],
)  # fmt: skip
def test_what_changes_from_time_to_time_is_no_difference(shown: str, said: str) -> None:
    assert matches(shown, said)


@pytest.mark.parametrize(
    ("shown", "said"),
    [
        ("2 of 2", ""),
        ("2 of 2", "2 of 2\nand an error"),
        ("0 of 2\n…\n2 of 2", "0 of 2\n1 of 2\n"),
        ('{"status":"queued"}', '{"status":"failed"}'),
        ("200", "503"),
    ],
)
def test_anything_else_is_one(shown: str, said: str) -> None:
    assert not matches(shown, said)


def test_a_command_has_all_of_its_lines_and_what_it_shows() -> None:
    text = (
        "$ cat > in.txt <<'END'\n$ no prompt\nEND\n"
        "$ curl a \\\n    -d '{\n}'\n200 OK\n\n"
        "$ export A=1\n"
    )
    commands = Block("page", 10, "console", text).commands()
    assert [(c.line, c.text, c.shown) for c in commands] == [
        (10, "cat > in.txt <<'END'\n$ no prompt\nEND", ""),
        (13, "curl a \\\n    -d '{\n}'", "200 OK\n"),
        (18, "export A=1", ""),
    ]
