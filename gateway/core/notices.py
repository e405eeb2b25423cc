"""The words of telling others: what is told of the log's records, to whom, and how far that has come.

1. Everything that is told is told of a record in the log; so nothing is told of what did not happen, and nothing that
happened is forgotten while the log is there.
2. At least once: a place in the log moves on after what lies before it was taken, durably.
3. Nothing here is on the way of a request, and nobody who is told can slow one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol as Port

from gateway.core.canonical import Json

KINDS = ("mark", "stop", "breaker", "fail_open")
DIGEST = "digest"


@dataclass(frozen=True, slots=True)
class Alert:
    """`key` names what happened: an alert of the same key is told once. `kind` is one of KINDS or DIGEST, `time` the
    record's. `about` is what a digest counts it under, `account` the account of a budget that it is of: after an
    administrator has done something to that, what was told of it may be told again."""

    key: str
    kind: str
    time: str
    about: str
    title: str
    text: str
    facts: Mapping[str, Json] = field(default_factory=dict)
    account: str = ""


@dataclass(frozen=True, slots=True)
class Adjusted:
    """An administrator set, topped up or reset this account."""

    account: str


@dataclass(frozen=True, slots=True)
class Letter:
    """One alert for one channel. `id` is the same at each try; `tries` before this one; `since` epoch seconds."""

    id: str
    channel: str
    alert: Alert
    tries: int
    since: float


@dataclass(frozen=True, slots=True)
class Place:
    """How far a reader of the log has come: the last entry it took, `digest` its SHA-256. A `seq` of -1: none yet."""

    seq: int
    digest: bytes


class NotSent(Exception):
    """A message did not get there; `args[0]` says why, without secrets. `after`: the receiver's own wish, seconds."""

    def __init__(self, why: str, after: float | None = None) -> None:
        super().__init__(why)
        self.after = after


class Channel(Port):
    """Where alerts go (notices/)."""

    name: str
    at_once: int  # letters in one message

    async def send(self, letters: Sequence[Letter]) -> None:
        """Returns when they were taken. Has a deadline of its own. Raises NotSent."""
        ...


class Places(Port):
    """Keeps the place of one reader (stores/). Any one thread at a time. Raises StoreFailed."""

    def found(self) -> Place | None: ...

    def keep(self, place: Place) -> None:
        """Durable when it returns."""
        ...


class AlertBook(Port):
    """What was told, what is still to be told, and what a digest will say (stores/). Any one thread at a time; raises
    StoreFailed."""

    def found(self) -> Place | None: ...

    def note(
        self,
        news: Sequence[Alert | Adjusted],
        tallies: Mapping[str, int],
        place: Place,
        channels: Sequence[str],
        now: float,
    ) -> None:
        """In one transaction and in this order: alerts whose key is new become letters to each channel, what was told
        of an adjusted account is forgotten, the tallies grow, the place moves on."""
        ...

    def due(self, channel: str, now: float, most: int) -> list[Letter]:
        """The oldest that may be tried now."""
        ...

    def sent(self, letters: Sequence[Letter]) -> None: ...

    def failed(self, letters: Sequence[Letter], again_at: float | None) -> None:
        """`again_at` None: given up."""
        ...

    def digest_due(self) -> float | None:
        """When the next digest is due, epoch seconds; None where nobody has said."""
        ...

    def digest(self, alert: Alert | None, channels: Sequence[str], next_due: float, now: float) -> None:
        """In one transaction: the digest becomes letters, the tallies begin anew, the next one is due then."""
        ...

    def tallies(self) -> Mapping[str, int]: ...
