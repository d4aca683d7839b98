"""Lines whose model did not finish: what stands in the answer, and not in its HTTP status."""

from typing import Any

from openaibatching.simulator.engine.errors import ApiError
from openaibatching.simulator.engine.ledger import Usage
from openaibatching.simulator.engine.responses import message
from openaibatching.simulator.faults.markers import Marker

UNFINISHED = frozenset({"failed", "incomplete", "two_messages"})

# The codes of a Response's `error` that a second try can mend, and their messages.
_FAILED = {
    "server_error": "An error occurred while processing your request. You can retry your request.",
    "rate_limit_exceeded": "Rate limit reached for requests.",
    "invalid_prompt": "Invalid prompt: your prompt was flagged as potentially violating our usage "
    "policy. Please try again with a different prompt.",
}


def unfinished(document: dict[str, Any], usage: Usage, marker: Marker) -> Usage | None:
    """Make a Response `failed` (the marker's value is its code) or `incomplete` (its reason).

    `two_messages` begins it with a message that came to nothing (opentargets/mira issue 70).
    Gives what is paid for it: nothing for a failed one. Answers of other endpoints have no
    status and stay as they are.
    """
    if document.get("object") != "response":
        return usage
    if marker.name == "two_messages":
        document["output"].insert(-1, message(""))
        return usage
    if marker.name == "incomplete":
        reason = marker.value or "max_output_tokens"
        document |= {"status": "incomplete", "incomplete_details": {"reason": reason}}
        document["completed_at"] = None
        for item in document["output"]:
            if "status" in item:
                item["status"] = "incomplete"
        return usage
    code = marker.value or "server_error"
    failure = {"code": code, "message": _FAILED.get(code, f"The request failed: {code}.")}
    document |= {"status": "failed", "error": failure, "completed_at": None}
    document |= {"output": [], "usage": None}
    return None


def image_timeout(code: str) -> ApiError:
    """400: OpenAI could not fetch an image or file in time.

    Two forms are recorded: code `invalid_value` with param `url`
    (github.com/vercel/ai/issues/8857), and `invalid_image_url` without a param
    (github.com/riverscuomo/cuomputer/issues/95).
    """
    code = code or "invalid_image_url"
    message = "Timeout while downloading https://example.com/picture.png."
    return ApiError(400, message, "url" if code == "invalid_value" else None, code)
