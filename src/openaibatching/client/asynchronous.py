"""The asynchronous client, from which scripts/sync_client.py makes the synchronous one."""

from collections.abc import Mapping
from functools import cached_property, partial
from time import monotonic
from typing import Any, Self, TypeVar, Unpack, cast

import openai.types as official
from openai import APIError, AsyncOpenAI, Omit, omit, resources
from openai.resources.chat import AsyncCompletions as OfficialChatCompletions
from openai.resources.responses import AsyncResponses as OfficialResponses
from openai.types.chat import ChatCompletion as OfficialChatCompletion
from openai.types.responses import Response as OfficialResponse

from openaibatching.client.async_runtime import AsyncCoalescer, http_client, settle_in, sleep
from openaibatching.client.coalescing import goes_alone
from openaibatching.client.options import (
    CopyOptions,
    Options,
    located,
    renamed,
    without_environment,
)
from openaibatching.client.patience import Patience, Way, deadline
from openaibatching.client.redirects import REDIRECTS_MAX, stays_near
from openaibatching.client.results import adapted, prepared, to_responses
from openaibatching.client.signatures import (
    async_creating,
    async_parsing,
    async_retrieving,
    async_returning,
)
from openaibatching.client.waiting import StillPending
from openaibatching.types import (
    BatchRequest,
    ChatCompletion,
    Completion,
    CreateEmbeddingResponse,
    ImagesResponse,
    ModerationCreateResponse,
    ParsedResponse,
)

Format = TypeVar("Format")


class AsyncChatCompletions(OfficialChatCompletions):
    """`client.chat.completions`."""

    @async_returning(OfficialChatCompletions.create, OfficialChatCompletion, ChatCompletion)
    async def create(self, **options: Any) -> Any:  # type: ignore[override]
        """Ask for a chat completion; the answer may have to wait for its batch."""
        return await super().create(**options)

    @async_parsing(OfficialChatCompletions.parse)
    async def parse(self, **options: Any) -> Any:
        """`create`, with the content parsed into `response_format`."""
        return await super().parse(**options)

    @async_returning(OfficialChatCompletions.retrieve, OfficialChatCompletion, ChatCompletion)
    async def retrieve(self, completion_id: str, **options: Any) -> Any:
        """What the call with this id would be answered now."""
        return await super().retrieve(completion_id, **options)


class AsyncChat(resources.AsyncChat):
    """`client.chat`."""

    @cached_property
    def completions(self) -> AsyncChatCompletions:
        """Chat completions."""
        return AsyncChatCompletions(self._client)


class _MessagesToResponses(OfficialChatCompletions):
    """Chat completions asked for at `/responses`, which takes `messages` as well."""

    def __init__(self, client: AsyncOpenAI) -> None:
        super().__init__(client)
        self._post: Any = partial(to_responses, client.post)


class AsyncResponses(OfficialResponses):
    """`client.responses`."""

    @async_creating(OfficialChatCompletions.create, OfficialResponses.create)
    async def create(self, **options: Any) -> Any:  # type: ignore[override]
        """Ask for a response to `input`, or for a chat completion of `messages`."""
        if "messages" in options and "input" not in options:
            return await _MessagesToResponses(self._client).create(**options)
        return await super().create(**options)

    async def parse(
        self, *, text_format: type[Format] | Omit = omit, **options: Any
    ) -> ParsedResponse[Format]:
        """`create`, with the output parsed into `text_format`."""
        return cast(
            "ParsedResponse[Format]", await super().parse(text_format=text_format, **options)
        )

    @async_retrieving(OfficialResponses.retrieve)
    async def retrieve(self, response_id: str, **options: Any) -> Any:  # type: ignore[override]
        """What the call with this id would be answered now."""
        return await super().retrieve(response_id, **options)

    @async_returning(OfficialResponses.cancel, OfficialResponse, BatchRequest)
    async def cancel(self, response_id: str, **options: Any) -> Any:  # type: ignore[override]
        """Cancel a request that is still queued."""
        return await super().cancel(response_id, **options)


class AsyncCompletions(resources.AsyncCompletions):
    """`client.completions`."""

    @async_returning(resources.AsyncCompletions.create, official.Completion, Completion)
    async def create(self, **options: Any) -> Any:  # type: ignore[override]
        """Ask for a completion of a prompt."""
        return await super().create(**options)


class AsyncEmbeddings(resources.AsyncEmbeddings):
    """`client.embeddings`."""

    @async_returning(
        resources.AsyncEmbeddings.create, official.CreateEmbeddingResponse, CreateEmbeddingResponse
    )
    async def create(self, **options: Any) -> Any:
        """Ask for embeddings; `data` is empty until they have completed."""
        return await super().create(**options)


class AsyncModerations(resources.AsyncModerations):
    """`client.moderations`."""

    @async_returning(
        resources.AsyncModerations.create,
        official.ModerationCreateResponse,
        ModerationCreateResponse,
    )
    async def create(self, **options: Any) -> Any:
        """Ask for a moderation."""
        return await super().create(**options)


