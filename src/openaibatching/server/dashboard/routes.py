"""The page's paths. They are for people: none is a part of the API or of its document."""

from __future__ import annotations

import asyncio
import re
import uuid
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from urllib.parse import quote

from starlette.requests import ClientDisconnect
from starlette.requests import Request as HttpRequest
from starlette.responses import HTMLResponse, RedirectResponse, Response

from openaibatching.server import errors
from openaibatching.server.api import cancellations
from openaibatching.server.api.http import reading
from openaibatching.server.api.state import Door
from openaibatching.server.auth.audit import Actor
from openaibatching.server.auth.holder import Holder, Power
from openaibatching.server.dashboard import auth, render, views
from openaibatching.server.dashboard.formatting import plural
from openaibatching.server.domain.request import parse_request_id, request_id
from openaibatching.server.domain.view import View
from openaibatching.server.telemetry import logs

log = logs.get()

LOOK_S = 4.0
"""Whoever looks hears after so long that the database does not answer."""
HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self' data:; "
        "connect-src 'self'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    # Not `no-referrer`: with it browsers hide where a form came from even from ourselves.
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cache-Control": "no-store",
}
FOR_EVER = {
    "Cache-Control": "public, max-age=31536000, immutable",
    "X-Content-Type-Options": "nosniff",
}
SAID = {
    "cancelled": "Cancelled. It is not sent; “Try again” puts it back in the queue.",
    "queued": "Queued again.",
    "sent": "What is queued is sent now.",
    "none_cancelled": "Nothing was cancelled: no such request is queued any more.",
    "stopping": "Stopping. Answers that OpenAI has are kept; no other request of it is sent again.",
    "batch_ended": "OpenAI has already ended this batch.",
    errors.SharedBatch.code: str(errors.SharedBatch()),
    errors.AlreadySubmitted.code: str(errors.AlreadySubmitted()),
    errors.AlreadyFinished.code: str(errors.AlreadyFinished()),
    errors.NotRetryable.code: str(errors.NotRetryable()),
}
"""What an action has done, by the word that stands in the address that it leads to."""

_CANCELLED = re.compile(r"cancelled_([1-9][0-9]{0,11})")

Handler = Callable[[Door, HttpRequest], Awaitable[Response]]


@dataclass(frozen=True, slots=True)
class Visit:
    """A look at the page by somebody who is signed in."""

    door: Door
    http: HttpRequest
    holder: Holder
    view: View

    @property
    def tenant(self) -> str:
        """Whose work this visitor may change."""
        return self.holder.tenant

    @property
    def actor(self) -> Actor:
        """Who acts, for the audit."""
        return reading.actor(self.http, self.holder)

    def acts(self, tenant: str | None) -> bool:
        """Whether the visitor may change this tenant's work."""
        return self.holder.may(Power.SUBMIT) and tenant == self.tenant

    @property
    def name(self) -> str:
        """The id in the path."""
        return str(self.http.path_params["id"])

    @property
    def said(self) -> str:
        """What the action that led here has done; "" after none."""
        said = self.http.query_params.get("said", "")
        if counted := _CANCELLED.fullmatch(said):
            cancelled = plural(int(counted[1]), "request")
            return f"{cancelled} cancelled. “Try again” puts each of them back in the queue."
        return SAID.get(said, "")

    def show(self, template: str, status: int = 200, /, **given: object) -> Response:
        """A page of what this visitor sees."""
        who = "all tenants" if self.view.all_tenants else self.tenant
        shown = {"tenant": who, "here": "", "acts": self.acts(self.view.tenant)}
        shown["all_tenants"] = self.view.all_tenants
        html = render.page(template, **{**shown, **given})
        return HTMLResponse(html, status, HEADERS)

    def tell(self, status: int, title: str, words: str, **given: object) -> Response:
        """A page that only says something."""
        told = {"title": title, "words": words, "level": "plain", "live": False}
        return self.show("message.html", status, **told, **given)


def _guarded(handler: Handler) -> Handler:
    """A handler whose errors are pages, and whose forms are our own."""

    async def run(door: Door, http: HttpRequest) -> Response:
        try:
            if http.method == "POST" and not auth.is_from_here(http):
                return _message(403, "Refused", "This form was not sent by a page of this server.")
            # Looking may be given up at any moment; acting runs to its end.
            async with asyncio.timeout(LOOK_S if http.method != "POST" else None):
                return await handler(door, http)
        except (errors.DatabaseUnavailable, TimeoutError):
            return _away()
        except errors.Refusal as error:
            return _message(error.http_status, "That did not work", str(error))
        except ClientDisconnect:
            raise
        except Exception as error:
            log.error("handler_failed", method=http.method, path=http.scope["path"], exc_info=error)
            return _message(500, "That did not work", str(errors.Internal()))

    return run


