"""The model of a call that names none."""

from typing import Any

MODERATION_MODEL = "omni-moderation-latest"
"""What `model` defaults to (https://platform.openai.com/docs/api-reference/moderations/create)."""
PROMPT_MODEL = "gpt-4o"
"""What every stored prompt (POST /responses, `prompt`) names here."""


def named(endpoint: str, body: dict[str, Any]) -> dict[str, Any]:
    """The body with a model in it, as far as it has one or there is a default."""
    if "model" in body:
        return body
    if endpoint == "/v1/moderations":
        return {**body, "model": MODERATION_MODEL}
    if endpoint == "/v1/responses" and isinstance(body.get("prompt"), dict):
        return {**body, "model": PROMPT_MODEL}
    return body
