"""OpenAI's half-price Batch API behind the ordinary call.

    from openaibatching import OpenAIBatching

    client = OpenAIBatching(batch_server_url="http://localhost:9487", batch_server_api_key="...")
    completion = client.responses.create(model="gpt-4o", messages=[...])
    if completion.has_completed:
        print(completion.choices[0].message.content)

The types of the results are in `openaibatching.types`. Nothing of the server is imported here.
"""

from importlib.metadata import version as _version

from openaibatching.client.asynchronous import AsyncOpenAIBatching
from openaibatching.client.sync import OpenAIBatching
from openaibatching.types import (
    Batched,
    Batching,
    BatchRequest,
    ChatCompletion,
    Completion,
    Cost,
    CreateEmbeddingResponse,
    ImagesResponse,
    ModerationCreateResponse,
    ParsedChatCompletion,
    ParsedResponse,
    Response,
)

__all__ = [
    "AsyncOpenAIBatching",
    "BatchRequest",
    "Batched",
    "Batching",
    "ChatCompletion",
    "Completion",
    "Cost",
    "CreateEmbeddingResponse",
    "ImagesResponse",
    "ModerationCreateResponse",
    "OpenAIBatching",
    "ParsedChatCompletion",
    "ParsedResponse",
    "Response",
    "__version__",
]

__version__ = _version("openaibatching")
