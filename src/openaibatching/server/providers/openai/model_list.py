"""OpenAI's own list of models, remembered for a while, so that asking us is not asking OpenAI."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from functools import partial

from cachetools import TTLCache

from openaibatching.server.providers.openai.client import Passed, Upstream

REMEMBERED_S = 600
NAMES_MAX = 1000
NAME_CHARACTERS_MAX = 512


def is_name(name: str) -> bool:
    """Whether a model can be called so; it may have slashes.

    Anything else is not sent upstream: with a dot segment, a proxy on the way there could take the
    path for another one, and the server's own key opens more than models.
    """
    segments = name.split("/")
    return (
        len(name) <= NAME_CHARACTERS_MAX
        and name.isprintable()
        and "\\" not in name
        and not {"", ".", ".."} & set(segments)
    )


class ModelList:
    """What OpenAI answered about its models. Callers who ask at the same time share one call."""

    def __init__(self, upstream: Upstream, timer: Callable[[], float] = time.monotonic) -> None:
        """`timer` tells seconds."""
        self._upstream = upstream
        self._asked: TTLCache[str, asyncio.Task[Passed]] = TTLCache(NAMES_MAX, REMEMBERED_S, timer)

    async def read(self, name: str = "") -> Passed:
        """OpenAI's answer about the model, or with "" about all; only a 200 is remembered.

        Raises UpstreamError as Upstream.read_models does.
        """
        task = self._asked.get(name)
        if task is None:
            task = self._asked[name] = asyncio.create_task(self._upstream.read_models(name))
            task.add_done_callback(partial(self._forget_failure, name))
        return await asyncio.shield(task)  # a caller that goes away leaves it to the others

    def _forget_failure(self, name: str, task: asyncio.Task[Passed]) -> None:
        failed = task.cancelled() or task.exception() or task.result().status != 200
        if failed and self._asked.get(name) is task:
            del self._asked[name]
