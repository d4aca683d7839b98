"""The real servers for tests in another language: `python -m clients.served`, until stdin closes.

When all is there it prints one line of JSON: the URLs of a server that sends every call to OpenAI
at once (`prompt`), of one that keeps every call queued (`patient`), and of one that speaks TLS
(`tls`, on port 9487 unless something else is there; who trusts the certificate in the file `ca`
trusts it), and the URL of what controls them (`control`), which answers to a POST of

    /tenant              with a key that nobody else has
    /finish?key=…        when everything that the key's tenant has asked `prompt` for is finished
    /rest                when `prompt` finishes nothing any more
    /run                 when the server with TLS finishes everything it gets
"""

import json
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from clients.real_server import BatchServer, Running, real_server
from clients.serving import serving
from openaibatching.server.errors import ConfigError
from support.certificates import certified
from support.postgres import running_cluster

TENANTS, PORT, LONG_S = 400, 9487, 3600.0


def control(keys: Iterator[str], prompt: Running, tls: Running) -> Starlette:
    """The app that controls the servers; its endpoints block, each in a thread of its own."""

    def tenant(_: Request) -> JSONResponse:
        return JSONResponse(next(keys))

    def finish(request: Request) -> JSONResponse:
        BatchServer(prompt.url, request.query_params["key"], prompt.clock).finish()
        return JSONResponse(None)

    def rest(_: Request) -> JSONResponse:
        prompt.clock.stop()
        return JSONResponse(None)

    def run(_: Request) -> JSONResponse:
        tls.clock.run()
        return JSONResponse(None)

    endpoints = (tenant, finish, rest, run)
    return Starlette(routes=[Route(f"/{e.__name__}", e, methods=["POST"]) for e in endpoints])


def main() -> None:
    keys = [f"key-{number}" for number in range(TENANTS)]
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        postgres = stack.enter_context(running_cluster("embedded"))

        def server(name: str, **changes: object) -> Running:
            (folder / name).mkdir(exist_ok=True)
            return stack.enter_context(real_server(postgres, keys, folder / name, **changes))

        prompt = server("prompt", batch_attempts_max=1)
        patient = server("patient", batch_linger_s=LONG_S)
        secure = certified(folder)
        try:
            tls = server("tls", port=PORT, **secure)
        except ConfigError:
            tls = server("tls", **secure)
        controlled = stack.enter_context(serving(control(iter(keys), prompt, tls)))
        urls = {"prompt": prompt.url, "patient": patient.url, "tls": tls.url, "control": controlled}
        print(json.dumps({**urls, "ca": str(folder / "ca.pem")}), flush=True)
        sys.stdin.read()


if __name__ == "__main__":
    main()
