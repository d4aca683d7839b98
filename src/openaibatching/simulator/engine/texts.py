"""The words in a body: what was said last, and how many tokens it all is."""

from typing import Any

_TEXT_PARTS = ("text", "input_text", "output_text")


def tokens(text: str) -> int:
    """About four characters a token, as OpenAI's own rule of thumb has it."""
    return (len(text) + 3) // 4


def content_text(content: Any) -> str:
    """The text of a message's content: a string, or a list of typed parts."""
    if isinstance(content, str):
        return content
    if not isinstance(content, list):
        return ""
    return "".join(
        str(part.get("text", ""))
        for part in content
        if isinstance(part, dict) and part.get("type") in _TEXT_PARTS
    )


def last_user_text(messages: Any) -> str:
    """The text of the last message whose role is `user`; of the last of any when none is."""
    if isinstance(messages, str):
        return messages
    said = [item for item in messages or () if isinstance(item, dict) and "role" in item]
    asked = [item for item in said if item["role"] == "user"] or said
    return content_text(asked[-1].get("content")) if asked else ""


def said(endpoint: str, body: dict[str, Any]) -> str:
    """What an answer echoes."""
    if endpoint == "/v1/chat/completions":
        return last_user_text(body.get("messages"))
    if endpoint == "/v1/responses":
        return last_user_text(body.get("input"))
    prompt = body.get("prompt", "")
    return prompt if isinstance(prompt, str) else " ".join(map(str, prompt))


def inputs(value: Any) -> list[Any]:
    """The single inputs of an embeddings or moderations body.

    A list of integers is one input of tokens (API reference of POST /embeddings).
    """
    if not isinstance(value, list):
        return [value]
    if value and all(isinstance(item, int) for item in value):
        return [value]
    return value


def input_tokens(endpoint: str, body: dict[str, Any]) -> int:
    """Tokens that a body puts in, as they count for limits and price."""
    if endpoint in ("/v1/embeddings", "/v1/moderations"):
        return sum(
            len(item) if isinstance(item, list) else _count(item)
            for item in inputs(body.get("input", ""))
        )
    return sum(_count(body[name]) for name in _SAYING if name in body)


_SAYING = ("messages", "input", "instructions", "prompt", "tools")


# About an image of 1024 x 1024, a document of two pages, half a minute of speech. What they
# cost depends on pixels, pages and seconds, never on the length of their base64.
_MEDIA = {
    "image_url": 765,
    "input_image": 765,
    "file": 2000,
    "input_file": 2000,
    "input_audio": 300,
}


def _count(value: Any) -> int:
    if isinstance(value, str):
        return (len(value) + 3) // 4
    if isinstance(value, list):
        return sum(map(_count, value))
    if isinstance(value, dict):
        if value.get("type") in _MEDIA:
            return _MEDIA[value["type"]]
        return sum(_count(item) for name, item in value.items() if name not in ("role", "type"))
    return 0
