"""The Exchange: one request until its last response byte, and the values that stages put on it.

Everything but `Exchange` is frozen. What a stage acquires (slot, permit, upstream answer) is a named field here, so
that settle can close every one; nothing is acquired that has no field.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import orjson

from gateway.core.accounts import MOST, shown
from gateway.core.canonical import Json
from gateway.core.reasons import Refusal

if TYPE_CHECKING:
    from gateway.core.accounts import Charge, Fee, PlaceAsk, Worst
    from gateway.core.breaking import Trial
    from gateway.core.obligations import ExtraRate
    from gateway.core.ports import Protocol, Releasable, UpstreamAnswer, UsageReader
    from gateway.core.redaction import Tree
    from gateway.core.snapshot import Route, Snapshot, Upstream

Header: TypeAlias = tuple[bytes, bytes]


@dataclass(frozen=True, slots=True)
class Head:
    """One canonical request head: what is routed, decided, recorded and forwarded.

    `target` is the origin-form target exactly as it came (ASCII, no fragment, no dot segment, no encoded separator);
    `path` and `query` are its two halves, still percent-encoded; `authority` is lower case with its port if it had one.
    `headers` keep order and repetition, names lower case, without hop-by-hop members.
    """

    method: str
    target: str
    path: str
    query: str
    authority: str
    scheme: str
    headers: tuple[Header, ...]
    peer: str
    websocket: bool = False
    certificate: str = ""  # of the TLS connection's client: base64url of its SHA-256 (RFC 8705's x5t#S256)
    # What was derived from this head alone, by whom: a connection that sends the same bytes again has the same Head.
    # A fact must depend on nothing else than the head and what its entry is compared with before it is used.
    facts: dict[str, Any] = field(default_factory=dict, compare=False, repr=False)

    def values(self, name: bytes) -> list[bytes]:
        """All values of one header (lower-case name), in order."""
        return [value for key, value in self.headers if key == name]

    def first(self, name: bytes) -> bytes | None:
        for key, value in self.headers:
            if key == name:
                return value
        return None


@dataclass(frozen=True, slots=True)
class Principal:
    """The authenticated caller. `id` is `<type>:<issuer>/<sub>`, `key:<id>` or `anonymous` (contract, ruling 1).

    `expires` is epoch seconds after which open streams end. `credential` is the digest that the live set is asked
    about, never the credential itself; `key` the thumbprint of the issuer's key that vouched for it. `scopes` is what
    the credential may be used for; `audiences` the resources it was issued for, None where that is the whole gateway.
    `proof` is the thumbprint of the key without which the credential is nobody's (RFC 9449, 9421), `certificate` the
    digest of the client certificate likewise (RFC 8705): whoever is identified has shown that it holds them.
    """

    id: str
    type: str
    issuer: str = ""
    org: str | None = None
    roles: tuple[str, ...] = ()
    agent: str | None = None
    delegated_by: tuple[str, ...] = ()
    expires: float | None = None
    credential: str = ""
    routes: frozenset[str] | None = None  # API keys may be bound to routes; None: not bound
    key: str = ""
    scopes: frozenset[str] = frozenset()
    audiences: frozenset[str] | None = None
    proof: str = ""
    certificate: str = ""
    team: str | None = None


@dataclass(frozen=True, slots=True)
class Handle:
    """A session or task handle presented by a caller; it is bound to (route, principal, upstream) (ruling 13).

    `chosen`: of a kind that callers may make up themselves, so that one nobody has is no reason to refuse."""

    kind: str  # "mcp-session" | "a2a-task" | ...
    id: str
    chosen: bool = False


_NONE: Final[Mapping[str, Json]] = MappingProxyType({})
_NO_NAMES: Final[frozenset[bytes]] = frozenset()


_CALL: Final = (
    "action", "arguments", "body", "context", "drop_headers", "ends", "era", "handles", "has_arguments", "headers",
    "idempotent", "judged", "listing", "message_id", "metered", "reply", "resource", "resource_id", "resource_type",
    "stream", "traceparent",
)  # fmt: skip


class Call:
    """What is asked, as a protocol understood it. `has_arguments` is False where policy sees none (ruling 16).

    A plain class whose members are final: one is made for each request and list item, and compiled it costs a tenth of
    a named tuple or a frozen dataclass of so many members.
    `message_id` is the JSON-RPC id as JSON; `reply` says whether the sender waits for one (False: notification or
    response). `listing` names the kind of list whose answer is filtered ("tools", "prompts", "resources", "templates",
    "models"). `judged` answers are read by policy or bound to handles, so they travel with `accept-encoding: identity`.
    `ends`: a successful answer ends the handles it names. `headers` are set on the forwarded request, replacing any of
    the same name. `body` is a rewritten one, where a route option or obligation rewrote it.
    """

    __slots__ = _CALL

    def __init__(
        self,
        action: str,
        resource_type: str,
        resource_id: str,
        arguments: Json | None = None,
        has_arguments: bool = False,
        resource: Mapping[str, Json] = _NONE,
        context: Mapping[str, Json] = _NONE,
        message_id: Json = None,
        reply: bool = True,
        era: str = "",
        listing: str = "",
        judged: bool = False,
        metered: bool = False,
        idempotent: bool = False,
        stream: bool = False,
        ends: bool = False,
        handles: tuple[Handle, ...] = (),
        traceparent: str = "",
        headers: tuple[Header, ...] = (),
        drop_headers: frozenset[bytes] = _NO_NAMES,
        body: bytes | None = None,
    ) -> None:
        self.action: Final = action
        self.resource_type: Final = resource_type
        self.resource_id: Final = resource_id
        self.arguments: Final = arguments
        self.has_arguments: Final = has_arguments
        self.resource: Final = resource
        self.context: Final = context
        self.message_id: Final = message_id
        self.reply: Final = reply
        self.era: Final = era
        self.listing: Final = listing
        self.judged: Final = judged
        self.metered: Final = metered
        self.idempotent: Final = idempotent
        self.stream: Final = stream
        self.ends: Final = ends
        self.handles: Final = handles
        self.traceparent: Final = traceparent
        self.headers: Final = headers
        self.drop_headers: Final = drop_headers
        self.body: Final = body

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Call) and self.members() == other.members()

    def __hash__(self) -> int:
        return hash((self.action, self.resource_type, self.resource_id))

    def __repr__(self) -> str:
        return f"Call({', '.join(f'{name}={value!r}' for name, value in self.members().items())})"

    def members(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in _CALL}

    def but(self, **changed: Any) -> Call:
        """The same call with other members."""
        return Call(**{**self.members(), **changed})


@dataclass(frozen=True, slots=True)
class Obligation:
    type: str
    values: Mapping[str, Json] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Decision:
    """The policy decision point's answer. `allow` has no default. `fault` marks an answer that is a deny because the
    engine failed (undefined is not a fault: it is a deny that says so). `mode` "report": a deny that is no fault is
    recorded as what it would have been, and lets pass. `input` is the digest of the very bytes that the policy was
    given, "" where it was given none."""

    allow: bool
    reason: str
    rule: str
    engine: str
    revision: str
    obligations: tuple[Obligation, ...] = ()
    fault: bool = False
    ms: float = 0.0
    mode: str = "enforce"  # | "report"
    input: str = ""
    id: str = ""  # the engine's own name of it, where it has one

    @property
    def would_deny(self) -> bool:
        """A no of the policy that is reported and not obeyed; a fault is never one."""
        return self.mode == "report" and self.allow is False and self.fault is False


class Usage:
    """What was used. Token counts are None until the upstream said them; `estimated` marks our own estimate. Input is
    all of it, cached parts too; output likewise. `cache_write_1h_tokens` are among those written to a cache; pictures
    and sound are counted apart as input and as output. `tier` is the service tier that the vendor billed, `reported`
    what the answer itself says that it cost, in micro-dollars as `usd` is, which is None where nothing has to be
    paid or no price says what; `unpriced`: a budget in usd let it pass without a price."""

    __slots__ = (
        "audio_output_tokens", "audio_tokens", "bytes_in", "bytes_out", "cache_write_1h_tokens", "cache_write_tokens",
        "cached_tokens", "calls", "estimated", "image_output_tokens", "image_tokens", "input_tokens", "output_tokens",
        "reasoning_tokens", "reported", "tier", "unpriced", "usd",
    )  # fmt: skip

    def __init__(self) -> None:
        self.input_tokens: int | None = None
        self.output_tokens: int | None = None
        self.cached_tokens: int | None = None
        self.cache_write_tokens: int | None = None
        self.reasoning_tokens: int | None = None
        self.image_tokens: int | None = None
        self.audio_tokens: int | None = None
        self.cache_write_1h_tokens: int | None = None
        self.image_output_tokens: int | None = None
        self.audio_output_tokens: int | None = None
        self.tier = ""
        self.calls = 1
        self.bytes_in = 0
        self.bytes_out = 0
        self.usd: int | None = None
        self.reported: int | None = None
        self.estimated = False
        self.unpriced = False

    @property
    def plain(self) -> bool:
        """Whether no tokens were counted and nothing was reported: all that is counted besides is part of tokens."""
        return self.input_tokens is None and self.output_tokens is None and self.reported is None

    def record(self) -> dict[str, Json]:
        found: dict[str, Json] = {"bytes_in": self.bytes_in, "bytes_out": self.bytes_out, "calls": self.calls}
        counts = (
            ("input_tokens", self.input_tokens),
            ("output_tokens", self.output_tokens),
            ("cached_tokens", self.cached_tokens),
            ("cache_write_tokens", self.cache_write_tokens),
            ("reasoning_tokens", self.reasoning_tokens),
            ("image_tokens", self.image_tokens),
            ("audio_tokens", self.audio_tokens),
            ("cache_write_1h_tokens", self.cache_write_1h_tokens),
            ("image_output_tokens", self.image_output_tokens),
            ("audio_output_tokens", self.audio_output_tokens),
        )
        for name, count in counts:
            if count is not None:
                found[name] = count
        if self.tier:
            found["tier"] = self.tier
        if self.usd is not None:
            found["usd"] = shown(self.usd, "usd")
        if self.reported is not None:
            found["reported"] = shown(self.reported, "usd")
        if self.estimated:
            found["estimated"] = True
        if self.unpriced:
            found["unpriced"] = True
        return found


class Fragments:
    """What an exchange's intent and outcome have in common, as the bytes of both (drawing.py)."""

    __slots__ = ("action", "asked", "before", "exchange", "request", "route", "subject", "trace")

    def __init__(
        self,
        action: bytes,
        asked: bytes,
        before: bytes,
        exchange: bytes,
        request: bytes,
        route: bytes,
        subject: bytes,
        trace: bytes,
    ) -> None:
        self.action: Final = action  # an object that is going on, with its first member
        self.asked: Final = asked  # `decision`: the intent's, with the digest of the input
        self.before: Final = before  # the same without it
        self.exchange: Final = exchange
        self.request: Final = request  # `request`, `resource`
        self.route: Final = route
        self.subject: Final = subject  # up to the value of `time`
        self.trace: Final = trace  # from there to `upstream`


