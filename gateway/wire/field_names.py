"""Methods and header names: which there are, what each name means to the front, which names count.

The rule: a name has one spelling behind the front, lower case, letters, digits and hyphens. What frameworks fold
together (`_` and `-`, and any other mark under CGI) cannot stand beside it. The tables here decide; nothing else may
keep its own list of hop-by-hop or forwarding headers for requests.
"""

from __future__ import annotations

import re
from typing import Final

PLAIN: Final = 0  # end to end, as often as it comes
DROP: Final = 1  # never reaches the Head
ONCE_KEPT: Final = 2  # end to end, but a second one is refused
ONCE: Final = 3  # for the front only, a second one is refused
LIST: Final = 4  # for the front only, several are one list
ALIAS: Final = 5  # refused: folds to a name that counts
OVERRIDE: Final = 6  # refused: asks that another method be executed than the one that was judged

NAME_BYTES = 64  # longer names are not remembered
MEMORY = 1024  # remembered spellings; forgotten when full

# Every method of the IANA registry but CONNECT and TRACE (tunnels, echoes of credentials) and PRI (HTTP/2's preface).
_METHODS = b"""GET HEAD POST PUT PATCH DELETE OPTIONS QUERY
    ACL BASELINE-CONTROL BIND CHECKIN CHECKOUT COPY LABEL LINK LOCK MERGE MKACTIVITY MKCALENDAR MKCOL MKREDIRECTREF
    MKWORKSPACE MOVE ORDERPATCH PROPFIND PROPPATCH REBIND REPORT SEARCH UNBIND UNCHECKOUT UNLINK UNLOCK UPDATE
    UPDATEREDIRECTREF VERSION-CONTROL"""
ALLOWED_METHODS: Final = {name: name.decode() for name in _METHODS.split()}
ALLOWED_METHODS_TEXT: Final = b"GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS"
REFUSED_METHODS: Final = frozenset((b"CONNECT", b"TRACE"))

_KINDS: Final = {
    b"host": ONCE_KEPT,
    b"content-length": ONCE_KEPT,
    b"content-type": ONCE_KEPT,
    b"sec-websocket-key": ONCE_KEPT,
    b"sec-websocket-version": ONCE_KEPT,
    b"transfer-encoding": ONCE,
    b"expect": ONCE,
    b"connection": LIST,
    b"upgrade": LIST,
    b"forwarded": LIST,
    b"x-forwarded-for": LIST,
    b"x-forwarded-proto": LIST,
    # hop by hop, RFC 9110 section 7.6.1 and older practice
    b"keep-alive": DROP,
    b"te": DROP,
    b"trailer": DROP,
    b"http2-settings": DROP,
    b"proxy": DROP,  # CGI makes HTTP_PROXY of it
    # what a front proxy says of the caller or of the target; X-Forwarded-, X-Original-, X-Envoy- by prefix
    b"x-real-ip": DROP,
    b"x-client-ip": DROP,
    b"x-cluster-client-ip": DROP,
    b"true-client-ip": DROP,
    b"cf-connecting-ip": DROP,
    b"fastly-client-ip": DROP,
    b"x-rewrite-url": DROP,
    b"x-http-method-override": OVERRIDE,
    b"x-http-method": OVERRIDE,
    b"x-method-override": OVERRIDE,
}
_DROPPED_PREFIXES: Final = (b"proxy-", b"x-forwarded", b"x-original-", b"x-envoy-")

# Names that identity, framing, routing, policy or the protocols read: nobody may imitate or take them away.
_COUNTING: Final = frozenset(
    b"""host authorization cookie api-key x-api-key origin referer accept accept-encoding user-agent range via
    last-event-id traceparent tracestate baggage x-request-id idempotency-key signature signature-input signature-agent
    dpop agent-descriptor txn-token transfer-encoding forwarded expect max-forwards""".split()
)
_COUNTING_PREFIXES: Final = (b"content-", b"mcp-", b"a2a-", b"sec-", b"if-", b"access-control-", b"x-forwarded")

_PROPER: Final = re.compile(rb"[a-z0-9-]+")
_ODD: Final = re.compile(rb"[^a-z0-9-]")


def counts(name: bytes) -> bool:
    """Whether something in the gateway or in a protocol reads this header (lower-case name)."""
    return name in _COUNTING or name.startswith(_COUNTING_PREFIXES)


def kind_of(name: bytes) -> int:
    """What a header of this lower-case name is to the front."""
    if _PROPER.fullmatch(name) is None:
        folded = _ODD.sub(b"-", name)
        return ALIAS if counts(folded) or kind_of(folded) != PLAIN else DROP
    found = _KINDS.get(name)
    if found is None:
        return DROP if name.startswith(_DROPPED_PREFIXES) else PLAIN
    return found


class Names:
    """Spellings seen on this listener, with their lower-case name and kind. A memory, not a decision."""

    __slots__ = ("known",)

    def __init__(self) -> None:
        self.known: dict[bytes, tuple[bytes, int]] = {}

    def learn(self, spelling: bytes) -> tuple[bytes, int]:
        name = spelling.lower()
        found = (name, kind_of(name))
        if len(spelling) <= NAME_BYTES:
            if len(self.known) >= MEMORY:
                self.known.clear()
            self.known[spelling] = found
        return found
