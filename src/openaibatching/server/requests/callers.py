"""The calls that are under way at this server, by tenant: how many a second and at a time.

A call is an HTTP request with a good key, from its head to the end of its reply.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from starlette.types import Scope

from openaibatching.server.config.settings import Settings
from openaibatching.server.errors import RateLimited
from openaibatching.server.requests.rates import Rate

FULL_S = 2
"""After how long a call shall come again that finds too many of its tenant's."""
BYTES_MAX, TENANT_BYTES_MAX = 536_870_912, 268_435_456
"""Bytes of bodies that are read and not stored yet, of all tenants and of one."""
_ENTERED = "openaibatching.entered"
_HELD = "openaibatching.held"


class Callers:
    """Who is in, and who has to wait outside."""

    def __init__(self, settings: Settings, clock: Callable[[], float] = time.monotonic) -> None:
        """`clock` gives seconds."""
        self._rate_max = settings.limit("tenant_rate_max")
        self._at_a_time_max = settings.limit("tenant_concurrency_max")
        self._clock = clock
        self._rates: dict[str, Rate] = {}
        self._at_a_time: dict[str, int] = {}
        self._bytes: dict[str, int] = {}
        self._bytes_of_all = 0

    def enter(self, scope: Scope, tenant: str) -> None:
        """Let the call in. Raises RateLimited. A call enters once, however often it is asked."""
        if _ENTERED in scope:
            return
        at_a_time = self.under_way(tenant)
        most = self._at_a_time_max.of(tenant)
        if most is not None and at_a_time >= most:
            raise RateLimited(
                f"More than {most:,} calls at a time (TENANT_CONCURRENCY_MAX of this tenant).",
                retry_after_s=FULL_S,
            )
        if pause_s := self._pause_s(tenant):
            most = self._rate_max.of(tenant)
            raise RateLimited(
                f"More than {most:,} calls a second (TENANT_RATE_MAX of this tenant).",
                retry_after_s=pause_s,
            )
        self._at_a_time[tenant] = at_a_time + 1
        scope[_ENTERED] = tenant

    def under_way(self, tenant: str) -> int:
        """How many calls of the tenant have no reply yet."""
        return self._at_a_time.get(tenant, 0)

    def hold(self, scope: Scope, size: int) -> None:
        """So many more bytes of the call's body are in memory. Raises RateLimited.

        One body alone always fits, so that every call passes at some time.
        """
        tenant = scope.get(_ENTERED)
        if tenant is None:
            return
        held = scope.get(_HELD, 0)
        others = self._bytes.get(tenant, 0) - held, self._bytes_of_all - held
        if (others[0] and others[0] + held + size > TENANT_BYTES_MAX) or (
            others[1] and others[1] + held + size > BYTES_MAX
        ):
            raise RateLimited(
                "Too many bytes of calls are under way at this server.", retry_after_s=FULL_S
            )
        scope[_HELD] = held + size
        self._bytes[tenant] = self._bytes.get(tenant, 0) + size
        self._bytes_of_all += size

    def let_go(self, scope: Scope) -> None:
        """The call's body is stored, or refused."""
        held = scope.pop(_HELD, 0)
        if held:
            tenant = scope[_ENTERED]
            self._bytes_of_all -= held
            self._bytes[tenant] -= held
            if not self._bytes[tenant]:
                del self._bytes[tenant]

    def leave(self, scope: Scope) -> None:
        """The call has got its reply, if it was let in."""
        self.let_go(scope)
        tenant = scope.pop(_ENTERED, None)
        if tenant is None:
            return
        self._at_a_time[tenant] -= 1
        if not self._at_a_time[tenant]:
            del self._at_a_time[tenant]

    def _pause_s(self, tenant: str) -> int:
        rate = self._rates.get(tenant)
        if rate is None:
            most = self._rate_max.of(tenant)
            if most is None:
                return 0
            rate = self._rates[tenant] = Rate(most, self._clock())
        return rate.pause_s(self._clock())
