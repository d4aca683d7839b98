"""Refusals in the shape OpenAI gives them: `{"error": {"message", "type", "param", "code"}}`."""

from dataclasses import dataclass, field

INVALID = "invalid_request_error"


@dataclass
class ApiError(Exception):
    """A call that is refused; becomes the HTTP reply."""

    status: int
    message: str
    param: str | None = None
    code: str | None = None
    type: str = INVALID
    headers: dict[str, str] = field(default_factory=dict)
    detail: bool = False
    """Files errors carry a second top-level member `detail` (litellm PR 37527)."""

    def body(self) -> dict[str, object]:
        """The JSON document OpenAI would send."""
        document: dict[str, object] = {
            "error": error(self.message, self.type, self.param, self.code)
        }
        if self.detail:
            document["detail"] = {"message": self.message, "code": self.code}
        return document


def error(
    message: str, kind: str = INVALID, param: str | None = None, code: str | None = None
) -> dict[str, object]:
    """The inner error object, as it stands in replies and in the lines of an error file."""
    return {"message": message, "type": kind, "param": param, "code": code}


def missing(param: str) -> ApiError:
    """400: a required parameter is not there (litellm issue 37146)."""
    message = f"Missing required parameter: '{param}'."
    return ApiError(400, message, param, "missing_required_parameter")


def invalid_value(param: str, value: object, supported: tuple[str, ...]) -> ApiError:
    """400: a value outside an enumeration."""
    plural = "values are" if len(supported) > 1 else "value is"
    message = f"Invalid value: '{value}'. Supported {plural}: {_listed(supported)}."
    return ApiError(400, message, param, "invalid_value")


def _listed(names: tuple[str, ...]) -> str:
    quoted = [f"'{name}'" for name in names]
    if len(quoted) < 3:
        return " and ".join(quoted)
    return f"{', '.join(quoted[:-1])}, and {quoted[-1]}"


def invalid_id(param: str, value: str, beginning: str) -> ApiError:
    """400: an id of another kind of object."""
    message = f"Invalid '{param}': '{value}'. Expected an ID that begins with '{beginning}'."
    return ApiError(400, message, param, "invalid_value")


def invalid_type(param: str, expected: str, value: object) -> ApiError:
    """400: a value of another JSON type (llama-stack's record of OpenAI's replies)."""
    message = (
        f"Invalid type for '{param}': expected {expected}, but got {json_type(value)} instead."
    )
    return ApiError(400, message, param, "invalid_type")


def out_of_range(param: str, value: float, low: float, high: float, kind: str) -> ApiError:
    """400: a number beyond its bounds; `kind` is `integer` or `decimal`."""
    if value > high:
        side, sign, bound, code = "above maximum", "<=", high, f"{kind}_above_max_value"
    else:
        side, sign, bound, code = "below minimum", ">=", low, f"{kind}_below_min_value"
    message = (
        f"Invalid '{param}': {kind} {side} value. "
        f"Expected a value {sign} {bound}, but got {value} instead."
    )
    return ApiError(400, message, param, code)


def json_type(value: object) -> str:
    """The name OpenAI gives a JSON type in its messages."""
    names: tuple[tuple[type, str], ...] = (
        (bool, "a boolean"),
        (int, "an integer"),
        (float, "a decimal number"),
        (str, "a string"),
        (list, "an array"),
        (dict, "an object"),
    )
    return next((name for kind, name in names if isinstance(value, kind)), "null")
