"""A certificate for a server on loopback, and who trusts it."""

import ssl
from pathlib import Path
from typing import Any

import trustme


def certified(folder: Path) -> dict[str, Any]:
    """The settings of a server with TLS; who trusts `ca.pem` in the folder trusts it."""
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(folder / "ca.pem"))
    certificate = authority.issue_cert("localhost", "127.0.0.1")
    files = {"ssl_certfile": folder / "server.pem", "ssl_keyfile": folder / "key.pem"}
    for pem in certificate.cert_chain_pems:
        pem.write_to_path(str(files["ssl_certfile"]), append=True)
    certificate.private_key_pem.write_to_path(str(files["ssl_keyfile"]))
    return files


def trusting(folder: Path) -> ssl.SSLContext:
    """Who trusts what `certified` made in the folder."""
    return ssl.create_default_context(cafile=str(folder / "ca.pem"))