class AsyncImages(resources.AsyncImages):
    """`client.images`."""

    @async_returning(resources.AsyncImages.generate, official.ImagesResponse, ImagesResponse)
    async def generate(self, **options: Any) -> Any:  # type: ignore[override]
        """Ask for an image."""
        return await super().generate(**options)

    @async_returning(resources.AsyncImages.edit, official.ImagesResponse, ImagesResponse)
    async def edit(self, **options: Any) -> Any:  # type: ignore[override]
        """Ask for an edited image; files are sent inside the JSON body."""
        return await super().edit(**options)


class AsyncOpenAIBatching(AsyncOpenAI):
    """The official `AsyncOpenAI` client, answered by a batch server at half the price.

    A call returns at once, with an object of the official type that also says `has_completed`. Make
    the same call again later, and the same request answers. With `wait=True` each call returns only
    when its request is finished; with a number, after so many seconds at most.
    """

    wait: bool | float

    def __init__(
        self,
        *,
        batch_server_url: str | None = None,
        batch_server_api_key: str | None = None,
        wait: bool | float = False,
        **options: Unpack[Options],
    ) -> None:
        """Make a client of the batch server at `batch_server_url` (`BATCH_SERVER_URL`).

        `batch_server_api_key` (`BATCH_SERVER_API_KEY`) is what the server knows its callers by, not
        OpenAI's key. Every other option is the official client's. Raises `OpenAIError` without a
        key, and for an option given under two names.
        """
        settled = located(batch_server_url, batch_server_api_key, options)
        if settled.get("http_client") is None:
            settled["http_client"] = http_client()
        super().__init__(**settled)
        without_environment(self, options)
        self.wait = wait
        self._way = Way()
        settle_in(self)
        self._coalescer = AsyncCoalescer(self._client, self.base_url.path)

    def copy(  # type: ignore[override]
        self,
        *,
        batch_server_url: str | None = None,
        batch_server_api_key: str | None = None,
        wait: bool | float | None = None,
        _extra_kwargs: Mapping[str, Any] = {},
        **options: Unpack[CopyOptions],
    ) -> Self:
        """The same client with some options changed."""
        settled = renamed(batch_server_url, batch_server_api_key, options)
        kept = {"wait": self.wait if wait is None else wait, **_extra_kwargs}
        made = super().copy(**settled, _extra_kwargs=kept)
        if (made._client, made.base_url) == (self._client, self.base_url):
            made._coalescer = self._coalescer  # the calls of both may travel together
            made._way = self._way
        return made

    with_options = copy  # type: ignore[assignment]

    async def request(self, cast_to: Any, options: Any, **stream: Any) -> Any:
        """Send one request; a client that waits asks until it is finished.

        Raises what is final, and after `wait` seconds the last error or `APITimeoutError`.
        """
        options = prepared(options)
        if not self.wait:
            return await super().request(cast_to, options, **stream)
        end = deadline(self.wait, monotonic())
        patience = Patience(options, self.timeout, end, self._way)
        while True:
            asking = patience.ask(monotonic())
            try:
                return await super().request(cast_to, asking, **stream)
            except (StillPending, APIError) as reply:
                pause = patience.pause(reply, monotonic())
            await sleep(pause)

    async def _send_request(self, request: Any, *, stream: bool, **options: Any) -> Any:
        if goes_alone(self._client, stream, options):
            return await self._send_near(request, stream=stream, **options)
        return await self._coalescer.send(request, self._send_near)

    async def _send_near(self, request: Any, **options: Any) -> Any:
        """Send one request. Its redirects are followed on the batch server's own host: another one
        is sent no prompt."""
        send: Any = super()._send_request
        follow = options.pop("follow_redirects", self._client.follow_redirects)
        reply = await send(request, **options, follow_redirects=False)
        for _ in range(REDIRECTS_MAX):
            if not (follow and stays_near(reply)):
                break
            await reply.aclose()
            reply = await send(reply.next_request, **options, follow_redirects=False)
        return reply

    async def _process_response(self, *, response: Any, **rest: Any) -> Any:
        if self.wait and response.status_code == 202:
            await response.aread()
            raise StillPending(response)
        return await super()._process_response(response=response, **rest)

    def _process_response_data(self, *, data: object, cast_to: Any, response: Any) -> Any:
        cast_to, data = adapted(cast_to, data)
        return super()._process_response_data(data=data, cast_to=cast_to, response=response)

    @cached_property
    def responses(self) -> AsyncResponses:
        """Model responses."""
        return AsyncResponses(self)

    @cached_property
    def chat(self) -> AsyncChat:
        """Chat completions."""
        return AsyncChat(self)

    @cached_property
    def completions(self) -> AsyncCompletions:
        """Completions of a prompt."""
        return AsyncCompletions(self)

    @cached_property
    def embeddings(self) -> AsyncEmbeddings:
        """Embeddings."""
        return AsyncEmbeddings(self)

    @cached_property
    def moderations(self) -> AsyncModerations:
        """Moderations."""
        return AsyncModerations(self)

    @cached_property
    def images(self) -> AsyncImages:
        """Images."""
        return AsyncImages(self)
