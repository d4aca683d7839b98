"""The picture in README: `make picture` takes it anew, of a service with a month behind it."""

from __future__ import annotations

import asyncio
import tempfile
from pathlib import Path

from openaibatching.server.database.migrations import migrate
from page.browser import chromium
from page.filling import Filling
from support.door import TEMPLATE, open_door
from support.postgres import running_cluster
from support.servers import LONG_S
from support.source import ROOT
from support.world import KEY

PICTURE = ROOT / "docs" / "page.png"
SIZE = {"width": 1120, "height": 800}


async def take(path: Path) -> None:
    """Fill a server, sign in, and take a picture of the first page."""
    with running_cluster("embedded") as cluster, tempfile.TemporaryDirectory() as folder:
        cluster.execute(f"create database {TEMPLATE}")
        await migrate(cluster.url_of(TEMPLATE), wait_s=5)
        async with (
            open_door(cluster, Path(folder), batch_linger_s=LONG_S) as door,
            chromium() as browser,
        ):
            filling = Filling(door.database_url, "default")
            filling.busy()
            filling.unsent()
            page = await browser.new_page(viewport=SIZE, locale="en-GB")  # type: ignore[arg-type]
            await page.goto(door.service.url)
            await page.get_by_label("Key of this server").fill(KEY)
            await page.get_by_role("button", name="Sign in").click()
            await page.get_by_text("is expected back at").wait_for()
            await page.screenshot(path=path)


if __name__ == "__main__":
    asyncio.run(take(PICTURE))
    print(f"{PICTURE}: {PICTURE.stat().st_size:,} bytes")
