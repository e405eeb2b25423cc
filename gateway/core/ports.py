"""Every seam of the program: the Protocols through which the rooms meet. `app.py` hands each what it needs.

Each port has two to four methods and says its contract in its docstring: who implements it, what it may raise, what it
must never do. Rooms import this file and `gateway.core.*`, never each other. What a signed token is to whoever believes
it stands in tokens.py.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Literal, TypeAlias
from typing import Protocol as Port

from gateway.core.canonical import Json

if TYPE_CHECKING:
    from gateway.core.access import AccessRequest
    from gateway.core.drawing import Drawn
    from gateway.core.exchange import (
        Call,
        Decision,
        Exchange,
        Handle,
        Head,
        Header,
        Principal,
        Usage,
    )
    from gateway.core.obligations import Duties
    from gateway.core.reasons import Refusal
    from gateway.core.snapshot import Route, Upstream

Ask: TypeAlias = "Callable[[Sequence[Call]], Awaitable[list[Decision]]]"
"""Ask policy about further calls of the same caller (list items, server requests). Never raises: an engine's fault
comes back as a deny."""


class Clock(Port):
    """Time comes in from outside, so that tests move it."""

    def time(self) -> float:
        """Epoch seconds (wall clock): for records and expiry only."""
        ...

    def monotonic(self) -> float:
        """Seconds that never go back: for deadlines and limits."""
        ...


class Releasable(Port):
    """Something an exchange holds and settle gives back exactly once."""

    def release(self) -> None: ...


class Authenticator(Port):
    """Who calls (identity/). Pure over the head; awaits only when keys must be fetched."""

    def authenticate(self, head: Head, route: Route) -> Principal | Refusal | Awaitable[Principal | Refusal]:
        """The principal, or `unauthenticated`, `identity_unavailable`, `malformed`. Never raises for input."""
        ...

    def once(self, exchange: Exchange, principal: Principal) -> Refusal | Awaitable[Refusal | None] | None:
        """Asked once per exchange, of a principal with a `proof`: whether that proof is new, and fits the body."""
        ...

    def insufficient(self, route: Route, text: str, scopes: Sequence[str] = ()) -> Refusal:
        """`scope_insufficient` with its challenge: the caller is known, its credential does not cover this. `scopes`
        are all that the operation needs, for the challenge to name in one."""
        ...

    def alive(self, principal: Principal) -> bool:
        """Whether the credential is still good now: asked per frame or event of an open stream (ruling 4)."""
        ...


class DecisionPoint(Port):
    """A policy engine (pdp/). Never answers allow unless the policy said `true` with obligations this gateway knows."""

    name: str
    revision: str
    reads: frozenset[tuple[str, ...]]
    """The paths of the document that can matter, `()` among them for all of it: what lies beside need not be built."""

    def decide(self, request: AccessRequest) -> Decision | Awaitable[Decision]:
        """One decision. A fault, an undefined answer or a late one is a Decision with `allow=False` that says which."""
        ...

    def decide_many(self, requests: Sequence[AccessRequest]) -> list[Decision] | Awaitable[list[Decision]]:
        """As many decisions, in order: the items of a list."""
        ...

    async def check(self) -> None:
        """Returns when it could decide. Raises EngineFault while it can decide nothing."""
        ...


class Answered(Port):
    """What came back from an upstream and has headers: an answer, or what it said to a WebSocket's opening."""

    @property
    def headers(self) -> list[Header]: ...


class UpstreamAnswer(Port):
    """An upstream's response whose head has arrived. Its connection is reused only if the body was read to its end."""

    status: int
    headers: list[Header]  # lower-case names, hop-by-hop members removed, validated bytes

    @property
    def address(self) -> str: ...

    @property
    def complete(self) -> bytes | None:
        """The whole body when all of it is here and `chunk` took nothing of it, else None. Asking takes nothing."""
        ...

    async def chunk(self) -> bytes:
        """The next bytes of the body as they arrived, `b""` at its end. Raises UpstreamFailed. One reader; when the
        call is cancelled, the answer can only be closed."""
        ...

    async def aclose(self) -> None:
        """Give up the rest; cancels the upstream exchange when the body was not read to its end. Idempotent."""
        ...


