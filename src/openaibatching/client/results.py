"""An answer becomes one of our types: the shared half of both clients, without I/O."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import openai.types as official
import openai.types.chat as official_chat
import openai.types.responses as official_responses
from openai import BaseModel, NotGiven

from openaibatching import types as ours
from openaibatching.client.image_edits import as_json

_OURS: Mapping[Any, type[BaseModel]] = {
    official_responses.Response: ours.Response,
    official_chat.ChatCompletion: ours.ChatCompletion,
    official.Completion: ours.Completion,
    official.CreateEmbeddingResponse: ours.CreateEmbeddingResponse,
    official.ModerationCreateResponse: ours.ModerationCreateResponse,
    official.ImagesResponse: ours.ImagesResponse,
}
_BY_OBJECT: Mapping[object, type[BaseModel]] = {
    "response": ours.Response,
    "chat.completion": ours.ChatCompletion,
    "text_completion": ours.Completion,
    "list": ours.CreateEmbeddingResponse,
    "request": ours.BatchRequest,
}


def adapted(cast_to: Any, data: Any) -> tuple[Any, Any]:
    """The type that `data` shall become, and the data for it, where `cast_to` was asked for.

    The object itself has the last word: `responses.retrieve` of a `messages` call answers in the
    chat shape, and `responses.cancel` with the request.
    """
    if cast_to not in _OURS or not isinstance(data, dict):
        return cast_to, data
    found = _BY_OBJECT.get(data.get("object"), _OURS[cast_to])
    if issubclass(found, ours.Batched) and "has_completed" not in data:
        data = data | _unbatched(data)
    return found, data


def _unbatched(data: Mapping[str, Any]) -> dict[str, Any]:
    """`has_completed` and `batching` for an answer of a server that is not a batch server.

    Such an answer is complete, unless it is a background Response that says otherwise.
    """
    said = data.get("status")
    status = said if said in ("queued", "in_progress", "failed", "cancelled") else "completed"
    return {
        "has_completed": status not in ("queued", "in_progress"),
        "batching": {
            "id": data.get("id") or "",
            "status": status,
            "batch_id": None,
            "attempts": 0,
            "created_at": int(data.get("created_at") or data.get("created") or 0),
            "completed_at": None,
            "estimated_completion_at": None,
            "cost": None,
        },
    }


def prepared(options: Any) -> Any:
    """A copy of the official request `options` whose answer will be one of our types."""
    prepared = options.model_copy()
    as_json(prepared)
    if not isinstance(prepared.post_parser, NotGiven):
        prepared.post_parser = partial(_parsed, prepared.post_parser)
    return prepared


def to_responses(post: Callable[..., Any], path: str, **options: Any) -> Any:
    """`post(path, ...)`, but to `/responses`."""
    return post("/responses", **options)


def _parsed(official_parser: Callable[[Any], Any], value: Any) -> Any:
    if isinstance(value, ours.CreateEmbeddingResponse) and not value.has_completed:
        return value  # The official parser takes an empty list for a broken answer.
    return _retyped(official_parser(value))


def _retyped(value: Any) -> Any:
    if isinstance(value, official_responses.ParsedResponse):
        return _rebuilt(value, ours.ParsedResponse)
    if isinstance(value, official_chat.ParsedChatCompletion):
        return _rebuilt(value, ours.ParsedChatCompletion)
    return value


def _rebuilt(value: BaseModel, into: type[BaseModel]) -> BaseModel:
    # Members that were not in the answer stay unset, so that `to_dict()` is the same as before.
    present = value.model_fields_set | set(value.model_extra or ())
    return into.construct(**{name: member for name, member in value if name in present})
