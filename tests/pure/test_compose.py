"""compose.yaml and its proxy, against the settings that there are.

`make check` holds it to the schema of Compose, `make image-test` runs the proxy.
"""

from __future__ import annotations

import re
from typing import Any

import yaml

from openaibatching.server.config.settings import SECRETS, Settings
from support.source import ROOT

COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "compose.yaml").read_text("utf-8"))
CADDYFILE = (ROOT / "deploy" / "Caddyfile").read_text("utf-8")
DOCKERFILE = (ROOT / "Dockerfile").read_text("utf-8")
# The image sets these, and the proxy is what speaks TLS.
OF_THE_IMAGE = {"HOST", "PORT", "DATA_DIR", "SSL_CERTFILE", "SSL_KEYFILE"}
SECONDS = {"s": 1, "m": 60, "h": 3600}


def service(name: str) -> dict[str, Any]:
    found: dict[str, Any] = COMPOSE["services"][name]
    return found


def test_its_servers_can_be_given_every_setting_and_nothing_else() -> None:
    settings = {name.upper() for name in Settings.model_fields}
    assert set(service("server")["environment"]) == settings - OF_THE_IMAGE


def test_it_holds_no_secret_and_starts_with_none_missing() -> None:
    environment = service("server")["environment"]
    for name in (name.upper() for name in SECRETS if name != "openai_webhook_secret"):
        assert re.search(r"\$\{\w+:\?[^}]+\}", environment[name]), name
    password = service("postgres")["environment"]["POSTGRES_PASSWORD"]
    assert password in environment["POSTGRES_URL"]


def test_two_servers_share_the_database_of_its_postgres() -> None:
    assert service("server")["deploy"]["replicas"] == 2
    user = service("postgres")["environment"]["POSTGRES_USER"]
    url = service("server")["environment"]["POSTGRES_URL"]
    # PostgreSQL's image names the database after its user.
    assert re.fullmatch(rf"postgresql://{user}:\$\{{.*\}}@postgres/{user}", url)


def test_the_proxy_speaks_tls_on_our_port_and_passes_on_to_it() -> None:
    port = str(Settings.model_fields["port"].default)
    assert service("proxy")["ports"] == [f"{port}:{port}"]
    assert re.search(rf"^https://\S+:{port} \{{$", CADDYFILE, re.MULTILINE)
    assert re.search(rf"dynamic a \{{\s+name server\s+port {port}\s", CADDYFILE)
    assert f"EXPOSE {port}\n" in DOCKERFILE


def test_the_proxy_waits_longer_than_a_reply_is_ever_held() -> None:
    timeouts = re.findall(r"^\s*(\w*timeout\w*) (\d+)([smh])$", CADDYFILE, re.MULTILINE)
    assert [name for name, *_ in timeouts] == ["response_header_timeout"]
    assert len(timeouts) == CADDYFILE.count("timeout")
    held: float = Settings.model_fields["wait_s_max"].default
    for name, number, unit in timeouts:
        assert int(number) * SECONDS[unit] > 2 * held, name


def test_the_proxy_passes_on_no_offer_of_another_protocol() -> None:
    assert re.search(r"^\trequest_header -Upgrade$", CADDYFILE, re.MULTILINE)
