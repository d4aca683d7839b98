import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import openai
import pytest

from openaibatching.simulator import body_sha256
from simulator.kit import World, chat, said, world


def aside(call: Callable[[], Any]) -> "Future[Any]":
    with_one = ThreadPoolExecutor(1)
    future = with_one.submit(call)
    with_one.shutdown(wait=False)
    return future


def test_a_gate_before_holds_a_call_that_has_not_acted() -> None:
    with world() as w:
        gate = w.sim.gate("POST /batches", when="before")
        call = aside(lambda: w.create(said("a")))
        assert gate.wait_reached(5)
        assert w.sim.batches() == []
        gate.release()
        assert call.result(5).status == "validating"
        assert len(w.sim.batches()) == 1


def test_a_gate_after_holds_the_reply_of_a_call_that_acted() -> None:
    with world() as w:
        gate = w.sim.gate("POST /batches", when="after")
        call = aside(lambda: w.create(said("a")))
        gate.wait_reached(5)
        assert len(w.sim.batches()) == 1
        assert not call.done()
        gate.release()
        assert call.result(5).id == w.sim.batches()[0]["id"]


@pytest.mark.parametrize(("when", "files"), [("before", 0), ("after", 1)])
def test_a_held_call_can_be_cut(when: Any, files: int) -> None:
    with world() as w:
        gate = w.sim.gate("POST /files", when=when)
        call = aside(lambda: w.upload(said("a")))
        gate.wait_reached(5)
        gate.cut()
        with pytest.raises(openai.APIConnectionError):
            call.result(5)
        assert len(w.sim.files()) == files


def test_a_gate_stops_one_call_only() -> None:
    with world() as w:
        gate = w.sim.gate("GET /batches/{id}")
        id_ = w.create(said("a")).id
        call = aside(lambda: w.client.batches.retrieve(id_))
        gate.wait_reached(5)
        assert w.client.batches.retrieve(id_).status == "completed"
        gate.release()
        assert call.result(5).status == "completed"


def test_a_gate_decided_beforehand_does_not_hold() -> None:
    with world() as w:
        w.sim.gate("GET /files").release()
        assert w.client.files.list().data == []
        w.sim.gate("GET /files").cut()
        with pytest.raises(openai.APIConnectionError):
            w.client.files.list()


def test_waiting_at_a_gate_nobody_reaches_gives_up() -> None:
    with world() as w, pytest.raises(TimeoutError, match="GET /files"):
        w.sim.gate("GET /files").wait_reached(0.01)


def test_the_end_of_a_simulator_cuts_what_is_held() -> None:
    held = threading.Event()
    with world() as w:
        gate = w.sim.gate("GET /files")
        call = aside(w.client.files.list)
        gate.wait_reached(5)
        held.set()
    with pytest.raises(openai.APIError):
        call.result(5)


def control(w: World, method: str, path: str, body: object = None) -> Any:
    client = w.strict(base_url=w.url.removesuffix("/v1") + "/_simulator")
    if method == "GET":
        return client.get(path, cast_to=object)
    return client.post(path, body=body, cast_to=object)


def test_gates_can_be_set_from_another_process() -> None:
    with world() as w:
        made = control(w, "POST", "/gates", {"on": "POST /batches", "when": "after"})
        call = aside(lambda: w.create(said("a")))
        while not control(w, "GET", f"/gates/{made['id']}")["reached"]:
            pass
        assert len(w.sim.batches()) == 1
        assert control(w, "POST", f"/gates/{made['id']}/cut")["decision"] == "cut"
        with pytest.raises(openai.APIConnectionError):
            call.result(5)


def test_wrong_gates_are_refused() -> None:
    with world() as w:
        wrong: list[tuple[str, object]] = [
            ("/gates", {"on": 1}),
            ("/gates", []),
            ("/gates", None),
            ("/gates/x/release", None),
        ]
        for path, body in wrong:
            with pytest.raises((openai.BadRequestError, openai.NotFoundError)):
                control(w, "POST", path, body)


def test_the_ledger_and_the_state_can_be_read_from_another_process() -> None:
    with world() as w:
        batch = w.finish(said("a", "[[simulate:status=500]]"))
        ledger = control(w, "GET", "/ledger")
        assert ledger["counts"] == w.sim.ledger.counts()
        assert (ledger["lines"], len(ledger["failures"]), ledger["spoiled"]) == (1, 1, {})
        assert ledger["usage"]["input_tokens"] == 1
        state = control(w, "GET", "/state")
        assert [one["id"] for one in state["batches"]] == [batch.id]
        assert len(state["files"]) == 3
        assert control(w, "GET", "/requests") == {
            "POST /files": 1,
            "POST /batches": 1,
            "GET /batches/{id}": 1,
        }


def test_the_ledger_can_be_asked_about_one_body() -> None:
    with world() as w:
        w.finish(
            said("a", "a", "[[simulate:status=500]]", "[[simulate:lost]]", "[[simulate:missing]]")
        )
        for text, executed, failed, spoiled in (
            ("a", 2, 0, 0),
            ("[[simulate:status=500]]", 0, 1, 0),
            ("[[simulate:lost]]", 1, 0, 1),
            ("[[simulate:missing]]", 0, 0, 0),
            ("never sent", 0, 0, 0),
        ):
            assert control(w, "POST", "/ledger", chat(text)) == {
                "sha256": body_sha256(chat(text)),
                "executed": executed,
                "failed": failed,
                "spoiled": spoiled,
            }
        with pytest.raises(openai.BadRequestError):
            control(w, "POST", "/ledger", [])


def test_faults_can_be_replaced_from_another_process() -> None:
    with world() as w:
        control(w, "POST", "/faults", {"error_500": 1.0, "seed": 4})
        with pytest.raises(openai.InternalServerError):
            w.client.files.list()
        control(w, "POST", "/faults", {})
        w.client.files.list()
        refused: list[object] = [{"no_such": 1}, {"stuck": "x"}, {"stuck": 2}, [], None]
        for wrong in refused:
            with pytest.raises(openai.BadRequestError):
                control(w, "POST", "/faults", wrong)
