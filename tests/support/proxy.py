"""The proxy of compose.yaml: a real Caddy with our Caddyfile, before servers on this machine."""

from __future__ import annotations

import re
import shutil
import ssl
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx2

from support.deadline import DEADLINE_S
from support.process import free_port
from support.source import ROOT

CADDYFILE = (ROOT / "deploy" / "Caddyfile").read_text("utf-8")
AUTHORITY = "caddy/pki/authorities/local/root.crt"


@dataclass(frozen=True)
class Proxy:
    """A running proxy. `trust` trusts its own authority and no other."""

    url: str
    trust: ssl.SSLContext
    pid: int


def program() -> str | None:
    """Caddy beside this Python, or the system's; None where there is none."""
    beside = Path(sys.executable).with_name("caddy")
    return str(beside) if beside.exists() else shutil.which("caddy")


@contextmanager
def proxy(folder: Path, servers: Sequence[str], caddyfile: str = CADDYFILE) -> Iterator[Proxy]:
    """The proxy on a free port, before the servers at these URLs, because compose's names are
    unknown here. It passes calls on when it is given."""
    found, port = program(), free_port()
    assert found is not None
    places = " ".join(url.removeprefix("http://") for url in servers)
    config, named = re.subn(r"dynamic a \{[^}]*\}", f"to {places}", caddyfile)
    config, listened = re.subn(r":9487 \{", f":{port} {{", config)
    assert (named, listened) == (1, 1)
    options = "{\n\tadmin off\n\tauto_https disable_redirects\n\tskip_install_trust\n}\n"
    (folder / "Caddyfile").write_text(options + config)
    log = folder / "caddy.log"
    with log.open("wb") as output:
        caddy = subprocess.Popen(
            [found, "run", "--adapter", "caddyfile", "--config", str(folder / "Caddyfile")],
            env={"PATH": "/usr/bin:/bin", "HOME": str(folder), "XDG_DATA_HOME": str(folder)},
            stdin=subprocess.DEVNULL, stdout=output, stderr=output,
        )  # fmt: skip
    try:
        trust = _trusted(folder / AUTHORITY, log)
        url = f"https://localhost:{port}"
        _wait_until_it_passes_on(url, trust, log)
        yield Proxy(url, trust, caddy.pid)
    finally:
        caddy.kill()
        caddy.wait()


def _trusted(authority: Path, log: Path) -> ssl.SSLContext:
    """What trusts the proxy's own authority, as soon as that is made."""
    deadline = time.monotonic() + DEADLINE_S
    while time.monotonic() < deadline:
        if authority.exists() and authority.stat().st_size:
            return ssl.create_default_context(cafile=str(authority))
        time.sleep(0.05)
    raise AssertionError(f"the proxy has no certificate:\n{log.read_text()}")


def _wait_until_it_passes_on(url: str, trust: ssl.SSLContext, log: Path) -> None:
    deadline = time.monotonic() + DEADLINE_S
    with httpx2.Client(base_url=url, verify=trust, timeout=DEADLINE_S) as http:
        while time.monotonic() < deadline:
            try:
                if http.get("/ready").status_code == 200:
                    return
            except httpx2.TransportError:
                pass
            time.sleep(0.05)
    raise AssertionError(f"the proxy does not pass on:\n{log.read_text()}")
