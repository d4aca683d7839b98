"""The page in a real Chromium: what a reader sees, and what the buttons do."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import psycopg
from playwright.async_api import Browser, Page, expect

from page.filling import Filling
from support.deadline import DEADLINE_S
from support.door import BAD_KEY, OTHER_KEY, Door
from support.postgres import ONE_KIND, Cluster
from support.world import KEY

pytestmark = ONE_KIND

EVIL = "<img src=x onerror=alert(1)><script>alert(2)</script>"
expect.set_options(timeout=DEADLINE_S * 1000)


@asynccontextmanager
async def reading(
    browser: Browser, door: Door, *, key: str | None = KEY, **given: Any
) -> AsyncIterator[Page]:
    """A page of somebody who is signed in. Whatever the console complains of is a failure."""
    given.setdefault("viewport", {"width": 1280, "height": 900})
    context = await browser.new_context(
        base_url=door.service.url, locale="en-GB", timezone_id="Asia/Tokyo", **given
    )
    context.set_default_timeout(DEADLINE_S * 1000)
    page = await context.new_page()
    wrong: list[str] = []
    page.on("console", lambda m: wrong.append(m.text) if m.type in ("error", "warning") else None)
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.on("dialog", lambda dialog: wrong.append(dialog.message))
    try:
        if key is not None:
            await page.goto("/")
            await page.get_by_label("Key of this server").fill(key)
            await page.get_by_role("button", name="Sign in").click()
            await expect(page.get_by_role("button", name="Sign out")).to_be_visible()
        yield page
        # Those that a test provokes: a refused page or an outage is told by the browser, too.
        assert [text for text in wrong if not text.startswith("Failed to load resource")] == []
    finally:
        await context.close()


async def call(door: Door, text: str, **body: Any) -> str:
    given = {"model": "gpt-4o", "input": text, **body}
    return (await door.client.post("/v1/responses", json=given)).headers["x-batching-id"]


async def status(door: Door, id_: str) -> str:
    found: str = (await door.client.get(f"/v1/requests/{id_}")).json()["status"]
    return found


async def width_is_enough(page: Page) -> None:
    assert await page.evaluate("document.documentElement.scrollWidth <= innerWidth"), page.url


async def test_an_empty_service_says_that_nothing_is_stuck_and_how_to_begin(
    desk: Door, browser: Browser
) -> None:
    async with reading(browser, desk, key=BAD_KEY) as page:
        await expect(page.get_by_role("heading", level=1)).to_have_text("Nothing is stuck.")
        await expect(page.locator("#summary")).to_contain_text("No request has come yet.")
        await expect(page.locator("#first")).to_contain_text(f"{desk.service.url}/v1")
        assert await page.locator("button", has_text="Send now").count() == 0


async def test_a_wrong_key_is_said_and_a_right_one_leads_to_where_one_wanted(
    desk: Door, browser: Browser
) -> None:
    async with reading(browser, desk, key=None) as page:
        await page.goto("/requests?status=failed")
        field = page.get_by_label("Key of this server")
        await expect(field).to_be_focused()
        await field.fill("wrong")
        await field.press("Enter")
        await expect(page.get_by_role("alert")).to_have_text("That is not a key of this server.")
        await field.fill(KEY)
        await field.press("Enter")
        await page.wait_for_url("**/requests?status=failed")
        await page.get_by_role("button", name="Sign out").click()
        await expect(page.get_by_role("heading", level=1)).to_have_text("Sign in")
        await page.goto("/")
        await page.wait_for_url("**/sign-in")


async def test_a_key_that_is_revoked_signs_its_readers_out(desk: Door, browser: Browser) -> None:
    filling = Filling(desk.database_url, "default")
    key = filling.key()
    async with reading(browser, desk, key=key) as page:
        filling.revoke(key)
        await page.wait_for_url("**/sign-in")


async def test_a_link_from_another_site_leads_where_it_should(desk: Door, browser: Browser) -> None:
    id_ = await call(desk, "linked from elsewhere")
    async with reading(browser, desk) as page:
        link = f"<a href='{desk.service.url}/requests/{id_}'>look</a>"
        await page.route("http://elsewhere.test/", lambda route: route.fulfill(body=link,
                         content_type="text/html"))  # fmt: skip
        await page.goto("http://elsewhere.test/")
        await page.get_by_role("link", name="look").click()
        await expect(page.get_by_role("heading", level=1)).to_have_text(id_)


async def test_cancel_and_retry_do_what_they_say(desk: Door, browser: Browser) -> None:
    id_ = await call(desk, "to be cancelled")
    async with reading(browser, desk) as page:
        await page.goto(f"/requests/{id_}")
        await page.get_by_role("button", name="Cancel").click()
        await expect(page.locator(".said")).to_contain_text("Cancelled.")
        assert await status(desk, id_) == "cancelled"
        await page.get_by_role("button", name="Try again").click()
        await expect(page.locator(".said")).to_contain_text("Queued again.")
        assert await status(desk, id_) == "queued"
        story = page.locator("#story li")
        await expect(story).to_have_count(3)
        await expect(story.nth(1)).to_contain_text("Cancelled.")
        await page.get_by_role("button", name="Cancel").click()
        await expect(page.locator(".said")).to_contain_text("Cancelled.")


async def test_what_waits_and_a_batch_are_cancelled_after_a_question(
    desk: Door, browser: Browser
) -> None:
    ids = [await call(desk, f"in bulk {n}", model=f"gpt-4o-{n}") for n in range(3)]
    filling = Filling(desk.database_url, "default")
    batch_id = filling.batch(state="claimed", requests=1)
    filling.requests(1, "in_progress", batch_id=batch_id)
    async with reading(browser, desk) as page:
        row = page.locator("#queue tr", has_text="gpt-4o-1")
        await expect(row.get_by_role("button")).to_be_hidden()
        await row.get_by_text("Cancel", exact=True).click()
        await expect(row).to_contain_text("Cancel the queued requests for gpt-4o-1")
        # What is new shows, and the question stays at its row.
        ids.append(await call(desk, "in bulk 3", model="gpt-4o-0-new"))
        await expect(page.locator("#queue")).to_contain_text("gpt-4o-0-new")
        await row.get_by_role("button", name="Yes, cancel").click()
        await expect(page.locator(".said")).to_contain_text("1 request cancelled.")
        states = [await status(desk, id_) for id_ in ids]
        assert states == ["queued", "cancelled", "queued", "queued"]
        await page.get_by_text("Cancel all", exact=True).click()
        await page.get_by_role("button", name="Yes, cancel all").click()
        await expect(page.locator(".said")).to_contain_text("requests cancelled.")
        assert [await status(desk, id_) for id_ in ids] == ["cancelled"] * 4
        await page.goto(f"/batches/{batch_id}")
        await page.get_by_text("Stop this batch").click()
        await page.get_by_role("button", name="Yes, stop it").click()
        await expect(page.locator(".said")).to_contain_text("Stopping.")
        await expect(page.locator("#summary")).to_contain_text("Cancelled: 1 requests were not")


async def test_send_now_sends_and_the_page_shows_the_answer_without_reload(
    desk: Door, browser: Browser
) -> None:
    id_ = await call(desk, "to be sent")
    async with reading(browser, desk) as page, reading(browser, desk) as other:
        await other.goto(f"/requests/{id_}")
        await expect(other.locator("#summary")).to_contain_text("queued")
        await other.evaluate("window.neverReloaded = true")
        await page.get_by_role("button", name="Send now").click()
        await expect(page.locator(".said")).to_contain_text("is sent now")
        await expect(other.locator("#summary")).to_contain_text("It has its answer.")
        await expect(other.locator("#answer")).to_contain_text("You said: to be sent")
        await expect(other.locator("#story")).to_contain_text("OpenAI has the batch.")
        await expect(other.locator("#facts")).to_contain_text("saved")
        assert await other.evaluate("window.neverReloaded")
        await other.locator("#story a", has_text="batch").click()
        await expect(other.get_by_role("heading", level=1)).to_have_text("Batch for gpt-4o")
        await expect(other.locator("#story")).to_contain_text("Its file is uploaded to OpenAI.")


async def test_what_is_new_shows_while_the_reader_types_reads_and_selects(
    desk: Door, browser: Browser
) -> None:
    Filling(desk.database_url, "other").busy()
    async with reading(browser, desk, key=OTHER_KEY) as page:
        await expect(page.locator("#summary")).to_contain_text("the next is expected back at")
        queued = page.locator("#counts b").first
        before = int((await queued.inner_text()).replace(",", ""))
        await page.locator("#answers-numbers summary").click()
        await page.keyboard.press("/")
        search = page.get_by_role("searchbox")
        await expect(search).to_be_focused()
        await search.press_sequentially("half a na")
        await desk.other.post("/v1/responses", json={"model": "gpt-4o", "input": "one more"})
        await expect(queued).to_have_text(f"{before + 1:,}")
        await expect(search).to_be_focused()
        await expect(search).to_have_value("half a na")
        await expect(page.locator("#answers-numbers")).to_have_attribute("open", "")
        await page.get_by_role("heading", level=1).select_text()
        await desk.other.post("/v1/responses", json={"model": "gpt-4o", "input": "and one more"})
        await page.wait_for_event("response")
        await page.wait_for_event("response")
        assert await page.evaluate("getSelection().toString()") == "Nothing is stuck."
        await page.evaluate("getSelection().empty()")
        await expect(queued).to_have_text(f"{before + 2:,}")


async def test_trouble_is_the_first_thing_on_the_page(desk: Door, browser: Browser) -> None:
    stuck = Filling(desk.database_url, "other").trouble()
    async with reading(browser, desk, key=OTHER_KEY) as page:
        await expect(page.get_by_role("heading", level=1)).to_have_text("2 things are stuck.")
        troubles = page.locator(".troubles li")
        await expect(troubles).to_have_count(3)
        for words in ("Why", "Until when", "What to do", "900 requests for gpt-4.1"):
            await expect(troubles.first).to_contain_text(words)
        for words in ("o3-mini", "401 invalid_api_key", "gpt-4.1-mini", "insufficient_quota"):
            await expect(page.locator(".troubles")).to_contain_text(words)
        await expect(page.locator(f"#b-{stuck}")).to_contain_text("Stuck.")
        await troubles.first.get_by_role("link").click()
        await expect(page).to_have_url(f"{desk.service.url}/batches/{stuck}")
        await expect(page.locator("#summary")).to_contain_text("Stuck.")


async def test_failures_lead_to_an_example_that_says_why(desk: Door, browser: Browser) -> None:
    example = Filling(desk.database_url, "other").failed(5)
    async with reading(browser, desk, key=OTHER_KEY) as page:
        await page.locator("#failures").get_by_role("link", name=example).first.click()
        await expect(page.locator("#summary")).to_contain_text("Your input exceeds the context")
        await expect(page.get_by_role("button", name="Try again")).to_be_visible()


async def test_all_of_it_works_by_keyboard_alone(desk: Door, browser: Browser) -> None:
    id_ = await call(desk, "by keyboard")
    async with reading(browser, desk, key=None) as page:
        await page.goto("/")
        await expect(page.get_by_role("textbox")).to_be_focused()
        await page.keyboard.type(KEY)
        await page.keyboard.press("Enter")
        await expect(page.get_by_role("searchbox")).to_be_visible()
        await page.keyboard.press("/")
        await page.keyboard.type(id_)
        await page.keyboard.press("Enter")
        await page.wait_for_url(f"**/requests/{id_}")
        for _ in range(20):
            await page.keyboard.press("Tab")
            if await page.evaluate("document.activeElement.id") == "cancel":
                break
        outline = await page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
        assert outline == "solid", "the focus is seen"
        await page.keyboard.press("Enter")
        await expect(page.locator(".said")).to_contain_text("Cancelled.")
        assert await status(desk, id_) == "cancelled"


async def test_times_are_the_readers_own(desk: Door, browser: Browser) -> None:
    id_ = await call(desk, "what time is it")
    created = (await desk.client.get(f"/v1/requests/{id_}")).json()["created_at"]
    async with reading(browser, desk) as page:
        await page.goto(f"/requests/{id_}")
        shown = page.locator("#facts time").first
        tokyo = await page.evaluate(
            "at => new Date(at * 1000).toLocaleTimeString('en-GB')", created
        )
        await expect(shown).to_contain_text(tokyo)
        assert "UTC" in str(await shown.get_attribute("title"))


async def test_it_fits_a_phone_in_the_dark(desk: Door, browser: Browser) -> None:
    filling = Filling(desk.database_url, "other")
    filling.trouble()
    id_ = filling.requests(1, "queued", model="m" * 120)[0].hex
    async with reading(
        browser, desk, key=OTHER_KEY, viewport={"width": 360, "height": 740},
        color_scheme="dark", has_touch=True,
    ) as page:  # fmt: skip
        ground = await page.evaluate("getComputedStyle(document.body).backgroundColor")
        assert sum(int(part) for part in ground.strip("rgb()").split(",")) < 120
        for path in ("/", "/requests", f"/requests/batchreq_{id_}", "/search?q=" + "x" * 150):
            await page.goto(path)
            await expect(page.get_by_role("heading", level=1)).to_be_visible()
            await width_is_enough(page)


async def test_it_works_without_javascript(desk: Door, browser: Browser) -> None:
    id_ = await call(desk, "without scripts")
    async with reading(browser, desk, java_script_enabled=False) as page:
        await expect(page.locator("#summary")).to_contain_text("UTC")
        await page.get_by_role("searchbox").fill(id_)
        await page.get_by_role("button", name="Search").click()
        await page.get_by_role("button", name="Cancel").click()
        await expect(page.locator(".said")).to_contain_text("Cancelled.")


async def test_what_callers_wrote_does_nothing(desk: Door, browser: Browser) -> None:
    id_ = await call(desk, EVIL, model=EVIL)
    async with reading(browser, desk) as page:
        for path in ("/", "/requests", f"/requests/{id_}"):
            await page.goto(path)
            await expect(page.locator("main")).to_contain_text("<img src=x")
            assert await page.locator("main img").count() == 0


async def test_a_dead_database_is_said_and_the_page_goes_on_by_itself(
    desk: Door, browser: Browser, cluster: Cluster
) -> None:
    id_ = await call(desk, "before the outage")
    async with reading(browser, desk) as open_, reading(browser, desk) as late:
        await open_.goto(f"/requests/{id_}")
        name = psycopg.conninfo.conninfo_to_dict(desk.database_url)["dbname"]
        cluster.execute(f"alter database {name} allow_connections false")
        try:
            cluster.execute(
                f"select pg_terminate_backend(pid) from pg_stat_activity where datname = '{name}'"
            )
            said = expect(open_.locator("#connection")).to_contain_text("to the database since")
            reply, _ = await asyncio.gather(late.goto(f"/requests/{id_}"), said)
            await expect(open_.locator("#call")).to_contain_text("before the outage")
            assert reply is not None
            assert reply.status == 503
            heading = late.get_by_role("heading", level=1)
            await expect(heading).to_have_text("The database is out of reach.")
        finally:
            await asyncio.to_thread(
                cluster.execute, f"alter database {name} allow_connections true"
            )
        await expect(open_.locator("#connection")).to_be_hidden()
        await expect(heading).to_have_text(id_)
        await expect(late.get_by_role("searchbox")).to_be_visible()


async def test_a_server_that_is_gone_is_said(desk: Door, browser: Browser) -> None:
    async with reading(browser, desk) as page:
        await page.context.set_offline(True)
        await expect(page.locator("#connection")).to_contain_text(
            "No connection to the server since"
        )
        await page.context.set_offline(False)
        await expect(page.locator("#connection")).to_be_hidden()
