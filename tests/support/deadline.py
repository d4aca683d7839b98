"""How long a test waits for what must happen.

Only a defect reaches it: a busy machine, or one core, makes a test slow and never red.
"""

import time
from collections.abc import Callable

DEADLINE_S = 300.0


def until(condition: Callable[[], bool]) -> None:
    """Return once it is true, asked again and again: what another thread does."""
    deadline = time.monotonic() + DEADLINE_S
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)
