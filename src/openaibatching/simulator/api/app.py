"""The routes of OpenAI's Files and Batches API.

https://platform.openai.com/docs/api-reference/batch and …/api-reference/files.
"""

from functools import partial
from typing import Any, NoReturn

import anyio.to_thread
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp

from openaibatching.simulator.api import admin, parameters, upload
from openaibatching.simulator.api.door import CutError, Door, json_reply, refused, server_error
from openaibatching.simulator.api.wire import ContentReply, Wired
from openaibatching.simulator.engine.errors import ApiError, invalid_id, invalid_value
from openaibatching.simulator.engine.limits import DAY_S
from openaibatching.simulator.engine.state import Batch, File
from openaibatching.simulator.engine.world import World

_BATCHES_END, _FILES_END = ("first_id", "last_id", "has_more"), ("has_more", "first_id", "last_id")
_BATCH_FILE_LIFE_S = 30 * DAY_S


def build(world: World) -> ASGIApp:
    """The ASGI app of one Simulator."""
    door, api = Door(world), Api(world)

    async def unknown(request: Request, error: Exception) -> Response:
        path = request.url.path
        door.note(request, path.removeprefix("/v1"))
        if isinstance(error, HTTPException) and error.status_code == 405:
            message = f"Not allowed to {request.method} on {path}."
            return door.named(refused(ApiError(405, message, code="method_not_allowed")))
        message = f"Invalid URL ({request.method} {path})"
        return door.named(refused(ApiError(404, message, code="unknown_url")))

    routes = [
        door.route("POST", "/files", api.upload_file),
        door.route("GET", "/files", api.list_files),
        door.route("GET", "/files/{id}", api.get_file),
        door.route("GET", "/files/{id}/content", api.get_content),
        door.route("DELETE", "/files/{id}", api.delete_file),
        door.route("POST", "/batches", api.create_batch),
        door.route("GET", "/batches", api.list_batches),
        door.route("GET", "/batches/{id}", api.get_batch),
        door.route("POST", "/batches/{id}/cancel", api.cancel_batch),
        door.route("GET", "/models", api.list_models),
        door.route("GET", "/models/{id:path}", api.get_model),
        *admin.routes(world),
    ]
    app = Starlette(routes=routes, exception_handlers={404: unknown, 405: unknown})
    # "/v1/files//content" is what an empty file id leads to: a 404, never a redirect.
    app.router.redirect_slashes = False
    return Wired(app)


