"""The page as HTTP: who may see what, cookies, headers, and forms that come from elsewhere."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx2
import pytest

from openaibatching.server.auth import sessions
from openaibatching.server.dashboard import auth
from openaibatching.server.dashboard.render import static
from openaibatching.server.dashboard.routes import ROUTES
from page.filling import Filling
from page.sample import batch, busy
from support.deadline import DEADLINE_S
from support.door import BAD_KEY, OTHER_KEY, WAIT, Door, refused
from support.postgres import ONE_KIND
from support.world import KEY, TLS

pytestmark = ONE_KIND

NOBODY = "batchreq_" + "0" * 32
EVIL = "<script>alert(1)</script>"


@asynccontextmanager
async def looking(door: Door, key: str | None = KEY) -> AsyncIterator[httpx2.AsyncClient]:
    """A browser without a window: signed in with the key, and sending its forms as browsers do."""
    url = door.service.url
    async with httpx2.AsyncClient(
        base_url=url, headers={"Origin": url}, verify=TLS, timeout=DEADLINE_S
    ) as client:
        if key is not None:
            done = await client.post("/sign-in", data={"key": key})
            assert (done.status_code, done.headers["location"]) == (303, "/")
        yield client


async def queued(client: httpx2.AsyncClient, text: str, **body: Any) -> str:
    given = {"model": "gpt-4o", "input": text, **body}
    reply = await client.post("/v1/responses", json=given)
    assert reply.status_code == 202, reply.text
    return reply.headers["x-batching-id"]


async def test_the_cookie_is_out_of_reach_of_scripts_and_of_other_sites(quiet: Door) -> None:
    async with looking(quiet, None) as client:
        done = await client.post("/sign-in", data={"key": f" {KEY}\n", "next": "/requests?a=b"})
        assert (done.status_code, done.headers["location"]) == (303, "/requests?a=b")
        cookie = done.headers["set-cookie"]
        assert {"HttpOnly", "Path=/", "SameSite=strict"} <= set(cookie.split("; "))
        assert f"Max-Age={sessions.SESSION_S}" in cookie
        assert "Secure" not in cookie
        assert KEY not in cookie
        page = await client.get("/")
        assert page.status_code == 200
        assert "set-cookie" not in page.headers


async def test_the_cookie_is_secure_where_the_reader_sees_https(quiet: Door) -> None:
    host = quiet.service.url.removeprefix("http://")
    async with looking(quiet, None) as client:
        reply = await client.post(
            "/sign-in", data={"key": KEY}, headers={"Origin": f"https://{host}"}
        )
        assert "Secure" in reply.headers["set-cookie"].split("; ")


@pytest.mark.parametrize("key", ["", "not-a-key", KEY + "x", "ä" * 1000])
async def test_a_wrong_key_gets_the_form_again_with_a_sentence(quiet: Door, key: str) -> None:
    async with looking(quiet, None) as client:
        reply = await client.post("/sign-in", data={"key": key, "next": "/requests"})
        assert reply.status_code == 401
        assert "That is not a key of this server." in reply.text
        assert 'name="next" value="/requests"' in reply.text
        assert "set-cookie" not in reply.headers
        assert not key or key not in reply.text


async def test_who_is_not_signed_in_is_asked_to_and_comes_back(quiet: Door) -> None:
    async with looking(quiet, None) as client:
        for path, asked in (
            ("/", "/sign-in"),
            ("/requests?status=failed", "/sign-in?next=%2Frequests%3Fstatus%3Dfailed"),
            (f"/requests/{NOBODY}", f"/sign-in?next=%2Frequests%2F{NOBODY}"),
        ):
            reply = await client.get(path)
            assert (reply.status_code, reply.headers["location"]) == (303, asked)
        assert (await client.post("/flush")).headers["location"] == "/sign-in"
        client.cookies.set(auth.COOKIE, "x" * 75)
        assert (await client.get("/")).headers["location"] == "/sign-in"


@pytest.mark.parametrize(
    "back", ["//evil.test", "https://evil.test", "/\\evil.test", "javascript:alert(1)", "/a\nb",
             "evil", "", "/" + "x" * 3000, "/\t/evil.test"]
)  # fmt: skip
async def test_the_way_back_is_never_to_another_host(quiet: Door, back: str) -> None:
    async with looking(quiet, None) as client:
        reply = await client.post("/sign-in", data={"key": KEY, "next": back})
        assert (reply.status_code, reply.headers["location"]) == (303, "/")


async def test_who_signs_out_is_out(quiet: Door) -> None:
    async with looking(quiet) as client:
        assert (await client.get("/sign-in?next=/requests")).headers["location"] == "/requests"
        assert (await client.post("/sign-out")).headers["location"] == "/sign-in"
        assert (await client.get("/")).status_code == 303


@pytest.mark.parametrize(
    "headers",
    [
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
        {"Origin": "https://evil.test"},
        {"Origin": "null"},
        {"Origin": ""},
    ],
)
async def test_a_form_from_elsewhere_is_refused_and_does_nothing(
    quiet: Door, headers: dict[str, str]
) -> None:
    id_ = await queued(quiet.client, f"from elsewhere {headers}")
    async with looking(quiet) as client:
        batch_id = Filling(quiet.database_url, "default").batch()
        for path in ("/flush", "/cancel", "/sign-out", "/sign-in", f"/requests/{id_}/cancel",
                     f"/batches/{batch_id}/cancel"):  # fmt: skip
            reply = await client.post(path, headers=headers, data={"all": "yes"})
            assert reply.status_code == 403
            assert "was not sent by a page of this server" in reply.text
            assert "set-cookie" not in reply.headers
    assert (await quiet.client.get(f"/v1/requests/{id_}")).json()["status"] == "queued"
    batch = (await quiet.client.get(f"/v1/upstream_batches/{batch_id}")).json()
    assert batch["cancel_requested_at"] is None


async def test_every_page_forbids_all_that_is_not_its_own(quiet: Door) -> None:
    id_ = await queued(quiet.client, "headers")
    async with looking(quiet) as client:
        for path in ("/", "/requests", f"/requests/{id_}", f"/requests/{NOBODY}", "/search?q=x",
                     "/batches/x", "/requests?status=x"):  # fmt: skip
            reply = await client.get(path)
            policy = dict(
                part.strip().split(" ", 1)
                for part in reply.headers["content-security-policy"].split(";")
            )
            assert policy["default-src"] == policy["frame-ancestors"] == "'none'"
            assert policy["script-src"] == policy["style-src"] == "'self'"
            assert reply.headers["cache-control"] == "no-store"
            assert reply.headers["x-content-type-options"] == "nosniff"
            assert not re.search(r"<script(?! src=)|<style| style=| on\w+=", reply.text), path
            assert not re.search(r"""(src|href|action)=["']?(https?:)?//""", reply.text), path


