"""The synchronous client, made from asynchronous.py by scripts/sync_client.py. Edit that."""

from collections.abc import Mapping
from functools import cached_property, partial
from time import monotonic
from typing import Any, Self, TypeVar, Unpack, cast

import openai.types as official
from openai import APIError, Omit, OpenAI, omit, resources
from openai.resources.chat import Completions as OfficialChatCompletions
from openai.resources.responses import Responses as OfficialResponses
from openai.types.chat import ChatCompletion as OfficialChatCompletion
from openai.types.responses import Response as OfficialResponse

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
    creating,
    parsing,
    retrieving,
    returning,
)
from openaibatching.client.sync_runtime import Coalescer, http_client, settle_in, sleep
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


class ChatCompletions(OfficialChatCompletions):
    """`client.chat.completions`."""

    @returning(OfficialChatCompletions.create, OfficialChatCompletion, ChatCompletion)
    def create(self, **options: Any) -> Any:  # type: ignore[override]
        """Ask for a chat completion; the answer may have to wait for its batch."""
        return super().create(**options)

    @parsing(OfficialChatCompletions.parse)
    def parse(self, **options: Any) -> Any:
        """`create`, with the content parsed into `response_format`."""
        return super().parse(**options)

    @returning(OfficialChatCompletions.retrieve, OfficialChatCompletion, ChatCompletion)
    def retrieve(self, completion_id: str, **options: Any) -> Any:
        """What the call with this id would be answered now."""
        return super().retrieve(completion_id, **options)


class Chat(resources.Chat):
    """`client.chat`."""

    @cached_property
    def completions(self) -> ChatCompletions:
        """Chat completions."""
        return ChatCompletions(self._client)


class _MessagesToResponses(OfficialChatCompletions):
    """Chat completions asked for at `/responses`, which takes `messages` as well."""

    def __init__(self, client: OpenAI) -> None:
        super().__init__(client)
        self._post: Any = partial(to_responses, client.post)


class Responses(OfficialResponses):
    """`client.responses`."""

    @creating(OfficialChatCompletions.create, OfficialResponses.create)
    def create(self, **options: Any) -> Any:  # type: ignore[override]
        """Ask for a response to `input`, or for a chat completion of `messages`."""
        if "messages" in options and "input" not in options:
            return _MessagesToResponses(self._client).create(**options)
        return super().create(**options)

    def parse(
        self, *, text_format: type[Format] | Omit = omit, **options: Any
    ) -> ParsedResponse[Format]:
        """`create`, with the output parsed into `text_format`."""
        return cast("ParsedResponse[Format]", super().parse(text_format=text_format, **options))

    @retrieving(OfficialResponses.retrieve)
    def retrieve(self, response_id: str, **options: Any) -> Any:  # type: ignore[override]
        """What the call with this id would be answered now."""
        return super().retrieve(response_id, **options)

    @returning(OfficialResponses.cancel, OfficialResponse, BatchRequest)
    def cancel(self, response_id: str, **options: Any) -> Any:  # type: ignore[override]
        """Cancel a request that is still queued."""
        return super().cancel(response_id, **options)


class Completions(resources.Completions):
    """`client.completions`."""

    @returning(resources.Completions.create, official.Completion, Completion)
    def create(self, **options: Any) -> Any:  # type: ignore[override]
        """Ask for a completion of a prompt."""
        return super().create(**options)


class Embeddings(resources.Embeddings):
    """`client.embeddings`."""

    @returning(
        resources.Embeddings.create, official.CreateEmbeddingResponse, CreateEmbeddingResponse
    )
    def create(self, **options: Any) -> Any:
        """Ask for embeddings; `data` is empty until they have completed."""
        return super().create(**options)


class Moderations(resources.Moderations):
    """`client.moderations`."""

    @returning(
        resources.Moderations.create,
        official.ModerationCreateResponse,
        ModerationCreateResponse,
    )
    def create(self, **options: Any) -> Any:
        """Ask for a moderation."""
        return super().create(**options)


class Images(resources.Images):
    """`client.images`."""

    @returning(resources.Images.generate, official.ImagesResponse, ImagesResponse)
    def generate(self, **options: Any) -> Any:  # type: ignore[override]
        """Ask for an image."""
        return super().generate(**options)

    @returning(resources.Images.edit, official.ImagesResponse, ImagesResponse)
    def edit(self, **options: Any) -> Any:  # type: ignore[override]
        """Ask for an edited image; files are sent inside the JSON body."""
        return super().edit(**options)


class OpenAIBatching(OpenAI):
    """The official `OpenAI` client, answered by a batch server at half the price.

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
        self._coalescer = Coalescer(self._client, self.base_url.path)

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

    def request(self, cast_to: Any, options: Any, **stream: Any) -> Any:
        """Send one request; a client that waits asks until it is finished.

        Raises what is final, and after `wait` seconds the last error or `APITimeoutError`.
        """
        options = prepared(options)
        if not self.wait:
            return super().request(cast_to, options, **stream)
        end = deadline(self.wait, monotonic())
        patience = Patience(options, self.timeout, end, self._way)
        while True:
            asking = patience.ask(monotonic())
            try:
                return super().request(cast_to, asking, **stream)
            except (StillPending, APIError) as reply:
                pause = patience.pause(reply, monotonic())
            sleep(pause)

    def _send_request(self, request: Any, *, stream: bool, **options: Any) -> Any:
        if goes_alone(self._client, stream, options):
            return self._send_near(request, stream=stream, **options)
        return self._coalescer.send(request, self._send_near)

    def _send_near(self, request: Any, **options: Any) -> Any:
        """Send one request. Its redirects are followed on the batch server's own host: another one
        is sent no prompt."""
        send: Any = super()._send_request
        follow = options.pop("follow_redirects", self._client.follow_redirects)
        reply = send(request, **options, follow_redirects=False)
        for _ in range(REDIRECTS_MAX):
            if not (follow and stays_near(reply)):
                break
            reply.close()
            reply = send(reply.next_request, **options, follow_redirects=False)
        return reply

    def _process_response(self, *, response: Any, **rest: Any) -> Any:
        if self.wait and response.status_code == 202:
            response.read()
            raise StillPending(response)
        return super()._process_response(response=response, **rest)

    def _process_response_data(self, *, data: object, cast_to: Any, response: Any) -> Any:
        cast_to, data = adapted(cast_to, data)
        return super()._process_response_data(data=data, cast_to=cast_to, response=response)

    @cached_property
    def responses(self) -> Responses:
        """Model responses."""
        return Responses(self)

    @cached_property
    def chat(self) -> Chat:
        """Chat completions."""
        return Chat(self)

    @cached_property
    def completions(self) -> Completions:
        """Completions of a prompt."""
        return Completions(self)

    @cached_property
    def embeddings(self) -> Embeddings:
        """Embeddings."""
        return Embeddings(self)

    @cached_property
    def moderations(self) -> Moderations:
        """Moderations."""
        return Moderations(self)

    @cached_property
    def images(self) -> Images:
        """Images."""
        return Images(self)
