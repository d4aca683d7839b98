"""What another user of the machine can do. Only root can become one."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

NEEDS_ROOT = pytest.mark.skipif(
    os.geteuid() != 0, reason="not root: no other user can be played on this machine"
)


def nobody() -> pwd.struct_passwd:
    return pwd.getpwnam("nobody")


def as_nobody(*command: str) -> subprocess.CompletedProcess[str]:
    """What a program says and how it ends that another user runs."""
    who = nobody()
    return subprocess.run(
        command, user=who.pw_uid, group=who.pw_gid, extra_groups=[], cwd="/", text=True,
        capture_output=True, check=False, env={"PATH": os.environ["PATH"]}, timeout=60,
    )  # fmt: skip


@contextmanager
def folder_of(owner: pwd.struct_passwd) -> Iterator[Path]:
    """A folder of that user, in the one where everybody has theirs."""
    folder = Path(tempfile.mkdtemp(prefix="openaibatching-test-", dir="/tmp"))
    os.chown(folder, owner.pw_uid, owner.pw_gid)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
