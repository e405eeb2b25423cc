"""Keeps one connection to the Redis server that counts: finds it, logs in, loads the scripts, says when it is gone.

Rules, numbered as in the code:
1. The server that counts is the one that has the tag's slot (a cluster says which) and takes writes (a replica does
   not): servers are tried in their order until one is both.
2. A connection is used once `opened` is through with it, which reconciles; before that nothing else is sent on it.
3. A connection on which the oldest command has waited for `give_up` seconds is ended: the network may have lost it.
4. Between attempts is a pause that doubles, with chance in it, so that gateways do not come all at once.
It must never keep two connections.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from hashlib import sha1
from typing import Final

from gateway.core.accounts import CountersUnavailable
from gateway.stores.redis_wire import Link, Server, dial

CONNECT_SECONDS = 2.0
OPEN_SECONDS = 60.0  # reconciling a hundred thousand accounts
GIVE_UP_SECONDS = 3.0
PAUSE_SECONDS = 0.05
LONGEST_PAUSE_SECONDS = 1.0
LIVED_SECONDS = 5.0  # a connection that was in use for so long was a good one
MOVES = 4  # answers of a cluster that point elsewhere, one after the other

_log = logging.getLogger("tollgate.counters")


def named(script: str) -> str:
    """What EVALSHA calls it."""
    return sha1(script.encode(), usedforsecurity=False).hexdigest()


class Session:
    """`opened` gets a new connection and the server's run id; `closed` is told why the one in use, or an attempt,
    came to nothing; `chance` gives numbers from 0 to 1."""

    def __init__(
        self,
        servers: Sequence[Server],
        scripts: Sequence[str],
        tag: str,
        opened: Callable[[Link, str], Awaitable[None]],
        closed: Callable[[str, bool], None],
        chance: Callable[[], float],
    ) -> None:
        self._servers: Final = tuple(servers)
        self._scripts: Final = tuple(scripts)
        self._tag: Final = tag
        self._opened: Final = opened
        self._closed: Final = closed
        self._chance: Final = chance
        self._gone = asyncio.Event()
        self._why = ""
        self._link: Link | None = None
        self._said = ""

    async def run(self) -> None:
        """Until it is cancelled."""
        loop, pause = asyncio.get_running_loop(), PAUSE_SECONDS
        try:
            while True:
                began = loop.time()
                try:
                    await self._once()
                except CountersUnavailable as error:
                    self._tell(str(error.args[0]))
                except Exception as fault:  # noqa: BLE001 (a background loop: without it nobody would ever pass again)
                    _log.exception("keeping the counters in Redis")
                    self._tell(f"a fault: {type(fault).__name__}")
                pause = PAUSE_SECONDS if loop.time() > began + LIVED_SECONDS else min(2 * pause, LONGEST_PAUSE_SECONDS)
                await asyncio.sleep(pause * (0.5 + self._chance()) / 2)  # 4
        finally:
            if self._link is not None:
                self._link.end("the gateway is going down")

    async def _once(self) -> None:
        """One connection, from its first byte to its last."""
        self._gone.clear()
        link, run_id = await self.find()
        self._link = link
        try:
            if link.closed:
                raise CountersUnavailable("the connection to Redis ended")
            async with asyncio.timeout(OPEN_SECONDS):
                await self._opened(link, run_id)  # 2
        except TimeoutError:
            raise CountersUnavailable("reconciling with Redis took too long") from None
        else:
            if self._said:
                _log.warning("the counters in Redis are there again")
                self._said = ""
            while not self._gone.is_set():
                try:
                    async with asyncio.timeout(GIVE_UP_SECONDS / 4):
                        await self._gone.wait()
                except TimeoutError:
                    if link.waited() > GIVE_UP_SECONDS:  # 3
                        link.end("Redis has not answered for too long")
            self._closed(self._why, False)
        finally:
            self._link = None
            link.end("given up")

    def _tell(self, why: str) -> None:
        if why != self._said:
            _log.error("the counters in Redis are away: %s", why)
            self._said = why
        self._closed(why, True)

    async def find(self) -> tuple[Link, str]:
        """1. Raises CountersUnavailable with what was wrong with the last of them."""
        wrong = CountersUnavailable("no Redis server is configured")
        for server in self._servers:
            try:
                return await self._try(server)
            except CountersUnavailable as error:
                wrong = error
        raise wrong

    async def _try(self, server: Server) -> tuple[Link, str]:
        for _ in range(MOVES):
            link = await dial(server, self._ended, CONNECT_SECONDS)
            keep = False
            try:
                async with asyncio.timeout(CONNECT_SECONDS):
                    moved = await self._elsewhere(link, server)
                    if moved is None:
                        run_id = await self._prepare(link)
                        keep = True
                        return link, run_id
                    server = moved
            except TimeoutError:
                raise CountersUnavailable("Redis did not answer in time") from None
            finally:
                if not keep:
                    link.end("not the server that counts")
        raise CountersUnavailable("Redis Cluster does not say where the counters are")

    async def _elsewhere(self, link: Link, server: Server) -> Server | None:
        """Where the tag's slot is, None: here."""
        role = await link.ask("ROLE")
        try:
            await link.ask("EXISTS", self._tag)
        except CountersUnavailable as error:
            found = str(error.args[1] if len(error.args) > 1 else "").split(" ")
            if len(found) != 3 or found[0] != "MOVED":
                raise
            host, _, port = found[2].rpartition(":")
            return server.at(host.strip("[]") or server.host, int(port))
        if not isinstance(role, list) or not role or role[0] != b"master":
            raise CountersUnavailable("this Redis is a replica")
        return None

    async def _prepare(self, link: Link) -> str:
        said = await link.ask("INFO", "server")
        lines = said.decode("utf-8", "replace").splitlines() if isinstance(said, bytes) else []
        run_id = next((line.removeprefix("run_id:") for line in lines if line.startswith("run_id:")), "")
        if not run_id:
            raise CountersUnavailable("Redis does not say its run id (INFO server)")
        for script in self._scripts:
            await link.ask("SCRIPT", "LOAD", script)
        return run_id

    def _ended(self, link: Link, why: str) -> None:
        if link is self._link:
            self._why = why
            self._gone.set()
