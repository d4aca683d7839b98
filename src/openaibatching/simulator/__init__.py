"""OpenAI's side of the Batch API as a small ASGI app with seeded faults.

It imports nothing of the service it is there to test.
"""

from openaibatching.simulator.core import Simulator
from openaibatching.simulator.engine.account import Account
from openaibatching.simulator.engine.canonical import body_sha256
from openaibatching.simulator.engine.ledger import Ledger
from openaibatching.simulator.engine.limits import Limits
from openaibatching.simulator.faults.faults import Faults
from openaibatching.simulator.faults.gates import Gate
from openaibatching.simulator.running import running

__all__ = ["Account", "Faults", "Gate", "Ledger", "Limits", "Simulator", "body_sha256", "running"]
