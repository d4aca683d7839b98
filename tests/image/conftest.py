"""What the checks of the image share: the image, built once, and what it is run with."""

from __future__ import annotations

import os
import shutil
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
import trustme

from image.building import Image, built
from image.container import DEADLINE_S, new_volume
from openaibatching.server.database.embedded import EmbeddedPostgres
from openaibatching.simulator import Simulator
from openaibatching.simulator import running as simulator_running
from support.process import free_port


@pytest.fixture(scope="session")
def image() -> Iterator[Image]:
    with built() as image:
        yield image


@pytest.fixture
def volume(image: Image, tmp_path: Path) -> Path:
    return new_volume(image, tmp_path)


@pytest.fixture
def simulator() -> Simulator:
    return Simulator(lag=2.0)


@pytest.fixture
def upstream(simulator: Simulator) -> Iterator[str]:
    with simulator_running(simulator) as url:
        yield url


@pytest.fixture
def postgres_url() -> Iterator[str]:
    """A PostgreSQL that is reached by TCP, as a container reaches one."""
    # Not in `tmp_path`: each start of pytest closes the folder above it to PostgreSQL's user.
    folder, port = Path(tempfile.mkdtemp(prefix="openaibatching-test-")), free_port()
    postgres = EmbeddedPostgres(folder)
    postgres._prepare()
    postgres._pg_ctl(
        "start", "-w", "-l", str(postgres._data / "log"), "-o",
        f"-c listen_addresses=127.0.0.1 -p {port} -c unix_socket_directories=''",
    )  # fmt: skip
    yield f"postgresql://postgres@127.0.0.1:{port}/postgres"
    pid = postgres._pid()
    assert pid is not None
    database = psutil.Process(pid)
    database.send_signal(signal.SIGQUIT)
    database.wait(timeout=DEADLINE_S)
    shutil.rmtree(folder)


@pytest.fixture
def certificate(volume: Path) -> dict[str, str]:
    """Settings for TLS, with files that only the image's user can read."""
    issued = trustme.CA().issue_cert("batch.example.com")
    owner = volume.stat()
    blobs = {"key.pem": issued.private_key_pem, "chain.pem": issued.cert_chain_pems[0]}
    for name, blob in blobs.items():
        blob.write_to_path(volume / name)
        (volume / name).chmod(0o400)
        os.chown(volume / name, owner.st_uid, owner.st_gid)
    return {"SSL_KEYFILE": "/data/key.pem", "SSL_CERTFILE": "/data/chain.pem"}
