"""Every point of a request's way at which a server may be killed, held exactly there.

Gates of the simulator hold calls to OpenAI; locks hold statements; a standby that is not there
holds the replies to commits. No product code takes part.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import httpx2

from openaibatching.simulator import Faults
from openaibatching.simulator.faults.gates import When
from support.deadline import DEADLINE_S
from support.killing import STORING, World
from support.steps import chat

Point = Callable[[World], None]

# More than collect stores in one transaction (collect.RESULT_BYTES_AT_ONCE), in few lines.
LARGE_TEXTS, LARGE_BYTES = 40, 300_000
LONG_AGO = "interval '100 days'"


def at_gate(route: str, when: When) -> Point:
    """While this call to OpenAI is under way: it has not acted, or its reply has not come."""

    def point(world: World) -> None:
        gate = world.simulator.gate(route, when=when)
        server = world.start()
        world.ask_together(server)
        gate.wait_reached(DEADLINE_S)
        world.kill(server)
        gate.cut()

    return point


def before_it_is_recorded(route: str, state: str) -> Point:
    """OpenAI's reply has come, and the statement that records it has not run."""

    def point(world: World) -> None:
        gate = world.simulator.gate(route, when="after")
        server = world.start()
        world.ask_together(server)
        gate.wait_reached(DEADLINE_S)
        with world.locked("select from batch for update") as lock:
            gate.release()
            lock.until_blocks(f"set state = '{state}'")
            world.kill(server)

    return point


# ----- accept, form -----


def after_accepts_commit(world: World) -> None:
    server = world.start()
    with world.commits_held(), world.asking(server) as calls:
        world.until_commit_waits()
        world.kill(server)
    assert all(isinstance(call.exception(), httpx2.TransportError) for call in calls)
    world.accepted = 1


def after_the_claim(world: World) -> None:
    server = world.start()
    with world.queued(server) as forming, world.commits_held():
        forming.release()
        world.until_commit_waits()
        world.kill(server)


# ----- submit -----


def while_spooling(world: World) -> None:
    server = world.start()
    with (
        world.queued(server) as forming,
        world.locked("lock table body in access exclusive mode") as lock,
    ):
        forming.release()
        lock.until_blocks("select r.id, p.body")
        world.kill(server)


CREATES = "select pg_advisory_xact_lock(9487, 0)"


def before_the_create(world: World) -> None:
    server = world.start()
    with world.locked(CREATES) as lock:
        world.ask_together(server)
        lock.until_blocks()
        world.kill(server)


def between_the_intent_and_the_create(world: World) -> None:
    server = world.start()
    with world.locked(CREATES) as lock:
        world.ask_together(server)
        lock.until_blocks()
        with world.commits_held():
            lock.release()
            world.until_commit_waits()
            world.kill(server)


# ----- watch, collect -----


def between_polls(world: World) -> None:
    world.simulator.faults = Faults(unknown_status=1.0)  # which is never the last one
    server = world.start()
    world.ask_together(server)
    world.until("exists (select from batch where upstream_status = 'rebalancing')")
    # Nobody takes a batch whose row is locked, and nobody has one that this finds.
    idle = "select from batch where state = 'submitted' and lease_by is null for update"
    deadline = time.monotonic() + DEADLINE_S
    while True:
        with world.locked(idle) as lock:
            if lock.rows > 0:
                world.kill(server)
                break
        assert time.monotonic() < deadline
    world.simulator.faults = Faults()


def while_storing_results(world: World) -> None:
    """One transaction of the batch's results is committed, the next one is not."""
    world.texts = [f"{n} " + "x" * LARGE_BYTES for n in range(LARGE_TEXTS)]
    gate = world.simulator.gate("GET /files/{id}/content", when="before")
    server = world.start()
    world.ask_together(server)
    gate.wait_reached(DEADLINE_S)
    [file] = [file for file in world.simulator.files() if file["purpose"] == "batch_output"]
    last = world.content(file["id"]).splitlines()[-1].split(b'"batchreq_')[1][:32].decode()
    row = f"select from sent where seq = (select seq from request where id = '{last}') for update"
    with world.locked(row) as lock:
        gate.release()
        lock.until_blocks(STORING)
        assert 0 < world.read("count(*) from result") < LARGE_TEXTS
        world.kill(server)


# ----- a batch that its caller stops; OpenAI takes its time for it -----


def after_the_wish_before_the_create(world: World) -> None:
    server = world.start()
    with world.locked(CREATES) as lock:
        world.ask_together(server)
        lock.until_blocks()
        world.cancel_batch(server)
        world.kill(server)


