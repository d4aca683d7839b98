"""OpenAI, by its official SDK: the only place that speaks to it.

The SDK's own retries are off: it would send a create again whose first try may have acted, and
that is paid twice. Every failure becomes one of four errors (errors.py), by one question:
may the call have acted?
"""

from __future__ import annotations

import json
import uuid
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import IO, Any, Literal, cast

import openai
from openai.pagination import AsyncCursorPage
from openai.types import Batch as SdkBatch
from openai.types import FileDeleted, FileObject

from openaibatching.server.config.settings import Settings
from openaibatching.server.domain import usage
from openaibatching.server.domain.tokens import Tokens
from openaibatching.server.errors import (
    InvalidSignature,
    UpstreamBusy,
    UpstreamDenied,
    UpstreamError,
    UpstreamRefused,
    UpstreamUnknown,
)
from openaibatching.server.providers.openai.input_lines import METADATA_KEY
from openaibatching.server.telemetry import counters

CALL_TIMEOUT_S = 60.0
# A file may take minutes, but not one without a byte moving.
FILE_TIMEOUT = openai.Timeout(600, connect=10, read=60, write=60)
RETRY_AFTER_S_MAX = 3600.0
CLOCK_SKEW = timedelta(minutes=10)
"""How far OpenAI's clock may be from the database's when looking for what we sent."""
WEBHOOK_TOLERANCE_S = 300

TERMINAL = ("completed", "failed", "expired", "cancelled")
"""https://platform.openai.com/docs/api-reference/batch/object: nothing happens after these."""

_DEAD = ("failed", "cancelling", "cancelled")
_REFUSALS = (400, 413, 415, 422)
_KEY_REFUSED = (401, 403)

Endpoint = Literal["/v1/responses", "/v1/chat/completions", "/v1/embeddings", "/v1/completions"]


@dataclass(frozen=True, slots=True)
class UpstreamBatch:
    """What we need of OpenAI's batch object. File ids are None unless there is a file.

    `errors` is its list of validation errors as JSON, or None. `completed` and `failed` are its
    counts, which were seen to lie: for people to watch. `tokens` are those that it charges; None
    where it does not say.
    """

    id: str
    status: str
    output_file_id: str | None
    error_file_id: str | None
    errors: bytes | None
    completed: int = 0
    failed: int = 0
    tokens: Tokens | None = None


@dataclass(frozen=True, slots=True)
class Passed:
    """A reply of OpenAI's as callers get it: a JSON object, byte for byte."""

    status: int
    body: bytes
    headers: dict[str, str]


