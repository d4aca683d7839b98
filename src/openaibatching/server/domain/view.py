"""Whose work a report is about. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

EVERYBODY = ""
"""The tenant of whole batches in the view `tenant_batch` (schema.sql): none can have this name."""


@dataclass(frozen=True, slots=True)
class View:
    """What a report shows: the work of these tenants. `whole` also shows what all tenants share:
    the budget of all, and all of a batch."""

    tenants: tuple[str, ...]
    all_tenants: bool = False
    whole: bool = False

    @classmethod
    def own(cls, tenant: str, *, whole: bool = False) -> View:
        """What one tenant sees."""
        return cls((tenant,), whole=whole)

    @classmethod
    def everything(cls, tenants: Sequence[str]) -> View:
        """What a key that sees all tenants sees; these are all."""
        return cls(tuple(tenants), all_tenants=True, whole=True)

    @property
    def tenant(self) -> str | None:
        """The one tenant; None for all of them."""
        return None if self.all_tenants else self.tenants[0]

    @property
    def of_batches(self) -> str:
        """The tenant by which batches are found."""
        return EVERYBODY if self.all_tenants else self.tenants[0]
