"""The index over the log's records in SQLite: finds by exchange, subject, action, kind, effect, reason and time.

It follows the log (following.py). The rule: no record costs it more than a look at a few of its bytes. It writes a row
for each full portion (portions.py); what fills none yet is kept in memory and searched there, and what the index points
at is read from the log. Comparison is exact, byte by byte.
"""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Callable, Sequence
from itertools import islice
from pathlib import Path

from gateway.core.query import PAGE_MOST, Entries, QueryFailed, RecordPage, RecordQuery
from gateway.stores.facets import PortionReader
from gateway.stores.following import Entry, Follower, Following
from gateway.stores.portions import LAYOUT, PORTION, SCHEMA, PortionWriter
from gateway.stores.search import Search

PENDING = 8 * PORTION  # entries; more are taken before their time
DROP_BYTES = 128 * 1024 * 1024  # more is let go and read again from the log: the disk is stuck
GROUP = 16  # portions written in one transaction
GROUP_BYTES = 8 * 1024 * 1024  # or fewer
KEPT = 32  # indexed portions kept in memory: the log's files may be a checkpoint behind its commits
KEPT_BYTES = 16 * 1024 * 1024  # or fewer
ASK_SECONDS = 2.0  # how long a question may wait for the index, and how long it may search
_ASK = "SELECT first FROM portions LIMIT 1"
_PAUSE_SECONDS = 0.001  # between portions, to let the event loop in; less would end before the loop woke


class RecordIndex:
    """The Records port. `committed` comes from any one thread, also before `start`; `find` from the event loop.

    `submitted` counts the records that the log was given: a question waits until those before it are here. Nothing is
    opened before `start`, so that the index can be the log's listener and read from it.
    """

    def __init__(self, path: Path, entries: Entries, submitted: Callable[[], int] = lambda: 0) -> None:
        self._entries = entries
        follower = Follower(
            "the index of records", "tollgate-index", "tollgate-records", SCHEMA, LAYOUT, _ASK,
            pending=PENDING, pending_bytes=DROP_BYTES, batch=GROUP * PORTION, batch_bytes=GROUP_BYTES, takes_last=False,
        )  # fmt: skip
        self._following = Following(path, follower, entries, submitted, self._take, self._make_up)
        self._here = threading.Lock()
        self._indexed = 0  # the seq behind the last portion that has its row
        self._tail: list[Entry] = []  # the entries from there on
        self._kept: dict[int, tuple[list[Entry], int]] = {}  # portions by number, with their bytes; newest last
        self._kept_bytes = 0
        self._reads = PortionReader()
        self._reader: sqlite3.Connection
        self._writes: PortionWriter

    def start(self) -> None:
        """Opens the file and begins to catch up with the log, in the background. Raises StoreFailed."""
        writer, self._reader = self._following.open()
        self._indexed = self._following.next
        self._writes = PortionWriter(writer)
        self._following.start()

    def committed(self, entries: list[Entry]) -> None:
        """The sequencer's listener."""
        self._following.committed(entries)

    @property
    def behind(self) -> int:
        return self._following.behind

    async def find(self, query: RecordQuery) -> RecordPage:
        return await self._following.ask(lambda: self._find(query))

    async def check(self) -> None:
        """The port Checked."""
        await self._following.check()

    def close(self) -> None:
        """Stops the thread after what it is writing, and closes the file."""
        self._following.close()

    # The index's own thread.

    def _make_up(self) -> None:
        if len(self._tail) >= GROUP * PORTION:
            self._index()  # what failed before

    def _take(self, entries: list[Entry]) -> None:
        for at in range(0, len(entries), PORTION):
            if self._following.stopping:
                return
            self._make_up()
            portion = entries[at : at + PORTION]
            with self._here:
                self._tail.extend(portion)
            self._following.reached(portion[-1][0] + 1)
        if len(self._tail) >= PORTION:
            self._index()

    def _index(self) -> None:
        """Writes the rows of all full portions. If that fails they stay in the tail, and nothing more is taken once
        that has a group of them: what comes then is read from the log later."""
        start, tail = self._indexed, self._tail
        end = len(tail) - len(tail) % PORTION
        bundles = [tail[at : at + PORTION] for at in range(0, end, PORTION)]
        portions = []
        for bundle in bundles:
            portions.append(self._reads.read(bundle))
            time.sleep(_PAUSE_SECONDS)
        self._writes.add(start // PORTION, portions, *tail[end - 1])
        with self._here:
            self._indexed, self._tail = start + end, tail[end:]
            for at, (bundle, portion) in enumerate(zip(bundles, portions, strict=True), start // PORTION):
                self._keep(at, bundle, portion.size)

    def _keep(self, n: int, bundle: list[Entry], size: int) -> None:
        self._kept[n] = bundle, size
        self._kept_bytes += size
        while len(self._kept) > KEPT or (self._kept_bytes > KEPT_BYTES and len(self._kept) > 1):
            self._kept_bytes -= self._kept.pop(next(iter(self._kept)))[1]

    # Questions, in the thread for them.

    def _find(self, query: RecordQuery) -> RecordPage:
        if not self._following.failed:
            self._following.wait(ASK_SECONDS)  # a page may be behind
        limit = max(1, min(query.limit, PAGE_MOST))
        with self._here:
            start, tail = self._indexed, list(self._tail)
        try:
            deadline = time.monotonic() + ASK_SECONDS
            self._reader.set_progress_handler(lambda: time.monotonic() > deadline, 10_000)
            search = Search(query, self._reader, PORTION, self._bundle, deadline)
            found = list(islice(search.records(start, tail), limit + 1))
        except sqlite3.OperationalError as error:
            if "interrupted" in str(error):
                raise QueryFailed("the search took too long; narrow it by exchange, subject, action or time") from None
            raise QueryFailed(f"the index cannot be read: {error}") from None
        except sqlite3.Error as broken:
            raise QueryFailed(f"the index cannot be read: {broken}") from None
        more = len(found) > limit
        found = found[:limit]
        return RecordPage(tuple(record for _, record in found), found[-1][0] if more else None)

    def _bundle(self, n: int) -> Sequence[Entry]:
        """The entries of an indexed portion, from memory or the log."""
        with self._here:
            kept = self._kept.get(n)
        if kept is not None:
            return kept[0]
        start = n * PORTION
        bundle = list(self._entries.read(start, start + PORTION))
        if len(bundle) != PORTION:
            missing = start + len(bundle)
            raise QueryFailed(f"record {missing} is in the index but not in the log; restart to build the index anew")
        return bundle
