"""A batch that this server holds: every write first proves that it still does, else LeaseLost.

The writes know the server's number, the number of the lease and the clock, so that no step does.
"""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from typing import Any

from openaibatching.server.database.pool import Database
from openaibatching.server.database.statements import Connection, execute, value
from openaibatching.server.domain.batch import Batch, Lease, Result, Unanswered
from openaibatching.server.domain.tokens import NO_TOKENS, Tokens, token_columns
from openaibatching.server.errors import LeaseLost
from openaibatching.server.pipeline.queue import insert_batch
from openaibatching.server.pipeline.store import Books
from openaibatching.server.providers.openai.client import UpstreamBatch
from openaibatching.server.providers.openai.refusals import halves

Now = Callable[[], datetime | None]


class HeldBatch:
    """A batch leased to this server. `row` is what is known of it, and a step may know better."""

    def __init__(self, database: Database, server: int, now: Now, row: Batch) -> None:
        self._database, self._server, self._now = database, server, now
        self.row = row

    @property
    def lease(self) -> Lease:
        """The lease by which it is held."""
        return self.row.lease

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[BatchWrites]:
        """Writes that are committed together at the end."""
        async with self._database.transaction() as conn:
            yield BatchWrites(conn, self.row, self._server, self._now())

    async def release(self, after_s: float, trouble: str | None = None) -> None:
        """Give it back by itself, see BatchWrites.release."""
        async with self.transaction() as writes:
            await writes.release(after_s, trouble)


