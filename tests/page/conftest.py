"""One server and one browser for the tests of a file."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from playwright.async_api import Browser

from page.browser import chromium, executable
from support.door import Door, open_door
from support.postgres import Cluster
from support.servers import LONG_S, quiet

__all__ = ["browser", "desk", "quiet"]


@pytest.fixture(scope="module")
async def desk(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Door]:
    """A server that sends nothing until it is told to, and then is answered at once."""
    folder = tmp_path_factory.mktemp("desk")
    async with open_door(cluster, folder, batch_linger_s=LONG_S) as door:
        yield door


@pytest.fixture(scope="module")
async def browser() -> AsyncIterator[Browser]:
    """A real Chromium."""
    if executable() is None:
        pytest.skip("no Chromium is installed here: apt-get install chromium")
    async with chromium() as browser:
        yield browser
