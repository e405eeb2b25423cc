"""Which headers cross the gateway, towards the upstream and back.

Towards the upstream, numbered as in the code:
1. End-to-end headers go in their order; Host is the upstream's, framing the client's own business.
2. The caller's credential never goes on, nor its cookies unless the route passes them.
3. Names by which upstreams know an identity, an address, a rewritten path or another method are nobody's to send but
   ours: they are dropped in every spelling (`X_Auth_User` is read as `X-Auth-User` by too many).
4. What the exchange sets replaces what the caller sent; the upstream's own credential comes last and replaces all.
5. The one exception to 2: an upstream that is configured to ask its callers itself gets their Authorization and its
   proof, no more.
Back to the caller:
6. The same headers, except Via, Date, X-Request-Id (the upstream's own becomes X-Upstream-Request-Id) and cookies.
7. The challenge of an upstream as in 5 leads to its metadata through the gateway (protected_resource.py).
It runs for every request: names that need no second look are found in one set.
"""

from __future__ import annotations

from collections.abc import Callable
from email.utils import formatdate

from gateway.core.exchange import Exchange, Head, Header
from gateway.core.ports import Answered
from gateway.core.snapshot import Upstream
from gateway.wire.http1_head import FRAMING
from gateway.wire.outgoing import Fixed, Outgoing

VIA = (b"via", b"1.1 tollgate")
IDENTITY = (b"accept-encoding", b"identity")

_PLAIN = frozenset(
    {
        b"accept", b"accept-encoding", b"accept-language", b"user-agent", b"content-type", b"content-encoding",
        b"origin", b"referer", b"cache-control", b"pragma", b"if-match", b"if-none-match", b"if-modified-since",
        b"range", b"via", b"priority", b"mcp-protocol-version", b"mcp-session-id", b"mcp-method", b"mcp-name",
        b"last-event-id", b"a2a-version", b"a2a-extensions", b"anthropic-version", b"anthropic-beta",
        b"openai-organization", b"openai-project", b"idempotency-key", b"traceparent", b"tracestate", b"baggage",
        b"sec-fetch-mode", b"sec-fetch-site", b"sec-fetch-dest",
    }
)  # fmt: skip
_CREDENTIALS = frozenset(
    {b"authorization", b"x-api-key", b"api-key", b"proxy-authorization", b"dpop", b"agent-descriptor"}
)
_FOR_IT = frozenset({b"authorization", b"dpop"})
_SIGNATURE = frozenset({b"signature", b"signature-input", b"signature-agent"})  # where it was the caller's credential
_RESERVED = frozenset(
    {
        b"forwarded", b"x-real-ip", b"x-client-ip", b"x-cluster-client-ip", b"true-client-ip", b"remote-user",
        b"x-remote-user", b"x-rewrite-url", b"x-request-id", b"x-http-method", b"x-http-method-override",
        b"x-method-override",
    }
)  # fmt: skip
_RESERVED_PREFIXES = (b"x-tollgate-", b"x-auth-", b"x-forwarded", b"x-original-")
_DROPPED = FRAMING | _CREDENTIALS | _RESERVED | {b"host"}
_COOKIES = frozenset({b"cookie", b"cookie2"})
_SPELLING = bytes(byte if chr(byte).isalnum() and byte < 128 else 0x2D for byte in range(256))  # all else is a dash

_ANSWER = frozenset({b"date", b"set-cookie", b"set-cookie2", b"x-request-id", b"www-authenticate"})


def passes(name: bytes, *, cookies: bool) -> bool:
    """Whether a caller's header (lower-case name) may reach an upstream, by its name alone."""
    plain = name.translate(_SPELLING)
    if plain in _DROPPED or plain.startswith(_RESERVED_PREFIXES):  # 1, 2, 3
        return False
    return plain not in _COOKIES or (cookies and name == b"cookie")


def request_headers(exchange: Exchange) -> list[Header]:
    """What goes to the upstream, Host first, framing left out. The exchange is classified."""
    return list(outgoing(exchange))


