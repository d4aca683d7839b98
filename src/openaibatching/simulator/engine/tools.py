"""The function that a body insists on, and the call of it that an answer then is."""

import json
from dataclasses import dataclass
from typing import Any

from openaibatching.simulator.engine.schema import fitting


@dataclass(frozen=True)
class Wanted:
    """A function that has to be called, with arguments that fit its parameters."""

    name: str
    arguments: str
    finish_reason: str
    """That of a chat choice: `stop` if `tool_choice` names the function, else `tool_calls`."""


def wanted(body: dict[str, Any], echo: str) -> Wanted | None:
    """The call that `tool_choice` demands; None where the answer may as well be a text.

    Both endpoints' forms: in a chat completion a function's members are one level further down.
    """
    choice = body.get("tool_choice")
    if choice == "required":
        named = None
    elif isinstance(choice, dict) and choice.get("type") == "function":
        named = _function(choice).get("name")
    else:
        return None
    tools = body.get("tools")
    for tool in tools if isinstance(tools, list) else ():
        if isinstance(tool, dict) and tool.get("type") == "function":
            function = _function(tool)
            if named in (None, function.get("name")):
                given = fitting(function.get("parameters") or {"type": "object"}, echo)
                arguments = json.dumps(given, ensure_ascii=False)
                finish_reason = "tool_calls" if named is None else "stop"
                return Wanted(str(function.get("name")), arguments, finish_reason)
    return None


def _function(value: dict[str, Any]) -> dict[str, Any]:
    inner = value.get("function", value)
    return inner if isinstance(inner, dict) else {}
