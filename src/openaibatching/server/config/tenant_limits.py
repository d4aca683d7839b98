"""A limit of each tenant: one number for all, and others by name. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from openaibatching.server.errors import ConfigError

_PART = re.compile(r"(?:([A-Za-z0-9._-]{1,64})=)?([1-9][0-9]{0,11})")


@dataclass(frozen=True, slots=True)
class TenantLimit:
    """`most` for every tenant that is not in `named`; None is no limit."""

    most: int | None = None
    named: Mapping[str, int] = field(default_factory=dict)

    def of(self, tenant: str) -> int | None:
        """The tenant's limit."""
        return self.named.get(tenant, self.most)


def parse_limit(name: str, text: str) -> TenantLimit:
    """The limit that the setting `name` has: `1000`, `team-a=5,team-b=10` or both.

    Raises ConfigError.
    """
    parts = [part.strip() for part in text.split(",") if part.strip()]
    found = [_PART.fullmatch(part) for part in parts]
    limits = {match[1]: int(match[2]) for match in found if match}
    if len(limits) < len(parts):
        raise ConfigError(f"{name} must be a whole number above 0, or name=5,name2=10, or both")
    most = limits.pop(None, None)
    return TenantLimit(most, limits)
