"""How long a test waits for what must happen.

Only a defect reaches it: a busy machine, or one core, makes a test slow and never red.
"""

DEADLINE_S = 300.0
