"""What would have been decided: a decision as the log recorded it, to be made again, and who makes it.

The rule: a replay never guesses. `document` is the input as far as it is known for certain, and `Recorded` says what is
not known of it; a candidate that reads such a place has no answer for that decision, and says why.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol as Port
from typing import TypeAlias

from gateway.core.canonical import Json
from gateway.core.exchange import Decision

Path: TypeAlias = "tuple[str, ...]"

EVERYTHING: tuple[Path, ...] = ((),)


@dataclass(frozen=True, slots=True)
class Recorded:
    """One decision of the log. `known`: the paths of `document` that are exact, absence included; `()` is all of it.
    Of these, `masked` were replaced, and `withheld` has shapes in place of values, by the members of the context.
    `failed`: the engine had failed, so there is no decision to compare with; `unusable`: why nothing can be replayed.
    """

    seq: int
    exchange: str
    time: str
    allow: bool
    rule: str
    reason: str
    revision: str
    obligations: tuple[Json, ...]
    document: Mapping[str, Json]
    known: tuple[Path, ...] = EVERYTHING
    masked: tuple[Path, ...] = ()
    withheld: Mapping[str, Json] = field(default_factory=dict)
    failed: bool = False
    unusable: str = ""
    subject: str = ""
    action: str = ""
    resource: str = ""
    route: str = ""


@dataclass(frozen=True, slots=True)
class NotReplayable:
    """Why a candidate has no honest answer: one of few texts, so that they can be counted."""

    why: str


class Replayer(Port):
    """Decides recorded decisions again by one candidate policy (pdp/replay.py)."""

    revision: str

    def decide(self, recorded: Recorded) -> Decision | NotReplayable:
        """The candidate's own answer, with no deadline: what it costs is not judged here. Blocks."""
        ...


class ReplayBusy(Exception):
    """One is under way; `args[0]` says which and what to do."""


class ReplayJobs(Port):
    """Replays beside a running gateway, one at a time, each in a process of its own that can be ended."""

    async def begin(self, tarball: bytes, asked: Mapping[str, str]) -> str:
        """The id of a replay that is under way now. `asked`: options of `tollgate replay` by their names (since, until,
        sample, examples), checked. Raises ReplayBusy, OSError."""
        ...

    def shown(self, ident: str) -> dict[str, Json] | None:
        """How it is with a replay: `state` running, done, failed or stopped; None for one that nobody remembers."""
        ...

    async def stop(self, ident: str) -> None:
        """Ends it, if it is under way."""
        ...