class Api:
    """One method a call."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._engine = world.engine
        # Looks at batches may work for seconds; they must not use up everybody's threads.
        self._threads: anyio.CapacityLimiter | None = None

    async def _aside(self, work: Any, *arguments: Any) -> Any:
        if self._threads is None:
            self._threads = anyio.CapacityLimiter(64)
        return await anyio.to_thread.run_sync(partial(work, *arguments), limiter=self._threads)

    async def upload_file(self, request: Request) -> Response:
        """POST /files."""
        world = self._world
        wait = world.uploads.take(world.clock())
        if wait is not None:
            raise _rate_limited("file uploads", world.uploads.most, "minute", wait)
        got = await upload.receive(request, self._engine.folder, world.limits, self._engine.markers)
        now = world.clock()
        life = got.expires_s or (_BATCH_FILE_LIFE_S if got.purpose == "batch" else None)
        file = File(
            got.content, got.filename, got.purpose, now, None if life is None else now + life
        )
        if world.dice.hits("file_invisible"):
            file.invisible_until = now + world.dice.faults.file_invisible_s
        if world.dice.hits("late_upload"):
            file.created = now + world.dice.faults.late_s
            self._engine.later(file.created, lambda at: self._engine.store.add_file(file))
            self._lose_reply()
        return json_reply(self._shown(self._engine.store.add_file(file).view()))

    async def list_files(self, request: Request) -> Response:
        """GET /files, newest first unless `order=asc`."""
        await self._aside(self._engine.settle)
        query = dict(request.query_params)
        order = query.get("order", "desc")
        if order not in ("asc", "desc"):
            raise invalid_value("order", order, ("asc", "desc"))
        files = [
            file
            for file in self._engine.store.files(self._world.clock())
            if query.get("purpose") in (None, file.purpose)
        ]
        files.sort(key=lambda file: (int(file.created), file.number), reverse=order == "desc")
        return self._page([file.view() for file in files], query, 10_000, 10_000, _FILES_END)

    async def get_file(self, request: Request) -> Response:
        """GET /files/{id}."""
        return json_reply(self._shown(self._file(request).view()))

    async def get_content(self, request: Request) -> Response:
        """GET /files/{id}/content."""
        file, dice = self._file(request), self._world.dice
        file.reads += 1
        first_reads = file.reads <= dice.faults.content_reads
        if first_reads:
            if dice.hits("content_502", file.number):
                raise server_error(502)
            if dice.hits("content_404", file.number):
                raise _no_file(file.id)
        size = file.content.size
        broken = None
        if size and first_reads and dice.hits("garbled_download"):
            broken = int(size * dice.draw("broken", file.number))
        if dice.hits("truncated_download"):
            return ContentReply(file.content, file.filename, size // 2, broken, cut=True)
        short = first_reads and dice.hits("short_download")
        return ContentReply(file.content, file.filename, size // 2 if short else size, broken)

    async def delete_file(self, request: Request) -> Response:
        """DELETE /files/{id}. A batch that already runs on it keeps running."""
        file = self._file(request)
        for batch in self._engine.store.batches():
            if batch.input_file_id == file.id:
                await self._aside(self._engine.look, batch)
        self._engine.store.delete_file(file.id)
        return json_reply({"object": "file", "deleted": True, "id": file.id})

    async def create_batch(self, request: Request) -> Response:
        """POST /batches: only parameters are refused here, content is judged later."""
        world = self._world
        order = parameters.order(await request.body())
        self._engine.appear()
        now = world.clock()
        wait = world.creates.take(now)
        if wait is not None:
            raise _rate_limited("batch creations", world.creates.most, "hour", wait)
        out_of_order = self._engine.standing.refusal(at_validation=False)
        if out_of_order is not None:
            raise out_of_order
        file = self._engine.store.file(order.input_file_id, now)
        if file is not None:
            self._check_input(file, now)
        if world.dice.hits("late_create"):
            due = now + world.dice.faults.late_s
            self._engine.later(due, lambda at: self._engine.create(order, at))
            self._lose_reply()
        batch = self._engine.create(order)
        return json_reply(batch.view())

    def _lose_reply(self) -> NoReturn:
        """What a caller hears of a call that will act later: by turns a 503 and nothing."""
        if self._world.dice.nth("late_reply") % 2:
            raise server_error(503)
        raise CutError

    def _check_input(self, file: File, now: float) -> None:
        if file.purpose != "batch":
            message = f"Invalid purpose of file {file.id}: expected 'batch', got '{file.purpose}'."
            raise ApiError(400, message, "input_file_id", "invalid_file_purpose")
        # A file not yet visible is refused here or fails the batch; both were seen.
        if file.invisible_until > now and self._world.dice.nth("invisible") % 2:
            message = (
                f"Cannot find file {file.id}, or project {self._world.project} "
                "does not have access to it."
            )
            raise ApiError(400, message, "file_id")

    async def list_batches(self, request: Request) -> Response:
        """GET /batches, newest first; it knows `after` and `limit` and no filter."""
        batches = await self._aside(self._engine.views)
        query = dict(request.query_params)
        return self._page(batches, query, 20, 100)

    async def get_batch(self, request: Request) -> Response:
        """GET /batches/{id}."""
        batch, dice = self._batch(request), self._world.dice
        away_until = batch.created + dice.faults.polls_blackout_s
        if dice.hits("polls_blackout", batch.number) and self._world.clock() < away_until:
            raise server_error(502)
        view = await self._aside(self._engine.view, batch)
        if dice.hits("unknown_status"):
            view["status"] = "rebalancing"
        return json_reply(view)

    async def cancel_batch(self, request: Request) -> Response:
        """POST /batches/{id}/cancel."""
        batch = self._batch(request)
        await self._aside(self._engine.cancel, batch)
        if batch.ended and batch.status != "cancelled":
            message = f"Cannot cancel a batch with status '{batch.status}'."
            raise ApiError(409, message)
        return json_reply(batch.view(self._world.clock()))

    async def list_models(self, request: Request) -> Response:
        """GET /models."""
        names = sorted(self._world.models or ("gpt-4o", "gpt-4o-mini"))
        return json_reply({"object": "list", "data": [_model(name) for name in names]})

    async def get_model(self, request: Request) -> Response:
        """GET /models/{id}: without a list of models there is any, but for the denied ones."""
        name = request.path_params["id"]
        if not self._world.supports(name):
            message = f"The model '{name}' does not exist or you do not have access to it."
            raise ApiError(404, message, "model", "model_not_found")
        return json_reply(_model(name))

    def _page(
        self,
        objects: list[dict[str, Any]],
        query: dict[str, str],
        default: int,
        most: int,
        end: tuple[str, ...] = _BATCHES_END,
    ) -> Response:
        """A page of a list, or what some servers make of it. `end` has its last members."""
        dice = self._world.dice
        if dice.hits("list_ignores_after"):
            page = parameters.page(objects, {**query, "after": ""}, default, most)
            page["has_more"] = True
            if dice.nth("has_more") % 2 == 0:
                del page["has_more"]
            return json_reply(page)
        page = parameters.page(objects, query, default, most)
        page = {"object": "list", "data": page["data"]} | {name: page[name] for name in end}
        if dice.hits("list_empty_page"):
            return json_reply({"object": "list", "data": [], "has_more": True})
        if dice.hits("list_without_data"):
            other = {"value": page["data"]} if dice.nth("no_data") % 2 == 0 else {"object": "list"}
            return json_reply(other)
        return json_reply(page)

    def _shown(self, view: dict[str, Any]) -> dict[str, Any]:
        if self._world.dice.hits("unknown_fields"):
            view["region"] = {"name": "somewhere"}
        return view

    def _file(self, request: Request) -> File:
        self._engine.appear()
        id_ = request.path_params["id"]
        file = self._engine.store.file(id_, self._world.clock())
        if file is None:
            raise _no_file(id_)
        return file

    def _batch(self, request: Request) -> Batch:
        self._engine.appear()
        id_ = request.path_params["id"]
        batch = self._engine.store.batch(id_)
        if batch is None and not id_.startswith("batch"):
            raise invalid_id("batch_id", id_, "batch")
        if batch is None:
            raise ApiError(404, f"No batch found with id '{id_}'.")
        return batch


def _model(name: str) -> dict[str, Any]:
    return {"id": name, "object": "model", "created": 1715367049, "owned_by": "system"}


def _no_file(id_: str) -> ApiError:
    return ApiError(404, f"No such File object: {id_}", "id", detail=True)


def _rate_limited(what: str, most: int, unit: str, wait: int) -> ApiError:
    message = f"Rate limit reached for {what}. Limit: {most} per {unit}. Try again in {wait}s."
    headers = {"retry-after": str(wait)}
    return ApiError(429, message, None, "rate_limit_exceeded", "requests", headers)
