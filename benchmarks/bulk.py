"""The bulk door's rows a second, beside a raw COPY of the same rows into a bare table."""

from __future__ import annotations

import http.client
import statistics
import time
import uuid
from collections.abc import Iterator
from urllib.parse import urlsplit

import psycopg

from benchmarks import stack
from benchmarks.door import stored_requests
from benchmarks.figure import Row, Sizes, check, median_of_ratios

BODY = '{"messages":[{"content":"round %d call %06d %s","role":"user"}],"model":"gpt-4o"}'
PAD = "x" * 900
CHUNK = 1 << 20
BARE = (
    "create table bare (id uuid, body_id uuid, tenant text, endpoint text, model text,"
    " line_bytes int, tokens int, inputs int, body bytea)"
)


def measure(sizes: Sizes) -> list[Row]:
    rows, rounds = sizes.calls, min(5, sizes.rounds)
    ours: list[float] = []
    copied: list[float] = []
    with (
        stack.simulator() as openai,
        stack.cluster() as postgres,
        postgres.database() as url,
        stack.server(openai.base_url, POSTGRES_URL=url) as server,
        psycopg.connect(url, autocommit=True) as conn,
    ):
        conn.execute(BARE)
        for round_ in range(rounds):
            bodies = [BODY % (round_, n, PAD) for n in range(rows)]
            ours.append(rows / send(server.url, bodies))
            copied.append(rows / copy(conn, bodies))
        check(stored_requests(url) == rows * rounds, "a row for each line")
    detail = f"{statistics.median(ours):,.0f}/s; COPY {statistics.median(copied):,.0f}/s"
    against = "raw `COPY` of the same rows into a bare table"
    return [Row("bulk door rows/s, 1 KB", against, median_of_ratios(ours, copied), 0.5,
                detail=detail)]  # fmt: skip


def send(url: str, bodies: list[str]) -> float:
    """Seconds until the last line of the reply."""
    lines = [
        f'{{"custom_id":"{n}","method":"POST","url":"/v1/chat/completions","body":{body}}}\n'
        for n, body in enumerate(bodies)
    ]
    data = "".join(lines).encode()
    headers = {
        "Authorization": f"Bearer {stack.KEY}",
        "Content-Type": "application/jsonl",
        "Content-Length": str(len(data)),
    }
    connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=600)
    started = time.perf_counter()
    connection.request("POST", "/v1/requests", body=chunks(data), headers=headers)
    reply = connection.getresponse()
    check(reply.status == 200, f"status {reply.status}")
    parts = []
    while chunk := reply.read(CHUNK):
        parts.append(chunk)
    seconds = time.perf_counter() - started
    accepted = b"".join(parts).count(b'"error":null}\n')
    check(accepted == len(bodies), f"{accepted} of {len(bodies)} lines were answered")
    return seconds


def chunks(data: bytes) -> Iterator[bytes]:
    for start in range(0, len(data), CHUNK):
        yield data[start : start + CHUNK]


def copy(conn: psycopg.Connection, bodies: list[str]) -> float:
    """Seconds for a COPY of rows that are in PostgreSQL's text format already."""
    lines = []
    for body in bodies:
        id_ = uuid.uuid4()
        start = f"{id_}\t{id_}\tdefault\t/v1/chat/completions\tgpt-4o\t{len(body)}\t250\t1\t"
        lines.append(start + "\\\\x" + body.encode().hex() + "\n")
    data = "".join(lines).encode()
    started = time.perf_counter()
    with conn.cursor() as cursor, cursor.copy("copy bare from stdin") as copying:
        for chunk in chunks(data):
            copying.write(chunk)
    return time.perf_counter() - started
