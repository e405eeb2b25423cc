"""The words between a gateway's processes: the owner, who has the log and the counters, and the workers, who serve.

1. Whoever tells something is not answered; whoever asks is, once, or finds the other gone. 2. What one side sends
arrives in the order in which it was sent, each message whole or not at all. 3. A kind is one byte; both sides know who
says which. 4. The owner believes no more of a worker than what it says of its own exchanges.
"""

from __future__ import annotations

from asyncio import Future
from collections.abc import Awaitable, Callable
from typing import Final, TypeAlias
from typing import Protocol as Port

Told: TypeAlias = "Callable[[int, bytes], None]"
"""Gets the number and what was said. Must not raise for anything that the other side may say."""
Asked: TypeAlias = "Callable[[bytes], bytes | Awaitable[bytes]]"
"""What it raises is answered as PostRefused with the error's text."""

# A worker tells its owner:
RECORD: Final = b"r"  # of the log; its number is the worker's own, from 1 on
CLOSE: Final = b"c"  # what an exchange held, and what it came to
METERS: Final = b"m"  # what the worker counted since it began
STALE: Final = b"s"  # an upstream says that a list of its changed

# A worker asks its owner:
TAKE: Final = b"T"
GROW: Final = b"G"
BALANCES: Final = b"B"
ADJUST: Final = b"J"
COUNTS: Final = b"C"  # whether the counters answer
BIND: Final = b"N"
OWNER: Final = b"O"
FORGET: Final = b"F"
SAVE: Final = b"S"  # descriptors
LEARN: Final = b"L"  # a list of an upstream that is not what was known of it
LISTED: Final = b"I"  # the owner's own listing of an upstream, which may have to come first
ONCE: Final = b"U"  # whether a proof or a nonce is used for the first time

# The owner tells its workers:
DURABLE: Final = b"d"  # all records that were waited for, up to this number
REFUSED: Final = b"x"  # the record of this number is not in the log, and why
WEATHER: Final = b"w"  # why the log takes no records; empty where it does
KNOWN: Final = b"k"  # descriptors as they are now
HOLD: Final = b"h"  # an upstream's breaker is opened, closed or let go by hand

# The owner asks its workers:
BEGIN: Final = b"0"
PREPARE: Final = b"1"  # a snapshot, beside the one in force
COMMIT: Final = b"2"  # it is in force
ABORT: Final = b"3"
DRAIN: Final = b"4"
LOOK: Final = b"5"  # a worker's state and meters, now


class PostGone(Exception):
    """The other side is not there any more."""


class PostRefused(Exception):
    """The other side could not do what it was asked; `args[0]` says why."""


class Post(Port):
    """One end of the connection between an owner and a worker (wire/post.py)."""

    def tell(self, kind: bytes, number: int, said: bytes) -> None:
        """Goes out with this turn of the loop. Nothing where the other side is gone."""
        ...

    def ask(self, kind: bytes, said: bytes) -> Future[bytes]:
        """Its answer. Raises PostGone, PostRefused; waits for ever where the other side does: who asks has a deadline,
        or a worker that is of no use without its owner."""
        ...

    def told(self, kind: bytes, what: Told) -> None:
        """Who hears of this kind."""
        ...

    def asked(self, kind: bytes, what: Asked) -> None:
        """Who answers this kind."""
        ...

    @property
    def backlog(self) -> int:
        """Bytes that the other side has not taken yet."""
        ...
