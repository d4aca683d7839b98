"""Secrets in files, as container platforms mount them: `NAME_FILE` names the file for `NAME`.

For the server's settings and for the commands alike; imports nothing of either.
"""

from __future__ import annotations

import os
from pathlib import Path

FILE_BYTES_MAX = 65_536
"""More than this is no secret; a wrong path must not read a disk into memory."""


def from_file(name: str) -> str | None:
    """What the file that `NAME_FILE` names holds, without one line end; None if it is not set.

    Raises ValueError with one line that names the variable, and never quotes the file.
    """
    variable = f"{name}_FILE"
    path = os.environ.get(variable)
    if not path:
        return None
    if os.environ.get(name):
        raise ValueError(f"{name} and {variable} are both set: set only one of them")
    try:
        with Path(path).open("rb") as file:
            content = file.read(FILE_BYTES_MAX + 1)
        if len(content) > FILE_BYTES_MAX:
            raise ValueError(f"{variable}: {path} is too large for a secret")
        text = content.decode("utf-8-sig")
    except OSError as error:
        raise ValueError(f"{variable}: {path} cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise ValueError(f"{variable}: {path} is not UTF-8 text") from None
    text = text.removesuffix("\n").removesuffix("\r")
    if not text.strip():
        raise ValueError(f"{variable}: {path} is empty")
    return text