async def test_files_are_kept_for_ever_under_an_address_that_changes_with_them(
    quiet: Door,
) -> None:
    async with looking(quiet, None) as client:
        form = (await client.get("/sign-in")).text
        for name, file in static().items():
            address = f"/page/{name}?{file.version}"
            assert address in form
            reply = await client.get(address)
            assert reply.content == file.content
            assert "immutable" in reply.headers["cache-control"]
            again = await client.get(address, headers={"If-None-Match": reply.headers["etag"]})
            assert (again.status_code, again.content) == (304, b"")
            assert (await client.get(f"/page/{name}")).headers["cache-control"] == "no-cache"
        refused(await client.get("/page/..%2froutes.py"), 404, "unknown_endpoint")
        refused(await client.get("/page/routes.py"), 404, "unknown_endpoint")


async def test_a_tenant_sees_nothing_of_another(quiet: Door) -> None:
    id_ = await queued(quiet.client, "a secret of the first tenant")
    async with looking(quiet, OTHER_KEY) as client:
        for path in ("/", "/requests", f"/requests/{id_}", f"/search?q={id_}"):
            reply = await client.get(path)
            assert "a secret" not in reply.text
            assert reply.status_code == (404 if id_ in path else 200)
        theirs, nobodys = [await client.get(f"/requests/{name}") for name in (id_, NOBODY)]
        assert theirs.text.replace(id_, "ID") == nobodys.text.replace(NOBODY, "ID")
        for action in ("cancel", "retry"):
            assert (await client.post(f"/requests/{id_}/{action}")).status_code == 404
        await client.post("/flush")
        assert (await client.post("/cancel", data={"all": "yes"})).status_code == 303
    assert (await quiet.client.get(f"/v1/requests/{id_}")).json()["status"] == "queued"


