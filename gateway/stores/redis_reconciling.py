"""Keeps Redis and this node's figures together: at every new connection, and by a beat while there is one.

Rules, numbered as in the code:
1. The first connection waits for what the log says (`Totals`); memory goes on from there.
2. A new connection: the node's generation is raised, so that nothing of an older one can still count; Redis releases
   what this node does not hold any more and is told what it may have lost: all figures when the server is another
   one or was emptied, else those that are dirty.
3. Then the node joins. The server is asked again when all nodes that were here lately have joined; whoever has not come
   back within `LATELY_SECONDS` is not waited for (docs/budgets.md says what that costs).
4. The beat says that the node lives, keeps its places, and sees a server that was emptied while nobody asked.
It must never let `take` use a connection that is not reconciled.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import Final

from gateway.core.accounts import Budget, CountersUnavailable, Standing
from gateway.core.reasons import StoreFailed
from gateway.stores import redis_scripts as asking
from gateway.stores import redis_scripts_node as scripts
from gateway.stores.redis_counters import PLACE_SECONDS, RedisCounters
from gateway.stores.redis_session import Session, named
from gateway.stores.redis_telling import BATCH, match, tell
from gateway.stores.redis_wire import Link, Server, Word
from gateway.stores.redis_words import LEASE

BEAT_SECONDS = 2.0
ALIVE_SECONDS = 7  # behind its last beat
REAP_SECONDS = 120  # of silence, after which a node uses its leases no more (redis_leases.py)
LATELY_SECONDS = 15
JOIN_SECONDS = 0.1

_HELLO: Final = named(scripts.HELLO)
_JOIN: Final = named(scripts.JOIN)
_BEAT: Final = named(scripts.BEAT)
_KEEP: Final = named(scripts.KEEP)
_REAP: Final = named(scripts.REAP)
_BYE: Final = named(scripts.BYE)
SCRIPTS: Final = (
    asking.TAKE, asking.GROW, asking.CLOSE, scripts.HELLO, scripts.MATCH, scripts.RESTORE, scripts.PUSH,
    scripts.SET_MOST, scripts.FORGIVE, scripts.JOIN, scripts.BEAT, scripts.KEEP, scripts.BALANCES,
    scripts.UNMARK, scripts.TURN, scripts.REAP, scripts.BYE,
)  # fmt: skip

_log = logging.getLogger("tollgate.counters")


class Reconciling:
    """`standing` gives what the log says of the running periods of all budgets; `tend` is called at each beat."""

    def __init__(
        self,
        counters: RedisCounters,
        servers: Sequence[Server],
        chance: Callable[[], float],
        standing: Callable[[], Awaitable[tuple[Sequence[Budget], Standing]]],
        tend: Callable[[], None] = lambda: None,
    ) -> None:
        self.tend = tend
        self._counters: Final = counters
        self._names: Final = counters.names
        self._standing: Final = standing
        self._session: Final = Session(servers, SCRIPTS, counters.names.state, self._opened, self._closed, chance)
        self._instance: Final = f"{chance():.17f}"
        self.begun = False
        self._run_id = ""
        self.peers: set[str] = set()  # who was here lately, as of the last beat
        self._task: asyncio.Task[None] | None = None
        self._beat: asyncio.Task[None] | None = None
        self.reconciled = asyncio.Event()

    def start(self) -> None:
        self._task = asyncio.create_task(self._session.run(), name="counters")

    def pause(self) -> None:
        """Ends the connection; `start` makes another one."""
        tasks, self._task = (self._task, self._beat), None
        for task in tasks:
            if task is not None:
                task.cancel()
        self._closed("the counters are at rest", True)

    async def aclose(self) -> None:
        """Redis has heard of everything that was closed, where it is there."""
        tasks = [task for task in (self._beat, self._task) if task is not None]
        await self._counters.drained()
        with contextlib.suppress(CountersUnavailable):
            await self._counters.ask(_BYE, (self._names.state, self._names.nodes), ())
        self.pause()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _opened(self, link: Link, run_id: str) -> None:
        counters, names = self._counters, self._names
        await self._begin()  # 1
        first = 1 if not self._run_id else 0
        hello = await link.ask("EVALSHA", _HELLO, 1, names.state, names.node, self._instance, first, ALIVE_SECONDS)
        if not isinstance(hello, list):
            raise CountersUnavailable(f"another gateway counts under the name {names.node}")
        generation, epoch = int(hello[0]), hello[1].decode()
        counters.tick(hello[2] + hello[3] / 1e6)
        session: tuple[Word, ...] = (names.node, generation, run_id)
        known = epoch == run_id == self._run_id
        # Figures first: what is released before they are told would be anybody's room for a moment.
        await tell(link, names, session, counters.truth, everything=not known)  # 2
        await match(link, names, session, counters.truth)
        await self._join(link, session)  # 3
        self._run_id = run_id
        await tell(link, names, session, counters.truth)  # what was closed meanwhile
        counters.ready(link, generation, run_id)
        self.reconciled.set()
        self.tend()
        await self.keep()
        self._beat = asyncio.create_task(self._beating(link, session), name="counters' beat")

    def _closed(self, why: str, failed: bool) -> None:
        self.reconciled.clear()
        if self._beat is not None:
            self._beat.cancel()
            self._beat = None
        self._counters.away(why, failed)

    async def _begin(self) -> None:
        if self.begun:
            return
        try:
            budgets, standing = await self._standing()
        except StoreFailed as error:
            raise CountersUnavailable(f"the book of usage: {error}") from error
        self._counters.truth.begin(budgets, standing, int(self._counters.now()))
        self.begun = True

    async def _join(self, link: Link, session: Sequence[Word]) -> None:
        names, said, peers = self._names, False, self.peers
        while True:
            words = (*session, LATELY_SECONDS, *peers)
            found = await link.ask("EVALSHA", _JOIN, 2, names.state, names.nodes, *words)
            if not isinstance(found, list):
                raise CountersUnavailable("another connection counts under this node's name")
            if found[0] == 1:
                self.peers = {name.decode() for name in found[1:]}
                return
            peers = set()  # said once: who does not come back is not waited for for ever
            if not said:
                said = True
                away = ", ".join(name.decode() for name in found[1:6])
                _log.warning("the counters in Redis wait for other nodes: %s", away)
            await asyncio.sleep(JOIN_SECONDS)

    async def _beating(self, link: Link, session: Sequence[Word]) -> None:
        """4. Ends with the connection."""
        names, counters, turns = self._names, self._counters, 0
        try:
            while True:
                await asyncio.sleep(BEAT_SECONDS)
                found = await link.ask("EVALSHA", _BEAT, 2, names.state, names.nodes, *session[:2], LATELY_SECONDS)
                if not isinstance(found, list) or found[0].decode() != session[2]:
                    link.end("Redis was emptied, or another connection counts under this node's name")
                    return
                counters.tick(found[1] + found[2] / 1e6)
                self.peers = {name.decode() for name in found[3]}
                turns += 1
                if turns % 10 == 0:
                    await self.keep()
                    await self.reap()
                    counters.truth.forget(int(counters.now()))
                if counters.truth.dirty:
                    await tell(link, names, session, counters.truth)
                self.tend()
        except CountersUnavailable as error:
            link.end(str(error.args[0]))
        except Exception:  # noqa: BLE001 (a background loop: the next connection begins another)
            _log.exception("the counters' beat")
            link.end("a fault of the beat")

    async def reap(self) -> None:
        """Frees what silent nodes had leased. Raises CountersUnavailable."""
        names, words = self._names, (REAP_SECONDS, f"{self._names.prefix}open:", LEASE)
        await self._counters.ask(_REAP, (names.state, names.nodes), words)

    async def keep(self) -> None:
        """The places of open exchanges live on, but for those that were left already. Raises CountersUnavailable."""
        opened = self._counters.truth.open
        pairs = [(key, id) for id, held in opened.items() if not held.left for key in held.places]
        for start in range(0, len(pairs), BATCH):
            keys, ids = zip(*pairs[start : start + BATCH], strict=True)
            await self._counters.ask(_KEEP, (self._names.state, *keys), (PLACE_SECONDS, *ids))
