"""Submit: a claimed batch is written to a file, uploaded and created at OpenAI, exactly once.

The intent is committed before each call that acts (`uploading`, `creating`), so a batch that is
found in such a state has an outcome that nobody knows: it is looked for upstream, by the
name of its file or the key in its metadata, and adopted.
"""

from __future__ import annotations

import asyncio
import json
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import IO

from openaibatching.server.billing import spending
from openaibatching.server.config.settings import LEASE_S, UPSTREAM_CREATES_PER_HOUR
from openaibatching.server.database.statements import Connection
from openaibatching.server.domain.batch import Batch
from openaibatching.server.errors import (
    LeaseLost,
    UpstreamBusy,
    UpstreamDenied,
    UpstreamError,
    UpstreamRefused,
)
from openaibatching.server.pipeline import cancels, model_limits, queue, store
from openaibatching.server.pipeline.backoff import BACKOFF_MAX_S, backoff_s
from openaibatching.server.pipeline.context import Context
from openaibatching.server.pipeline.held_batch import HeldBatch
from openaibatching.server.providers.openai.input_lines import batch_line, file_name
from openaibatching.server.providers.openai.reasons import Cause, cause
from openaibatching.server.telemetry import logs

log = logs.get()

BODIES_AT_ONCE = 64
LOOK_AGAIN_S = 5.0
TAKE_BACK_LOOKS, TAKE_BACK_S = 3, 2.0
CREATES_FULL_S = 30.0
CREATE_HOLD_S = 5.0
FILE_INVISIBLE_TRIES_MAX = 20
"""How often a create may say that it cannot find the file that was just uploaded."""


_OF_ALL_REQUESTS = (Cause.MODEL, Cause.BATCH, Cause.TOKENS)
"""What a create may be refused for that says something about the requests themselves."""


async def upload_one(ctx: Context) -> bool:
    """Upload the file of at most one batch; whether there was one."""
    held = None
    try:
        async with ctx.leases.take("claimed", "uploading") as held:
            if held is not None and held.row.cancel_wished_at is not None:
                await _call_off(held)
            elif held is not None:
                await _adopt_or_upload(ctx, held)
    except LeaseLost:
        if held is not None:
            await _take_back(ctx, held.row)
        raise
    return held is not None


async def _adopt_or_upload(ctx: Context, held: HeldBatch) -> None:
    batch = held.row
    if batch.state == "uploading" and await _find_uploaded(ctx, held):
        return
    try:
        await _upload(ctx, held)
    except UpstreamRefused as error:
        await _refused(held, error, at="upload")
    except UpstreamError as error:
        log.warning("upload_failed", **await _later(ctx, held, error))
    except OSError as error:
        wait_s = backoff_s(batch.tries)
        log.error("spool_failed", **batch.names, detail=str(error), wait_s=wait_s)
        trouble = f"its file could not be written to DATA_DIR: {error.strerror}"
        await held.release(wait_s, trouble)


async def _find_uploaded(ctx: Context, held: HeldBatch) -> bool:
    """Adopt the file that an upload of unknown outcome left; false if there is none."""
    batch = held.row
    try:
        found = await ctx.upstream.find_files(file_name(batch.id), batch.created_at)
    except UpstreamError as error:
        log.warning("search_failed", **await _later(ctx, held, error))
        return True
    if found:
        await _uploaded(held, found[0])
    return bool(found)


async def _upload(ctx: Context, held: HeldBatch) -> None:
    async with _spooled(ctx, held.row) as file:
        # An upload that may have acted unseen is simply repeated: a file costs nothing, and
        # `clean_one` deletes every file of this name.
        async with held.transaction() as writes:
            await writes.start_upload()
        file_id = await ctx.upstream.upload(file_name(held.row.id), file)
    await _uploaded(held, file_id)


async def _uploaded(held: HeldBatch, file_id: str) -> None:
    async with held.transaction() as writes:
        await writes.finish_upload(file_id)


async def _take_back(ctx: Context, batch: Batch) -> None:
    """Delete what we uploaded after another server had taken the batch.

    By now the batch may be closed, and then nobody looks for strays any more. A file that may
    still be adopted is left alone.
    """
    async with ctx.database.transaction() as conn:
        past, kept = await store.read_input_file(conn, batch)
    if not past:
        return
    try:
        for look in range(TAKE_BACK_LOOKS):
            if look:  # it was cut off by us, and may still be about to act
                await asyncio.sleep(TAKE_BACK_S)
            found = await ctx.upstream.find_files(file_name(batch.id), batch.created_at)
            if strays := [file_id for file_id in found if file_id != kept]:
                for file_id in strays:
                    await ctx.upstream.delete_file(file_id)
                return
    except UpstreamError as error:
        log.warning("stray_file_left", **batch.names, **logs.said(error))