def _signed_in(page: Callable[[Visit], Awaitable[Response]]) -> Handler:
    """A handler for those who are signed in; all others are asked to."""

    async def run(door: Door, http: HttpRequest) -> Response:
        holder = await auth.holder(door, http)
        if holder is None:
            return auth.ask_to_sign_in(http)
        door.callers.enter(http.scope, holder.tenant)
        visit = Visit(door, http, holder, await door.reports.view(holder))
        try:
            reading.require(holder, Power.SUBMIT if http.method == "POST" else Power.READ)
            return await page(visit)
        except errors.InsufficientScope as error:
            return visit.tell(403, "That is not allowed", str(error))
        except errors.NotFound as error:
            return visit.tell(404, "Not found", str(error))
        except errors.InvalidParameter as error:
            return visit.tell(400, "That did not work", str(error))

    return _guarded(run)


def _message(status: int, title: str, words: str, **given: object) -> Response:
    shown = {"tenant": "", "level": "plain", "live": False, "title": title, "words": words}
    return HTMLResponse(render.page("message.html", **shown | given), status, HEADERS)


def _away() -> Response:
    words = (
        "PostgreSQL does not answer, so there is nothing to show. Callers hear 503 and may call "
        "again; nothing that was accepted is lost, and the batches at OpenAI run on. This page "
        "shows more as soon as the database is back."
    )
    title = "The database is out of reach"
    reply = _message(503, title, words, level="bad", live=True, away=True)
    reply.headers["Retry-After"] = errors.DatabaseUnavailable.headers["Retry-After"]
    return reply


# ----- signing in and out -----


async def _sign_in(door: Door, http: HttpRequest) -> Response:
    wrong, back = "", auth.way_back(http.query_params.get("next", ""))
    more: dict[str, str] = {}
    if http.method == "POST":
        fields = await auth.form(http)
        back = auth.way_back(fields.get("next", ""))
        key = fields.get("key", "").strip()
        found = await door.keyring.holder(key)
        if found is not None:
            reading.require(found, Power.READ)
            done = await auth.sign_in(door, http, found, back)
            done.headers.update(HEADERS)
            return done
        if key:
            more = (await reading.wrong_key(http, door.keyring)).headers
        wrong = "That is not a key of this server."
    elif await auth.holder(door, http) is not None:
        return RedirectResponse(back, 303, HEADERS)
    shown = {"tenant": "", "live": False, "title": "Sign in", "wrong": wrong, "next": back}
    html = render.page("sign_in.html", **shown)
    return HTMLResponse(html, 401 if wrong else 200, {**HEADERS, **more})


async def _sign_out(door: Door, http: HttpRequest) -> Response:
    return await auth.sign_out(door, http)


# ----- looking -----


async def _overview(visit: Visit) -> Response:
    shown = await views.overview(visit.door, visit.view)
    address = auth.address(visit.door, visit.http)
    return visit.show("overview.html", here="overview", said=visit.said, address=address, **shown)


async def _requests(visit: Visit) -> Response:
    status = reading.given(visit.http, "status")
    after = reading.given(visit.http, "after")
    shown = await views.requests(visit.door, visit.view, status, after)
    return visit.show("requests.html", here="requests", **shown)


async def _request(visit: Visit) -> Response:
    shown = await views.request(visit.door, visit.view, visit.name)
    acts = visit.acts(shown["request"]["tenant"])
    return visit.show("request.html", said=visit.said, acts=acts, **shown)


async def _batch(visit: Visit) -> Response:
    shown = await views.batch(visit.door, visit.view, visit.name)
    return visit.show("batch.html", said=visit.said, **shown)