class Upstream:
    """OpenAI's Files and Batches. Failures are UpstreamErrors; of a webhook, InvalidSignature."""

    def __init__(self, settings: Settings, *, call_timeout_s: float = CALL_TIMEOUT_S) -> None:
        secret = settings.openai_webhook_secret
        self._client = openai.AsyncOpenAI(
            api_key=settings.openai_api_key.get_secret_value(),
            base_url=settings.openai_base_url,
            webhook_secret=secret.get_secret_value() if secret else None,
            max_retries=0,
            timeout=openai.Timeout(call_timeout_s, connect=10),
        )
        # Not by the constructor: to it, None means the environment, where an empty variable
        # counts as set and would be sent as an empty header.
        self._client.organization = settings.openai_org_id
        self._client.project = settings.openai_project_id

    def renew(self, settings: Settings) -> None:
        """Take the secrets of these settings for all calls from now on."""
        secret = settings.openai_webhook_secret
        self._client.api_key = settings.openai_api_key.get_secret_value()
        self._client.webhook_secret = secret.get_secret_value() if secret else None

    async def close(self) -> None:
        """Close the connections."""
        await self._client.close()

    # ----- files -----

    async def upload(self, name: str, file: IO[bytes]) -> str:
        """Upload a batch input file, streamed from disk; its id."""
        async with _translated():
            reply = await self._client.files.create(
                file=(name, file), purpose="batch", timeout=FILE_TIMEOUT
            )
        if not isinstance(reply, FileObject) or not reply.id:
            raise UpstreamUnknown("the upload was answered with no file object")
        return reply.id

    async def find_files(self, name: str, since: datetime) -> list[str]:
        """The ids of the files with this name, uploaded after `since`."""
        async with _translated():
            page = await self._client.files.list(purpose="batch", order="desc", limit=1000)
            found: list[str] = []
            async with _if_not_found(found):
                async for file in _items(page, since):
                    if file.filename == name:
                        found.append(file.id)
        return found

    async def delete_file(self, file_id: str) -> None:
        """Delete a file; one that is gone already counts as deleted."""
        try:
            async with _translated():
                reply = await self._client.files.delete(file_id)
        except UpstreamDenied as error:
            if error.status != 404:
                raise
            return
        if not isinstance(reply, FileDeleted) or not reply.deleted:
            raise UpstreamUnknown("a deletion was answered with something else")

    async def download(self, file_id: str) -> AsyncGenerator[bytes, None]:
        """The file's bytes, in chunks, never all in memory."""
        async with (
            _translated(),
            self._client.files.with_streaming_response.content(
                file_id, timeout=FILE_TIMEOUT
            ) as response,
        ):
            if response.headers.get("content-type", "").startswith("text/html"):
                raise UpstreamUnknown("a download that is a web page")
            chunks = response.iter_bytes(1 << 16)
            while True:
                try:
                    chunk = await anext(chunks)
                except StopAsyncIteration:
                    return
                except Exception as error:  # the HTTP library's own, which differs by SDK version
                    # Only its type: its words may quote an answer.
                    raise UpstreamUnknown(
                        f"the download broke off: {type(error).__name__}"
                    ) from error
                yield chunk

    # ----- batches -----

    async def create(self, batch_id: uuid.UUID, input_file_id: str, endpoint: str) -> UpstreamBatch:
        """Create the batch, marked with our key. UpstreamUnknown: it may have acted."""
        async with _translated():
            reply = await self._client.batches.create(
                input_file_id=input_file_id,
                endpoint=cast("Endpoint", endpoint),
                completion_window="24h",
                metadata={METADATA_KEY: batch_id.hex},
            )
            return _batch(reply)

    async def find_batches(self, batch_id: uuid.UUID, since: datetime) -> list[UpstreamBatch]:
        """What OpenAI has of our batch, the one to adopt first; more if a create acted late."""
        async with _translated():
            page = await self._client.batches.list(limit=100)
            found: list[SdkBatch] = []
            async with _if_not_found(found):
                async for batch in _items(page, since):
                    if (batch.metadata or {}).get(METADATA_KEY) == batch_id.hex:
                        found.append(batch)
            # The one to adopt comes first: it lives, and it is the oldest that does.
            found.sort(key=lambda batch: (batch.status.lower() in _DEAD, batch.created_at))
            return [_batch(batch) for batch in found]

    async def retrieve(self, upstream_id: str) -> UpstreamBatch:
        """The batch as it is now."""
        async with _translated():
            reply = await self._client.batches.retrieve(upstream_id)
            return _batch(reply)

    async def cancel(self, upstream_id: str) -> None:
        """Ask OpenAI to stop a batch; one that has ended already is left as it is."""
        try:
            async with _translated():
                await self._client.batches.cancel(upstream_id)
        except UpstreamUnknown as error:
            if error.status != 409:
                raise

    # ----- models -----

    async def read_models(self, name: str) -> Passed:
        """OpenAI's answer about a model, or with "" about all of them.

        An answer that is about what was asked (200, 404, 429 …) is given as it is. Raises an
        UpstreamError for one that is about the way there or about the server's key.
        """
        models = self._client.models.with_raw_response
        async with _translated():
            try:
                found = (await (models.retrieve(name) if name else models.list())).http_response
            except openai.APIStatusError as error:
                if error.status_code in _KEY_REFUSED or error.status_code >= 500:
                    raise
                found = error.response
            if not isinstance(json.loads(found.content), dict):
                raise UpstreamUnknown("models are answered with no object")
        headers = {k: v for k, v in found.headers.items() if k == "retry-after"}
        return Passed(found.status_code, found.content, headers)

    # ----- webhooks -----

    def webhook_batch_id(self, body: bytes, headers: Mapping[str, str]) -> str | None:
        """The upstream batch that a webhook is about, or None if about none.

        Raises InvalidSignature unless it was signed with OPENAI_WEBHOOK_SECRET in the last
        300 s (https://platform.openai.com/docs/guides/webhooks).
        """
        if not self._client.webhook_secret:
            raise InvalidSignature("No OPENAI_WEBHOOK_SECRET is set.")
        try:
            text = body.decode("utf-8")
            self._client.webhooks.verify_signature(
                text, dict(headers), tolerance=WEBHOOK_TOLERANCE_S
            )
            event = json.loads(text)
        except (openai.InvalidWebhookSignatureError, ValueError, TypeError, RecursionError):
            # TypeError: a signature that is not ASCII.
            raise InvalidSignature from None
        if not isinstance(event, dict) or not str(event.get("type")).startswith("batch."):
            return None
        data = event.get("data")
        batch_id = data.get("id") if isinstance(data, dict) else None
        return batch_id if isinstance(batch_id, str) else None