class HttpClient(Port):
    """One upstream's client (wire/upstream.py), pooled. Sends exactly the given bytes; adds framing only."""

    async def send(
        self,
        method: str,
        target: str,
        headers: Iterable[Header],
        body: bytes | AsyncIterator[bytes] | None,
        *,
        body_bytes: int | None = None,
        idempotent: bool = False,
        stream: bool = False,
    ) -> UpstreamAnswer:
        """Returns when the response head is there. `headers` include Host, exclude framing. `stream=True` uses the
        stream idle limit instead of the idle one. Raises UpstreamFailed (`timeout` set for a deadline)."""
        ...

    async def aclose(self) -> None: ...


class AnswerFilter(Port):
    """Reads an answer on its way back event by event, sans-I/O: what it returns is what the caller gets, in order.

    It never holds back an event that policy allowed. Raises Malformed for an answer that cannot be judged: it is not
    shown. It may change `answer.status` and `answer.headers` only while `Protocol.filter` makes it.
    """

    @property
    def whole(self) -> Literal[False]: ...

    async def feed(self, chunk: bytes) -> bytes: ...

    async def finish(self) -> bytes: ...

    def outbox(self) -> list[bytes]:
        """JSON-RPC messages for the upstream that came up (denied server requests are answered), each one POST body."""
        ...


class WholeFilter(Port):
    """Judges an answer when all of it is there (JSON), sans-I/O."""

    @property
    def whole(self) -> Literal[True]: ...

    async def rewrite(self, body: bytes) -> bytes:
        """What the caller gets instead. May change `answer.status` and `answer.headers`: the head is sent after it,
        with a content-length of what it gave. Raises Malformed for an answer that cannot be judged."""
        ...


class UsageReader(Port):
    """Reads token usage beside the stream without holding it back."""

    def feed(self, chunk: bytes) -> None: ...

    def seen(self) -> int:
        """Tokens of output that went by until now, as far as they are seen: at least one for each piece of it. Asked
        only where a stepwise stream has to be paid for."""
        ...

    def finish(self, usage: Usage) -> None: ...


class Protocol(Port):
    """One application protocol, sans-I/O (protocols/): what is asked, how a refusal looks, what an answer shows."""

    name: str

    def reads_body(self, head: Head, route: Route) -> bool | Refusal:
        """Whether this request's body is read and judged; a Refusal where its media type cannot be."""
        ...

    def classify(self, exchange: Exchange) -> Call | Refusal:
        """From head and (judged) body to one Call. Malformed input is a Refusal, never an exception."""
        ...

    def refuse(self, exchange: Exchange, refusal: Refusal) -> tuple[int, list[Header], bytes]:
        """Status, headers (content-type, no content-length) and body of a refusal in the caller's own form."""
        ...

    def last_words(self, exchange: Exchange, refusal: Refusal) -> bytes:
        """The events that end a stream of events which may not go on, as a client of this protocol understands them;
        b"" where it has no such words: then the answer is cut."""
        ...

    def rewrite(self, exchange: Exchange, duties: Duties) -> bytes | Refusal | None:
        """The judged body with the arguments and the bound on tokens that policy sets, None where it says that
        already; a Refusal where this call has no place for them. What it does not touch keeps its bytes."""
        ...

    def answers_in(self, exchange: Exchange) -> Sequence[tuple[str, ...]] | Refusal:
        """Below which members of an answer's documents lies what was asked for; `()`: they are it. A Refusal where it
        would also go where nothing of it can be hidden."""
        ...

    async def filter(
        self, exchange: Exchange, answer: UpstreamAnswer, ask: Ask, bind: Bind
    ) -> AnswerFilter | WholeFilter | None:
        """The reader for an answer that policy judges or that mints handles; None where bytes pass untouched."""
        ...

    def usage(self, exchange: Exchange, answer: UpstreamAnswer) -> UsageReader | None:
        """The reader for token usage, None where there is none to read."""
        ...


