"""The execution of one batch: it advances line by line and can stop anywhere."""

import random
import re
from collections import Counter
from collections.abc import Callable

from openaibatching.simulator.engine.account import Standing
from openaibatching.simulator.engine.canonical import parse
from openaibatching.simulator.engine.content import Content, Folder, Writer
from openaibatching.simulator.engine.ledger import Ledger, Usage
from openaibatching.simulator.engine.lines import Executor, unexecuted
from openaibatching.simulator.faults.faults import Dice

# An id with an escaped quote in it is cut there, which garbles the line as well.
_CUSTOM_ID = re.compile(rb'"custom_id": ?"[^"]*"')


def _without_custom_id(line: bytes) -> bytes:
    return _CUSTOM_ID.sub(lambda _: rb'"custom_id": "\ufffd\ufffd\ufffd"', line, count=1)


class _Pile:
    """Finished lines of one result file, in the order they were finished."""

    def __init__(self, folder: Folder) -> None:
        self._writer = Writer(folder)
        self._places: list[tuple[int, int]] = []

    def add(self, line: bytes) -> None:
        if line:
            self._places.append((self._writer.write(line), len(line)))

    def shuffled(
        self, seed: str, folder: Folder, change: Callable[[bytes], bytes]
    ) -> Content | None:
        """All lines, each one changed, in another order; None when there are none."""
        if not self._places:
            return None
        # Output order is not input order (batch guide): nobody may rely on it.
        random.Random(seed).shuffle(self._places)  # noqa: S311 no secret
        result = Writer(folder)
        with self._writer.done().open() as reader:
            for offset, length in self._places:
                reader.seek(offset)
                result.write(change(reader.read(length)))
        self._places = []
        return result.done()


class Run:
    """Executes the lines of a valid input file, up to a number, and collects results."""

    def __init__(self, endpoint: str, content: Content, executor: Executor, folder: Folder):
        self._endpoint = endpoint
        self._content = content
        self._executor = executor
        self._folder = folder
        self._offset = 0
        self._postponed: list[tuple[str, str]] = []
        self._output, self._error = _Pile(folder), _Pile(folder)
        self._paid: Counter[str] = Counter()
        self.done = 0
        self.completed = 0
        self.failed = 0
        self.usage = Usage()

    @property
    def held_back(self) -> bool:
        """Whether a marked line waits for the window to close."""
        return any(code == "batch_expired" for _, code in self._postponed)

    def advance(self, upto: int, now: float, dice: Dice, standing: Standing) -> None:
        """Execute until `upto` lines are done."""
        if upto <= self.done:
            return
        with self._content.open() as reader:
            reader.seek(self._offset)
            while self.done < upto:
                self._one(reader.readline(), now, dice, standing)
            self._offset = reader.tell()

    def _one(self, line: bytes, now: float, dice: Dice, standing: Standing) -> None:
        result = self._executor.execute(self._endpoint, line, now, dice, standing)
        self.done += 1
        if result.postponed:
            self._postponed.append((parse(line)["custom_id"], result.postponed))
            return
        self._output.add(result.output)
        self._error.add(result.error)
        self.completed += result.completed
        self.failed += result.failed
        if result.usage is not None:
            self.usage.add(result.usage)
            self._paid[result.sha] += 1

    def finish(
        self, rest: str, seed: str, *, unreadable: bool = False
    ) -> tuple[Content | None, Content | None]:
        """Output and error file; unexecuted lines go into the latter under the code `rest`.

        With `unreadable`, no custom_id in them is what it was.
        """
        for custom_id, code in self._postponed:
            self._error.add(unexecuted(custom_id, code))
        with self._content.open() as reader:
            reader.seek(self._offset)
            for line in reader:
                if line.strip():
                    self._error.add(unexecuted(parse(line)["custom_id"], rest))
        change = _without_custom_id if unreadable else bytes
        output = self._output.shuffled(f"{seed}:output", self._folder, change)
        return output, self._error.shuffled(f"{seed}:error", self._folder, change)

    def spoil_all(self, ledger: Ledger) -> None:
        """Every paid answer of this run is lost."""
        for sha, times in self._paid.items():
            for _ in range(times):
                ledger.spoil(sha)