async def test_cancel_and_retry_lead_back_to_the_request_and_say_what_came_of_it(
    quiet: Door,
) -> None:
    id_ = await queued(quiet.client, "cancel me")
    async with looking(quiet) as client:
        for action, said, words in (
            (
                "retry",
                "not_retryable",
                "Only a failed or cancelled request, or one",
            ),
            ("cancel", "cancelled", "Cancelled."),
            ("cancel", "already_finished", "The request has already finished."),
            ("retry", "queued", "Queued again."),
        ):
            done = await client.post(f"/requests/{id_}/{action}")
            assert done.status_code == 303
            assert done.headers["location"] == f"/requests/{id_}?said={said}"
            assert words in (await client.get(done.headers["location"])).text
        assert "alert" not in (await client.get(f"/requests/{id_}?said={EVIL}")).text


async def left(door: Door) -> list[tuple[str, str | None]]:
    """Endpoint and model of what the third tenant has queued."""
    found = (await door.bad.get("/v1/requests?status=queued&limit=100")).json()["data"]
    return sorted((request["endpoint"], request["model"] or "") for request in found)


async def test_a_row_of_the_queue_is_cancelled_and_no_other(quiet: Door) -> None:
    responses, chats, moderations = "/v1/responses", "/v1/chat/completions", "/v1/moderations"
    async with looking(quiet, BAD_KEY) as client:
        await client.post("/cancel", data={"all": "yes"})
        for n in range(2):
            await quiet.bad.post(responses, json={"model": "gpt-4o", "input": f"row {n}"})
        messages = [{"role": "user", "content": "row"}]
        await quiet.bad.post(chats, json={"model": "gpt-4o", "messages": messages})
        await quiet.bad.post(responses, json={"model": EVIL, "input": "row"})
        await quiet.bad.post(moderations, json={"input": "row"})
        await quiet.bad.post(moderations, json={"input": "row", "model": "omni-moderation-latest"})

        async def cancel(**fields: str) -> str:
            done = await client.post("/cancel", data=fields)
            assert done.status_code == 303
            assert (await client.get(done.headers["location"])).status_code == 200
            return done.headers["location"]

        for fields in ({}, {"all": "no"}, {"model": "gpt-4o"}, {"all": "yes", "model": "gpt-4o"}):
            assert (await client.post("/cancel", data=fields)).status_code == 400
        assert len(await left(quiet)) == 6
        assert await cancel(endpoint=responses, model="gpt-4o") == "/?said=cancelled_2"
        assert await cancel(endpoint=responses, model="gpt-4o") == "/?said=none_cancelled"
        assert await cancel(endpoint=moderations, model="") == "/?said=cancelled_1"
        assert await cancel(endpoint=responses, model=EVIL) == "/?said=cancelled_1"
        assert await left(quiet) == [(chats, "gpt-4o"), (moderations, "omni-moderation-latest")]
        assert "Cancel all 2 queued requests?" in (await client.get("/")).text
        assert "2 requests cancelled." in (await client.get(await cancel(all="yes"))).text
        assert await left(quiet) == []
        assert "Cancel all" not in (await client.get("/")).text


async def test_a_batch_that_is_the_readers_alone_has_a_button_that_stops_it(quiet: Door) -> None:
    filling = Filling(quiet.database_url, "default")
    mine, ended = filling.batch(), filling.batch(state="ended")
    shared = Filling(quiet.database_url, "other").batch()
    filling.joins(shared, 7)
    async with looking(quiet) as client, looking(quiet, BAD_KEY) as stranger:

        async def stop(id_: str) -> tuple[str, str]:
            done = await client.post(f"/batches/{id_}/cancel")
            assert done.status_code == 303
            path, _, said = done.headers["location"].partition("?said=")
            assert path == f"/batches/{id_}"
            return said, (await client.get(done.headers["location"])).text

        button = "Stop this batch"
        assert button in (await client.get(f"/batches/{mine}")).text
        for id_ in (shared, ended):
            assert button not in (await client.get(f"/batches/{id_}")).text
        assert (await stranger.post(f"/batches/{mine}/cancel")).status_code == 404
        said, page = await stop(mine)
        assert said == "stopping"
        assert "Stopping. Answers that OpenAI has are kept" in page
        assert button not in page
        assert (await stop(mine))[0] == "stopping", "once more changes nothing"
        said, page = await stop(shared)
        assert said == "shared_batch"
        assert "Requests of other tenants are in this batch" in page
        said, page = await stop(ended)
        assert said == "batch_ended"
        assert "OpenAI has already ended this batch." in page


async def test_what_callers_wrote_stays_text(quiet: Door) -> None:
    id_ = await queued(
        quiet.other, f"{EVIL}\u2028\x00", model=f"gpt-4o{EVIL}", metadata={"a": EVIL}
    )
    async with looking(quiet, OTHER_KEY) as client:
        for path in ("/", "/requests", f"/requests/{id_}", f"/search?q={EVIL}"):
            reply = await client.get(path)
            assert "&lt;script&gt;alert(1)" in reply.text
            assert "<script>" not in reply.text


