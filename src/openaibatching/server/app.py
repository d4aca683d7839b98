"""One server process, put together: database, door, worker, and an orderly end."""

from __future__ import annotations

import asyncio
import gc
import signal
import socket
import sys
import tempfile
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from importlib.metadata import version
from pathlib import Path
from typing import Any

from anyio.from_thread import start_blocking_portal

from openaibatching import surroundings, terminal
from openaibatching.server import renewal
from openaibatching.server.api import app
from openaibatching.server.api.http.limits import Connections, allow_files
from openaibatching.server.api.http.server import CLOSE_S, listen, web_server
from openaibatching.server.api.state import Door
from openaibatching.server.auth.bootstrap import keys
from openaibatching.server.auth.keyring import Keyring
from openaibatching.server.billing.budget import Budget
from openaibatching.server.config.settings import DEFAULT_TENANT, Settings, parse_keys
from openaibatching.server.dashboard import routes
from openaibatching.server.database import requirements
from openaibatching.server.database.listener import Session
from openaibatching.server.database.pool import Database
from openaibatching.server.database.readiness import Readiness
from openaibatching.server.database.url import database_url
from openaibatching.server.errors import ConfigError, StoppedEarly
from openaibatching.server.pipeline.context import Context
from openaibatching.server.pipeline.steps import STEPS
from openaibatching.server.pipeline.worker import Worker
from openaibatching.server.providers.openai.client import Upstream
from openaibatching.server.providers.openai.model_list import ModelList
from openaibatching.server.reporting.forecaster import Forecaster
from openaibatching.server.reporting.reports import Reports
from openaibatching.server.requests.actions import Actions
from openaibatching.server.requests.answers_read import AnswersRead
from openaibatching.server.requests.callers import Callers
from openaibatching.server.requests.group_commit import Acceptor
from openaibatching.server.requests.quotas import Quotas
from openaibatching.server.requests.waiters import Deliverer
from openaibatching.server.telemetry import logs
from openaibatching.server.telemetry.tracing import Tracing, from_environment

log = logs.get()

SWITCH_S = 0.0005
"""After how long a thread that computes lets the event loop go on. Large bodies are understood in
threads, and a call passes the loop ten times: at Python's own 5 ms it took 40 ms beside one."""
GARBAGE_LOOK = 20_000
"""After so many more new objects than ended ones Python looks for garbage. Calls that wait together
for a commit are thousands of objects: at Python's own 700, a tenth of their time was this look."""


def _check_data_dir(settings: Settings) -> None:
    try:
        with tempfile.TemporaryFile(dir=settings.spool_dir):
            pass
    except OSError as error:
        raise ConfigError(
            f"DATA_DIR: {settings.data_dir} cannot be written: {error.strerror}"
        ) from None