@asynccontextmanager
async def _spooled(ctx: Context, batch: Batch) -> AsyncIterator[IO[bytes]]:
    """The batch's input file on disk, written straight from the database.

    It has no name, so that nothing is left of it however the process ends.
    """
    file = tempfile.TemporaryFile(dir=ctx.settings.spool_dir)  # noqa: SIM115
    try:
        async for id_, body in store.read_bodies(ctx.database, batch, BODIES_AT_ONCE):
            file.write(batch_line(id_, batch.endpoint, body))
        file.seek(0)
        yield file
    finally:
        # In a thread: giving 200 MB back to the disk takes 40 ms, and every caller would wait.
        await asyncio.to_thread(file.close)


async def create_one(ctx: Context) -> bool:
    """Create at most one batch at OpenAI, or find out what became of it; whether there was one."""
    async with ctx.leases.take("uploaded", "creating") as held:
        if held is None:
            return False
        batch = held.row
        # Two branches, because one error means two things: a create that is refused did not
        # act, while a refused look says nothing about the create before it.
        if batch.state == "uploaded" and batch.cancel_wished_at is not None:
            await _call_off(held)
        elif batch.state == "uploaded":
            await _try_create(ctx, held)
        else:
            try:
                await _find_created(ctx, held)
            except UpstreamError as error:
                log.warning("search_failed", **await _later(ctx, held, error))
    return True


async def _call_off(held: HeldBatch) -> None:
    """Its end is wished: it is not sent."""
    async with held.transaction() as writes:
        await writes.call_off()
    log.info("batch_called_off", **held.row.names, requests=held.row.requests)


async def _try_create(ctx: Context, held: HeldBatch) -> None:
    batch = held.row
    try:
        await _create(ctx, held)
    except UpstreamRefused as error:
        if _file_invisible(error) and batch.tries < FILE_INVISIBLE_TRIES_MAX:
            await _undo(held, backoff_s(batch.tries), error)
        elif _file_invisible(error) or _cause_of(error) in _OF_ALL_REQUESTS:
            await _refused(held, error)
        else:
            await _hold(ctx, held, error)
    except (UpstreamBusy, UpstreamDenied) as error:
        if _cause_of(error) is Cause.MODEL:  # told as 404, or as 403 without access to it
            await _refused(held, error)
        elif error.status == 404 and batch.tries >= FILE_INVISIBLE_TRIES_MAX:
            await _refused(held, error, file_missing=True)
        else:
            await _hold(ctx, held, error)
    except UpstreamError as error:
        async with held.transaction() as writes:
            await writes.note_unknown()
        log.warning("create_unknown", **await _later(ctx, held, error))


async def _hold(ctx: Context, held: HeldBatch, error: UpstreamError) -> None:
    """Ask again later, and form no more batches of the model until then.

    Nothing of a batch's content is looked at when it is created, so a refusal is about the account,
    the project or the region, and halving the batch would only multiply it.
    """
    batch = held.row
    wait_s = error.retry_after or backoff_s(batch.tries, first=CREATE_HOLD_S)
    log.warning("create_refused", **batch.names, **logs.said(error), wait_s=wait_s)
    async with ctx.database.transaction() as conn:
        # Beyond this batch's next try, so that none is formed beside it.
        await model_limits.hold_model(conn, batch.model, 2 * wait_s, error.code, ctx.now())
    await _undo(held, wait_s, error)


