"""Who presents a key: its tenant, its name, and what its scope allows. Pure.

`openaibatching keys create --scope` gives a key one scope. Keys of BATCH_SERVER_API_KEY have
`submit`; a lone key without a name is the operator's own, so it also reads all of `/metrics`.
"""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from enum import Enum

from openaibatching.server.auth.key_format import MARK_BYTES


class Power(Enum):
    """What a key may do. The value says it in a sentence that begins with "may not"."""

    SUBMIT = "change anything"
    READ = "read requests and reports"
    ALL_METRICS = "read the metrics of all tenants"
    ALL_TENANTS = "read the reports of all tenants"


SUBMIT, READ, METRICS, ADMIN = "submit", "read", "metrics", "admin"
POWERS: dict[str, frozenset[Power]] = {
    SUBMIT: frozenset({Power.SUBMIT, Power.READ}),
    READ: frozenset({Power.READ}),
    METRICS: frozenset({Power.ALL_METRICS}),
    ADMIN: frozenset(Power),
}
"""{scope: its powers}. An admin submits for its own tenant only, like everybody."""
OPERATOR = POWERS[SUBMIT] | {Power.ALL_METRICS}


@dataclass(frozen=True, slots=True)
class Holder:
    """Whose a key is, the key's digest and name, and its id if it is one of the database."""

    tenant: str
    digest: bytes
    name: str
    scope: str = SUBMIT
    powers: frozenset[Power] = POWERS[SUBMIT]
    id: uuid.UUID | None = None

    @property
    def mark(self) -> bytes:
        """The beginning of the digest: it names the key within this process."""
        return self.digest[:MARK_BYTES]

    def may(self, power: Power) -> bool:
        """Whether the key's scope allows it."""
        return power in self.powers