class BatchWrites:
    """What a step may do to its batch within one transaction. Each method raises LeaseLost.

    `conn` is for what belongs into the same transaction.
    """

    def __init__(self, conn: Connection, row: Batch, server: int, now: datetime | None) -> None:
        self.conn, self.row, self.now = conn, row, now
        self._held: dict[str, Any] = {"server": server, "id": row.id, "lease": row.leases}

    async def start_upload(self) -> None:
        """An upload is about to be sent."""
        await self._write("start_upload", now=self.now)

    async def finish_upload(self, input_file_id: str) -> None:
        """The file is at OpenAI, under this id."""
        await self._write("finish_upload", input_file_id=input_file_id)

    async def start_create(self) -> None:
        """A create is about to be sent."""
        await self._write("start_create", now=self.now)

    async def note_unknown(self) -> None:
        """A create was sent, and nobody knows what came of it."""
        await self._write("note_unknown", now=self.now)

    async def undo_create(self, *, refused: bool) -> None:
        """The create did not act: it was `refused`, or it is nowhere to be found."""
        await self._write("undo_create", refused=int(refused))

    async def finish_create(self, upstream_id: str, status: str, poll_after_s: float) -> None:
        """The batch is at OpenAI, and is to be looked at in so many seconds."""
        wait = timedelta(seconds=poll_after_s)
        given = {"upstream_id": upstream_id, "status": status, "wait": wait}
        await self._write("finish_create", **given, now=self.now)

    async def call_off(self) -> None:
        """A caller wished its end before it was sent: it is not sent."""
        await self._write("call_off_batch", now=self.now)

    async def refuse(self, errors: bytes | None) -> None:
        """OpenAI took none of it, for these reasons: a JSON list."""
        await self._write("refuse_batch", errors=errors, now=self.now)

    async def note_status(self, seen: UpstreamBatch, poll_after_s: float) -> None:
        """It is under way, and is to be looked at again in so many seconds."""
        await self._write(
            "note_status",
            status=seen.status,
            completed=seen.completed,
            failed=seen.failed,
            wait=timedelta(seconds=poll_after_s),
            turn=self.row.next_at,
            now=self.now,
        )

    async def end(self, seen: UpstreamBatch) -> None:
        """OpenAI has ended it."""
        await self._write(
            "end_batch",
            status=seen.status,
            output_file_id=seen.output_file_id,
            error_file_id=seen.error_file_id,
            errors=seen.errors,
            completed=seen.completed,
            failed=seen.failed,
            **token_columns(seen.tokens),
            now=self.now,
        )

    async def look_again(self, known: Batch, late: Tokens | None) -> None:
        """What was seen of it at another look; `late` is usage that was not told before."""
        await self._write(
            "look_again",
            output_file_id=known.output_file_id,
            error_file_id=known.error_file_id,
            completed=known.upstream_completed,
            failed=known.upstream_failed,
            reads=known.reads,
            **token_columns(late),
        )

    async def read_again(self, *, whole: bool) -> None:
        """Its files lacked something; `whole` if all of them was read."""
        await self._write("read_again", whole=whole)

    async def store_results(self, results: Sequence[Result]) -> None:
        """Finish or requeue these requests of it, and count them in its books."""
        params = {
            "batch_id": self.row.id,
            "ids": [r.id for r in results],
            "states": [r.state for r in results],
            "status_codes": [r.status_code for r in results],
            "upstream_ids": [r.upstream_id for r in results],
            "answers": [r.answer for r in results],
            "realtimes": [r.receipt and r.receipt.realtime for r in results],
            "paids": [r.receipt and r.receipt.paid for r in results],
            "incompletes": [r.receipt and r.receipt.incomplete for r in results],
            "refunds": [int(r.refund) for r in results],
            "waits": [timedelta(seconds=r.wait_s) for r in results],
            "now": self.now,
        }
        rows = await (await execute(self.conn, "store_results", params)).fetchall()
        await self._count(dict(rows), sum((r.tokens for r in results), NO_TOKENS))

    async def split(self, owed: Sequence[Unanswered]) -> None:
        """Two new batches, each with a half of what this refused one owes."""
        for half in halves(owed):
            id_ = uuid.uuid4()
            seqs = [request.seq for request in half]
            params = {"to_batch_id": id_, "batch_id": self.row.id, "seqs": seqs}
            taken = await (await execute(self.conn, "move_requests", params)).fetchall()
            await insert_batch(self.conn, id_, self.row.id, self.row, taken)
        await self._count({"queued": len(owed)}, NO_TOKENS)

    async def keep_result_files(self) -> None:
        """Its result files stay at OpenAI: a person has to read them."""
        await self._write("keep_result_files")

    async def finish_collect(self) -> Books:
        """Every request of it has its result: what became of them."""
        params = {**self._held, "now": self.now}
        row = await (await execute(self.conn, "finish_collect", params)).fetchone()
        if row is None:
            raise self._lost("finish_collect")
        completed, failed, requeued, cancelled, *tokens = row
        return Books(completed, failed, requeued, cancelled, Tokens(*tokens))

    async def forget_file(self, file_id: str) -> None:
        """This file of it is no longer at OpenAI."""
        await self._write("forget_file", file_id=file_id)

    async def close(self) -> None:
        """Nothing of it is left to do."""
        await self._write("close_batch", now=self.now)

    async def release(self, after_s: float, trouble: str | None = None) -> None:
        """Give it back; its next turn is in `after_s` seconds.

        `trouble`: why it failed this time, for people to read; None if it did not.
        """
        wait = timedelta(seconds=after_s)
        await self._write("release_batch", wait=wait, trouble=trouble, now=self.now)

    async def _count(self, moved: dict[str, int], tokens: Tokens) -> None:
        await self._write(
            "count_results",
            completed=moved.get("completed", 0),
            failed=moved.get("failed", 0),
            requeued=moved.get("queued", 0),
            cancelled=moved.get("cancelled", 0),
            **token_columns(tokens),
        )

    async def _write(self, statement: str, **values: Any) -> None:
        if await value(self.conn, statement, {**self._held, **values}) is None:
            raise self._lost(statement)

    def _lost(self, statement: str) -> LeaseLost:
        return LeaseLost(f"batch {self.row.id}: {statement} found it in other hands")
