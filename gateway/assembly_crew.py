"""The workers of a gateway, from their owner's side: started, served, watched, told of every change, drained.

It stands where the listener of a gateway of one process stands (`Front`). 1. The port is opened here and never given
up while the gateway runs. 2. A worker is served by its clerks over one pair of sockets; when that ends the worker is
dead: it is killed to be sure, its books are closed (what it held is settled, what it left open gets its `unknown`
record), and another takes its place. 3. A change is prepared by all workers or by none, and done when every one of
them has it in force; a worker that cannot say so is dead. One that begins meanwhile waits, and begins with what is in
force then. 4. A worker that does not answer for HUNG_SECONDS is dead. 5. What dead workers counted stays counted.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import subprocess
import sys
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, Final

import orjson

from gateway import config
from gateway.assembly_estate import close_books
from gateway.assembly_meters import Sums
from gateway.assembly_trust import Descriptors
from gateway.assembly_workers import Begin, Change, PinsClerk, packed
from gateway.core import posting
from gateway.core.breaking import Hold
from gateway.core.canonical import Json
from gateway.core.descriptors import Described
from gateway.core.ids import Ids
from gateway.core.ledger import Counters
from gateway.core.ports import Clock, Handles
from gateway.core.posting import PostGone, PostRefused
from gateway.identity.replays import Replays, serve_replays
from gateway.ledger.remote import CountersClerk
from gateway.log.clerk import LogClerk
from gateway.log.writer import Sequencer
from gateway.stores.remote import HandlesClerk, RegistryClerk
from gateway.stores.remote import packed as packed_items
from gateway.wire.post import SocketPost, connected
from gateway.wire.shared import close, shared

BEGIN_SECONDS: Final = 60.0
CHANGE_SECONDS: Final = 60.0
COMMIT_SECONDS: Final = 10.0
DRAINED_SECONDS: Final = 20.0  # beyond the grace: what cutting and closing may take
LOOK_SECONDS: Final = 0.25
LOOKED_SECONDS: Final = 5.0  # for an answer
HUNG_SECONDS: Final = 30.0
STEADY_SECONDS: Final = 10.0  # who served so long has not failed to start
BURIED_SECONDS: Final = 5.0  # until the last words of a dead process are read: they are in the socket
WEATHER_SECONDS: Final = 0.02
PAUSES: Final = (0.0, 0.5, 1.0, 2.0, 5.0)  # before a worker is started again, by how often it failed in a row
_RUN: Final = "from gateway.cli.worker import main; main()"

_log = logging.getLogger("tollgate.crew")


class WorkerFailed(Exception):
    """A worker could not do what it must; `args[0]` says which worker and why."""


@dataclass(frozen=True, slots=True)
class Office:
    """What workers are served with. `counters` None: they count elsewhere by themselves."""

    log: Sequencer
    counters: Counters | None
    handles: Handles
    descriptors: Descriptors
    replays: Replays
    ids: Ids
    clock: Clock


@dataclass(slots=True, eq=False)
class Member:
    """One worker's process, and who serves it."""

    number: int
    process: subprocess.Popen[bytes]
    post: SocketPost
    gone: asyncio.Event
    log: LogClerk
    counters: CountersClerk | None
    serves: bool = False
    meters: dict[str, Any] = field(default_factory=dict)
    since: float = 0.0
    heard: float = 0.0


class Alone:
    """Instead of a crew, where one process is the whole gateway."""

    async def prepare(self, change: Change) -> None: ...

    async def commit(self) -> None: ...

    async def abort(self) -> None: ...


