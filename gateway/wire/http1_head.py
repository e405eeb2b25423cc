"""HTTP/1.1 heads towards upstreams, sans-I/O: request heads out, response heads in (RFC 9112).

What an upstream says about the length of its answer decides which bytes the next caller gets, so it is read by one
strict scan of our own and not by a lenient parser. Rules for a response head, numbered as in the code:
1. `HTTP/1.0` or `HTTP/1.1`, one space, three digits from 100 to 599, a reason without control bytes.
2. Every line ends with CRLF; names are tokens; values hold no control byte; no folded line.
3. At most `MAX_HEAD_BYTES` and `MAX_FIELDS`.
4. Content-Length at most once and only digits; Transfer-Encoding exactly `chunked`, at most once, never in HTTP/1.0,
   never beside a Content-Length.
5. Hop-by-hop members and those that Connection lists do not go on.
It must never guess: what breaks a rule is `UpstreamFailed`, and its connection is not used again.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from gateway.core.exchange import Header
from gateway.core.reasons import UpstreamFailed

MAX_HEAD_BYTES = 64 * 1024  # twice what the gateway's own front accepts of a request
MAX_FIELDS = 256  # real answers have about twenty

HOP_BY_HOP = frozenset(
    {
        b"connection", b"keep-alive", b"proxy-connection", b"proxy-authenticate", b"proxy-authorization",
        b"proxy-authentication-info", b"te", b"trailer", b"transfer-encoding", b"upgrade",
    }
)  # fmt: skip
FRAMING = HOP_BY_HOP | {b"content-length", b"expect", b"http2-settings"}

TOKEN = rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]++"
_TEXT = rb"[\t\x20-\x7e\x80-\xff]*+"
_RESPONSE = re.compile(
    rb"HTTP/1\.([01]) ([1-5][0-9][0-9])(?: " + _TEXT + rb")?+\r\n((?:" + TOKEN + rb":" + _TEXT + rb"\r\n)*+)\r\n"
)
_FIELD = re.compile(rb"([^:\r\n]++):[ \t]*+([^\r\n]*+)\r\n")
_REQUEST = re.compile(TOKEN + rb" /[\x21-\x7e]*+ HTTP/1\.1\r\n(?:" + TOKEN + rb": " + _TEXT + rb"\r\n)++\r\n")
_LOOSE = re.compile(rb"(?<!\r)\n|\r(?!\n|\Z)|\x00")
_DIGITS = re.compile(rb"[0-9]{1,18}")
_SECONDS = re.compile(rb"(?:^|[,; \t])timeout=\"?([0-9]{1,6})")
_READ = HOP_BY_HOP | {b"content-length", b"content-type"}
_END = b"\r\n\r\n"
_START = b"HTTP/1."


@dataclass(frozen=True, slots=True)
class ResponseHead:
    """`length` is the Content-Length, `chunked` excludes it; with neither, the end of the connection ends the body.

    `keep` says whether the connection may serve another exchange, `keep_seconds` how long the upstream said it waits.
    """

    status: int
    headers: list[Header]
    length: int | None
    chunked: bool
    keep: bool
    keep_seconds: int | None
    event_stream: bool


def encode_head(method: str, target: str, headers: Sequence[Header], framing: bytes) -> bytes:
    """The bytes of one request head. `framing` is whole lines of our own making. Raises UpstreamFailed for what would
    not arrive as exactly these lines: then nothing is sent."""
    lines = [b"%b: %b\r\n" % pair for pair in headers]
    try:
        first = f"{method} {target} HTTP/1.1\r\n".encode("ascii")
    except UnicodeEncodeError:
        raise unsendable("the request line is not ASCII") from None
    head = b"".join((first, *lines, framing, b"\r\n"))
    if head.count(b"\n") != len(lines) + framing.count(b"\n") + 2 or _REQUEST.fullmatch(head) is None:
        raise unsendable("a control byte or a malformed name in the request head")
    return head


def check_names(headers: Sequence[Header]) -> None:
    """Framing belongs to the client alone, and there is one Host. Raises UpstreamFailed."""
    names = [name for name, _ in headers]
    if not FRAMING.isdisjoint(names):
        raise unsendable("a framing header was given by the caller")
    if names.count(b"host") != 1:
        raise unsendable("exactly one Host is needed")


def find_end(data: bytes | bytearray, seen: int) -> int:
    """Index behind the head's last byte, -1 while it is incomplete. `seen` bytes were searched before.

    Junk is told apart from a slow head at once: it need not run into the deadline. Raises UpstreamFailed.
    """
    found = data.find(_END, max(0, seen - 3))
    if (found if found >= 0 else len(data)) > MAX_HEAD_BYTES:  # 3
        raise bad_head("the response head is too large", "http_response_header_section_size")
    if found >= 0:
        return found + 4
    if not (data.startswith(_START) or _START.startswith(data)):  # 1
        raise bad_head("the response does not begin with HTTP/1")
    if _LOOSE.search(data, max(0, seen - 1)) is not None:  # 2
        raise bad_head("a bare CR, bare LF or NUL in the response head")
    return -1


def parse_head(data: bytes) -> ResponseHead:
    """The head that is all of `data`. Raises UpstreamFailed."""
    matched = _RESPONSE.fullmatch(data)  # 1, 2
    if matched is None:
        raise bad_head("the response head is malformed")
    minor, status, block = matched.groups()
    found = _FIELD.findall(block)
    if len(found) > MAX_FIELDS:  # 3
        raise bad_head("the response has too many headers", "http_response_header_section_size")
    headers: list[Header] = []
    length = coding = connection = waits = None
    event_stream = False
    for name, value in found:
        name = name.lower()
        value = value.rstrip(b" \t")
        if name not in _READ:
            headers.append((name, value))
        elif name == b"content-type":
            event_stream = event_stream or value[:17].lower() == b"text/event-stream"
            headers.append((name, value))
        elif name == b"content-length":
            if length is not None or _DIGITS.fullmatch(value) is None:  # 4
                raise bad_head("Content-Length is not one number")
            length = int(value)
            if status != b"204":  # RFC 9110 8.6: there is none in a 204, whatever it says
                headers.append((name, value))
        elif name == b"transfer-encoding":
            if coding is not None or minor == b"0":  # 4
                raise bad_head("Transfer-Encoding twice, or in HTTP/1.0")
            coding = value.lower()
        elif name == b"connection":  # 5, as are all others that get here
            connection = value if connection is None else connection + b"," + value
        elif name == b"keep-alive":
            waits = _SECONDS.search(value)
    if coding is not None and (length is not None or coding != b"chunked"):  # 4
        raise bad_head("a transfer coding other than chunked, or beside Content-Length")
    keep = minor == b"1"
    if connection is not None:
        listed = frozenset(member.strip().lower() for member in connection.split(b","))
        keep = keep and b"close" not in listed
        headers = [pair for pair in headers if pair[0] not in listed or pair[0] == b"content-length"]
    return ResponseHead(
        int(status), headers, length, coding is not None, keep, int(waits[1]) if waits else None, event_stream
    )


def fields(data: bytes) -> list[Header]:
    """Every header line of a head that `parse_head` accepted, hop-by-hop ones included."""
    return [(name.lower(), value.rstrip(b" \t")) for name, value in _FIELD.findall(data, data.index(b"\n") + 1)]


def bad_head(text: str, error: str = "http_protocol_error") -> UpstreamFailed:
    return UpstreamFailed(text, error=error, sent=True)


def unsendable(text: str) -> UpstreamFailed:
    return UpstreamFailed(text, error="http_request_error", sent=False)
