"""What the pages' commands and programs find around them: a server, its database, files."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from clients.real_server import BatchServer, Running, real_server
from docs.pages import PAGES
from openaibatching.server.database.embedded_programs import installed
from support.postgres import Cluster, running_cluster
from support.process import free_port
from support.source import ROOT

ADDRESS, SIMULATOR_PORT = "http://localhost:9487", "9488"
DATABASE = "postgresql://batching:a-secret@db.example.com/batching"
# In OpenAI's place, for a server that a page starts: no test reaches OpenAI.
NOWHERE = "http://127.0.0.1:9/v1"
# The files that pages name and do not make.
GIVEN = {
    "in.jsonl": "".join(
        json.dumps({
            "custom_id": name, "method": "POST", "url": "/v1/chat/completions",
            "body": {"model": "gpt-4o", "messages": [{"role": "user", "content": name}]},
        }) + "\n"
        for name in ("a", "b", "c")
    ),
    "questions.csv": "text\nWhere is my card?\nI was charged twice.\n",
    "classes.txt": "card\nmoney\n",
}  # fmt: skip


@dataclass(frozen=True)
class Place:
    """Where a page is tried: a folder, a tenant of a server, and the environment of commands."""

    folder: Path
    server: BatchServer
    database_url: str
    simulator_port: str
    ports: list[int] = field(default_factory=list)
    """Those of the servers that the page itself has started."""

    def next_port(self) -> int:
        self.ports.append(free_port())
        return self.ports[-1]

    def environment(self) -> dict[str, str]:
        """As a newcomer's: nothing of this machine's about OpenAI, of its make, or of its home."""
        # psql and pg_dump in the version of the server; a pg_dump that is older refuses.
        programs = [Path(sys.executable).parent, installed(), os.environ["PATH"]]
        kept = {name: os.environ[name] for name in ("LANG", "TMPDIR") if name in os.environ}
        return kept | {
            "PATH": ":".join(map(str, programs)),
            "HOME": str(self.folder / "home"),
            "OPENAI_BASE_URL": NOWHERE,
            "PYTHONDONTWRITEBYTECODE": "1",
        }

    def variables(self) -> dict[str, str]:
        """What a page's reader has at hand: the key, and where the database is."""
        return {"BATCH_SERVER_API_KEY": self.server.key, "POSTGRES_URL": self.database_url}

    def here(self, text: str) -> str:
        """A page's text, with this place's addresses, keys and ids in it."""
        text = text.replace(ADDRESS, self.server.url).replace(SIMULATOR_PORT, self.simulator_port)
        text = text.replace("sk-…", "sk-simulated")
        text = text.replace("BATCH_SERVER_API_KEY=…", f"BATCH_SERVER_API_KEY={self.server.key}")
        # The database that a page has made in this cluster, as the user that it has made.
        made = re.sub(r"//[^/]*/t_\w+", "//batching@/batching", self.database_url)
        text = text.replace(DATABASE, shlex.quote(made))
        if self.ports:
            text = text.replace("https://localhost:9487", f"https://localhost:{self.ports[-1]}")
        if "batchreq_…" in text:
            id_ = self.request()
            text = text.replace("<32 hex digits of batchreq_…>", id_.removeprefix("batchreq_"))
            text = text.replace("batchreq_…", id_)
        return text

    def request(self) -> str:
        """The id of the newest request; of one that is asked for now, if there is none."""
        if not self.server.requests():
            with self.server.client() as client:
                client.responses.create(model="gpt-4o", input="Hello")
            self.server.finish()
        return self.server.requests()[0]

    def there(self, said: str) -> str:
        """What was said here, with the page's own addresses in it."""
        said = said.replace(self.server.url, ADDRESS).replace(self.simulator_port, SIMULATOR_PORT)
        return said.replace(str(self.folder / "home"), "/home/you")


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """One server for all pages; each is a tenant of its own."""
    keys = [f"key-of-page-{number}" for number, _ in enumerate(PAGES)]
    with running_cluster("embedded") as cluster:
        yield from served(cluster, keys, tmp_path_factory.mktemp("docs"))


def served(cluster: Cluster, keys: list[str], folder: Path) -> Iterator[Running]:
    with real_server(cluster, keys, folder) as running:
        yield running


@pytest.fixture
def place(request: pytest.FixtureRequest, running: Running) -> Iterator[Place]:
    """The place of the page that the test is given."""
    number = PAGES.index(request.getfixturevalue("page"))
    # Not below pytest's folder: the embedded PostgreSQL's user has to get through.
    folder = Path(tempfile.mkdtemp(prefix="openaibatching-docs-"))
    (folder / "home").mkdir()
    # As in a terminal: no progress beside a reply.
    (folder / "home" / ".curlrc").write_text("silent\nshow-error\n")
    (folder / "examples").symlink_to(ROOT / "examples")
    for name, text in GIVEN.items():
        (folder / name).write_text(text, "utf-8")
    server = BatchServer(running.url, f"key-of-page-{number}", running.clock)
    yield Place(folder, server, running.database_url, str(free_port()))
    running.clock.stop()
    shutil.rmtree(folder, ignore_errors=True)
