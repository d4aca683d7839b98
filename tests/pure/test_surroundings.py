"""Proxies and certificates of the environment: one line for each that no HTTP client can use."""

from __future__ import annotations

import os
from pathlib import Path

import openai
import pytest

from openaibatching import surroundings

NAMES = ("SSL_CERT_FILE", "SSL_CERT_DIR", "NO_PROXY", *surroundings.PROXIES)


@pytest.fixture(autouse=True)
def nothing_set(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in NAMES:
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)


WRONG = [
    ("ALL_PROXY", "socks5://user:s3cret@h:1", "needs one more package: pip install socksio"),
    ("all_proxy", "socks5h://h:1", "needs one more package"),
    ("HTTPS_PROXY", "ftp://user:s3cret@h:1", "cannot be reached by ftp"),
    ("http_proxy", "socks4://h:1", "cannot be reached by socks4"),
    ("HTTP_PROXY", "http://user:s3cret@h:port", "not a proxy's URL"),
    ("HTTPS_PROXY", "http://", "not a proxy's URL"),
    ("SSL_CERT_FILE", "/nowhere/ca.pem", "/nowhere/ca.pem cannot be used: No such file"),
    ("SSL_CERT_FILE", __file__, "cannot be used: "),
    ("SSL_CERT_DIR", "/nowhere", "/nowhere is no folder"),
    ("SSL_CERT_DIR", __file__, "is no folder"),
]


@pytest.mark.parametrize(("name", "value", "why"), WRONG)
def test_what_is_wrong_is_one_line_that_names_the_variable_and_shows_no_password(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, why: str
) -> None:
    monkeypatch.setenv(name, value)
    if "socks" in value:
        monkeypatch.setattr(surroundings, "find_spec", lambda _: None)
    told = surroundings.wrong()
    assert told is not None
    assert told.startswith(f"{name}: ")
    assert why in told
    assert "\n" not in told
    assert "s3cret" not in told


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("HTTPS_PROXY", "http://user:p%40ss@h:3128"),
        ("HTTPS_PROXY", "h:3128"),
        ("ALL_PROXY", "https://h"),
        ("HTTP_PROXY", ""),
        ("SSL_CERT_FILE", ""),
        ("SSL_CERT_DIR", "/tmp"),
        ("SSL_CERT_DIR", f"/nowhere{os.pathsep}/tmp"),
    ],
)
def test_what_is_right_is_taken_as_the_client_takes_it(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    monkeypatch.setenv(name, value)
    assert surroundings.wrong() is None
    openai.DefaultHttpxClient().close()


def test_proxies_that_are_not_used_are_not_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ALL_PROXY", "ftp://h")
    monkeypatch.setenv("NO_PROXY", "*")
    assert surroundings.wrong() is None


def test_a_folder_of_certificates_may_be_empty(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("SSL_CERT_DIR", str(tmp_path))
    assert surroundings.wrong() is None
