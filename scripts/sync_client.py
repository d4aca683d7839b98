"""Make the synchronous client from the asynchronous one, or check that it is so made.

python scripts/sync_client.py           writes client/sync.py
python scripts/sync_client.py --check   exit code 1 if it is not what would be written

The names of the official SDK, and so ours, differ by `Async` in front. Own code and not `unasync`:
its last release is of 2024, and these few lines are all that is needed of it.
"""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

CLIENT = Path(__file__).parents[1] / "src" / "openaibatching" / "client"
SOURCE, MADE = CLIENT / "asynchronous.py", CLIENT / "sync.py"
NOTE = (
    '"""The synchronous client, made from asynchronous.py by scripts/sync_client.py. Edit that."""'
)
RULES = (
    (r'\A""".*?"""', NOTE),
    (r"\basync def\b", "def"),
    (r"\bawait ", ""),
    (r"\bAsync(?=[A-Z])", ""),
    (r"\basync_(?=[a-z])(?!runtime)", ""),
    (r"\basync_runtime\b", "sync_runtime"),
    (r"\baread\b", "read"),
    (r"\baclose\b", "close"),
)


def made(source: str) -> str:
    """The synchronous code for this asynchronous code, as ruff sorts and formats it."""
    for pattern, replacement in RULES:
        source = re.sub(pattern, replacement, source, flags=re.DOTALL)
    for command in (("check", "--select", "I", "--fix-only"), ("format",)):
        source = subprocess.run(
            [sys.executable, "-m", "ruff", *command, "--quiet", "--stdin-filename", MADE, "-"],
            input=source, capture_output=True, text=True, check=True,
        ).stdout  # fmt: skip
    return source


def main() -> int:
    """Write it, or check it."""
    text = made(SOURCE.read_text("utf-8"))
    if "--check" not in sys.argv[1:]:
        MADE.write_text(text, "utf-8")
        return 0
    if MADE.read_text("utf-8") == text:
        return 0
    print("client/sync.py is not made from client/asynchronous.py: run scripts/sync_client.py")
    return 1


if __name__ == "__main__":
    sys.exit(main())
