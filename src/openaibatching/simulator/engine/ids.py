"""Ids of the lengths and alphabets of OpenAI's."""

import random
import secrets
import string

_LETTERS = string.ascii_letters + string.digits
_dice = random.Random()  # noqa: S311 no secret


def word(prefix: str, length: int) -> str:
    """`file-` and 22, `chatcmpl-` and 29 letters and digits."""
    return prefix + "".join(_dice.choices(_LETTERS, k=length))


def digits(prefix: str, length: int = 32) -> str:
    """`batch_` and 32, `resp_` and 50 hexadecimal digits; the length is even."""
    return prefix + secrets.token_hex(length // 2)