class Service:
    """A running server. `start` it, `url` says where, `stop` ends it within 10 seconds.

    `url` is the database's, `listening` the socket that `listen` gave.
    """

    def __init__(
        self,
        settings: Settings,
        server_keys: dict[str, str],
        url: str,
        listening: socket.socket,
        tracing: Tracing | None = None,
    ) -> None:
        self.settings = settings
        self.database = Database(url)
        self.ctx = Context(settings, self.database, Upstream(settings), tracing=tracing)
        self.worker = Worker(self.ctx, STEPS)
        self._acceptor = Acceptor(self.database)
        self._deliverer = Deliverer(self.database)
        self._keyring = Keyring(server_keys, self.database)
        self.readiness = Readiness(self.database)
        self._session = Session(url, self.ctx.server, self._heard, self._cut_off)
        self._answers_read = AnswersRead(self.database, self.ctx.now)
        self._forecaster = Forecaster(self.database, settings.batch_linger_s)
        budget, quotas = (
            Budget(self.database, settings, self.ctx.prices),
            Quotas(self.database, settings),
        )
        self.door = Door(
            self.ctx,
            self._keyring,
            self._acceptor,
            self._deliverer,
            self._forecaster,
            budget,
            Callers(settings),
            quotas,
            ModelList(self.ctx.upstream),
            self._answers_read,
            self.readiness,
            Actions(settings, self.database, quotas, budget),
            Reports(settings, self.database, self._forecaster, budget, self.ctx.now),
        )
        self._tls = renewal.tls_context(settings)
        self._connections = Connections(self._tls)
        self._server = web_server(settings, app.build(self.door, routes.ROUTES), self._connections)
        self._socket = listening
        self._tasks: list[asyncio.Task[None]] = []
        self._failed = asyncio.Event()

    @property
    def url(self) -> str:
        """Where it listens."""
        port = self._socket.getsockname()[1]
        host = f"[{self.settings.host}]" if ":" in self.settings.host else self.settings.host
        return f"{'https' if self.settings.tls else 'http'}://{host}:{port}"

    def _cut_off(self) -> None:
        self._keyring.cut_off()
        self.readiness.forget()

    def _heard(self, payload: str) -> None:
        if payload in ("", "finished"):
            self._deliverer.finished()
        if payload in ("", "keys"):
            self._keyring.changed()
        if payload in ("", "submitted", "refused", "ended"):
            self._forecaster.heard()
        self.worker.wake(payload)

    async def start(self) -> None:
        """Open the door and start to work."""
        await self.database.open()
        background = (
            self._session.run(),
            self._acceptor.run(),
            self._deliverer.run(),
            self._forecaster.run(),
            self.worker.run(),
            self._connections.run(),
            self._keyring.run(),
            self._keyring.wrong.run(),
            self._answers_read.run(),
            self._server.serve(sockets=[self._socket]),
        )
        self._tasks = [asyncio.create_task(part) for part in background]
        for task in self._tasks:
            task.add_done_callback(self._ended)
        while not self._server.started and not self._failed.is_set():  # noqa: ASYNC110
            await asyncio.sleep(0.01)

    def _ended(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("server_failed", exc_info=error)
        self._failed.set()

    def renew(self, settings: Settings) -> list[str]:
        """Take the secrets and the certificate of these settings; the names of what has changed.

        Raises ConfigError if they cannot be taken; then nothing is.
        """
        renewal.check_tls(settings)
        changed = renewal.changed(self.settings, settings)
        self.ctx.upstream.renew(settings)
        if settings.batch_server_api_key is not None:
            self._keyring.renew(parse_keys(settings.batch_server_api_key.get_secret_value()))
        if settings.postgres_url is not None:
            url = settings.postgres_url.get_secret_value()
            self.database.renew(url)
            self._session.renew(url)
        if self._tls is not None:
            renewal.load_tls(self._tls, settings)
        self.settings = settings
        return changed

    async def failed(self) -> None:
        """Returns when a part of the server has ended by itself, which none should."""
        await self._failed.wait()

    async def stop(self) -> None:
        """Finish what is in hand; upstream batches go on without us."""
        # Waiting callers go home with a 202 first: the web server waits for their replies.
        self._deliverer.close()
        self._server.should_exit = True
        await self.worker.drain()
        serving = self._tasks[-1:]
        if serving:
            await asyncio.wait(serving, timeout=CLOSE_S)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self.ctx.tracing is not None:
            await self.ctx.tracing.close()
        await self._keyring.close()
        await self._answers_read.close()
        await self.ctx.upstream.close()
        await self.database.close()


async def serve(settings: Settings, read: Callable[[], Settings]) -> None:
    """Run a server until SIGTERM or SIGINT; on SIGHUP, `read` gives the settings of now.

    Raises ConfigError when it cannot start.
    """
    stopping, renewing, terminal = asyncio.Event(), asyncio.Event(), renewal.Terminal()
    loop = asyncio.get_running_loop()
    for signal_ in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(signal_, stopping.set)
    loop.add_signal_handler(
        signal.SIGHUP, lambda: (stopping if terminal.is_gone else renewing).set()
    )
    server_keys, made = keys(settings)
    allow_files()
    with suppress(StoppedEarly):
        async with serving(settings, server_keys, stopping) as service:
            _announce(service, server_keys, made)
            service.ctx.prices.of("")
            set_up_interpreter()
            renewals = asyncio.create_task(renewal.run(renewing, read, service.renew))
            await _until_stopped(service, stopping)
            renewals.cancel()
    if not stopping.is_set():
        raise ConfigError("the server ended by itself; its log says why")


def set_up_interpreter() -> None:
    """Python's own settings are for programs that nobody waits for."""
    sys.setswitchinterval(SWITCH_S)
    # What is there now stays for good. Else each full collection looks at all of it, and every
    # caller waits for that: 80 ms at a time were seen.
    gc.collect()
    gc.freeze()
    gc.set_threshold(GARBAGE_LOOK, *gc.get_threshold()[1:])


def _announce(service: Service, server_keys: dict[str, str], made: Path | None) -> None:
    settings = service.settings
    log.info(
        "server_started",
        url=service.url,
        version=version("openaibatching"),
        server=service.ctx.server,
        upstream=settings.openai_base_url,
        database="POSTGRES_URL" if settings.postgres_url else "embedded",
        tenants=len(server_keys),
    )
    if made is not None:
        # Shown once, on purpose, on the terminal of whoever started it.
        line = f"BATCH_SERVER_API_KEY={server_keys[DEFAULT_TENANT]}  (kept in {made})"
        terminal.out(line)


async def _until_stopped(service: Service, stopping: asyncio.Event) -> None:
    """Returns when the server is told to stop, or when a part of it has ended by itself."""
    stopped, failed = (
        asyncio.create_task(stopping.wait()),
        asyncio.create_task(service.failed()),
    )
    await asyncio.wait((stopped, failed), return_when=asyncio.FIRST_COMPLETED)
    log.info("server_stopping", by_itself=not stopping.is_set())
    for task in (stopped, failed):
        task.cancel()


@asynccontextmanager
async def serving(
    settings: Settings, server_keys: dict[str, str], stopping: asyncio.Event | None = None
) -> AsyncIterator[Service]:
    """A server and its database, from the start to an orderly end.

    Raises ConfigError when it cannot start, and StoppedEarly when it is told to stop before it has.
    """
    # What is quickly wrong is said before the database is set up.
    if why := surroundings.wrong():
        raise ConfigError(why)
    renewal.check_tls(settings)
    tracing = from_environment()
    with listen(settings) as listening:
        _check_data_dir(settings)
        async with database_url(settings) as url:
            service = Service(settings, server_keys, url, listening, tracing)
            schema = requirements.prepare(url, wait_s=settings.database_wait_s)
            await _unless(stopping or asyncio.Event(), schema)
            await service.start()
            try:
                yield service
            finally:
                await service.stop()


async def _unless(stopping: asyncio.Event, work: Coroutine[Any, Any, None]) -> None:
    """Do `work`, which may take as long as the database is out of reach, or give it up."""
    working, stopped = asyncio.create_task(work), asyncio.create_task(stopping.wait())
    try:
        await asyncio.wait((working, stopped), return_when=asyncio.FIRST_COMPLETED)
        if not working.done():
            raise StoppedEarly
        await working
    finally:
        for task in (working, stopped):
            task.cancel()
        await asyncio.gather(working, stopped, return_exceptions=True)


@contextmanager
def in_thread(settings: Settings) -> Iterator[str]:
    """A server in a thread of its own, as a container would be beside a backend; its URL.

    Raises ConfigError when it cannot start.
    """
    server_keys, _ = keys(settings)
    with (
        start_blocking_portal() as portal,
        portal.wrap_async_context_manager(serving(settings, server_keys)) as service,
    ):
        yield service.url
