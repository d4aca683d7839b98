"""Every error of the server, in one tree.

    ServerError
    ├── ConfigError                a setting is wrong: the start stops with this one line
    ├── StoppedEarly               told to stop before the start was over
    ├── Refusal                    the door answers with an HTTP error; nothing is stored
    │   ├── InvalidJson, MissingParameter, StreamingUnsupported, … (one class a code)
    │   └── DatabaseUnavailable    503, try again soon
    │       └── DatabaseConflict   it undid a transaction in favour of another
    ├── LeaseLost                  another server owns this batch now: let go of it
    └── UpstreamError              OpenAI did not do what was asked
        ├── UpstreamUnknown        it may have done it: look before asking again
        ├── UpstreamBusy           it did not, and says to come back later
        ├── UpstreamDenied         it does not let this key or this address in
        └── UpstreamRefused        it said no to this very request

The docstring of a refusal is its message when none is given.
"""

from __future__ import annotations

from typing import Any, ClassVar


class ServerError(Exception):
    """The root of all errors that this server raises on purpose."""


class ConfigError(ServerError):
    """A setting is wrong. The message is one line that names the variable."""


class StoppedEarly(ServerError):
    """The server was told to stop before it had started."""


class LeaseLost(ServerError):
    """The lease on a batch went to another server; whoever holds it now goes on."""


class Refusal(ServerError):
    """The request was refused."""

    http_status: ClassVar[int] = 400
    type: ClassVar[str] = "invalid_request_error"
    code: ClassVar[str] = "invalid_request"
    headers: ClassVar[dict[str, str]] = {}

    def __init__(self, message: str | None = None, *, param: str | None = None) -> None:
        self.message = message or " ".join((type(self).__doc__ or "").split())
        self.param = param
        super().__init__(self.message)

    def reply_headers(self) -> dict[str, str]:
        """The headers of its reply."""
        return self.headers

    def body(self) -> dict[str, Any]:
        """OpenAI's error shape: what the caller reads."""
        return {"error": error_object(self.message, self.type, self.param, self.code)}


def error_object(message: str, type_: str, param: str | None, code: str | None) -> dict[str, Any]:
    """The four members of OpenAI's error object, in its order."""
    return {"message": message, "type": type_, "param": param, "code": code}


class InvalidHttp(Refusal):
    """What was sent is not HTTP/1.1."""

    code = "invalid_http"


class InvalidJson(Refusal):
    """The body is not a JSON object."""

    code = "invalid_json"


class MissingParameter(Refusal):
    """A required parameter is missing."""

    code = "missing_required_parameter"


class StreamingUnsupported(Refusal):
    """Streaming is not supported: a batch answers later. Leave out 'stream'."""

    code = "streaming_unsupported"


class BackgroundUnsupported(Refusal):
    """'background' is not supported: every call here already runs in the background."""

    code = "background_unsupported"


class TooManyInputs(Refusal):
    """One embedding call holds more inputs than OpenAI takes in a whole batch (50,000)."""

    code = "array_above_max_length"


class InvalidIdempotencyKey(Refusal):
    """An Idempotency-Key has 1 to 255 characters."""

    code = "invalid_idempotency_key"


class InvalidParameter(Refusal):
    """A parameter has a value that is not allowed."""

    code = "invalid_value"


class UnstorableText(InvalidParameter):
    """A parameter holds a character that PostgreSQL does not store: NUL, or a lone surrogate."""


class UnknownParameter(Refusal):
    """A parameter is not known here."""

    code = "unknown_parameter"


class InvalidUrl(Refusal):
    """A line's 'url' is none of the endpoints that a batch takes."""

    code = "invalid_url"


class PreviousResponseNotFound(Refusal):
    """The response that 'previous_response_id' names is not there."""

    code = "previous_response_not_found"  # OpenAI's own


class InvalidSignature(Refusal):
    """The webhook's signature is missing, wrong or stale, or no OPENAI_WEBHOOK_SECRET is set."""

    code = "invalid_signature"


class InvalidApiKey(Refusal):
    """Incorrect API key: present the batch server's key as 'Authorization: Bearer …'."""

    http_status = 401
    code = "invalid_api_key"
    headers: ClassVar[dict[str, str]] = {"WWW-Authenticate": "Bearer"}


class TooManyWrongKeys(InvalidApiKey):
    """Incorrect API key: present the batch server's key as 'Authorization: Bearer …'."""

    headers: ClassVar[dict[str, str]] = {"WWW-Authenticate": "Bearer", "Connection": "close"}


class InsufficientScope(Refusal):
    """The scope of this API key does not allow this."""

    http_status = 403
    code = "insufficient_scope"
    headers: ClassVar[dict[str, str]] = {  # RFC 6750, 3.1
        "WWW-Authenticate": 'Bearer error="insufficient_scope"'
    }


class NotFound(Refusal):
    """No such request."""

    http_status, code = 404, "not_found"


class UnknownEndpoint(Refusal):
    """Unknown path."""

    http_status, code = 404, "unknown_endpoint"


class MethodNotAllowed(Refusal):
    """This path does not take that method."""

    http_status, code = 405, "method_not_allowed"


