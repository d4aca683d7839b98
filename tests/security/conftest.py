"""Servers that the tests of a file share."""

from support.servers import lively, quiet, sent

__all__ = ["lively", "quiet", "sent"]