class Exchange:
    """One request until its last response byte. Mutable, owned by one task; pins one Snapshot from start to end.

    `time` is epoch seconds when the head was complete, `started` monotonic seconds of the same moment, `client_id` the
    caller's own X-Request-Id: recorded, never used.
    """

    # What most exchanges never have otherwise.
    item_digest: str = ""  # of the tool, prompt, resource template or card that is called, as it was pinned
    capture: dict[str, Json] | None = None  # of what was asked of policy, masked, where records are to hold it
    filtered: tuple[int, int] | None = None  # items (shown, hidden) of a filtered list
    fees: tuple[Fee, ...] = ()  # what policy charges besides what the call costs
    worst: Worst | None = None  # what was reckoned with, where that was asked
    room_tokens: int = MOST  # of its answer, until which the ledger need not be asked again
    room_bytes: int = MOST  # likewise
    last_step: bool = False  # no more could be had for it: what is reserved must do
    sent: bool = False  # whether a byte of it may have reached the upstream
    address: str = ""  # the authority it goes to, where the upstream has several
    attempts: int = 1  # how often it was sent, or tried to
    revoked: bool = False  # the caller's credential ended while the answer was still flowing
    left: bool = False  # the caller has gone, and its answer is read on for what it says of its usage
    limits_said: bytes = b""  # what the record says of limits that applied, as it says it: a JSON array
    shadowed: tuple[str, ...] = ()  # the limits in shadow that would have refused it

    def __init__(
        self,
        id: str,
        time: float,
        started: float,
        head: Head,
        snapshot: Snapshot,
        route: Route,
        upstream: Upstream,
        protocol: Protocol,
        *,
        client_id: str = "",
        parent: str = "",
        refusal: Refusal | None = None,
        trace_id: str = "",
        span_id: str = "",
        parent_span_id: str = "",
        body: bytes | None = None,
        asked: Call | Refusal | None = None,
        principal: Principal | None = None,
    ) -> None:
        self.id, self.time, self.started = id, time, started
        self.head, self.snapshot, self.protocol = head, snapshot, protocol
        self.route, self.upstream = route, upstream
        self.client_id, self.parent, self.refusal = client_id, parent, refusal
        self.trace_id, self.span_id, self.parent_span_id = trace_id, span_id, parent_span_id
        self.body = body  # the whole original body, where it is judged
        self.body_stream: AsyncIterator[bytes] | None = None  # else its chunks as they come
        self.body_bytes: int | None = None  # declared length of a streamed body, None when chunked
        self.asked = asked  # what the protocol made of the request
        self.principal = principal
        self.descriptor: dict[str, Json] | None = None  # what the record says of the descriptors that counted
        self.vouched: dict[str, Json] | None = None  # the caller's own verified descriptor: policy's subject shows it
        self.decision: Decision | None = None
        self.rates: tuple[ExtraRate, ...] = ()  # what policy wants counted besides the limits
        self.granted: tuple[Header, ...] = ()  # what the upstream is to know us by, where that is not fixed
        self.fault, self.stopped, self.upstream_address = "", "", ""  # `stopped`: the stage that refused it
        self.permits: list[Releasable] = []
        self.hides: Tree | None = None  # what policy wants hidden of the answer
        self.trial: Trial | None = None  # of the upstream's breaker, until how it ended is known
        self.places: list[PlaceAsk] = []  # it runs in, until it is settled
        self.held: list[PlaceAsk] = []  # those of the exchange within which this one came up: it runs in them
        self.charges: list[Charge] = []  # what it holds of budgets, and once it is settled what that came to
        self.limit_headers: list[Header] = []  # RateLimit members, also on an allowed answer
        self.intent_seq: int | None = None
        self.intent: dict[str, Json] | None = None  # the record of it, once it was made
        self.drawn: Fragments | None = None  # or what it was drawn from
        self.answer: UpstreamAnswer | None = None
        self.socket: object | None = None  # an upstream WebSocket, where that is what was opened
        self.reader: UsageReader | None = None
        self.usage = Usage()
        self.result = "ok"  # ok | error | client_gone | upstream_gone | timeout | unknown
        self.status, self.hidden = 0, 0  # what the caller was answered; in how many places policy hid something of it
        self.request_digest = ""  # of the bytes received; known at the end for streamed bodies
        self.forwarded_digest, self.response_digest = "", ""  # the former only where a rewrite made it differ
        self.failed_open, self.would_deny = 0, 0  # items and upstream's requests that passed a fault, or a reported no
        self.upstream_ms: float | None = None
        self.first_byte_ms: float | None = None

    @property
    def limits(self) -> list[dict[str, Json]]:
        """What the record says of limits that applied."""
        found: list[dict[str, Json]] = orjson.loads(self.limits_said) if self.limits_said else []
        return found

    @limits.setter
    def limits(self, found: list[dict[str, Json]]) -> None:
        self.limits_said = orjson.dumps(found, option=orjson.OPT_SORT_KEYS) if found else b""

    @property
    def call(self) -> Call:
        """The classified call; only stages behind Decide may ask, where it is certain."""
        if not isinstance(self.asked, Call):
            raise RuntimeError(f"exchange {self.id} was not classified")
        return self.asked

    def child(self, ident: str, asked: Call, decision: Decision) -> Exchange:
        """An exchange of its own for what came up within this one; nothing was acquired for it, nothing is sent yet."""
        child = Exchange(
            ident, self.time, self.started, self.head, self.snapshot, self.route, self.upstream, self.protocol,
            client_id=self.client_id, parent=self.id, trace_id=self.trace_id, span_id=self.span_id,
            parent_span_id=self.parent_span_id, asked=asked, principal=self.principal,
        )  # fmt: skip
        child.decision, child.descriptor, child.vouched = decision, self.descriptor, self.vouched
        child.request_digest, child.forwarded_digest = self.request_digest, self.forwarded_digest
        return child
