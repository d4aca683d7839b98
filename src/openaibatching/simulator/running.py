"""A Simulator on a loopback port, in a thread of this process."""

import asyncio
import contextlib
import socket
import threading
import time
from collections.abc import Iterator

import uvicorn

from openaibatching.simulator.core import Simulator

_START_S, _GRACE_S, _TICK_S = 60.0, 0.5, 0.005


class _Server(uvicorn.Server):
    """Uvicorn without its tenths of a second: tests start and stop hundreds of these."""

    async def main_loop(self) -> None:
        """Until `should_exit`; refreshes the date header as the original does."""
        ticks = 0
        while not self.should_exit:
            if ticks % 200 == 0:
                await self.on_tick(0)
            ticks += 1
            await asyncio.sleep(_TICK_S)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Close the listener and all connections; calls get a moment to end."""
        for server in self.servers:
            server.close()
        for connection in list(self.server_state.connections):
            connection.shutdown()
        tasks = set(self.server_state.tasks)
        if tasks:
            _, late = await asyncio.wait(tasks, timeout=_GRACE_S)
            for task in late:
                task.cancel()


@contextlib.contextmanager
def running(simulator: Simulator, host: str = "127.0.0.1", port: int = 0) -> Iterator[str]:
    """Serve until the block ends; gives the base URL, `http://127.0.0.1:PORT/v1`.

    Port 0 takes a free one. Raises OSError when the port is taken.
    """
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        server = _Server(config(simulator))
        thread = threading.Thread(target=server.run, args=([listener],), daemon=True)
        thread.start()
        try:
            _wait_started(server, thread)
            simulator.start()
            yield f"http://{host}:{listener.getsockname()[1]}/v1"
        finally:
            simulator.stop()
            server.should_exit = True
            thread.join(_START_S)


def config(simulator: Simulator) -> uvicorn.Config:
    """How the simulator is served."""
    return uvicorn.Config(
        simulator.app,
        lifespan="off",
        log_level="critical",
        access_log=False,
        timeout_keep_alive=60,
    )


def _wait_started(server: uvicorn.Server, thread: threading.Thread) -> None:
    deadline = time.monotonic() + _START_S
    while not server.started:
        if not thread.is_alive() or time.monotonic() > deadline:
            raise RuntimeError("the simulator did not start")
        time.sleep(0.002)
