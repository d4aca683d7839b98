"""The parts that the OpenAPI document is put together from: schemas, headers, parameters."""

from typing import Any, Final, TypeAlias

from openaibatching.server.domain.endpoints import ENDPOINTS

Schema: TypeAlias = dict[str, Any]

STATUSES: Final = ("queued", "in_progress", "completed", "failed", "cancelled")


def ref(kind: str, name: str) -> Schema:
    """A reference to one of the parts."""
    return {"$ref": f"#/components/{kind}/{name}"}


NO_MODEL = "Null where the call leaves the choice to OpenAI."


def or_null(kind: str, **more: Any) -> Schema:
    """Of this kind, or null."""
    return {"type": [kind, "null"], **more}


def object_(members: dict[str, Schema], description: str, **more: Any) -> Schema:
    """An object that has all of these members."""
    return {
        "type": "object",
        "description": description,
        "required": list(members),
        "properties": members,
        **more,
    }


def schemas() -> dict[str, Schema]:
    """What bodies look like."""
    time: Schema = {"type": "integer"}
    count: Schema = {"type": "integer", "minimum": 0}
    text: Schema = {"type": "string"}
    status: Schema = {"type": "string", "enum": list(STATUSES)}
    ours: Schema = {"type": "string", "pattern": "^batchreq_[0-9a-f]{32}$"}
    added: dict[str, Schema] = {
        "has_completed": {"type": "boolean"},
        "batching": ref("schemas", "Batching"),
    }
    error: dict[str, Schema] = {
        "message": text,
        "type": text,
        "param": or_null("string"),
        "code": or_null("string"),
    }
    progress: dict[str, Schema] = {
        "batch_id": or_null("string", description="OpenAI's id of the batch."),
        "attempts": count,
        "created_at": time,
        "completed_at": or_null("integer"),
    }
    identity: dict[str, Schema] = {
        "object": {"const": "request"},
        "id": ours,
        "status": status,
        "endpoint": {"type": "string", "enum": list(ENDPOINTS)},
        "model": or_null("string", description=NO_MODEL),
        **progress,
    }
    result = object_({"status_code": {"type": "integer"}, "body": {}}, "The answer.")
    outcome: dict[str, Schema] = {
        "response": {"anyOf": [result, {"type": "null"}]},
        "error": or_null("object"),
    }
    # Without bodies in a list: the same object less its outcome.
    listed = object_(identity, "A request, without its answer.")
    page: dict[str, Schema] = {
        "object": {"const": "list"},
        "data": {"type": "array", "items": listed},
        "first_id": or_null("string"),
        "last_id": or_null("string"),
        "has_more": {"type": "boolean"},
    }
    batching: dict[str, Schema] = {"id": ours, "status": status, **progress}
    batching["estimated_completion_at"] = or_null("integer")
    deleted: dict[str, Schema] = {"id": ours, "object": {"const": "request"}}
    deleted["deleted"] = {"const": True}
    return {
        **_own_bodies(),
        "Answer": object_(
            added,
            "OpenAI's own object of the endpoint, with two more members.",
            additionalProperties=True,
        ),
        "Batching": _batching(batching),
        "Cost": _cost(),
        "Error": object_({"error": object_(error, "What is wrong.")}, "A refusal."),
        "Failure": object_(
            {"error": {"type": "object"}, **added}, "OpenAI's own error, with two more members."
        ),
        "Request": object_(identity | outcome, "A request, with its answer."),
        "RequestList": object_(page, "A page of requests."),
        "Deleted": object_(deleted, "A request that is forgotten."),
        **_bulk_lines(ours),
    }


def _batching(members: dict[str, Schema]) -> Schema:
    batching = object_(members, "Where the request is on its way. Times in Unix seconds.")
    batching["properties"] = {
        **members,
        "cost": {
            "anyOf": [ref("schemas", "Cost"), {"type": "null"}],
            "description": "Of a finished request; null where its price is not known.",
        },
    }
    return batching


def _cost() -> Schema:
    usd: Schema = {"type": "number"}
    money: dict[str, Schema] = {"paid": usd, "realtime": usd, "saved": usd}
    incomplete: Schema = {
        "type": "boolean",
        "description": "Whether something is charged whose price is not known, and not in here.",
    }
    members = {"currency": {"const": "usd"}, **money, "incomplete": incomplete}
    return object_(members, "What an answer cost, in USD.")