class Messages(Port):
    """What a protocol makes of the messages of an open WebSocket (protocols/): each judged one is an exchange
    of its own whose `parent` is the open (ruling 14)."""

    def classify_message(self, exchange: Exchange, message: str | bytes) -> Call | Refusal | None:
        """From one whole message of the caller's to a Call. None: it is only counted, the open was its permission."""
        ...

    def refuse_message(self, exchange: Exchange, refusal: Refusal) -> str | None:
        """The text that answers a refused message in place, "" where it had none to wait for; None where the socket
        must be closed instead, because the message was not JSON-RPC."""
        ...

    def close_code(self, refusal: Refusal) -> int:
        """1008 for policy, 1013 for `try later`, 1011 where the gateway or the upstream broke, 1009 for size."""
        ...


class Bind(Port):
    """Binds a freshly minted handle to this exchange's (route, principal, upstream), durably, before it is shown."""

    async def __call__(self, handle: Handle) -> None: ...

    async def owner(self, handle: Handle) -> str | None:
        """`subject.id` of the handle's owner on this exchange's route and upstream, None if it was never bound."""
        ...


class Handles(Port):
    """Sessions and tasks: who they belong to (stores/). Persisted; survives a restart."""

    async def bind(self, handle: Handle, *, route: str, subject: str, upstream: str) -> None:
        """Durable when it returns. Raises Malformed for a handle of another subject: it must not be shown."""
        ...

    async def owner(self, handle: Handle, *, route: str, upstream: str) -> str | None:
        """`subject.id` of the owner, None if the handle was never bound on this route and upstream."""
        ...

    async def forget(self, handle: Handle, *, route: str, upstream: str) -> None: ...


class Checked(Port):
    """What the gateway cannot work without, and can be asked whether it is there (stores/, pdp/): for /readyz."""

    async def check(self) -> None:
        """Returns when it answered; cheap, and never in the event loop's way. Raises what is wrong: StoreFailed,
        EngineFault. May hang: who asks has a deadline."""
        ...


class RecordLog(Port):
    """The append-only log (log/): one sequencer. `seq` is given at submit, durability comes with the group commit."""

    def submit(self, record: dict[str, Json] | Drawn, *, plain: bool = False) -> int:
        """Completes the record with `v`, `seq`, `node`, queues it and returns its seq. Raises LogUnavailable.

        `plain`: the maker vouches for the record: no float in it, no name that is not ASCII."""
        ...

    async def sequenced(self, seq: int) -> None:
        """Returns when the entry of `seq` is written and fsynced. Raises LogUnavailable."""
        ...


class Observer(Port):
    """Metrics and traces (telemetry): told once per finished exchange, must only count or queue."""

    def finished(self, exchange: Exchange) -> None: ...


class UpstreamCredentials(Port):
    """Who the gateway is for one upstream, where that takes more than a fixed header (identity/upstream_tokens.py)."""

    def headers(self, exchange: Exchange) -> tuple[Header, ...] | Refusal | Awaitable[tuple[Header, ...] | Refusal]:
        """What this exchange's request is sent with; at once when it is at hand. Never the caller's own credential.
        `upstream_failed` where none can be had, `denied` where this caller has none. Never raises for either."""
        ...

    def own(self) -> tuple[Header, ...] | Refusal | Awaitable[tuple[Header, ...] | Refusal] | None:
        """The same for what the gateway asks for itself; None where only callers have something."""
        ...

    def rejected(self, exchange: Exchange) -> None:
        """The upstream answered 401: what was given may not be given again if it can be had anew."""
        ...


class UpstreamTargets(Port):
    """Upstream clients by name, shared across snapshots so that pools survive a reload."""

    def client(self, upstream: Upstream) -> HttpClient: ...
