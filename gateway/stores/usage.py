"""The book of usage in SQLite: settled sums of accounts, what was used by whom of what on which day, adjustments.

1. It follows the log (following.py), whose entries are added up (settlements.py) in a thread of its own. 2. Every entry
   counts once: sums and position are one transaction. 3. An answer has everything that the log had when the question
   came, or there is none: counters are filled from it (`standing`), and unknown is no.
"""

from __future__ import annotations

import logging
import sqlite3
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

from gateway.core.accounts import Budget, Standing, Tally
from gateway.core.ports import Clock
from gateway.core.query import Entries, QueryFailed
from gateway.core.usage import Adjusted, UsagePage, UsageQuery
from gateway.stores.following import Entry, Follower, Following
from gateway.stores.settlements import Sums
from gateway.stores.sqlite import StoreFailed
from gateway.stores.usage_questions import Questions
from gateway.stores.usage_sums import LAYOUT, SCHEMA, SumsWriter

PENDING = 4096  # entries; more are taken before their time
PENDING_BYTES = 64 * 1024 * 1024  # more is let go and read again from the log: the disk is stuck
BATCH = 32_768  # entries added up in one transaction
BATCH_BYTES = 32 * 1024 * 1024  # or fewer
CHUNK = 512  # entries between which the event loop is let in
ASK_SECONDS = 5.0  # how long a question may wait for the book
FILL_SECONDS = 900.0  # how long counters that are to be filled may wait for it: a long log is read first
_PAUSE_SECONDS = 0.001
_ASK = "SELECT layout FROM position LIMIT 1"

_Found = TypeVar("_Found")

_log = logging.getLogger("tollgate.stores")


class UsageBook:
    """The ports Totals and Usages. `committed` comes from any one thread, also before `start`; questions from the
    event loop. `submitted` counts the records that the log was given: a question waits until those before it are
    here."""

    def __init__(self, path: Path, entries: Entries, clock: Clock, submitted: Callable[[], int] = lambda: 0) -> None:
        self._clock = clock
        follower = Follower(
            "the book of usage", "tollgate-usage", "tollgate-usage-asked", SCHEMA, LAYOUT, _ASK,
            pending=PENDING, pending_bytes=PENDING_BYTES, batch=BATCH, batch_bytes=BATCH_BYTES, takes_last=True,
        )  # fmt: skip
        self._following = Following(path, follower, entries, submitted, self._count)
        self.unreadable = 0  # entries of a shape that the gateway does not write
        self._writes: SumsWriter
        self._questions: Questions

    def start(self) -> None:
        """Opens the file and begins to catch up with the log, in the background. Raises StoreFailed."""
        writer, reader = self._following.open()
        self._writes = SumsWriter(writer)
        self._questions = Questions(reader)
        self._following.start()

    def committed(self, entries: list[Entry]) -> None:
        """The sequencer's listener."""
        self._following.committed(entries)

    @property
    def behind(self) -> int:
        return self._following.behind

    async def standing(self, wanted: Sequence[tuple[Budget, str]]) -> Standing:
        """The port Totals. Raises StoreFailed."""
        now = self._clock.time()
        try:
            return await self._asked(FILL_SECONDS, lambda: self._questions.standing(wanted, now))
        except QueryFailed as error:
            raise StoreFailed(str(error)) from None

    async def usage(self, query: UsageQuery) -> UsagePage:
        return await self._asked(ASK_SECONDS, lambda: self._questions.usage(query))

    async def keys(self, budget: Budget, period: str, *, find: str, after: str, limit: int) -> list[str]:
        return await self._asked(ASK_SECONDS, lambda: self._questions.keys(budget, period, find, after, limit))

    async def tally(self, budget: Budget, period: str, key: str) -> Tally:
        now = self._clock.time()
        return await self._asked(ASK_SECONDS, lambda: self._questions.tally(budget, period, key, now))

    async def adjusted(self, budget: Budget, key: str, limit: int) -> list[Adjusted]:
        return await self._asked(ASK_SECONDS, lambda: self._questions.adjusted(budget, key, limit))

    async def check(self) -> None:
        """The port Checked."""
        await self._following.check()

    def close(self) -> None:
        """Counts what waits, stops the thread and closes the file."""
        self._following.close()

    def _count(self, entries: list[Entry]) -> None:
        """2. Raises sqlite3.Error: nothing of them was counted."""
        if not entries:
            return
        sums = Sums()
        for at in range(0, len(entries), CHUNK):
            sums.take(entries[at : at + CHUNK])
            if not self._following.hurried:
                time.sleep(_PAUSE_SECONDS)
        sums.finish()
        self._writes.add(sums, *entries[-1])
        if sums.unreadable:
            self.unreadable += len(sums.unreadable)
            _log.error("records that the book of usage cannot read: %s", sums.unreadable[:10])
        self._following.reached(entries[-1][0] + 1)

    async def _asked(self, seconds: float, question: Callable[[], _Found]) -> _Found:
        return await self._following.ask(lambda: self._answer(seconds, question))

    def _answer(self, seconds: float, question: Callable[[], _Found]) -> _Found:
        """3. Raises QueryFailed."""
        why = self._following.wait(seconds)
        if why:
            raise QueryFailed(f"the book of usage cannot answer: {why}")
        try:
            return question()
        except sqlite3.Error as broken:
            raise QueryFailed(f"the book of usage cannot be read: {broken}") from None