async def _search(visit: Visit) -> Response:
    """By our id or OpenAI's, of a request or a batch; our own also without its prefix."""
    sought = reading.given(visit.http, "q").strip()
    hex_digits = sought.lower().replace("-", "")
    name = request_id(uuid.UUID(hex_digits)) if _is_uuid(hex_digits) else sought
    door = visit.door
    for kind, look in (("requests", door.actions.find), ("batches", door.reports.batch)):
        given = name if kind == "requests" else sought
        try:
            await look(visit.view, given)
        except errors.NotFound:
            continue
        return RedirectResponse(f"/{kind}/{quote(given, safe='')}", 303, HEADERS)
    words = (
        f"Nothing of yours is called “{sought}”. A request is found by its id (batchreq_…) or by "
        "OpenAI's (resp_…, chatcmpl-…), a batch by its number or by OpenAI's (batch_…)."
    )
    return visit.tell(404, "Not found", words, query=sought)


def _is_uuid(text: str) -> bool:
    return parse_request_id(f"batchreq_{text}") is not None


# ----- acting -----


async def _cancel(visit: Visit) -> Response:
    return await _act(visit, visit.door.actions.cancel, "cancelled")


async def _retry(visit: Visit) -> Response:
    return await _act(visit, visit.door.actions.retry, "queued")


async def _act(
    visit: Visit, action: Callable[[Actor, str], Awaitable[object]], said: str
) -> Response:
    """Do it, and lead back to the request, which says what came of it."""
    try:
        await action(visit.actor, visit.name)
    except errors.Conflict as error:
        said = error.code
    return RedirectResponse(f"/requests/{quote(visit.name, safe='')}?said={said}", 303, HEADERS)


async def _cancel_queued(visit: Visit) -> Response:
    """Cancel one row of the queue, by its endpoint and model ("" is the default model), or all.

    All only if the form says so: a form that is not understood has no fields either.
    """
    fields = await auth.form(visit.http)
    if fields != {"all": "yes"} and fields.keys() != {"endpoint", "model"}:
        raise errors.InvalidParameter("The form names no part of the queue.")
    wanted = cancellations.Wanted(model=fields.get("model"), endpoint=fields.get("endpoint"))
    n = await cancellations.cancel_queued(visit.door, visit.actor, wanted)
    said = f"cancelled_{n}" if n else "none_cancelled"
    return RedirectResponse(f"/?said={said}", 303, HEADERS)


async def _cancel_batch(visit: Visit) -> Response:
    said = "stopping"
    try:
        await cancellations.cancel_batch(visit.door, visit.actor, visit.name)
    except errors.AlreadyFinished:
        said = "batch_ended"
    except errors.SharedBatch as error:
        said = error.code
    return RedirectResponse(f"/batches/{quote(visit.name, safe='')}?said={said}", 303, HEADERS)


async def _flush(visit: Visit) -> Response:
    await visit.door.reports.flush(visit.actor)
    return RedirectResponse("/?said=sent", 303, HEADERS)


# ----- files -----


async def _file(_door: Door, http: HttpRequest) -> Response:
    file = render.static().get(http.path_params["file"])
    if file is None:
        raise errors.UnknownEndpoint(f"Unknown path: {http.method} {http.scope['path']}.")
    tag = f'"{file.version}"'
    if http.headers.get("if-none-match") == tag:
        return Response(status_code=304, headers={**FOR_EVER, "ETag": tag})
    # Only the address with the version in it names this content for ever.
    versioned = http.scope["query_string"].decode("latin-1") == file.version
    kept = FOR_EVER if versioned else {**FOR_EVER, "Cache-Control": "no-cache"}
    return Response(file.content, headers={**kept, "ETag": tag}, media_type=file.media_type)


ROUTES: list[tuple[str, str, Handler]] = [
    ("GET", "/", _signed_in(_overview)),
    ("GET", "/sign-in", _guarded(_sign_in)),
    ("POST", "/sign-in", _guarded(_sign_in)),
    ("POST", "/sign-out", _guarded(_sign_out)),
    ("GET", "/requests", _signed_in(_requests)),
    ("GET", "/requests/{id}", _signed_in(_request)),
    ("POST", "/requests/{id}/cancel", _signed_in(_cancel)),
    ("POST", "/requests/{id}/retry", _signed_in(_retry)),
    ("POST", "/cancel", _signed_in(_cancel_queued)),
    ("GET", "/batches/{id}", _signed_in(_batch)),
    ("POST", "/batches/{id}/cancel", _signed_in(_cancel_batch)),
    ("POST", "/flush", _signed_in(_flush)),
    ("GET", "/search", _signed_in(_search)),
    ("GET", "/page/{file}", _file),
]