def at_the_cancel(when: When) -> Point:
    """The wish is committed, and OpenAI's cancel has not acted, or its reply has not come."""

    def point(world: World) -> None:
        gate = world.simulator.gate("POST /batches/{id}/cancel", when=when)
        server = world.start()
        world.ask_together(server)
        world.until("exists (select from batch where state = 'submitted')")
        world.cancel_batch(server)
        gate.wait_reached(DEADLINE_S)
        world.kill(server)
        gate.cut()

    return point


# ----- around it -----


def during_retention(world: World) -> None:
    server = world.start()
    world.ask(server, [f"long ago {n}" for n in range(10)])
    world.until_all_ended()
    gate = world.simulator.gate("GET /batches/{id}", when="before")
    with world.locked("select from body for update") as lock:
        world.execute(f"update result set finished_at = finished_at - {LONG_AGO}")
        world.execute(f"update batch set closed_at = closed_at - {LONG_AGO}")
        world.ask_together(server)
        gate.wait_reached(DEADLINE_S)
        lock.until_blocks("delete from result")
        world.kill(server)
    gate.cut()
    world.accepted = len(world.texts)
    world.doomed = f"finished_at < now() - {LONG_AGO} / 2"


def while_the_schema_is_set_up(world: World) -> None:
    with world.database_alone():
        world.execute("create schema openaibatching")
        with world.locked("create table event ()") as lock:
            server = world.launch()
            lock.until_blocks()
            world.kill(server)


def after_the_schemas_commit(world: World) -> None:
    with world.database_alone(), world.commits_held():
        server = world.launch()
        world.until_commit_waits()
        world.kill(server)


SENDING: dict[str, Point] = {
    "after accept's commit, before its reply": after_accepts_commit,
    "after the claim": after_the_claim,
    "while spooling": while_spooling,
    "while uploading": at_gate("POST /files", "before"),
    "after the upload, before its reply": at_gate("POST /files", "after"),
    "after the upload's reply, before it is recorded": before_it_is_recorded(
        "POST /files", "uploaded"
    ),
    "before the create": before_the_create,
    "between the create's intent and its sending": between_the_intent_and_the_create,
    "before the create acts": at_gate("POST /batches", "before"),
    "after the create, before its reply": at_gate("POST /batches", "after"),
    "after the create's reply, before it is recorded": before_it_is_recorded(
        "POST /batches", "submitted"
    ),
}

ANSWERING: dict[str, Point] = {
    "between polls": between_polls,
    "while downloading": at_gate("GET /files/{id}/content", "after"),
    "in the middle of storing results": while_storing_results,
    "after results, before upstream files are deleted": at_gate("DELETE /files/{id}", "before"),
    "after an upstream file is deleted": at_gate("DELETE /files/{id}", "after"),
    "during retention": during_retention,
    "while the schema is set up": while_the_schema_is_set_up,
    "after the schema's commit": after_the_schemas_commit,
}

POINTS = SENDING | ANSWERING

CALLING_OFF: dict[str, Point] = {
    "after the wish, before the create": after_the_wish_before_the_create,
    "after the wish, before OpenAI's cancel acts": at_the_cancel("before"),
    "after OpenAI's cancel, before its reply": at_the_cancel("after"),
}
"""Where not all calls are answered in the end: `stays_called_off` says what is right."""


def goes_on(world: World) -> list[str]:
    """A server starts where another one was killed. Hands off until all has ended; then whatever
    is wrong."""
    server, accepted = world.start(), world.accepted
    world.until_all_ended()
    kept = world.read("count(*) from request")
    world.ask(server)  # those whose callers had no reply call again
    world.until_all_ended()
    said = [answer["choices"][0]["message"]["content"] for answer in world.ask(server)]
    found = world.wrong()
    if kept < accepted:
        found.append(f"{kept} requests are there, {accepted} were accepted")
    if said != [f"You said: {text}" for text in world.texts]:
        found.append("a call has another one's answer")
    if {world.simulator.ledger.count(chat(text)) for text in world.texts} != {1}:
        found.append("a body was not executed once")
    if server.terminate() != 0:
        found.append("the server did not end well")
    return found


def stays_called_off(world: World) -> list[str]:
    """A server starts where another one was killed after a caller's wish. Hands off until all has
    ended; then whatever is wrong."""
    server = world.start()
    world.until_all_ended()
    found = world.wrong()
    states = world.read("array_agg(distinct state) from shown_request")
    if states != ["cancelled"]:
        found.append(f"requests are {states}")
    if world.read("count(*) from request") != len(world.texts):
        found.append("a request is lost")
    if executed := sum(world.simulator.ledger.counts().values()):
        found.append(f"{executed} were executed")
    if sent := [b["status"] for b in world.simulator.batches() if b["status"] != "cancelled"]:
        found.append(f"OpenAI has batches that are {sent}")
    if len(world.simulator.batches()) > 1:
        found.append("it was sent again")
    if server.terminate() != 0:
        found.append("the server did not end well")
    return found
