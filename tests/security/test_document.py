"""The server does what its own OpenAPI document says, and breaks at nothing that one may send.

`make fuzz` tries far more.
"""

from __future__ import annotations

from pathlib import Path

from security import schemathesis_run
from support.postgres import ONE_KIND, Cluster

CASES, SEED = 3, 0


@ONE_KIND
def test_the_server_does_what_its_document_says(cluster: Cluster, tmp_path: Path) -> None:
    with schemathesis_run.server(cluster, tmp_path) as server:
        report = schemathesis_run.run(server, CASES, SEED)
    assert report.passed, report.text
    assert report.mistakes == []
    assert report.cases > 200
