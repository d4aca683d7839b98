"""Templates and static files, both read once and kept in memory."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from openaibatching.server.dashboard import formatting

STATIC = {"page.css": "text/css; charset=utf-8", "page.js": "text/javascript; charset=utf-8"}


@dataclass(frozen=True, slots=True)
class Static:
    """A file as it is served. `version` is a part of its address, so it may be kept for ever."""

    content: bytes
    media_type: str
    version: str


@cache
def static() -> dict[str, Static]:
    """{name: file} of all that a page fetches besides itself."""
    folder = resources.files("openaibatching.server.dashboard") / "static"
    found = {}
    for name, media_type in STATIC.items():
        content = (folder / name).read_bytes()
        version = hashlib.sha256(content).hexdigest()[:16]
        found[name] = Static(content, media_type, version)
    return found


def page(template: str, **given: Any) -> str:
    """A whole HTML page. Everything in `given` is escaped, whoever wrote it."""
    return _environment().get_template(template).render(**given)


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("openaibatching.server.dashboard"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        auto_reload=False,
    )
    for filter_ in (
        formatting.number,
        formatting.money,
        formatting.duration,
        formatting.plural,
        formatting.size,
        formatting.model,
    ):
        environment.filters[filter_.__name__] = filter_
    environment.globals |= {
        "clock": formatting.clock,
        "exact": formatting.exact,
        "day": formatting.day,
        "files": {name: f"/page/{name}?{file.version}" for name, file in static().items()},
    }
    return environment
