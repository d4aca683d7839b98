"""How many input tokens a call has, before OpenAI has counted them. Pure.

Text counts by its bytes. Images, files and audio count by what the model charges for them, because
their base64 has 100 to 600 times as many bytes; token ids count one each. `token_rate` in
schema.sql holds how far the estimates of a route are off, so they only have to be about right.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterator
from typing import Any

from openaibatching.server.domain.endpoints import EDITS, EMBEDDINGS
from openaibatching.server.requests import image_tokens

BYTES_PER_TOKEN = 4
"""Of English text (https://platform.openai.com/tokenizer)."""
AUDIO_TOKENS_PER_S = 10
"""https://developers.openai.com/api/docs/guides/realtime-costs: one for 100 ms of input."""
AUDIO_BYTES_PER_S = 16_000
"""Of compressed audio at 128 kbit/s."""
DOCUMENT_BYTES_PER_TOKEN = 40
"""A page has about 50 kB and, as text and as a picture, about 1,250 tokens. A guess."""
DOCUMENT_TOKENS_MAX = 150_000
"""100 pages, the most that OpenAI reads of a PDF (.../docs/guides/pdf-files)."""
FILE_ELSEWHERE_TOKENS = 5_000
"""Of a file that is given by id or address: its size is unknown here."""

_HEAD_CHARACTERS = 4 * 16_384
"""Of base64: enough for the size of nearly any image, whatever metadata comes first."""
_PLACES = ("messages", "input", "prompt")
_TEXT_PLACES = (*_PLACES, "instructions")
_TEXT_PARTS = ("text", "input_text", "output_text")


def estimate(endpoint: str, value: dict[str, Any], body_bytes: int) -> int:
    """About how many input tokens OpenAI counts for `value`, whose JSON has `body_bytes` bytes."""
    ids = _token_ids(value.get("input")) or _token_ids(value.get("prompt"))
    if ids:
        return ids + 1
    inline, charged = 0, 0
    for characters, tokens in _media(endpoint, value):
        inline += characters
        charged += tokens
    return max(0, body_bytes - inline) // BYTES_PER_TOKEN + charged + 1


def at_least(value: dict[str, Any]) -> int:
    """So many input tokens a call has for certain: its token ids, or the words of its texts.

    No token of OpenAI's tokenizers spans white space between words
    (https://github.com/openai/tiktoken, `pat_str` in tiktoken_ext/openai_public.py).
    """
    ids = _token_ids(value.get("input")) or _token_ids(value.get("prompt"))
    return ids or sum(len(text.split()) for text in _texts(value))


def has_media(endpoint: str, value: dict[str, Any]) -> bool:
    """Whether there is anything in the call whose tokens cannot be estimated by its bytes."""
    return next(_media(endpoint, value), None) is not None


def _token_ids(inputs: Any) -> int:
    """How many token ids `inputs` is, as one list or as many; 0 for texts."""
    if not isinstance(inputs, list) or not inputs or isinstance(inputs[0], str | dict):
        return 0
    if isinstance(inputs[0], list):
        return sum(len(item) for item in inputs if isinstance(item, list))
    return len(inputs)


def _nodes(roots: list[Any]) -> Iterator[dict[str, Any]]:
    """The objects below `roots`, in no order."""
    stack = [root for root in roots if isinstance(root, dict | list)]
    while stack:
        node = stack.pop()
        if isinstance(node, dict):
            yield node
        items = node.values() if isinstance(node, dict) else node
        stack.extend([item for item in items if isinstance(item, dict | list)])


def _texts(value: dict[str, Any]) -> Iterator[str]:
    roots = [value.get(name) for name in _TEXT_PLACES]
    for root in roots:
        yield from _text_items(root)
    for node in _nodes(roots):
        yield from _text_items(node.get("content"))
        if node.get("type") in _TEXT_PARTS:
            yield from _text_items(node.get("text"))


def _text_items(value: Any) -> list[str]:
    if isinstance(value, str):
        return [value]
    return [item for item in value if isinstance(item, str)] if isinstance(value, list) else []


def _media(endpoint: str, value: dict[str, Any]) -> Iterator[tuple[int, int]]:
    """(characters that are no text, tokens in their place) of each image, file and recording."""
    model = value.get("model")
    name = model if isinstance(model, str) else ""
    if endpoint == EMBEDDINGS:
        return
    if endpoint == EDITS:
        faithful = value.get("input_fidelity") == "high"
        for picture in _pictures(value):
            head = _head(picture)
            yield len(picture) if head else 0, image_tokens.edited(name, head, faithful=faithful)
        return
    for node in _nodes([value.get(place) for place in _PLACES]):
        kind = node.get("type")
        if kind in ("image_url", "input_image", "computer_screenshot"):
            yield _image(name, node)
        elif kind == "image_generation_call" and isinstance(node.get("result"), str):
            head = _head(node["result"], bare=True)
            yield len(node["result"]), image_tokens.seen(name, head, None)
        elif kind in ("file", "input_file"):
            yield _file(node["file"] if isinstance(node.get("file"), dict) else node)
        elif kind == "input_audio" and isinstance(node.get("input_audio"), dict):
            yield _audio(node["input_audio"].get("data"))


def _image(model: str, node: dict[str, Any]) -> tuple[int, int]:
    given, detail = node.get("image_url"), node.get("detail")
    url: Any = given
    if isinstance(given, dict):
        url, detail = given.get("url"), given.get("detail", detail)
    head = _head(url)
    return len(url) if head else 0, image_tokens.seen(model, head, detail)


def _pictures(value: dict[str, Any]) -> Iterator[str]:
    """The address, or what stands for it, of each image that is to be edited."""
    for name in ("images", "image", "mask"):
        given = value.get(name)
        for item in given if isinstance(given, list) else [given]:
            if isinstance(item, dict):
                item = item.get("image_url") or item.get("file_id")
            if isinstance(item, str):
                yield item


def _file(node: dict[str, Any]) -> tuple[int, int]:
    data = node.get("file_data")
    if not isinstance(data, str):
        return 0, FILE_ELSEWHERE_TOKENS
    size = len(data) * 3 // 4
    if data.startswith(("data:text/", "data:application/json")):
        return len(data), size // BYTES_PER_TOKEN
    return len(data), min(DOCUMENT_TOKENS_MAX, 1000 + size // DOCUMENT_BYTES_PER_TOKEN)


def _audio(data: Any) -> tuple[int, int]:
    if not isinstance(data, str):
        return 0, 0
    head = _head(data, bare=True)
    bytes_per_s = AUDIO_BYTES_PER_S
    if head.startswith(b"RIFF") and head[8:16] == b"WAVEfmt ":
        bytes_per_s = int.from_bytes(head[28:32], "little") or AUDIO_BYTES_PER_S
    return len(data), len(data) * 3 // 4 * AUDIO_TOKENS_PER_S // bytes_per_s + 1


def _head(data: Any, *, bare: bool = False) -> bytes:
    """The first bytes behind a data URL, or behind base64 if `bare`; empty if there are none."""
    if not isinstance(data, str):
        return b""
    start = 0
    if data.startswith("data:"):
        start = data.find(",", 0, 256) + 1
        if start == 0:
            return b""
    elif not bare:
        return b""
    text = data[start : start + _HEAD_CHARACTERS]
    try:
        return base64.b64decode(text[: len(text) // 4 * 4])
    except (binascii.Error, ValueError):
        return b"?"  # inline, whatever it is
