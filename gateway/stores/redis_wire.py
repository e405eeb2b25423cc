"""One connection to a Redis server: commands go out in the order they came, answers go to whoever asked for them.

Rules, numbered as in the code:
1. An answer belongs to the oldest command without one. Nothing ever leaves the queue but through an answer or the
   end of the connection: whoever gives up waiting is told nothing, and their answer is dropped when it comes.
2. What is sent in one turn of the loop is written at once, in one piece.
3. When the connection ends, everyone who still waits is told, once; what they asked for may have been done.
4. No timer for each command: whoever keeps the connection asks how long the oldest one has waited.
It must never send a command twice, and never show an answer or a password in an error.
"""

from __future__ import annotations

import asyncio
import ssl
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final, TypeAlias, cast
from typing import Protocol as Port

import hiredis

from gateway.core.accounts import CountersUnavailable

PENDING_LIMIT = 65_536  # commands without an answer: about 20 MB
REPLY_BYTES = 64 * 1024 * 1024  # of one answer that is not complete: a server that sends more is none of ours

WORDS: Final = 4096  # that are remembered, of texts and of numbers
WORD_BYTES: Final = 256  # of one

Word: TypeAlias = "str | bytes | int"

_NOT_YET: Final = object()


class Spelling:
    """Words as they go over the wire; those that were said are remembered, for commands repeat most of theirs. Bounded,
    and forgotten all at once."""

    __slots__ = ("_numbers", "_texts")

    def __init__(self) -> None:
        self._texts: Final[dict[str, bytes]] = {}
        self._numbers: Final[dict[int, bytes]] = {}

    def command(self, words: Sequence[Word]) -> bytes:
        found = [b"*%d\r\n" % len(words)]
        for word in words:
            if isinstance(word, str):
                known = self._texts.get(word)
                found.append(known if known is not None else self._text(word))
            elif isinstance(word, int):
                said = self._numbers.get(word)
                found.append(said if said is not None else self._number(word))
            else:
                found.append(bulk(word))
        return b"".join(found)

    def _text(self, word: str) -> bytes:
        spelled = bulk(word.encode())
        if len(self._texts) >= WORDS:
            self._texts.clear()
        if len(spelled) <= WORD_BYTES:
            self._texts[word] = spelled
        return spelled

    def _number(self, word: int) -> bytes:
        if len(self._numbers) >= WORDS:
            self._numbers.clear()
        found = self._numbers[word] = bulk(str(word).encode())
        return found


def bulk(word: bytes) -> bytes:
    """One word."""
    return b"$%d\r\n%s\r\n" % (len(word), word)


@dataclass(frozen=True, slots=True)
class Server:
    """Where a server is and how to log in. `tls` None: in plain text."""

    host: str
    port: int
    tls: ssl.SSLContext | None = None
    server_name: str | None = None
    username: str = ""
    password: str = field(default="", repr=False)
    database: int = 0

    def at(self, host: str, port: int) -> Server:
        """Another server of the same cluster."""
        return Server(host, port, self.tls, self.server_name, self.username, self.password, self.database)


class Spelled(Port):
    """A script's words but for its id (redis_phrases.py)."""

    def command(self, sha: str, session: tuple[Word, ...], id: str, spelling: Spelling) -> bytes: ...


class Waiting(Port):
    """Whoever sent a command. Exactly one of the two is called, once."""

    def answered(self, reply: object) -> None:
        """What came: an integer, bytes, None, a list, or the `hiredis.ReplyError` that the server answered."""
        ...

    def lost(self) -> None:
        """The connection ended before an answer came; the command may have been carried out."""
        ...


class Asked:
    """One who awaits the answer."""

    __slots__ = ("future",)

    def __init__(self, future: asyncio.Future[object]) -> None:
        self.future: Final = future

    def answered(self, reply: object) -> None:
        if self.future.done():
            return  # 1: they gave up
        if isinstance(reply, hiredis.ReplyError):
            self.future.set_exception(refused(reply))
        else:
            self.future.set_result(reply)

    def lost(self) -> None:
        if not self.future.done():
            self.future.set_exception(CountersUnavailable("the connection to Redis ended"))


def refused(error: hiredis.ReplyError) -> CountersUnavailable:
    """Says the first word of a server's error, which is its kind: the rest may quote what was sent. `args[1]` is all of
    it, for whoever sent it."""
    return CountersUnavailable(f"Redis answered {str(error).split(' ', 1)[0][:40]}", str(error))


def elsewhere(error: hiredis.ReplyError) -> bool:
    """Whether another connection may do what this one could not: a script was lost, a slot or a role moved."""
    return str(error).split(" ", 1)[0] in ("NOSCRIPT", "MOVED", "READONLY", "LOADING", "MASTERDOWN", "CLUSTERDOWN")