async def _create(ctx: Context, held: HeldBatch) -> None:
    batch = held.row
    assert batch.input_file_id is not None
    committing = time.monotonic()
    async with held.transaction() as writes:
        conn = writes.conn
        await queue.lock_creates(conn)
        # Wished since the batch was taken: a create that begins after the wish is not sent.
        if await cancels.lock_wish(conn, batch):
            await writes.release(0)
            return
        if await queue.creates_last_hour(conn, ctx.now()) >= UPSTREAM_CREATES_PER_HOUR:
            log.warning("creations_full", **batch.names, wait_s=CREATES_FULL_S)
            trouble = f"{UPSTREAM_CREATES_PER_HOUR:,} batches were created in the last hour"
            await writes.release(CREATES_FULL_S, trouble)
            return
        if batch.parent_id is not None and not await _of_a_share(ctx, conn, batch):
            log.warning("share_used_up", **batch.names, wait_s=CREATES_FULL_S)
            trouble = "its tenants have used up their share of the batches of an hour"
            await writes.release(CREATES_FULL_S, trouble)
            return
        await writes.start_create()
    # A process that was paused here for longer than its lease must not send: another server
    # may be about to.
    if time.monotonic() - committing > LEASE_S / 2:
        raise LeaseLost(f"batch {batch.id}: paused before its creation was sent")
    created = await ctx.upstream.create(batch.id, batch.input_file_id, batch.endpoint)
    await _created(ctx, held, created.id, created.status)


async def _of_a_share(ctx: Context, conn: Connection, batch: Batch) -> bool:
    """Whether one of its tenants may have another creation. Asked for halves, because a batch that
    was formed has its share already."""
    creations = await queue.read_creations(conn, ctx.now())
    shares = await spending.read_shares(conn, batch)
    return any(creations.may(tenant) for tenant, _ in shares)


async def _created(ctx: Context, held: HeldBatch, upstream_id: str, status: str) -> None:
    poll_s = backoff_s(0, first=ctx.settings.batch_poll_s)
    async with held.transaction() as writes:
        await writes.finish_create(upstream_id, status, poll_s)
    batch = held.row
    log.info("batch_submitted", **batch.names, upstream_batch=upstream_id, requests=batch.requests)


async def _find_created(ctx: Context, held: HeldBatch) -> None:
    """Adopt what a create of unknown outcome made; create again only when it is not there."""
    batch = held.row
    assert batch.attempted_at is not None
    found = await ctx.upstream.find_batches(batch.id, batch.created_at)
    if found:
        log.info("batch_adopted", **batch.names, upstream_batch=found[0].id)
        await _created(ctx, held, found[0].id, found[0].status)
        return
    settled = batch.attempted_at + timedelta(seconds=ctx.settings.batch_settle_s)
    if batch.now >= settled:
        log.warning("create_repeated", **batch.names)
        await _undo(held, 0)
    else:
        left = (settled - batch.now).total_seconds()
        await held.release(min(left, LOOK_AGAIN_S))


def _file_invisible(error: UpstreamRefused) -> bool:
    """Seen under load: a file is not found for a while after its upload."""
    return error.param in ("file_id", "input_file_id") and "find file" in error.message


def _cause_of(error: UpstreamError) -> Cause | None:
    """Whose trouble an upload or a create was refused for."""
    return cause(status=error.status, code=error.code, param=error.param, message=error.message)


async def _undo(held: HeldBatch, wait_s: float, refused: UpstreamError | None = None) -> None:
    trouble = logs.trouble(refused) if refused else None
    async with held.transaction() as writes:
        await writes.undo_create(refused=refused is not None)
        await writes.release(wait_s, trouble)


async def _later(ctx: Context, held: HeldBatch, error: UpstreamError) -> dict[str, object]:
    """Give it back for later; what is to be logged about that."""
    batch = held.row
    # While an outcome is unknown, looking is what it waits for: never longer than half the time
    # after which it is sent again.
    most = max(1.0, ctx.settings.batch_settle_s / 2)
    denied = isinstance(error, UpstreamDenied)
    wait_s = error.retry_after or backoff_s(batch.tries, most=BACKOFF_MAX_S if denied else most)
    if denied:  # a refused key helps no other batch of the model either
        async with ctx.database.transaction() as conn:
            await model_limits.hold_model(conn, batch.model, 2 * wait_s, error.code, ctx.now())
    await held.release(wait_s, logs.trouble(error))
    return {**batch.names, **logs.said(error), "wait_s": wait_s}


async def _refused(
    held: HeldBatch,
    error: UpstreamError,
    *,
    at: str | None = None,
    file_missing: bool = False,
) -> None:
    log.warning("submission_refused", **held.row.names, **logs.said(error))
    reason = {"code": error.code, "message": error.message, "param": error.param, "at": at}
    if file_missing:
        reason |= {"param": "input_file_id", "message": "Cannot find file."}
    async with held.transaction() as writes:
        await writes.refuse(json.dumps([reason]).encode())
