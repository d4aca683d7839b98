"""The asynchronous validation of a batch's input file, line by line.

Codes, parameters and messages are llama-stack's record of OpenAI's real replies
(github.com/llamastack/llama-stack, tests/integration/batches/test_batches_errors.py). Those of
`duplicate_custom_id` and `mismatched_model` are not recorded from OpenAI: their texts are
DashScope's, whose other texts are OpenAI's word for word.
"""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from openaibatching.simulator.engine import defaults, texts
from openaibatching.simulator.engine.canonical import canonical, parse
from openaibatching.simulator.engine.content import Content
from openaibatching.simulator.engine.limits import Limits
from openaibatching.simulator.faults.markers import AT_VALIDATION, Markers

_NEEDED = {
    "/v1/chat/completions": "messages",
    "/v1/responses": "input",
    "/v1/completions": "prompt",
    "/v1/embeddings": "input",
    "/v1/moderations": "input",
    "/v1/images/generations": "prompt",
    "/v1/images/edits": "prompt",
    "/v1/videos": "prompt",
}
_UNPARSEABLE = "This line is not parseable as valid JSON."
_TITLES = {
    "/v1/chat/completions": "Chat Completions",
    "/v1/responses": "Responses",
    "/v1/completions": "Completions",
    "/v1/embeddings": "Embeddings",
    "/v1/moderations": "Moderations",
}


def problem(
    code: str, message: str, param: str | None = None, line: int | None = None
) -> dict[str, Any]:
    """One entry of a failed batch's `errors.data`."""
    return {"code": code, "message": message, "param": param, "line": line}


@dataclass
class Verdict:
    """What validation found out."""

    problems: list[dict[str, Any]] = field(default_factory=list)
    model: str | None = None
    total: int = 0
    tokens: int = 0


class Validator:
    """Validates one file for one endpoint."""

    def __init__(
        self,
        endpoint: str,
        limits: Limits,
        supported: Callable[[str], bool],
        markers: Markers,
    ) -> None:
        self._endpoint = endpoint
        self._limits = limits
        self._supported = supported
        self._markers = markers
        self._ids: set[str] = set()
        self._inputs = 0
        self._poison = ""
        self.verdict = Verdict()

    def run(self, content: Content) -> Verdict:
        """Read it all; several bad lines are all reported."""
        verdict = self.verdict
        with content.open() as reader:
            # Splits on 0x0A only, as JSON lines do: U+2028 may stand inside a string.
            for number, line in enumerate(reader, 1):
                if not line.strip() and reader.tell() == content.size:
                    break  # an empty last line is no line
                verdict.total = number
                found = self._line(number, line)
                if found is not None:
                    verdict.problems.append(found)
                if content.size > self._limits.batch_file_bytes:
                    break  # the first line gives the model that the refusal names
        whole = self._whole(content)
        if whole is not None:
            verdict.problems = [whole]
        return verdict

    def _whole(self, content: Content) -> dict[str, Any] | None:
        """Refusals that name no line."""
        limits = self._limits
        if content.size > limits.batch_file_bytes:
            message = (
                f"The batch input file is larger than the {limits.batch_file_bytes} maximum "
                f"for the {self.verdict.model} model"
            )
            return problem("file_too_large", message)
        if self.verdict.total > limits.lines:
            message = (
                f"The batch input file contains {self.verdict.total} requests. "
                f"The maximum is {limits.lines} requests per batch."
            )
            return problem("too_many_tasks", message)
        if self._inputs > limits.embedding_inputs:
            message = (
                f"The batch contains {self._inputs} embedding inputs. "
                f"The maximum is {limits.embedding_inputs} across all requests in the batch."
            )
            return problem("too_many_tasks", message)
        if self._poison:
            return problem(self._poison, "The batch could not be processed.")
        return None

    def _line(self, number: int, line: bytes) -> dict[str, Any] | None:
        try:
            request = parse(line)
        except ValueError:
            request = None
        if not isinstance(request, dict):
            return problem("invalid_json_line", _UNPARSEABLE, None, number)
        try:
            found = self._envelope(request) or self._body(request["body"], line)
        except RecursionError:
            return problem("invalid_json_line", _UNPARSEABLE, None, number)
        return None if found is None else {**found, "line": number}

    def _envelope(self, request: dict[str, Any]) -> dict[str, Any] | None:
        for name in ("custom_id", "method", "url", "body"):
            if request.get(name) is None:
                message = f"Missing required parameter: '{name}'."
                return problem("missing_required_parameter", message, name)
        id_ = request["custom_id"]
        if not isinstance(id_, str):
            return problem("invalid_type", "Invalid type for 'custom_id'.", "custom_id")
        if id_ in self._ids:
            message = (
                f"The custom_id '{id_}' for this request is a duplicate of another request. "
                "The custom_id parameter must be unique for each request in a batch."
            )
            return problem("duplicate_custom_id", message, "custom_id")
        self._ids.add(id_)
        if request["method"] != "POST":
            message = f"Invalid value: '{request['method']}'. Supported value is: 'POST'."
            return problem("invalid_value", message, "method")
        if request["url"] != self._endpoint:
            message = "The URL provided for this request does not match the batch endpoint."
            return problem("invalid_url", message, "url")
        if not isinstance(request["body"], dict):
            return problem("invalid_type", "Invalid type for 'body'.", "body")
        return None

    def _body(self, body: dict[str, Any], line: bytes) -> dict[str, Any] | None:
        found = self._model(defaults.named(self._endpoint, body).get("model"))
        if found is not None:
            return found
        needed = _NEEDED[self._endpoint]
        # A stored prompt template may stand for the input (POST /responses, `prompt`).
        if body.get(needed) is None and not (needed == "input" and body.get("prompt")):
            message = f"Missing required parameter: '{needed}'."
            return problem("missing_required_parameter", message, f"body.{needed}")
        if body.get("stream"):
            title = _TITLES.get(self._endpoint, "Images")
            message = f"{title}: Streaming is not supported in the Batch API."
            return problem("streaming_unsupported", message, "body.stream")
        if self._endpoint == "/v1/embeddings":
            self._inputs += len(texts.inputs(body["input"]))
        self.verdict.tokens += texts.input_tokens(self._endpoint, body)
        return self._marked(body, line)

    def _model(self, model: Any) -> dict[str, Any] | None:
        if not model or not isinstance(model, str):
            return problem("invalid_request", "Model parameter is required.", "body.model")
        if not self._supported(model):
            message = f"The provided model '{model}' is not supported by the Batch API."
            return problem("model_not_found", message, "body.model")
        if self.verdict.model is None:
            self.verdict.model = model
        if model != self.verdict.model:
            message = (
                f"The model '{model}' for this request does not match the rest of the batch. "
                "Each batch must contain requests for a single model."
            )
            return problem("mismatched_model", message, "body.model")
        return None

    def _marked(self, body: dict[str, Any], line: bytes) -> dict[str, Any] | None:
        if b"[[simulate:" not in line:
            return None
        sha = hashlib.sha256(canonical(body)).hexdigest()
        marker = self._markers.take(line, sha, AT_VALIDATION)
        if marker is None:
            return None
        if marker.name == "unparseable":
            return problem("invalid_json_line", _UNPARSEABLE)
        code = marker.value or "invalid_request"
        if marker.name == "poison":
            self._poison = code
            return None
        return problem(code, f"This request is refused with {code}.", "body")
