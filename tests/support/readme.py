"""The examples of README.md and of the pages in docs/, as text to be run."""

import re
from pathlib import Path

from support.source import ROOT

README = ROOT / "README.md"
ADDRESS = "http://localhost:9487"


def examples(heading: str, page: Path = README, language: str = "python") -> list[str]:
    """All code of a language below a heading, up to the next one of the same rank."""
    _, found, below = page.read_text("utf-8").partition(f"\n{heading}\n")
    assert found, f"{page.name} has no {heading!r}"
    rank = re.escape(heading.split()[0])
    chapter = re.split(rf"^{rank} ", below, maxsplit=1, flags=re.MULTILINE)[0]
    code = re.findall(rf"^```{language}\n(.*?)^```", chapter, re.MULTILINE | re.DOTALL)
    assert code, f"{page.name} has no {language} below {heading!r}"
    return code


def example(heading: str, page: Path = README) -> str:
    """The first Python of README.md, or of another page, below a heading."""
    return examples(heading, page)[0]


def commands_in(text: str, start: str) -> list[str]:
    """The commands at a prompt in a text that begin with `start`, each as one line."""
    return re.findall(rf"^\$ ({re.escape(start)}.*)$", text.replace("\\\n", ""), re.MULTILINE)
