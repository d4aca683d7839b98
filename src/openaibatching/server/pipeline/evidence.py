"""Whether what has no line in a batch's result files may be sent again. Pure.

Sending again is the only step that costs money, so evidence decides and not a count of tries: what
OpenAI's counts and usage say was executed, and what its files hold. While they say that an answer
was made and no file has it yet, the batch is looked at again, which is free.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import timedelta
from enum import Enum
from uuid import UUID

READS_MIN = 3
"""How often the same whole files are read before it is believed that they lack a line: bytes are
also lost on the way, and another reading has them."""
PAID_WAIT = timedelta(hours=12)
"""How long answers that were made are waited for. Result files of OpenAI's were seen to be some
minutes late, and an incident held batches in `finalizing` for five hours."""
SILENCE_POLLS = 20
"""How many times BATCH_POLL_S an ended batch may say nothing at all before that is believed."""


class Silence(Enum):
    """What to do about requests that have no line."""

    LOOK_AGAIN = "look again"
    SEND_AGAIN = "send again"
    GIVE_UP = "give up"
    """OpenAI executed them and has no answer to show: they fail, and only a person buys again."""


@dataclass(slots=True)
class Read:
    """What the result files held at one reading.

    `executed` are the requests that OpenAI executed by some line of theirs, `idle` those that it
    says it did not. `unknown` lines name nobody of ours; of `broken` ones nobody can tell whom they
    name. `gone`: a file that the batch names is not there. `account`: some line was refused for the
    account.
    """

    executed: set[UUID] = field(default_factory=set)
    idle: set[UUID] = field(default_factory=set)
    broken: int = 0
    unknown: int = 0
    gone: bool = False
    account: bool = False

    @property
    def lines(self) -> int:
        """How many lines tell of an execution, a request that has several counted once."""
        return len(self.executed) + self.unknown + self.broken

    @property
    def unattributable(self) -> bool:
        """Whether there are lines, and not one says whose it is."""
        return not self.executed and not self.idle and self.lines > 0


@dataclass(frozen=True, slots=True)
class Told:
    """What OpenAI's batch object says: its status, its counts, and whether tokens are charged that
    belong to no answer that is stored."""

    status: str
    executed: int
    charged: bool


def whole(told: Told, read: Read) -> bool:
    """Whether the files were all there, with as many lines as OpenAI counts executions."""
    return told.executed <= read.lines and not read.gone


def judge(told: Told, read: Read, reads: int, since: timedelta, poll: timedelta) -> Silence:
    """What to do about requests without a line.

    `reads` counts the whole readings since the batch object last changed, this one included;
    `since` is the time since the batch ended.
    """
    silent = told.executed == 0 and read.lines == 0
    if not whole(told, read) or read.unattributable or (silent and told.charged):
        return Silence.LOOK_AGAIN if since < PAID_WAIT else Silence.GIVE_UP
    # A batch that was cancelled before it began has nothing to say, and nothing of it goes again.
    odd = silent and not read.idle and told.status != "cancelled"
    if reads < READS_MIN or (odd and since < poll * SILENCE_POLLS):
        return Silence.LOOK_AGAIN
    return Silence.SEND_AGAIN


def why(told: Told, read: Read, owed: int) -> str:
    """What is waited for, for people to read."""
    if read.unattributable:
        return (
            f"no line of OpenAI's result files says which request it answers ({read.lines:,} "
            "lines); they are paid for, so nothing is sent again"
        )
    if not whole(told, read):
        return (
            f"OpenAI counts {told.executed:,} requests as executed, and its files have "
            f"{read.lines:,}; what is paid for is waited for and not sent again"
        )
    return f"OpenAI's files have no line for {owed:,} requests"
