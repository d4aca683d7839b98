"""Servers that the tests of a file share."""

from support.servers import lively, patient, quiet, sent

__all__ = ["lively", "patient", "quiet", "sent"]
