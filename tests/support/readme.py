"""The examples of README.md, as text to be run."""

import re

from support.source import ROOT

README = ROOT / "README.md"
ADDRESS = "http://localhost:9487"


def example(heading: str) -> str:
    """The first Python below a heading."""
    _, found, below = README.read_text("utf-8").partition(f"\n{heading}\n")
    assert found, f"README has no {heading!r}"
    code = re.search(r"^```python\n(.*?)^```", below, re.MULTILINE | re.DOTALL)
    assert code, f"README has no Python below {heading!r}"
    return code[1]


def commands(start: str) -> list[str]:
    """The commands at a prompt that begin with `start`, each as one line."""
    text = README.read_text("utf-8").replace("\\\n", "")
    return re.findall(rf"^\$ ({re.escape(start)}.*)$", text, re.MULTILINE)