@asynccontextmanager
async def _if_not_found(found: list[Any]) -> AsyncIterator[None]:
    """A list that is no list, or has no end, matters only while nothing is found: then nothing is
    known, and what may be there is not made a second time."""
    try:
        yield
    except UpstreamUnknown:
        if not found:
            raise


async def _items(page: Any, since: datetime) -> AsyncIterator[Any]:
    """The items of this and the following pages, newest first, back to `since`.

    Raises UpstreamUnknown for a reply without a list (Azure's older API has `value` for `data`),
    for a server that ignores `after`, whose list is the same page without end, and for an empty
    page that says that more follow.
    """
    oldest = (since - CLOCK_SKEW).timestamp()
    seen: set[str] = set()
    while True:
        if not isinstance(page, AsyncCursorPage) or not isinstance(page.data, list):
            raise UpstreamUnknown("a list was answered with no list object")
        fresh = [item for item in page.data if item.id not in seen]
        if not fresh and (page.data or page.has_more):
            raise UpstreamUnknown("a list goes on, and its page has nothing new")
        seen.update(item.id for item in fresh)
        for item in fresh:
            yield item
        # A page may be ordered by nothing in particular, so only a whole page that is too old
        # ends the search.
        if all(item.created_at < oldest for item in page.data) or not page.has_next_page():
            return
        page = await page.get_next_page()


def _batch(reply: Any) -> UpstreamBatch:
    if not isinstance(reply, SdkBatch) or not reply.id or not reply.status:
        raise UpstreamUnknown("a batch call was answered with no batch object")
    errors = None
    if reply.errors is not None and reply.errors.data:
        errors = json.dumps([e.model_dump() for e in reply.errors.data]).encode()
    return UpstreamBatch(
        id=reply.id,
        status=reply.status.lower(),  # some servers that speak OpenAI's API shout
        # Seen in the field: "" for a file that does not exist.
        output_file_id=reply.output_file_id or None,
        error_file_id=reply.error_file_id or None,
        errors=errors,
        completed=_count(reply.request_counts, "completed"),
        failed=_count(reply.request_counts, "failed"),
        tokens=_tokens(reply.usage),
    )


def _tokens(reported: Any) -> Tokens | None:
    used = usage.read(reported.to_json().encode()) if reported else None
    return None if used is None else used.tokens


def _count(counts: Any, name: str) -> int:
    n = getattr(counts, name, None)
    return n if isinstance(n, int) and 0 <= n < 2**31 else 0


@asynccontextmanager
async def _translated() -> AsyncIterator[None]:
    try:
        try:
            yield
        except openai.APIStatusError as error:
            raise _status_error(error) from error
        except openai.APIError as error:
            raise UpstreamUnknown(f"no usable reply: {error.message}") from error
        except (AttributeError, TypeError, ValueError, KeyError) as error:
            # What the SDK does with a list that is an HTML page.
            raise UpstreamUnknown(f"a reply that is none: {type(error).__name__}") from error
    except UpstreamError as error:
        counters.UPSTREAM_ERRORS.labels(type(error).__name__, str(error.status or "")).inc()
        raise
    counters.UPSTREAM_LAST_SUCCESS.set_to_current_time()


def _status_error(error: openai.APIStatusError) -> UpstreamError:
    """The error by its status (https://platform.openai.com/docs/guides/error-codes)."""
    status = error.status_code
    if status == 429:
        kind: type[UpstreamError] = UpstreamBusy
    elif status in _REFUSALS:
        kind = UpstreamRefused
    elif status in (408, 409) or status >= 500 or status < 400:
        kind = UpstreamUnknown
    else:
        kind = UpstreamDenied
    body = error.body if isinstance(error.body, dict) else {}
    message = body.get("message")
    return kind(
        message if isinstance(message, str) else error.message,
        status=status,
        code=error.code if isinstance(error.code, str) else None,
        param=error.param if isinstance(error.param, str) else None,
        retry_after=_retry_after(error.response.headers.get("retry-after")),
    )


def _retry_after(value: str | None) -> float | None:
    """Seconds of a Retry-After header, in either of its forms (RFC 9110, 10.2.3)."""
    if value is None:
        return None
    try:
        seconds = float(value)
    except ValueError:
        try:
            at = parsedate_to_datetime(value)
            seconds = (at - datetime.now(at.tzinfo)).total_seconds()
        except ValueError:
            return None
    return min(seconds, RETRY_AFTER_S_MAX) if seconds > 0 else None
