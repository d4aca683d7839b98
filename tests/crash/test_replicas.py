"""Three servers on one database: one is killed, one is paused beyond its lease, one restarts."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path

from support.hands import HANDS, Paused
from support.killing import world_of
from support.postgres import Cluster

ASKED_OF_OTHERS = 60


def test_no_batch_is_made_or_collected_twice_and_none_is_left_behind(
    installed: Cluster, tmp_path: Path
) -> None:
    with world_of("external", installed, tmp_path) as world, ExitStack() as stack:
        paused = Paused(world, stack)
        paused.take(list(HANDS))
        killed, restarted = world.start(), world.start()
        texts = [f"meanwhile {n}" for n in range(ASKED_OF_OTHERS)]
        world.ask(killed, texts[::2])
        world.ask(restarted, texts[1::2])
        killed.kill()
        assert restarted.terminate() == 0
        others = [world.start(), world.start()]
        world.ask(others[0], texts)
        world.until_all_ended()
        paused.release()
        paused.resume()
        paused.server.wait_ready()
        paused.until_it_has_let_go()
        for model, asked in [*paused.texts.items(), ("gpt-4o", texts)]:
            for server in (paused.server, *others):
                answers = world.ask(server, asked, model)
                said = [answer["choices"][0]["message"]["content"] for answer in answers]
                assert said == [f"You said: {text}" for text in asked]
        assert [server.terminate() for server in (paused.server, *others)] == [0, 0, 0]
        # Nothing but taking back the file whose upload was in the air.
        assert [f"{c.method} {c.template}" for c in paused.acted_since()] == ["DELETE /files/{id}"]
        assert world.wrong() == []
        assert len(world.simulator.batches()) == world.read("count(*) from batch")
