"""`make docs`: the site is built without a warning, and needs nothing from elsewhere."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from docs.pages import PAGES
from support.source import ROOT

LINK = re.compile(r"\]\((https?:[^)\s]*)\)|<(https?:[^>\s]*)>")
# What a browser fetches by itself; where a link leads is up to the reader.
FETCHED = re.compile(
    r"<(?:script|img|iframe|source)[^>]*\ssrc=\"(?:https?:)?//|"
    r"<link[^>]*\shref=\"(?:https?:)?//|@import\s+(?:url\()?[\"']?(?:https?:)?//|"
    r"url\([\"']?(?:https?:)?//",
)


def build(source: Path, into: Path) -> subprocess.CompletedProcess[str]:
    """As the Makefile does."""
    options = ["--quiet", "--fail-on-warning", "--keep-going", "-c", str(source / "docs")]
    return subprocess.run(
        [sys.executable, "-m", "sphinx", *options, "-d", into / "trees", source, into / "site"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    built = build(ROOT, folder)
    assert built.returncode == 0, built.stderr
    return folder / "site"


def test_every_page_is_in_the_site(site: Path) -> None:
    for page in PAGES:
        assert (site / page).with_suffix(".html").exists()


def test_a_browser_fetches_nothing_from_elsewhere(site: Path) -> None:
    files = [p for p in site.rglob("*") if p.suffix in (".html", ".css")]
    assert len(files) > len(PAGES)
    fetching = {
        path.relative_to(site).as_posix(): found[0]
        for path in files
        if (found := FETCHED.search(path.read_text("utf-8")))
    }
    assert fetching == {}


def test_a_link_that_leads_nowhere_fails_the_build(tmp_path: Path) -> None:
    wrong = ("nowhere.md", "../README.md#no-such-heading", "#none-of-its-own", "../src/nothing.py")
    (tmp_path / "docs").mkdir()
    shutil.copy(ROOT / "docs" / "conf.py", tmp_path / "docs")
    (tmp_path / "README.md").write_text("# One page\n")
    links = "".join(f"\n[a link]({link})\n" for link in wrong)
    (tmp_path / "docs" / "index.md").write_text(
        f"# All\n\n## Pages\n\n- [One](../README.md)\n{links}"
    )
    built = build(tmp_path, tmp_path)
    assert built.returncode != 0
    assert [link for link in wrong if link.rpartition("#")[2] not in built.stderr] == []


def test_links_to_elsewhere_are_well_formed() -> None:
    links = [
        first or second
        for page in PAGES
        for first, second in LINK.findall((ROOT / page).read_text("utf-8"))
    ]
    assert links
    for link in links:
        parts = urlsplit(link)
        assert parts.scheme == "https", link
        assert "." in parts.netloc, link
