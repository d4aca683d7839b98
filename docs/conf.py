"""How Sphinx makes the site out of the pages as they are read in a checkout: `make docs`."""

import re
from pathlib import Path

from pygments.lexers.special import TextLexer  # type: ignore[import-untyped]
from sphinx.application import Sphinx

project = "openaibatching"
root_doc = "docs/index"
# The root of the project is the source, so that a link between two pages is the same everywhere.
include_patterns = ["*.md", "docs/*.md", "benchmarks/README.md", "clients/typescript/README.md"]
extensions = ["myst_parser"]
myst_heading_anchors = 4
nitpicky = True

LISTED = re.compile(r"^- .*?\]\((\S+)\.md\)", re.MULTILINE)

html_theme = "furo"
html_title = project
html_show_copyright = html_show_sourcelink = html_copy_source = html_use_index = False


def navigation(index: str, pages: set[str]) -> str:
    """A table of contents for each list of links below a heading; the first has what none names."""
    _, *chapters = re.split(r"^## (.+)\n", index, flags=re.MULTILINE)
    lists = [LISTED.findall(text) for text in chapters[1::2]]
    lists[0] += sorted(pages.difference(*lists))
    contents = ""
    for title, entries in zip(chapters[::2], map("\n".join, lists), strict=True):
        contents += f"\n```{{toctree}}\n:hidden:\n:caption: {title}\n\n{entries}\n```\n"
    return contents


def add_navigation(_: Sphinx, page: str, source: list[str]) -> None:
    """The index as it is read in a checkout is a list of links: that is the navigation, too."""
    if page == root_doc:
        pages = {path.stem for path in Path(__file__).parent.glob("*.md")}
        source[0] += navigation(source[0], pages - {"index"})


def setup(app: Sphinx) -> None:
    """Sphinx asks for this."""
    app.connect("source-read", add_navigation)
    app.add_lexer("mermaid", TextLexer)
