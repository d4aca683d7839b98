"""What a server changes of Python's own settings, in a process of its own."""

from __future__ import annotations

import subprocess
import sys

CODE = """
import gc, sys
from openaibatching.server import app
app.set_up_interpreter()
print(sys.getswitchinterval() <= 0.001, gc.get_threshold()[0] >= 10_000, gc.get_freeze_count() > 0)
"""


def test_the_loop_soon_goes_on_beside_a_thread_and_seldom_looks_for_garbage() -> None:
    done = subprocess.run([sys.executable, "-c", CODE], capture_output=True, text=True, check=True)

    assert done.stdout.split() == ["True", "True", "True"]
