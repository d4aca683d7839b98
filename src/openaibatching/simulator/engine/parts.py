"""What answers of several endpoints have in common: their text and their tokens."""

import json
from typing import Any

from openaibatching.simulator.engine import texts
from openaibatching.simulator.engine.ledger import Usage
from openaibatching.simulator.engine.schema import fitting

_REASONING = ("o1", "o3", "o4", "gpt-5", "gpt-6")
# Cache writes are counted from GPT-5.6 on (prompt caching guide).
_WRITING = ("gpt-5.6", "gpt-6")


def reasons(body: dict[str, Any]) -> bool:
    """Whether the body's model is a reasoning model."""
    return str(body.get("model", "")).startswith(_REASONING)


def usage_of(endpoint: str, body: dict[str, Any], text: str) -> Usage:
    """Tokens of a body and its answer."""
    given = max(1, texts.input_tokens(endpoint, body))
    # Caching begins at 1,024 tokens and goes in steps of 128 (prompt caching guide).
    cached = given // 128 * 128 // 2 if given >= 1024 else 0
    thought = 64 if reasons(body) else 0
    writes = given >= 1024 and str(body.get("model", "")).startswith(_WRITING)
    written = given // 128 * 128 - cached if writes else 0
    counted = texts.tokens(text) + thought
    return Usage(given, cached, counted, thought, written)


def text_of(echo: str, wanted: Any) -> str:
    """The echo, or JSON that fits the wanted format."""
    text = f"You said: {echo}"
    kind = wanted.get("type") if isinstance(wanted, dict) else None
    if kind == "json_schema":
        schema = wanted.get("schema") or wanted.get("json_schema", {}).get("schema")
        return json.dumps(fitting(schema, text), ensure_ascii=False)
    if kind == "json_object":
        return json.dumps({"said": text}, ensure_ascii=False)
    return text
