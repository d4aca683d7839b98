"""What the clients return: OpenAI's own types, each with `has_completed` and `batching`.

Every type here is a subclass of the official one of the same name, so code written for the official
client goes on working. Import them from here to annotate your own functions.
"""

from typing import Any, Generic, Literal

from openai import BaseModel
from openai.types import Completion as _Completion
from openai.types import CreateEmbeddingResponse as _CreateEmbeddingResponse
from openai.types import ImagesResponse as _ImagesResponse
from openai.types import ModerationCreateResponse as _ModerationCreateResponse
from openai.types.chat import ChatCompletion as _ChatCompletion
from openai.types.chat import ParsedChatCompletion as _ParsedChatCompletion
from openai.types.chat.parsed_chat_completion import ContentType as _ChatFormat
from openai.types.responses import ParsedResponse as _ParsedResponse
from openai.types.responses import Response as _Response
from openai.types.responses.parsed_response import ContentType as _Format

__all__ = [
    "BatchRequest",
    "Batched",
    "Batching",
    "ChatCompletion",
    "Completion",
    "Cost",
    "CreateEmbeddingResponse",
    "ImagesResponse",
    "ModerationCreateResponse",
    "ParsedChatCompletion",
    "ParsedResponse",
    "Response",
    "Status",
]

Status = Literal["queued", "in_progress", "completed", "failed", "cancelled"]


class Cost(BaseModel):
    """The receipt of an answer."""

    currency: Literal["usd"]
    paid: float
    """By batch, which is half of the ordinary price or about that."""

    realtime: float
    """What the same answer costs in real time."""

    saved: float
    incomplete: bool = False
    """Whether something is charged besides, whose price is not known."""


class Batching(BaseModel):
    """Where a request is on its way through OpenAI's Batch API. Times are in Unix seconds."""

    id: str
    """The request's id at the batch server, the same for the same call."""

    status: Status
    """`in_progress` from the moment the request is claimed for a batch."""

    batch_id: str | None = None
    """OpenAI's id of the batch that carries the request, once there is one."""

    attempts: int
    """How often the request was sent to OpenAI."""

    created_at: int
    completed_at: int | None = None
    estimated_completion_at: int | None = None

    cost: Cost | None = None
    """Of a finished request, where the model's price is known."""


class Batched(BaseModel):
    """What every result has besides its official members."""

    has_completed: bool
    """Whether this is the answer; if not, the object is valid but has nothing in it yet."""

    batching: Batching


class Response(_Response, Batched):
    """The answer to `responses.create(input=...)`."""


class ChatCompletion(_ChatCompletion, Batched):
    """The answer to `chat.completions.create(...)` and `responses.create(messages=...)`."""


class Completion(_Completion, Batched):
    """The answer to `completions.create(...)`."""


class CreateEmbeddingResponse(_CreateEmbeddingResponse, Batched):
    """The answer to `embeddings.create(...)`."""


class ModerationCreateResponse(_ModerationCreateResponse, Batched):
    """The answer to `moderations.create(...)`."""


class ImagesResponse(_ImagesResponse, Batched):
    """The answer to `images.generate(...)` and `images.edit(...)`."""


# The type variables are the official ones: with others, pydantic would make new types of the
# members, which the parsed members are not instances of, and warn at every `to_dict()`.
class ParsedResponse(_ParsedResponse[_Format], Batched, Generic[_Format]):
    """The answer to `responses.parse(...)`; `output_parsed` is None until it has completed."""


class ParsedChatCompletion(_ParsedChatCompletion[_ChatFormat], Batched, Generic[_ChatFormat]):
    """The answer to `chat.completions.parse(...)`; without `choices` until it has completed."""


class BatchRequest(BaseModel):
    """A request as the batch server keeps it: what `responses.cancel(...)` returns."""

    id: str
    object: Literal["request"]
    status: Status
    endpoint: str
    model: str | None
    """None where the call leaves the choice to OpenAI."""
    batch_id: str | None = None
    attempts: int
    created_at: int
    completed_at: int | None = None
    response: dict[str, Any] | None = None
    error: dict[str, Any] | None = None

    @property
    def has_completed(self) -> bool:
        """Whether nothing more will happen to it: completed, failed or cancelled."""
        return self.status not in ("queued", "in_progress")
