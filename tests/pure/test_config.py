"""Settings: defaults, what is refused and how, and the keys that callers present."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from openaibatching.cli import demo
from openaibatching.cli.serve import parser
from openaibatching.server.config.settings import SECRETS, Settings, load, load_database, parse_keys
from openaibatching.server.errors import ConfigError


@pytest.fixture(autouse=True)
def _empty_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in Settings.model_fields:
        for variable in (name.upper(), f"{name.upper()}_FILE"):
            monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("OPENAI_API_KEY", "sk-x")


def test_the_defaults_are_those_of_the_contract() -> None:
    settings = load()
    assert settings.openai_base_url == "https://api.openai.com/v1"
    assert (settings.host, settings.port) == ("127.0.0.1", 9487)
    assert (settings.batch_linger_s, settings.batch_poll_s, settings.batch_settle_s) == (60, 30, 60)
    assert (settings.batch_requests_max, settings.batch_bytes_max) == (50_000, 200_000_000)
    assert (settings.batch_attempts_max, settings.request_bytes_max) == (3, 33_554_432)
    assert (settings.wait_s_max, settings.result_ttl_days) == (600, 30)
    assert settings.database_wait_s == 10
    assert settings.postgres_url is None
    assert settings.tls is False


def test_a_setting_comes_from_the_environment_and_a_flag_wins(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("BATCH_LINGER_S", "0.2")
    assert load().batch_linger_s == 0.2
    assert load({"batch_linger_s": "0.4"}).batch_linger_s == 0.4
    assert load({"batch_linger_s": None}).batch_linger_s == 0.2


@pytest.mark.parametrize(
    "name", [name for name in Settings.model_fields if name != "openai_api_key"]
)
def test_what_is_empty_counts_as_unset(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    default = getattr(load(), name)
    monkeypatch.setenv(name.upper(), "")
    assert getattr(load(), name) == default
    assert getattr(load({name: ""}), name) == default


def test_every_setting_but_the_secrets_has_a_flag() -> None:
    flags = set(vars(parser().parse_args([])))
    assert flags == set(Settings.model_fields) - set(SECRETS)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("OPENAI_API_KEY", ""),
        ("OPENAI_API_KEY", "sk-x\n"),
        ("OPENAI_API_KEY", "sk x"),
        ("OPENAI_BASE_URL", "api.openai.com"),
        ("OPENAI_BASE_URL", "ftp://x"),
        ("OPENAI_BASE_URL", "http://"),
        ("OPENAI_BASE_URL", "https://[::1/v1"),
        ("OPENAI_BASE_URL", "https://host:port/v1"),
        ("OPENAI_ORG_ID", "org-x\nanother"),
        ("OPENAI_PROJECT_ID", "proj x"),
        ("PORT", "http"),
        ("PORT", "-1"),
        ("PORT", "65536"),
        ("PORT", "80.5"),
        ("BATCH_LINGER_S", "soon"),
        ("BATCH_LINGER_S", "-1"),
        ("BATCH_LINGER_S", "nan"),
        ("BATCH_LINGER_S", "inf"),
        ("BATCH_POLL_S", "0"),
        ("BATCH_REQUESTS_MAX", "0"),
        ("BATCH_REQUESTS_MAX", "50001"),
        ("BATCH_BYTES_MAX", "300000000"),
        ("BATCH_ATTEMPTS_MAX", "0"),
        ("BATCH_SETTLE_S", "x"),
        ("REQUEST_BYTES_MAX", "0"),
        ("WAIT_S_MAX", "-0.1"),
        ("RESULT_TTL_DAYS", "0"),
        ("RESULT_TTL_DAYS", "1e300"),
        ("DATABASE_WAIT_S", "x"),
        ("BATCH_SERVER_API_KEY", "two keys"),
        ("BATCH_SERVER_API_KEY", "k\u00e9y"),
        ("BATCH_SERVER_API_KEY", "a=1,a=2"),
        ("BATCH_SERVER_API_KEY", "a=1,b=1"),
        ("BATCH_SERVER_API_KEY", "a=1,b"),
        ("BATCH_SERVER_API_KEY", ","),
        ("POSTGRES_URL", "postgre://user:hidden-password@host/db"),
        ("POSTGRES_URL", "nonsense"),
        ("POSTGRES_URL", "mysql://user:hidden-password@host/db"),
    ],
)
def test_a_bad_value_is_one_line_that_names_the_variable(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(ConfigError) as caught:
        load()
    message = str(caught.value)
    assert name in message
    assert "\n" not in message
    assert len(value) < 5 or value not in message or name == "OPENAI_BASE_URL"
    assert "hidden-password" not in message


def test_every_bad_value_is_named_at_once() -> None:
    with pytest.raises(ConfigError, match=r"PORT .*; BATCH_POLL_S "):
        load({"port": "x", "batch_poll_s": "y"})


@pytest.mark.parametrize(
    ("given", "used"),
    [
        ("https://api.openai.com", "https://api.openai.com/v1"),
        ("https://api.openai.com/", "https://api.openai.com/v1"),
        ("https://eu.api.openai.com\n", "https://eu.api.openai.com/v1"),
        ("https://api.openai.com/v1/", "https://api.openai.com/v1/"),
        ("http://127.0.0.1:8080", "http://127.0.0.1:8080"),
        ("https://gateway.example.com/openai", "https://gateway.example.com/openai"),
        ("https://notapi.openai.com", "https://notapi.openai.com"),
    ],
)
def test_openais_own_host_is_asked_below_v1(given: str, used: str) -> None:
    assert load({"openai_base_url": given}).openai_base_url == used


@pytest.mark.parametrize("endpoint", ["/chat/completions", "/responses", "/files"])
def test_a_base_url_that_is_an_endpoint_is_named(endpoint: str) -> None:
    for host in ("https://api.openai.com/v1", "http://127.0.0.1:8080/v1"):
        with pytest.raises(ConfigError, match=f"OPENAI_BASE_URL .* leave out {endpoint}, "):
            load({"openai_base_url": f"{host}{endpoint}/"})


def in_file(monkeypatch: pytest.MonkeyPatch, path: Path, name: str, content: bytes) -> None:
    path.write_bytes(content)
    monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv(f"{name}_FILE", str(path))


@pytest.mark.parametrize("end", [b"", b"\n", b"\r\n"])
@pytest.mark.parametrize("start", [b"", b"\xef\xbb\xbf"])
@pytest.mark.parametrize("name", SECRETS)
def test_every_secret_may_be_in_a_file(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str, start: bytes, end: bytes
) -> None:
    value = "postgresql://u:p@h/db" if name == "postgres_url" else "s3cret"
    in_file(monkeypatch, tmp_path / "file", name.upper(), start + value.encode() + end)
    assert getattr(load(), name).get_secret_value() == value
    assert "s3cret" not in repr(load())


@pytest.mark.parametrize("name", SECRETS)
def test_a_file_of_a_secret_that_is_none_is_one_line_that_names_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str
) -> None:
    variable = f"{name.upper()}_FILE"

    def refusal() -> str:
        with pytest.raises(ConfigError) as caught:
            load()
        message = str(caught.value)
        assert message.count(variable) == 1
        assert "\n" not in message
        assert "s3cret" not in message
        return message

    for content, why in (
        (b"", "is empty"),
        (b"\n", "is empty"),
        (b"s3cret\xff", "is not UTF-8"),
        (b"s3cret" * 20_000, "is too large"),
    ):
        in_file(monkeypatch, tmp_path / "file", name.upper(), content)
        assert refusal().endswith(why) or why in refusal()
    for path in (tmp_path, tmp_path / "none"):
        monkeypatch.setenv(variable, str(path))
        assert f"{path} cannot be read: " in refusal()
    in_file(monkeypatch, tmp_path / "file", name.upper(), b"s3cret")
    monkeypatch.setenv(name.upper(), "s3cret")
    assert refusal() == f"{name.upper()} and {variable} are both set: set only one of them"


def test_an_empty_name_of_a_file_counts_as_unset(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY_FILE", "")
    assert load().openai_api_key.get_secret_value() == "sk-x"


def test_what_works_on_the_database_alone_reads_its_own_secret_only(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY_FILE", str(tmp_path / "none"))
    in_file(monkeypatch, tmp_path / "url", "POSTGRES_URL", b"postgresql+psycopg://h/db")
    url = load_database().postgres_url
    assert url is not None
    assert url.get_secret_value() == "postgresql://h/db"


@pytest.mark.parametrize("host", ["127.0.0.1", "127.0.0.2", "localhost", "::1"])
def test_without_a_key_only_loopback_is_listened_on(host: str) -> None:
    assert load({"host": host}).host == host
    for open_ in ("0.0.0.0", "::", "192.0.2.1", "example.org"):
        with pytest.raises(ConfigError, match="BATCH_SERVER_API_KEY"):
            load({"host": open_})
        assert load({"host": open_, "batch_server_api_key": "k" * 16}).host == open_


@pytest.mark.parametrize("keys", ["k" * 15, f"a={'k' * 16},b={'l' * 15}", "a=kkkkkkkkkkkkkkk"])
def test_a_key_that_can_be_guessed_is_for_loopback_only(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, keys: str
) -> None:
    assert load({"host": "::1", "batch_server_api_key": keys})
    with pytest.raises(ConfigError, match="BATCH_SERVER_API_KEY must have 16 characters") as error:
        load({"host": "0.0.0.0", "batch_server_api_key": keys})
    assert "kkk" not in str(error.value)
    assert "\n" not in str(error.value)
    in_file(monkeypatch, tmp_path / "keys", "BATCH_SERVER_API_KEY", keys.encode())
    with pytest.raises(ConfigError, match="BATCH_SERVER_API_KEY must have 16 characters"):
        load({"host": "0.0.0.0"})


def test_certificate_and_key_belong_together(tmp_path: Path) -> None:
    file = tmp_path / "file.pem"
    file.touch()
    for given in ({"ssl_certfile": str(file)}, {"ssl_keyfile": str(file)}):
        with pytest.raises(ConfigError, match="SSL_CERTFILE and SSL_KEYFILE"):
            load(given)
    both: dict[str, Any] = {"ssl_certfile": str(file), "ssl_keyfile": str(file)}
    assert load(both).tls
    with pytest.raises(ConfigError, match="SSL_KEYFILE"):
        load({**both, "ssl_keyfile": str(tmp_path / "missing.pem")})


def test_no_secret_shows_in_the_settings() -> None:
    given = {"openai_webhook_secret": "whsec_s3cret", "batch_server_api_key": "s3cret"}
    url = "postgresql://u:s3cret@h/db"
    assert "s3cret" not in repr(load({**given, "postgres_url": url, "openai_api_key": "sk-s3cret"}))


@pytest.mark.parametrize(
    ("text", "keys"),
    [
        ("key", {"default": "key"}),
        ("a2V5==", {"default": "a2V5=="}),
        ("a2V5=", {"default": "a2V5="}),
        ("alpha=one", {"alpha": "one"}),
        ("alpha=one,beta=two", {"alpha": "one", "beta": "two"}),
        (" alpha=one , beta=two== ", {"alpha": "one", "beta": "two=="}),
    ],
)
def test_keys_are_one_or_one_for_each_tenant(text: str, keys: dict[str, str]) -> None:
    assert parse_keys(text) == keys


def test_the_demonstration_takes_nothing_from_the_environment(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    clean = demo.settings("http://127.0.0.1:1/v1", "key", tmp_path)
    monkeypatch.setenv("POSTGRES_URL", "postgresql://somebody@production/database")
    monkeypatch.setenv("HOST", "0.0.0.0")
    assert demo.settings("http://127.0.0.1:1/v1", "key", tmp_path) == clean
    assert clean.postgres_url is None