def outgoing(exchange: Exchange) -> Outgoing:
    """The same, with what a kept connection repeats worked out once."""
    head, upstream, call = exchange.head, exchange.upstream, exchange.call
    own: list[Header] = [(b"x-request-id", exchange.id.encode()), *call.headers]
    if exchange.trace_id:
        own.append((b"traceparent", _traceparent(exchange)))
    if call.judged or exchange.hides is not None:
        own.append(IDENTITY)
    if upstream.transparent:
        own += [pair for pair in head.headers if pair[0] in _FOR_IT]  # 5
    credentials = exchange.granted or upstream.credentials
    if credentials:
        own = _replaced(own, credentials)
    signed = exchange.principal is not None and exchange.principal.proof != ""
    key = (exchange.route.cookies, signed, call.drop_headers, [name for name, _ in own])
    fact = "outgoing " + exchange.address if exchange.address else "outgoing"  # each address has one of its own
    known: tuple[Upstream, tuple[str, bool, frozenset[bytes], list[bytes]], Fixed] | None = head.facts.get(fact)
    if known is None or known[0] is not upstream or known[1] != key:
        known = head.facts[fact] = (upstream, key, Fixed(_passed(head, upstream, key)))
    return Outgoing(known[2], own)  # 4


def _passed(head: Head, upstream: Upstream, key: tuple[str, bool, frozenset[bytes], list[bytes]]) -> list[Header]:
    cookies, signed, dropped, own = key
    gone = dropped.union(own)
    if signed:
        gone |= _SIGNATURE  # 2
    found: list[Header] = [(b"host", upstream.authority.encode())]
    for pair in head.headers:
        name = pair[0]
        if name not in _DROPPED and name not in gone and (name in _PLAIN or passes(name, cookies=cookies == "pass")):
            found.append(pair)
    found.append(VIA)
    return found


def _replaced(own: list[Header], credentials: tuple[Header, ...]) -> list[Header]:
    ours = [(name.lower(), value) for name, value in credentials]
    names = [name for name, _ in ours]
    return [*(pair for pair in own if pair[0] not in names), *ours]


def _traceparent(exchange: Exchange) -> bytes:
    """Our span in the caller's trace, with the caller's own word on sampling; without one, the upstream decides."""
    call = exchange.call
    given = call.traceparent.encode("latin-1", "replace") if call.traceparent else exchange.head.first(b"traceparent")
    trace_id = exchange.trace_id.encode()
    sampled = given is not None and given[3:35] == trace_id and given[-2:] == b"01"
    return b"00-%b-%b-%b" % (trace_id, exchange.span_id.encode(), b"01" if sampled else b"00")


class AnswerHeaders:
    """What goes back. `time` is the wall clock, for answers that came without a Date; `challenge` makes what callers of
    a transparent upstream see of its WWW-Authenticate."""

    __slots__ = ("_challenge", "_date", "_second", "_time")

    def __init__(self, time: Callable[[], float], challenge: Callable[[bytes, Exchange], bytes] | None = None) -> None:
        self._time = time
        self._challenge = challenge
        self._second = -1
        self._date = b""

    def __call__(self, answer: Answered, exchange: Exchange) -> list[Header]:
        found: list[Header] = []
        dated = False
        for pair in answer.headers:
            name = pair[0]
            if name in _ANSWER:  # 6
                if name == b"date":
                    if dated:
                        continue
                    dated = True
                elif name == b"x-request-id":
                    pair = (b"x-upstream-request-id", pair[1])
                elif name == b"www-authenticate":
                    if exchange.upstream.transparent and self._challenge is not None:  # 7
                        pair = (name, self._challenge(pair[1], exchange))
                elif exchange.route.cookies != "pass":
                    continue
            found.append(pair)
        if not dated:
            found.append((b"date", self.date()))
        found.append(VIA)
        found.append((b"x-request-id", exchange.id.encode()))
        return found

    def date(self) -> bytes:
        """An HTTP-date (RFC 9110 5.6.7), made once a second."""
        second = int(self._time())
        if second != self._second:
            self._second = second
            self._date = formatdate(second, usegmt=True).encode()
        return self._date
