"""The head scanner: from the raw bytes of a request head to one canonical `Head`, or a refusal. Sans-I/O.

It repairs nothing and never raises: what has two readings is refused. What it lets through is the only reading there
is; no second parser looks at these bytes afterwards. Rules, numbered as in the code:
1. No control byte but CR LF pairs and HTAB in values; beyond ASCII only UTF-8 text. 2. Request line: token, target,
HTTP/1.0 or 1.1, one space between. 3. A registered method; CONNECT and TRACE never. 4. The target as in target.py.
5. Field lines `token:value`, no folding, no space before the colon; not too many, not too long. 6. A name with other
marks than letters, digits and hyphens is dropped (servers fold `_` and `-` together), and refused where it folds to a
name that counts. 7. Exactly one valid Host. 8. What may stand once stands once. 9. Transfer-Encoding is one `chunked`,
only in 1.1, never with Content-Length; Content-Length is 1 to 18 digits. 10. Connection holds tokens and never takes a
header away that counts. 11. Hop-by-hop members and forwarding claims never reach the Head. 12. `Expect` is
`100-continue`. 13. Of upgrades only a whole WebSocket handshake counts; others are as if not asked for.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from gateway.core.exchange import Head, Header
from gateway.core.reasons import Reason, Refusal
from gateway.wire.field_names import (
    ALLOWED_METHODS,
    ALLOWED_METHODS_TEXT,
    DROP,
    LIST,
    ONCE,
    ONCE_KEPT,
    OVERRIDE,
    REFUSED_METHODS,
    Names,
    counts,
)
from gateway.wire.forwarded import Network, Peer, claimed
from gateway.wire.target import LINE_BYTES, TARGET_TOO_LONG, read_absolute, read_authority, read_target

CHUNKED = -1  # `Scanned.length` of a body whose end only its framing tells
MEMORY = 512  # remembered hosts and targets; both are forgotten when full, so nobody can grow them

_ALLOW = ((b"allow", ALLOWED_METHODS_TEXT),)
_TEXT = bytes([9, *range(32, 127), *range(128, 256)])  # every byte that may stand in a line
_FIELD = re.compile(rb"\n([A-Za-z0-9-]+):[ \t]*([^\r]*)\r")
_TOKEN = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_DIGITS = re.compile(rb"[0-9]{1,18}")
_VERSION = re.compile(rb"HTTP/[0-9]\.[0-9]")
_EARLY = re.compile(rb"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]|\r(?!\n|\Z)|(?<!\r)\n")
_HIDDEN = re.compile("[\x80-\x9f\u2028\u2029]")  # controls beyond ASCII: terminals and log readers obey them
_WS_KEY = re.compile(rb"[A-Za-z0-9+/]{21}[AQgw]==")  # 16 bytes in base64


def _malformed(rule: str, text: str, status: int | None = None) -> Refusal:
    return Refusal(Reason.MALFORMED, text, rule=rule, status=status, close=True)


BAD_BYTE = _malformed("head.byte", "The request head has a byte that may not stand there")
BAD_LINE = _malformed("head.line", "The request line is not `method target version`")
BAD_VERSION = _malformed("head.version", "Only HTTP/1.1 and HTTP/1.0 are spoken here", 505)
BAD_FIELD = _malformed("head.field", "A header line is malformed")
BAD_ALIAS = _malformed("head.alias", "A header name imitates another one")
BAD_OVERRIDE = _malformed("head.override", "A header asks to treat the request as another method")
BAD_HOST = _malformed("head.host", "Exactly one valid Host is needed")
TWICE = _malformed("head.twice", "A header that may stand once stands twice")
BAD_LENGTH = _malformed("head.length", "Content-Length is not a number of 1 to 18 digits")
BAD_CODING = _malformed("head.coding", "Transfer-Encoding is not exactly `chunked`, or not in HTTP/1.1")
BOTH_LENGTHS = _malformed("head.both", "Content-Length and Transfer-Encoding stand together")
BAD_CONNECTION = _malformed("head.connection", "Connection names a header that is not its to take away")
BAD_UPGRADE = _malformed("head.upgrade", "The WebSocket handshake is malformed")
BAD_EXPECT = _malformed("head.expect", "Only `Expect: 100-continue` is known", 417)
OLD_WEBSOCKET = Refusal(
    Reason.MALFORMED, "WebSocket version 13 is needed", "head.upgrade", headers=((b"sec-websocket-version", b"13"),)
)
REFUSED_METHOD = Refusal(
    Reason.METHOD_NOT_ALLOWED, "This method is never allowed", rule="head.method", headers=_ALLOW, close=True
)
UNKNOWN_METHOD = Refusal(
    Reason.METHOD_NOT_ALLOWED, "This method is not known", rule="head.method", status=501, close=True
)
HEAD_TOO_LARGE = Refusal(
    Reason.TOO_LARGE, "The request's headers are too large", rule="head.large", status=431, close=True
)
TOO_MANY = Refusal(Reason.TOO_LARGE, "The request has too many headers", rule="head.many", status=431, close=True)


@dataclass(slots=True)
class Scanned:
    """A head that passed, and what its connection must do: `length` bytes follow (`CHUNKED`: as many as the framing
    says), `expects` a 100 before it sends them, `keep_alive` afterwards."""

    head: Head
    length: int
    keep_alive: bool
    expects: bool
    http10: bool


class HeadScanner:
    """Scans heads of one listener. Its memories only spare work; they never change an answer."""

    __slots__ = ("_hosts", "_names", "_networks", "_targets", "header_bytes", "headers")

    def __init__(self, *, header_bytes: int, headers: int, trusted: tuple[Network, ...] = ()) -> None:
        self.header_bytes = header_bytes
        self.headers = headers
        self._networks = trusted
        self._names = Names()
        self._hosts: dict[bytes, str] = {}
        self._targets: dict[bytes, tuple[str, str, str]] = {}

    def scan(self, raw: bytes, peer: Peer) -> Scanned | Refusal:
        """`raw` is the head with the line end of its last line, without the empty line behind it."""
        line_end = raw.find(b"\r\n")
        lines = raw.count(b"\r\n")
        if len(raw.translate(None, _TEXT)) != 2 * lines or raw[-2:] != b"\r\n" or not (raw.isascii() or _is_text(raw)):
            return BAD_BYTE  # 1: what is left of the head without its text must be its line ends
        if line_end > LINE_BYTES:
            return TARGET_TOO_LONG  # 4
        parts = raw[:line_end].split(b" ")
        if len(parts) != 3:
            return BAD_LINE  # 2
        method = ALLOWED_METHODS.get(parts[0])
        if method is None or parts[2] != b"HTTP/1.1":
            refusal = _line(parts[0], parts[2])
            if refusal is not None:
                return refusal  # 2, 3
            method = parts[0].decode("ascii")
        if len(raw) - line_end > self.header_bytes + 2:
            return HEAD_TOO_LARGE  # 5
        if lines - 1 > self.headers:
            return TOO_MANY  # 5
        fields = _FIELD.findall(raw, line_end)
        if len(fields) != lines - 1:
            odd = _odd_fields(raw[line_end + 2 :])
            if isinstance(odd, Refusal):
                return odd
            fields = odd
        elif b" \r\n" in raw or b"\t\r\n" in raw:
            fields = [(name, value.rstrip(b" \t")) for name, value in fields]
        return self._judge(method, parts[1], parts[2] == b"HTTP/1.0", fields, peer)

    def early(self, data: bytes, since: int) -> Refusal | None:
        """Whether an unfinished head is already wrong, in its bytes from `since` on."""
        return BAD_BYTE if _EARLY.search(data, since) is not None else None

    def _judge(self, method: str, target: bytes, http10: bool, fields: list[Header], peer: Peer) -> Scanned | Refusal:
        headers: list[Header] = []
        seen: dict[bytes, bytes] = {}
        known = self._names.known
        for raw_name, value in fields:
            name, kind = known.get(raw_name) or self._names.learn(raw_name)
            if not kind:
                headers.append((name, value))
            elif kind in (ONCE_KEPT, ONCE):
                if name in seen:
                    return BAD_HOST if name == b"host" else TWICE  # 7, 8
                seen[name] = value
                if kind == ONCE_KEPT:
                    headers.append((name, value))
            elif kind == LIST:
                seen[name] = seen[name] + b", " + value if name in seen else value
            elif kind != DROP:
                return BAD_OVERRIDE if kind == OVERRIDE else BAD_ALIAS  # 6
        length = _length(seen, http10)
        if isinstance(length, Refusal):
            return length
        authority = self._authority(seen.get(b"host"))
        if authority is None:
            return BAD_HOST  # 7
        return self._finish(method, target, http10, headers, seen, authority, length, peer)

    def _finish(
        self, method: str, target: bytes, http10: bool, headers: list[Header], seen: dict[bytes, bytes],
        authority: str, length: int, peer: Peer,
    ) -> Scanned | Refusal:  # fmt: skip
        address, scheme = peer.address, peer.scheme
        if peer.trusted:
            said, by = claimed(seen, self._networks)
            address, scheme = said or address, by or scheme
        halves = self._targets.get(target) or self._target(target, scheme, authority)
        if isinstance(halves, Refusal):
            return halves  # 4
        keep_alive, upgrades = not http10, False
        if b"connection" in seen:
            options = connection_options(seen[b"connection"])
            if options is None:
                return BAD_CONNECTION  # 10
            keep_alive = keep_alive and b"close" not in options
            upgrades = b"upgrade" in options
            if options - _CONNECTION_WORDS:
                headers = [item for item in headers if item[0] not in options]
        websocket = False
        if upgrades and not http10 and seen.get(b"upgrade", b"").lower() == b"websocket":
            refusal = _handshake(method, seen, length)
            if refusal is not None:
                return refusal  # 13
            websocket = True
        expects = False
        if b"expect" in seen and not http10:  # RFC 9110 section 10.1.1: ignored in HTTP/1.0
            if seen[b"expect"].lower() != b"100-continue":
                return BAD_EXPECT  # 12
            expects = length != 0
        head = Head(method, *halves, authority, scheme, tuple(headers), address, websocket, peer.certificate)
        return Scanned(head, length, keep_alive, expects, http10)

    def _authority(self, host: bytes | None) -> str | None:
        if host is None:
            return None
        known = self._hosts.get(host)
        if known is None:
            known = read_authority(host)
            if known is not None:
                if len(self._hosts) >= MEMORY:
                    self._hosts.clear()
                self._hosts[host] = known
        return known

    def _target(self, raw: bytes, scheme: str, authority: str) -> tuple[str, str, str] | Refusal:
        if raw[:1] != b"/":
            origin = read_absolute(raw, scheme, authority)
            return origin if isinstance(origin, Refusal) else read_target(origin)  # depends on Host: not remembered
        halves = read_target(raw)
        if not isinstance(halves, Refusal) and len(raw) <= 128:
            if len(self._targets) >= MEMORY:
                self._targets.clear()
            self._targets[raw] = halves
        return halves


_CONNECTION_WORDS = frozenset((b"close", b"keep-alive", b"upgrade", b"te", b"trailer", b"http2-settings"))
_COMMON_OPTIONS = {
    text: frozenset(text.lower().split(b", "))
    for text in (b"keep-alive", b"Keep-Alive", b"close", b"Upgrade", b"upgrade", b"keep-alive, Upgrade")
}


def connection_options(value: bytes) -> frozenset[bytes] | None:
    """The options of Connection in lower case, None where one is no token or names a header that counts."""
    common = _COMMON_OPTIONS.get(value)
    if common is not None:
        return common
    found = set()
    for part in value.split(b","):
        option = part.strip(b" \t").lower()
        if option:
            if _TOKEN.fullmatch(option) is None or counts(option):
                return None
            found.add(option)
    return frozenset(found)


def _line(method: bytes, version: bytes) -> Refusal | None:
    """What is wrong with a request line of three parts that is not the usual one; None if nothing is (HTTP/1.0)."""
    if _TOKEN.fullmatch(method) is None or _VERSION.fullmatch(version) is None:
        return BAD_LINE
    if version not in (b"HTTP/1.1", b"HTTP/1.0"):
        return BAD_VERSION  # HTTP/2's preface `PRI * HTTP/2.0` ends here
    if method in REFUSED_METHODS:
        return REFUSED_METHOD
    return None if method in ALLOWED_METHODS else UNKNOWN_METHOD


def _length(seen: dict[bytes, bytes], http10: bool) -> int | Refusal:
    """Rule 9: how many bytes of body follow."""
    declared = seen.get(b"content-length")
    coding = seen.get(b"transfer-encoding")
    if coding is not None:
        if declared is not None:
            return BOTH_LENGTHS
        return CHUNKED if coding.lower() == b"chunked" and not http10 else BAD_CODING
    if declared is None:
        return 0
    return int(declared) if _DIGITS.fullmatch(declared) is not None else BAD_LENGTH


def _handshake(method: str, seen: dict[bytes, bytes], length: int) -> Refusal | None:
    """RFC 6455 section 4.2.1, in full: what the WebSocket library would accept is decided here."""
    if seen.get(b"sec-websocket-version", b"13") != b"13":
        return OLD_WEBSOCKET
    key = seen.get(b"sec-websocket-key", b"")
    if method != "GET" or length != 0 or b"sec-websocket-version" not in seen or _WS_KEY.fullmatch(key) is None:
        return BAD_UPGRADE
    return None


def _odd_fields(block: bytes) -> list[Header] | Refusal:
    """Field lines among which at least one is not `name: value` with a usual name; rule 5 line by line."""
    fields: list[Header] = []
    for line in block.split(b"\r\n")[:-1]:
        name, colon, value = line.partition(b":")
        if not colon or _TOKEN.fullmatch(name) is None:
            return BAD_FIELD  # folding, a space before the colon, an empty name, no colon
        fields.append((name, value.strip(b" \t")))
    return fields


def _is_text(raw: bytes) -> bool:
    try:
        return _HIDDEN.search(raw.decode("utf-8")) is None
    except UnicodeDecodeError:
        return False