def _own_bodies() -> dict[str, Schema]:
    """OpenAI's own request bodies, by whether the model may be left out."""
    model: Schema = {"type": "string", "minLength": 1, "maxLength": 255, "pattern": "^[^\\u0000]*$"}
    off: Schema = {"enum": [False, None], "description": "A batch cannot do it."}

    def body(description: str, *required: str, **more: Any) -> Schema:
        members = {"model": model, "stream": off, "background": off}
        whole = object_(members, description, additionalProperties=True, **more)
        return {**whole, "required": list(required)}

    prompted = body(
        "With a stored prompt, which names a model of its own.",
        "prompt",
        **{"not": {"required": ["messages"]}},
    )
    prompted["properties"]["prompt"] = {"type": "object"}
    return {
        "OpenAIBody": body("OpenAI's own request body.", "model"),
        "ModerationBody": body("OpenAI's own request body; it has a default model."),
        "ResponseBody": {"anyOf": [ref("schemas", "OpenAIBody"), prompted]},
    }


def _bulk_lines(ours: Schema) -> dict[str, Schema]:
    """The lines of the bulk door."""
    text: Schema = {"type": "string"}
    input_line: dict[str, Schema] = {
        "custom_id": text,
        "method": {"const": "POST"},
        "url": {"type": "string", "enum": list(ENDPOINTS)},
        "body": {"anyOf": [ref("schemas", name) for name in ("ResponseBody", "ModerationBody")]},
    }
    key: Schema = {"type": ["string", "null"], "minLength": 1, "maxLength": 255}
    response: dict[str, Schema] = {
        "status_code": {"type": "integer", "minimum": 100, "maximum": 599},
        "request_id": text,
        "body": {"type": "object"},
    }
    output_line: dict[str, Schema] = {
        "id": {"anyOf": [ours, {"type": "null"}]},
        "custom_id": or_null("string"),
        "response": object_(response, "What the single call would have been answered."),
        "error": {"type": "null"},
    }
    line_in = object_(
        input_line,
        "`custom_id` is only echoed: two lines with the same body are the same request, unless "
        "`idempotency_key`, which does what the header does, names them.",
        additionalProperties=True,
    )
    line_in["properties"] |= {"idempotency_key": key}
    return {
        "InputLine": line_in,
        "OutputLine": object_(
            output_line, "Of a bad line `id` is null, and `response` says what is wrong."
        ),
    }


def headers() -> dict[str, Schema]:
    """The headers of replies."""
    text = {"type": "string"}
    seconds = {"type": "integer", "minimum": 1, "maximum": 60}
    return {
        "X-Batching-Id": {"description": "The request's id.", "schema": text},
        "X-Batching-Status": {
            "description": "The request's status.",
            "schema": {"type": "string", "enum": list(STATUSES)},
        },
        "Retry-After": {
            "description": "Whole seconds until it is worth asking.",
            "schema": seconds,
        },
        "Preference-Applied": {
            "description": "What was understood of `Prefer`: `wait`, or `wait, order=finished`.",
            "schema": text,
        },
        "x-should-retry": {
            "description": "`false`: sending the call again at once does not help.",
            "schema": {"const": "false"},
        },
    }


def parameter(name: str, where: str, description: str, **schema: Any) -> Schema:
    """A parameter of the path, the query or the headers; a text, unless `schema` says more."""
    return {
        "name": name,
        "in": where,
        "required": where == "path",
        "description": description,
        "schema": {"type": "string", **schema},
    }


def parameters() -> dict[str, Schema]:
    """What can be said beside the body."""
    return {
        "id": parameter(
            "id", "path", "Our id (`batchreq_...`), or OpenAI's once known.", minLength=1
        ),
        "model_id": parameter("id", "path", "A model's name, which may have slashes.", minLength=1),
        "Prefer": parameter(
            "Prefer",
            "header",
            "`wait=N` holds the reply until the request finishes or N seconds (at most "
            "`WAIT_S_MAX`) have passed; `order=finished` is for many requests at once. Anything "
            "else is ignored.",
        ),
        "Idempotency-Key": parameter(
            "Idempotency-Key",
            "header",
            "Names the request instead of its body, within tenant and endpoint.",
            minLength=1,
            maxLength=255,
        ),
        "X-Batching-Body": parameter(
            "X-Batching-Body",
            "header",
            "`first`: of several bodies under one Idempotency-Key the first counts, and the others "
            "are no mistake.",
            enum=["first"],
        ),
        "idempotency_key": parameter(
            "idempotency_key",
            "query",
            "Only those that this key names; empty, like leaving it out.",
            maxLength=255,
        ),
        "status": parameter(
            "status", "query", "Only these; empty, like leaving it out.", enum=[*STATUSES, ""]
        ),
        "limit": {
            **parameter("limit", "query", "How many; empty, like leaving it out."),
            "schema": {
                "anyOf": [{"type": "integer", "minimum": 1, "maximum": 100}, {"const": ""}],
                "default": 20,
            },
        },
        "after": parameter("after", "query", "The id after which the page begins."),
    }