class Link(asyncio.Protocol):
    """One connection. `ended` is called once, with what ended it, after everyone who waited was told."""

    def __init__(self, loop: asyncio.AbstractEventLoop, ended: Callable[[Link, str], None]) -> None:
        self._loop = loop
        self._ended = ended
        self._reader = hiredis.Reader(notEnoughData=_NOT_YET)
        self._waiting: deque[tuple[Waiting, float]] = deque()
        self._out: list[bytes] = []
        self.spelling = Spelling()
        self._transport: asyncio.Transport | None = None
        self._partial = 0
        self._why = ""

    @property
    def closed(self) -> bool:
        return self._transport is None

    @property
    def pending(self) -> int:
        return len(self._waiting)

    def waited(self) -> float:
        """Seconds that the oldest command without an answer has waited (4)."""
        return self._loop.time() - self._waiting[0][1] if self._waiting else 0.0

    def send(self, words: Sequence[Word], waiting: Waiting) -> None:
        """One command. Never waits."""
        if self._takes(waiting):
            self._put(self.spelling.command(words), waiting)

    def say(self, phrase: Spelled, sha: str, session: tuple[Word, ...], id: str, waiting: Waiting) -> None:
        """The same of one whose words are spelled in parts."""
        if self._takes(waiting):
            self._put(phrase.command(sha, session, id, self.spelling), waiting)

    def _takes(self, waiting: Waiting) -> bool:
        if self._transport is None or len(self._waiting) >= PENDING_LIMIT:
            waiting.lost()
            return False
        return True

    def _put(self, command: bytes, waiting: Waiting) -> None:
        if not self._out:
            self._loop.call_soon(self._flush)
        self._out.append(command)
        self._waiting.append((waiting, self._loop.time()))

    async def ask(self, *words: Word) -> object:
        """Raises CountersUnavailable. Has no deadline of its own."""
        future: asyncio.Future[object] = self._loop.create_future()
        self.send(words, Asked(future))
        return await future

    def end(self, why: str) -> None:
        """Closes it at once. Idempotent."""
        transport = self._transport
        if transport is not None:
            self._why = self._why or why
            transport.abort()

    def _flush(self) -> None:
        out, self._out = self._out, []
        if self._transport is not None and out:
            self._transport.write(b"".join(out) if len(out) > 1 else out[0])  # 2

    # -- what the transport says

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is none by its class

    def data_received(self, data: bytes) -> None:
        reader, waiting = self._reader, self._waiting
        try:
            reader.feed(data)
            reply = reader.gets()
            self._partial += len(data)
            while reply is not _NOT_YET:
                self._partial = 0
                if not waiting:
                    self.end("Redis sent what nobody asked for")
                    return
                waiting.popleft()[0].answered(reply)  # 1
                reply = reader.gets()
        except hiredis.ProtocolError:
            self.end("what Redis sent is not its protocol")
        if self._partial > REPLY_BYTES:
            self.end("an answer of Redis is too large")

    def connection_lost(self, error: Exception | None) -> None:
        self._transport = None
        self._out.clear()
        left, self._waiting = self._waiting, deque()
        for waiting, _ in left:
            waiting.lost()  # 3
        self._ended(self, self._why or "the connection to Redis ended")


async def dial(server: Server, ended: Callable[[Link, str], None], deadline: float) -> Link:
    """A connection that is logged in. Raises CountersUnavailable; then nothing is left of it."""
    loop = asyncio.get_running_loop()
    link: Link | None = None
    made = False
    try:
        async with asyncio.timeout(deadline):
            name = (server.server_name or server.host) if server.tls is not None else None
            _, link = await loop.create_connection(
                lambda: Link(loop, lambda link, why: ended(link, why) if made else None),
                server.host, server.port, ssl=server.tls, server_hostname=name,
            )  # fmt: skip
            for words in _greeting(server):
                await link.ask(*words)
            made = True
            return link
    except TimeoutError:
        raise CountersUnavailable("Redis did not answer in time") from None
    except ssl.SSLError as error:
        raise CountersUnavailable(f"TLS to Redis failed: {error.reason or 'unknown reason'}") from None
    except (OSError, UnicodeError) as failed:
        raise CountersUnavailable(f"Redis cannot be reached: {type(failed).__name__}") from None
    finally:
        if not made and link is not None:
            link.end("not logged in")


def _greeting(server: Server) -> Sequence[tuple[Word, ...]]:
    found: list[tuple[Word, ...]] = []
    if server.password:
        found.append(("AUTH", server.username, server.password) if server.username else ("AUTH", server.password))
    if server.database:
        found.append(("SELECT", server.database))
    found.append(("PING",))
    return found