async def test_a_large_body_is_cut_with_a_word_about_it(quiet: Door) -> None:
    id_ = await queued(quiet.client, "large " + "x" * 600_000)
    async with looking(quiet) as client:
        page = (await client.get(f"/requests/{id_}")).text
        assert len(page) < 60_000
        assert "The first 20 kB of 600 kB; the API has all of it." in page


async def test_a_list_goes_on_page_by_page_and_by_status(quiet: Door) -> None:
    bodies = [{"custom_id": f"c{n}", "method": "POST", "url": "/v1/responses",
               "body": {"model": "gpt-4o", "input": f"list {n}"}} for n in range(60)]  # fmt: skip
    lines = "\n".join(httpx2.Request("POST", "http://x", json=b).content.decode() for b in bodies)
    await quiet.bad.post(
        "/v1/requests", content=lines, headers={"Content-Type": "application/jsonl"}
    )
    async with looking(quiet, BAD_KEY) as client:
        first = (await client.get("/requests?status=queued")).text
        ids = re.findall(r'<tr id="(batchreq_\w+)"', first)
        assert len(ids) == 50
        older = re.search(r'href="(/requests\?status=queued&amp;after=batchreq_\w+)"', first)
        assert older
        rest = (await client.get(older[1].replace("&amp;", "&"))).text
        others = re.findall(r'<tr id="(batchreq_\w+)"', rest)
        assert (len(others), set(others) & set(ids)) == (10, set())
        assert ">Older<" not in rest
        assert "None." in (await client.get("/requests?status=failed")).text
        assert (await client.get("/requests?status=lost")).status_code == 400
        assert (await client.get(f"/requests?after={NOBODY}")).status_code == 404


async def test_search_finds_by_each_name_and_says_when_there_is_nothing(quiet: Door) -> None:
    id_ = await queued(quiet.client, "sought")
    async with looking(quiet) as client:
        for sought in (id_, f"  {id_}\n", id_.removeprefix("batchreq_").upper()):
            found = await client.get("/search", params={"q": sought})
            assert (found.status_code, found.headers["location"]) == (303, f"/requests/{id_}")
        for nothing in ("", "x\x00", "//evil.test", "a/b?c", NOBODY, "ä" * 200):
            assert (await client.get("/search", params={"q": nothing})).status_code == 404


async def test_paths_of_the_page_are_no_part_of_the_api(quiet: Door) -> None:
    document = (await quiet.nobody.get("/openapi.json")).json()
    assert not {path for _, path, _ in ROUTES} & set(document["paths"])
    refused(await quiet.client.put("/"), 405, "method_not_allowed")
    refused(await quiet.client.get("/requests/a/b"), 404, "unknown_endpoint")
    refused(await quiet.client.get("/sign-in/"), 404, "unknown_endpoint")
    # The key of a program is no session: a browser does not send it.
    assert (await quiet.client.get("/")).status_code == 303


async def test_the_samples_of_these_tests_are_what_the_api_says(quiet: Door) -> None:
    filling = Filling(quiet.database_url, "other")
    filling.busy()
    filling.trouble()
    said = (await quiet.other.get("/v1/stats")).json()
    pretended = busy(stuck=[batch()])
    assert said.keys() == pretended.keys()
    for name in ("queue", "batches", "stuck", "failures", "answers_by_hour"):
        assert said[name][0].keys() == pretended[name][0].keys(), name
    for name in ("requests", "budget", "costs"):
        assert said[name].keys() == pretended[name].keys(), name
    assert said["costs"]["today"].keys() == pretended["costs"]["today"].keys()


async def test_calls_that_name_no_model_have_their_place_on_each_page(desk: Door) -> None:
    async with looking(desk) as client:
        reply = await desk.client.post("/v1/moderations", json={"input": "a page without a model"})
        id_ = reply.headers["x-batching-id"]
        waiting = [(await client.get(path)).text for path in ("/", "/requests", f"/requests/{id_}")]
        await desk.client.post("/v1/flush")
        await desk.client.get(f"/v1/responses/{id_}", headers=WAIT)
        batch_id = (await desk.client.get("/v1/upstream_batches?limit=1")).json()["data"][0]["id"]
        sent = [(await client.get(path)).text for path in ("/", f"/batches/{batch_id}")]
    for page in (*waiting, sent[1]):
        assert "the default model" in page
        assert ">None<" not in page