class Crew:
    """`begin` makes what worker n begins with, of what is in force when it is called."""

    def __init__(
        self, count: int, settings: config.Settings, office: Office, begin: Callable[[int, int], Begin]
    ) -> None:
        self.count = count
        self._host = settings.listen.host.removeprefix("[").removesuffix("]")
        self._port = settings.listen.port
        self._office = office
        self._begin = begin
        self._sockets: list[list[socket.socket]] = []
        self._members: dict[int, Member] = {}
        self._turn = asyncio.Lock()  # 3
        self._prepared: list[Member] = []
        self._tasks: list[asyncio.Task[None]] = []
        self.sums = Sums(office.clock, lambda: [member.meters for member in self._living()])
        self._closing = False
        office.descriptors.registry.subscribe(self._known)

    # As a Front

    @property
    def port(self) -> int:
        return self._port

    @property
    def exchanges(self) -> int:
        return sum(int(member.meters.get("exchanges", 0)) for member in self._members.values())

    async def start(self) -> None:
        """Serves when it returns. Raises CannotListen, WorkerFailed."""
        self._sockets = await shared(self._host, self._port, self.count)
        self._port = self._sockets[0][0].getsockname()[1]
        async with self._turn:
            begun = [self._start(number) for number in range(1, self.count + 1)]
            for found in await asyncio.gather(*begun, return_exceptions=True):
                if found is not None:
                    raise found
        jobs = [self._keep(number) for number in range(1, self.count + 1)]
        jobs += [self._every(LOOK_SECONDS, self._look), self._every(WEATHER_SECONDS, self._tell_weather)]
        self._tasks = [asyncio.create_task(job, name="crew") for job in jobs]

    async def drain(self, grace_seconds: float) -> None:
        """Idempotent. Also after a start that failed half way."""
        if self._closing:
            return
        self._closing = True
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for sockets in self._sockets:
            close(sockets)
        await asyncio.gather(*(self._dismiss(member, grace_seconds) for member in tuple(self._members.values())))

    # Changes

    async def prepare(self, change: Change) -> None:
        """3. Raises WorkerFailed, and then nothing has changed; else `commit` or `abort` must follow."""
        await self._turn.acquire()
        self._prepared = [member for member in self._members.values() if member.serves]
        async with contextlib.AsyncExitStack() as told:
            told.push_async_callback(self.abort)
            await asyncio.gather(*(self._told(member, posting.PREPARE, packed(change)) for member in self._prepared))
            told.pop_all()

    async def commit(self) -> None:
        """Every worker has it in force when this returns."""
        try:
            await asyncio.gather(*(self._committed(member) for member in self._prepared))
        finally:
            self._prepared = []
            self._turn.release()

    async def abort(self) -> None:
        try:
            asked = [member.post.ask(posting.ABORT, b"") for member in self._prepared]
            if asked:
                await asyncio.wait(asked, timeout=COMMIT_SECONDS)
            for answer in asked:
                if answer.done() and not answer.cancelled():
                    answer.exception()  # there is nothing else to do for who is gone
        finally:
            self._prepared = []
            self._turn.release()

    async def _told(self, member: Member, kind: bytes, said: bytes) -> None:
        try:
            async with asyncio.timeout(CHANGE_SECONDS):
                await member.post.ask(kind, said)
        except PostGone:
            return  # another begins with what is in force then
        except PostRefused as error:
            raise WorkerFailed(str(error)) from None
        except TimeoutError:
            raise WorkerFailed(f"worker {member.number} did not answer within {CHANGE_SECONDS:g} s") from None

    async def _committed(self, member: Member) -> None:
        try:
            async with asyncio.timeout(COMMIT_SECONDS):
                await member.post.ask(posting.COMMIT, b"")
        except (PostGone, PostRefused, TimeoutError) as error:
            _log.error("worker %d has not changed, and is ended: %s", member.number, error)
            member.process.kill()
            await member.gone.wait()

    # Life

    async def _start(self, number: int) -> None:
        """Nothing is changed meanwhile: the caller has the turn. Raises WorkerFailed."""
        ours, theirs = socket.socketpair()
        listeners = self._sockets[number - 1]
        handed = [theirs.fileno(), *(item.fileno() for item in listeners)]
        process = await asyncio.to_thread(
            subprocess.Popen,
            [sys.executable, "-P", "-c", _RUN, *map(str, handed)],
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, pass_fds=handed,
        )  # fmt: skip
        theirs.close()
        gone = asyncio.Event()
        member = self._serve(number, process, await connected(ours, gone.set), gone)
        self._members[number] = member
        try:
            async with asyncio.timeout(BEGIN_SECONDS):
                await member.post.ask(posting.BEGIN, packed(self._begin(number, self.count)))
        except (PostGone, PostRefused, TimeoutError) as error:
            await self._bury(member)
            raise WorkerFailed(f"worker {number} does not start: {error or 'it took too long'}") from None
        member.serves = True
        member.since = member.heard = self._office.clock.monotonic()
        _log.info("worker %d serves, process %d", number, process.pid)

    def _serve(self, number: int, process: subprocess.Popen[bytes], post: SocketPost, gone: asyncio.Event) -> Member:
        office = self._office
        over: list[CountersClerk] = []

        def done(exchange: str) -> None:
            for clerk in over:
                clerk.over(exchange)

        log = LogClerk(office.log, post, done)
        counters = None
        if office.counters is not None:
            counters = CountersClerk(office.counters, post, log.open.__contains__)
            over.append(counters)
        HandlesClerk(office.handles, post)
        RegistryClerk(office.descriptors.registry, post)
        PinsClerk(office.descriptors.pins, post)
        serve_replays(office.replays, post)
        return Member(number, process, post, gone, log, counters)

    async def _keep(self, number: int) -> None:
        """2."""
        failed = 0
        while True:
            member = self._members.get(number)
            if member is not None:
                await member.gone.wait()
                failed = 0 if self._office.clock.monotonic() - member.since > STEADY_SECONDS else failed
                await self._bury(member)
                _log.error("worker %d ended with %s; another takes its place", number, member.process.returncode)
            await asyncio.sleep(PAUSES[min(failed, len(PAUSES) - 1)])
            failed += 1
            try:
                async with self._turn:  # 3
                    await self._start(number)
            except WorkerFailed as error:
                _log.error("%s", error)

    async def _bury(self, member: Member) -> None:
        """2: dead for certain, before its books are closed."""
        member.serves = False
        member.process.kill()
        await asyncio.to_thread(member.process.wait)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(BURIED_SECONDS):
                await member.gone.wait()
        member.post.close()
        if self._members.get(member.number) is not member:
            return
        del self._members[member.number]
        if member.meters:
            self.sums.buried(member.meters)  # 5
        unknown = close_books(member.log, member.counters, self._office.ids, self._office.clock)
        if unknown:
            _log.error("worker %d left %d exchanges open: their outcome is unknown", member.number, unknown)

    async def _dismiss(self, member: Member, grace_seconds: float) -> None:
        try:
            async with asyncio.timeout(grace_seconds + DRAINED_SECONDS):
                member.meters = orjson.loads(await member.post.ask(posting.DRAIN, str(grace_seconds).encode()))
                member.post.close()
                await asyncio.to_thread(member.process.wait, DRAINED_SECONDS)
        except (PostGone, PostRefused, TimeoutError, subprocess.TimeoutExpired) as error:
            _log.error("worker %d did not drain: %s", member.number, error)
        await self._bury(member)

    async def hold(self, upstream: str, wanted: Hold) -> None:
        """What was done by hand holds in every worker; one that begins later reads it."""
        said = orjson.dumps([upstream, str(wanted)])
        for member in self._members.values():
            member.post.tell(posting.HOLD, 0, said)
        await self.look()  # whose answers come behind it

    # What they say

    def status(self, streams: int, malformed: int) -> dict[str, Json]:
        """`streams` and `malformed` are the owner's own."""
        workers: list[Json] = [
            {"worker": number, "pid": member.process.pid, "serves": member.serves,
             "exchanges": int(member.meters.get("exchanges", 0))}
            for number, member in sorted(self._members.items())
        ]  # fmt: skip
        return {**self.sums.status(streams, malformed), "workers": workers}

    async def check(self) -> None:
        """The port Checked."""
        missing = [n for n in range(1, self.count + 1) if n not in self._members or not self._members[n].serves]
        if missing:
            raise WorkerFailed(f"worker {', '.join(map(str, missing))} does not serve")

    async def look(self) -> None:
        """Asks all workers what they counted."""
        await asyncio.gather(*(self._heard(member) for member in self._living(all_of_them=True)))

    def _living(self, *, all_of_them: bool = False) -> list[Member]:
        return [m for m in self._members.values() if m.serves and (m.meters or all_of_them)]

    async def _look(self) -> None:
        await self.look()
        now = self._office.clock.monotonic()
        for member in self._living(all_of_them=True):
            if now - member.heard > HUNG_SECONDS:  # 4
                _log.error("worker %d has not answered for %g s, and is ended", member.number, HUNG_SECONDS)
                member.process.kill()

    async def _heard(self, member: Member) -> None:
        with contextlib.suppress(PostGone, PostRefused, TimeoutError):
            async with asyncio.timeout(LOOKED_SECONDS):
                member.meters = orjson.loads(await member.post.ask(posting.LOOK, b""))
                member.heard = self._office.clock.monotonic()

    async def _tell_weather(self) -> None:
        for member in self._members.values():
            member.log.weather()

    def _known(self, changed: Any) -> None:
        items: list[Described] = list(changed)
        said = packed_items(items)
        for member in self._members.values():
            member.post.tell(posting.KNOWN, 0, said)

    async def _every(self, seconds: float, job: Callable[[], Awaitable[None]]) -> None:
        while True:
            try:
                await job()
            except Exception:  # noqa: BLE001 (a background loop: the next turn comes all the same)
                _log.exception("the workers cannot be looked after")
            await asyncio.sleep(seconds)