class RequestTimeout(Refusal):
    """The headers or the body did not arrive in time."""

    http_status, code = 408, "request_timeout"
    # The rest of the body may still come: it must not be taken for the next request.
    headers: ClassVar[dict[str, str]] = {"Connection": "close"}


class Conflict(Refusal):
    """The request's state does not allow this."""

    http_status = 409
    headers: ClassVar[dict[str, str]] = {"x-should-retry": "false"}


class AlreadySubmitted(Conflict):
    """The request is already in a batch and can no longer be cancelled."""

    code = "already_submitted"


class AlreadyFinished(Conflict):
    """The request has already finished."""

    code = "already_finished"


class SharedBatch(Conflict):
    """Requests of other tenants are in this batch, too: it cannot be cancelled."""

    code = "shared_batch"


class NotRetryable(Conflict):
    """Only a failed or cancelled request, or one with an incomplete answer, can be retried."""

    code = "not_retryable"


class NotFinished(Conflict):
    """The request has not finished yet: cancel it first, or wait."""

    code = "not_finished"


class NotYetFinished(Refusal):
    """The request has not finished yet. Make the same call again later: it is the same request."""

    http_status, code = 425, "not_finished"
    headers: ClassVar[dict[str, str]] = {"x-should-retry": "false"}


class PreviousResponseUnavailable(Conflict):
    """The response that 'previous_response_id' names has no answer to go on from, or not yet."""

    code = "previous_response_unavailable"


class RequestTooLarge(Refusal):
    """The body is too large."""

    http_status, code = 413, "request_too_large"


class UnsupportedMediaType(Refusal):
    """The body's Content-Type is not one that this path takes."""

    http_status, code = 415, "unsupported_media_type"


class CompressedBody(UnsupportedMediaType):
    """The body is compressed: send it uncompressed."""

    headers: ClassVar[dict[str, str]] = {"Accept-Encoding": "identity"}  # RFC 9110, 15.5.16


class HeadersTooLarge(Refusal):
    """The headers are too large."""

    http_status, code = 431, "headers_too_large"


class IdempotencyKeyReused(Refusal):
    """This Idempotency-Key was already used with another body."""

    http_status, code = 422, "idempotency_key_reused"


class BudgetExceeded(Refusal):
    """This call may pass what a day may cost (BATCH_BUDGET_USD_DAY), or its price is unknown."""

    http_status, type, code = 429, "insufficient_quota", "budget_exceeded"
    headers: ClassVar[dict[str, str]] = {"x-should-retry": "false"}


class AboveLimit(Refusal):
    """The tenant is above one of its limits for now."""

    http_status, type = 429, "rate_limit_error"

    def __init__(self, message: str | None = None, *, retry_after_s: int = 1) -> None:
        """`retry_after_s`: after how many seconds the same call may pass."""
        super().__init__(message)
        self.retry_after_s = retry_after_s

    def reply_headers(self) -> dict[str, str]:
        """With the time after which the SDKs try again by themselves."""
        return {"Retry-After": str(self.retry_after_s)}


class RateLimited(AboveLimit):
    """More calls than this tenant may make, or more requests than it may have queued."""

    code = "rate_limited"


class TooManyModels(AboveLimit):
    """More distinct models than this tenant may have queued (TENANT_MODELS_MAX)."""

    code = "too_many_models"


class Internal(Refusal):
    """The server made a mistake; its log has the details."""

    http_status, type, code = 500, "server_error", "internal_error"


class ServerKeyDenied(Refusal):
    """OpenAI denies this to the batch server's own OPENAI_API_KEY. Your key is fine; tell whoever
    runs the server."""

    http_status, type, code = 502, "server_error", "upstream_denied"
    headers: ClassVar[dict[str, str]] = {"x-should-retry": "false"}


class UpstreamUnavailable(Refusal):
    """OpenAI gave no usable reply. Try again soon."""

    http_status, type, code = 502, "server_error", "upstream_unavailable"
    headers: ClassVar[dict[str, str]] = {"Retry-After": "2"}


class DatabaseUnavailable(Refusal):
    """The database is out of reach at the moment. Try again soon: the same call is never queued
    twice."""

    http_status, type, code = 503, "server_error", "database_unavailable"
    headers: ClassVar[dict[str, str]] = {"Retry-After": "2"}


class DatabaseConflict(DatabaseUnavailable):
    """The database undid this in favour of something else that needed the same rows. Try again."""


class UpstreamError(ServerError):
    """OpenAI did not do what was asked.

    `status` is its HTTP status or None, `code` and `param` are its own,
    `retry_after` is in seconds or None.
    """

    def __init__(
        self,
        message: str,
        *,
        status: int | None = None,
        code: str | None = None,
        param: str | None = None,
        retry_after: float | None = None,
    ) -> None:
        self.message, self.status, self.code, self.param = message, status, code, param
        self.retry_after = retry_after
        super().__init__(message)


class UpstreamUnknown(UpstreamError):
    """No usable reply: the call may have acted. Look before asking again."""


class UpstreamBusy(UpstreamError):
    """OpenAI asked us to come back later; the call did not act."""


class UpstreamDenied(UpstreamError):
    """OpenAI does not let this key, project or address in; the call did not act."""


class UpstreamRefused(UpstreamError):
    """OpenAI refused this very request; asking again as it stands will not help."""
