"""What is on its way to Redis: an ask that somebody awaits, or the end of an exchange that nobody does.

The rule: whatever may have been carried out without our hearing of it is remembered as unsent or dirty
(redis_truth.py), so that the next connection puts it right.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Final
from typing import Protocol as Port

from gateway.core.accounts import Account, Given
from gateway.stores import redis_scripts as scripts
from gateway.stores.redis_phrases import Phrase
from gateway.stores.redis_session import named
from gateway.stores.redis_truth import Truth
from gateway.stores.redis_words import Names

TAKE: Final = named(scripts.TAKE)
GROW: Final = named(scripts.GROW)


class Counting(Port):
    """Who hears what became of it (redis_counters.py)."""

    @property
    def names(self) -> Names: ...

    @property
    def truth(self) -> Truth: ...

    def told(self, taking: Taking, reply: object) -> None: ...

    def queue(self, taking: Taking) -> None: ...

    def doubt(self, reply: object) -> None: ...


class Taking:
    """A TAKE or GROW on its way, for which its exchange waits no longer than `wait` seconds. The charges of a GROW are
    the steps; then there are no rates and no places."""

    __slots__ = ("again", "closed", "counters", "due", "future", "id", "phrase", "sha")

    def __init__(self, counters: Counting, sha: str, id: str, phrase: Phrase, wait: float) -> None:
        loop = asyncio.get_running_loop()
        self.counters: Final = counters
        self.sha: Final = sha
        self.id: Final = id
        self.phrase: Final = phrase
        self.due: Final = loop.time() + wait
        self.future: Final[asyncio.Future[Given]] = loop.create_future()
        self.closed = False  # its exchange was closed while it was on its way
        self.again = False  # 3

    @property
    def place_keys(self) -> list[str]:
        """Behind `state`, `open`, `most` and the rates (redis_words.py)."""
        phrase = self.phrase
        start = 3 + len(phrase.rates)
        return [str(key) for key in phrase.keys[start : start + len(phrase.places)]]

    def answered(self, reply: object) -> None:
        self.counters.told(self, reply)

    def lost(self) -> None:
        if self.sha == TAKE:  # it may have been carried out
            self.counters.truth.unsent.append((self.id, self.place_keys))
        self.counters.queue(self)


class Settling:
    """A CLOSE or a TURN on its way. `places` None: the id stays open, with less (TURN)."""

    __slots__ = ("accounts", "counters", "id", "places")

    def __init__(self, counters: Counting, id: str, places: Sequence[str] | None, accounts: Sequence[Account]) -> None:
        self.counters: Final = counters
        self.id: Final = id
        self.places: Final = places
        self.accounts: Final = accounts

    def answered(self, reply: object) -> None:
        if reply != 1:
            self.lost()
            self.counters.doubt(reply)

    def lost(self) -> None:
        truth = self.counters.truth
        truth.dirty.update(self.accounts)
        if self.places is None:
            truth.resized.add(self.id)
        else:
            truth.unsent.append((self.id, self.places))
