from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from simulator.kit import chat, line, world

SOURCE = Path(__file__).parents[2] / "src" / "openaibatching" / "simulator"


def test_fifty_thousand_lines_are_answered_while_others_are_served() -> None:
    with world() as w:
        made = w.create([line(f"r{n}", chat(f"question {n}")) for n in range(50_000)])
        with ThreadPoolExecutor(1) as aside:
            looking = aside.submit(w.strict(timeout=300).batches.retrieve, made.id)
            served = 0
            while not looking.done():
                w.client.models.list()
                served += not looking.done()
            batch = looking.result()
        assert batch.status == "completed"
        assert served > 3, "others were served meanwhile"
        results = {one["custom_id"]: one for one in w.read(batch.output_file_id)}
        assert len(results) == 50_000 == w.sim.ledger.lines
        for n in range(0, 50_000, 997):
            answer = results[f"r{n}"]["response"]["body"]["choices"][0]["message"]["content"]
            assert answer == f"You said: question {n}"


def test_one_line_too_many_fails_the_batch() -> None:
    with world() as w:
        batch = w.finish([line(f"r{n}", chat("x")) for n in range(50_001)])
        assert batch.status == "failed"
        assert batch.errors
        assert batch.errors.data
        assert "50001 requests" in (batch.errors.data[0].message or "")


def test_the_simulator_imports_nothing_it_is_there_to_test() -> None:
    for path in SOURCE.rglob("*.py"):
        text = path.read_text()
        assert "openaibatching.server" not in text
        assert "openaibatching.client" not in text
        assert len(text.splitlines()) <= 300, path.name
