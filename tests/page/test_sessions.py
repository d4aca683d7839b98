"""Sessions of the page: known on every server, ended by signing out and with their key."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import AsyncIterator

import httpx2
import psycopg
import pytest

from openaibatching.server.auth.sessions import SESSION_S
from openaibatching.server.dashboard import auth
from support.browsing import browser, signed_in
from support.door import KEYS, OTHER_KEY, Door, open_door
from support.keys import KeysCommand, beside
from support.postgres import ONE_KIND, Cluster
from support.world import KEY, http, running_service, until

pytestmark = ONE_KIND


@pytest.fixture(scope="module")
async def door(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Door]:
    folder = tmp_path_factory.mktemp("sessions")
    async with open_door(cluster, folder, batch_linger_s=3600) as door:
        yield door


@pytest.fixture
def keys(
    door: Door, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> KeysCommand:
    monkeypatch.setenv("POSTGRES_URL", door.database_url)
    return KeysCommand(capsys)


async def is_in(url: str, token: str) -> bool:
    async with browser(url) as client:
        client.cookies.set(auth.COOKIE, token)
        return (await client.get("/requests")).status_code == 200


async def test_a_session_is_known_on_every_server_and_signing_out_ends_it_on_all(
    door: Door,
) -> None:
    first = door.service
    async with (
        running_service(door.database_url, first.settings, KEYS) as second,
        browser(first.url) as client,
    ):
        token = await signed_in(client, KEY)
        assert await is_in(first.url, token)
        assert await is_in(second.url, token)
        assert (await client.post("/sign-out")).headers["location"] == "/sign-in"
        assert not await is_in(first.url, token), "a copy of the cookie is worth nothing"
        assert not await is_in(second.url, token)
        again = await signed_in(client, KEY)
        assert again != token


@pytest.mark.parametrize("key", [KEY, OTHER_KEY])
async def test_neither_the_cookie_nor_the_table_lets_a_key_be_guessed(door: Door, key: str) -> None:
    async with browser(door.service.url) as client:
        token, other = await signed_in(client, key), await signed_in(client, key)
    assert token != other, "it is not made from the key"
    with psycopg.connect(door.database_url) as conn:
        conn.execute("set search_path = openaibatching")
        rows = conn.execute(
            "select to_jsonb(s)::text, proof from page_session s order by created_at desc limit 2"
        ).fetchall()
    digest = hashlib.sha256(key.encode()).digest()
    proofs = {bytes(proof) for _, proof in rows}
    assert len(proofs) == 2, "whoever has the table alone has nothing to compare a guess with"
    assert hmac.digest(token.encode(), digest, "sha256") in proofs
    for stored, _ in rows:
        assert token not in stored
        for made in (digest, hashlib.sha256(digest).digest(), hmac.digest(b"", digest, "sha256")):
            assert made.hex()[:16] not in stored


async def test_a_session_ends_with_its_key_and_by_time(door: Door, keys: KeysCommand) -> None:
    key = await beside(keys.create, "looks", "--scope", "read")

    async def known() -> bool:
        async with http(door.service, key) as client:
            return (await client.get("/v1/requests")).status_code == 200

    await until(known)
    async with browser(door.service.url) as client:
        token = await signed_in(client, key)
        assert await is_in(door.service.url, token)
        refused = await client.post("/flush")
        assert refused.status_code == 403
        assert "may not change anything" in refused.text
    await beside(keys, "revoke", "looks")
    assert not await is_in(door.service.url, token), "with the very next look"
    async with browser(door.service.url) as client:
        token = await signed_in(client, KEY)
    with psycopg.connect(door.database_url, autocommit=True) as conn:
        conn.execute("set search_path = openaibatching")
        lasts = conn.execute("select max(ends_at - created_at) from page_session").fetchone()
        assert lasts
        assert lasts[0].total_seconds() == SESSION_S
        conn.execute("update page_session set ends_at = now() - interval '1 s'")
    assert not await is_in(door.service.url, token)


async def test_a_session_of_a_configured_key_ends_when_the_key_is_changed(door: Door) -> None:
    async with browser(door.service.url) as client:
        token = await signed_in(client, OTHER_KEY)
    changed = {**KEYS, "other": "a-new-key-of-the-other-tenant"}
    async with running_service(door.database_url, door.service.settings, changed) as later:
        assert not await is_in(later.url, token)
    async with running_service(door.database_url, door.service.settings, {"other": OTHER_KEY}) as s:
        assert await is_in(s.url, token), "another tenant's key has nothing to do with it"


async def test_a_key_that_reads_only_metrics_does_not_sign_in(
    door: Door, keys: KeysCommand
) -> None:
    key = await beside(keys.create, "scraper", "--scope", "metrics")

    async def refused() -> httpx2.Response | None:
        async with browser(door.service.url) as client:
            reply = await client.post("/sign-in", data={"key": key})
            return reply if reply.status_code == 403 else None

    reply: httpx2.Response = await until(refused)
    assert "set-cookie" not in reply.headers


@pytest.mark.parametrize("token", ["", "x", "x" * 43, "x" * 75, "\u00e4" * 43, "../" * 14 + "x"])
async def test_nothing_else_is_a_session(door: Door, token: str) -> None:
    async with browser(door.service.url) as client:
        cookie = f"{auth.COOKIE}={token}".encode()
        reply = await client.get("/", headers=[(b"cookie", cookie)])
        assert reply.status_code == 303


async def test_behind_https_only_a_cookie_of_this_host_counts(door: Door) -> None:
    https = {"X-Forwarded-Proto": "https"}
    async with browser(door.service.url) as client:
        done = await client.post("/sign-in", data={"key": KEY}, headers=https)
        name, _, rest = done.headers["set-cookie"].partition("=")
        assert name == auth.SECURE_COOKIE == "__Host-openaibatching_session"
        assert {"Secure", "HttpOnly", "Path=/", "SameSite=strict"} <= set(rest.split("; "))
        assert "Domain" not in rest
        token = rest.partition(";")[0]
        for name, status in ((auth.SECURE_COOKIE, 200), (auth.COOKIE, 303)):
            reply = await client.get("/requests", headers={**https, "Cookie": f"{name}={token}"})
            assert reply.status_code == status
            assert "strict-transport-security" in reply.headers
