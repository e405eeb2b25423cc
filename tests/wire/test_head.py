"""The head scanner: what it makes of good heads, what it refuses, and that nothing at all makes it fail."""

from __future__ import annotations

import contextlib
import ipaddress
from typing import Any

import httptools
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from gateway.core.exchange import Head
from gateway.core.reasons import TABLE, Refusal
from gateway.wire.field_names import ALLOWED_METHODS
from gateway.wire.forwarded import Peer
from gateway.wire.head import CHUNKED, HeadScanner, Scanned
from tests.thorough import examples

QUIET = settings(
    deadline=None, database=None, suppress_health_check=[HealthCheck.too_slow]
)  # a busy machine is no fault


PEER = Peer("192.0.2.7", "http")


def scanner(**limits: Any) -> HeadScanner:
    return HeadScanner(**{"header_bytes": 32 * 1024, "headers": 100, **limits})


def head(*lines: bytes, line: bytes = b"GET / HTTP/1.1", host: bytes | None = b"gw.example") -> bytes:
    hosts = () if host is None else (b"Host: " + host,)
    return b"\r\n".join((line, *hosts, *lines, b""))


def passed(raw: bytes, peer: Peer = PEER) -> Scanned:
    found = scanner().scan(raw, peer)
    assert isinstance(found, Scanned), found
    return found


def refusal(raw: bytes, **limits: Any) -> Refusal:
    found = scanner(**limits).scan(raw, PEER)
    assert isinstance(found, Refusal), found
    return found


def test_a_usual_head_becomes_one_canonical_head() -> None:
    raw = head(
        b"Content-Type: application/json",
        b"CONTENT-LENGTH: 12",
        b"Accept:text/event-stream",
        b"Accept: \t application/json \t",
        b"Connection: keep-alive",
        b"X-Empty:",
        line=b"POST /weather/a%20b?q=%2F&q HTTP/1.1",
        host=b"GW.Example:8080",
    )
    found = passed(raw)
    assert found.head == Head(
        method="POST",
        target="/weather/a%20b?q=%2F&q",
        path="/weather/a%20b",
        query="q=%2F&q",
        authority="gw.example:8080",
        scheme="http",
        headers=(
            (b"host", b"GW.Example:8080"),
            (b"content-type", b"application/json"),
            (b"content-length", b"12"),
            (b"accept", b"text/event-stream"),
            (b"accept", b"application/json"),
            (b"x-empty", b""),
        ),
        peer="192.0.2.7",
    )
    assert (found.length, found.keep_alive, found.expects, found.http10) == (12, True, False, False)


@pytest.mark.parametrize("method", ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "QUERY", "PROPFIND"])
def test_registered_methods_pass(method: str) -> None:
    assert passed(head(line=method.encode() + b" / HTTP/1.1")).head.method == method


@pytest.mark.parametrize(
    ("line", "status"),
    [
        (b"CONNECT gw.example:443 HTTP/1.1", 405),
        (b"TRACE / HTTP/1.1", 405),
        (b"get / HTTP/1.1", 501),
        (b"GETS / HTTP/1.1", 501),
        (b"PRI * HTTP/2.0", 505),
        (b"GET / HTTP/1.2", 505),
        (b"GET / HTTP/0.9", 505),
        (b"GET / HTTP/2.0", 505),
        (b"GET / HTTP/3.0", 505),
        (b"GET /", 400),
        (b"GET / ", 400),
        (b"GET  / HTTP/1.1", 400),
        (b"GET /  HTTP/1.1", 400),
        (b"GET\t/\tHTTP/1.1", 400),
        (b" GET / HTTP/1.1", 400),
        (b"GET / HTTP/1.1 ", 400),
        (b"GET / HTTP/01.1", 400),
        (b"GET / HTTP/1.10", 400),
        (b"GET / http/1.1", 400),
        (b"GET / HTTP/1,1", 400),
        (b"GET / HTTPS/1.1", 400),
        (b"G(T / HTTP/1.1", 400),
        (b"G\xc3\x89T / HTTP/1.1", 400),
        (b"", 400),
        (b"/ HTTP/1.1", 400),
        (b"GET / a HTTP/1.1", 400),
    ],
)
def test_other_request_lines_are_refused(line: bytes, status: int) -> None:
    assert refusal(head(line=line)).http_status == status


def test_a_405_names_the_methods_that_are_allowed() -> None:
    assert b"POST" in dict(refusal(head(line=b"TRACE / HTTP/1.1")).headers)[b"allow"]


@pytest.mark.parametrize(
    "line",
    [
        b"X-A : b",
        b" X-A: b",
        b"\tX-A: b",
        b"X-A",
        b": b",
        b"X[A]: b",
        b"X A: b",
        b"X\xc3\xa4: b",
        b"X-A: b\x00c",
        b"X-A: b\x07",
        b"X-A: b\x7f",
        b"X-A: b\rc",
        b"X-A: b\nX-B: c",
        b"X-A: b\r",
        b"X-A: \xff",
        b"X-A: caf\xe9",
        b"X-A: \xc3\x28",
        b"X-A: \xc2\x9b31m",
        b"X-A: \xe2\x80\xa8 line",
        b"X\x00A: b",
        b"X-A: b\x0b",
        b"X-A: b\r\n folded",
    ],
)
def test_malformed_header_lines_are_refused(line: bytes) -> None:
    assert refusal(head(line)).http_status == 400
    assert refusal(head(b"A: b", line, b"C: d")).http_status == 400


def test_utf8_in_a_value_passes_as_its_bytes() -> None:
    assert passed(head("X-Title: Zürich → Genève".encode())).head.first(b"x-title") == "Zürich → Genève".encode()


@pytest.mark.parametrize(
    "host",
    [
        None, b"", b" ", b"a b", b"a/b", b"a?b", b"a#b", b"user@a", b"a,b", b"a:", b"a:0", b"a:65536", b"a:8o", b"a:-1",
        b":80", b"[::1", b"::1", b"[g::1]", b"[]", b"[::1]a", b"[::1]:", b"a..b", b".a", b"a%41", b"a\\b", b"a;b",
        b"http://a", b"a:80:80", b"x" * 256, b"x" * 64, b"a\tb", b"[::1%eth0]", b"\xc3\xa4.example", b'"a"',
        b"*", b"a|b",
    ],
)  # fmt: skip
def test_what_is_no_authority_is_no_host(host: bytes | None) -> None:
    assert refusal(head(host=host)).rule == "head.host"


@pytest.mark.parametrize(
    ("host", "authority"),
    [
        (b"Gw.Example", "gw.example"),
        (b"127.0.0.1:8080", "127.0.0.1:8080"),
        (b"[::1]:8080", "[::1]:8080"),
        (b"[2001:DB8::1]", "[2001:db8::1]"),
        (b"my_service:9000", "my_service:9000"),
        (b"gw.example.", "gw.example."),
    ],
)
def test_an_authority_is_kept_in_lower_case(host: bytes, authority: str) -> None:
    assert passed(head(host=host)).head.authority == authority


def test_two_hosts_are_refused_even_when_they_agree() -> None:
    assert refusal(head(b"Host: gw.example")).rule == "head.host"


@pytest.mark.parametrize(
    "line", [b"Content-Type: text/plain", b"Content-Length: 0", b"Transfer-Encoding: chunked", b"Expect: 100-continue"]
)
def test_what_may_stand_once_is_refused_twice(line: bytes) -> None:
    assert refusal(head(line, line)).rule == "head.twice"


@pytest.mark.parametrize(
    "value",
    [b"", b"+1", b"-1", b"0x1", b"1_0", b"1,1", b"1, 1", b"1 1", b"1.0", b"a", b"1a", b"\xc2\xb2", b"9" * 19, b"1;a"],
)
def test_a_length_is_one_to_eighteen_digits(value: bytes) -> None:
    assert refusal(head(b"Content-Length: " + value)).rule == "head.length"


@pytest.mark.parametrize(
    "value",
    [
        b"", b"gzip", b"identity", b"chunked, chunked", b"gzip, chunked", b",chunked", b"chunked,", b"chunked;a=b",
        b"xchunked", b"chunkedx", b'"chunked"', b"chunked gzip", b"chunked\tx",
    ],
)  # fmt: skip
def test_a_transfer_coding_is_exactly_chunked(value: bytes) -> None:
    assert refusal(head(b"Transfer-Encoding: " + value)).rule == "head.coding"


def test_chunked_passes_in_any_case_and_leaves_the_head() -> None:
    found = passed(head(b"Transfer-Encoding: Chunked"))
    assert found.length == CHUNKED
    assert found.head.first(b"transfer-encoding") is None


def test_chunked_is_refused_in_http_1_0() -> None:
    raw = head(b"Transfer-Encoding: chunked", line=b"POST / HTTP/1.0")
    assert refusal(raw).rule == "head.coding"


def test_length_and_coding_together_are_refused_in_both_orders() -> None:
    lines = [b"Content-Length: 4", b"Transfer-Encoding: chunked"]
    assert refusal(head(*lines)).rule == refusal(head(*reversed(lines))).rule == "head.both"


@pytest.mark.parametrize(
    "name",
    [
        b"Connection", b"Keep-Alive", b"Proxy-Connection", b"Proxy-Authorization", b"Proxy-Authenticate",
        b"Proxy-Anything", b"TE", b"Trailer", b"Upgrade", b"HTTP2-Settings", b"Proxy", b"Forwarded",
        b"X-Forwarded-For", b"X-Forwarded-Host",
        b"X-Forwarded-Proto", b"X-Forwarded-Uri", b"X-Forwarded-Prefix", b"X-Forwarded-User", b"X-Real-IP",
        b"X-Original-URL", b"X-Rewrite-URL", b"True-Client-IP", b"X-Envoy-External-Address",
    ],
)  # fmt: skip
def test_hop_by_hop_members_and_forwarding_claims_never_reach_the_head(name: bytes) -> None:
    for spelling in (name, name.lower(), name.upper()):
        found = passed(head(spelling + b": x", b"X-Kept: 1"))
        assert found.head.headers == ((b"host", b"gw.example"), (b"x-kept", b"1"))


@pytest.mark.parametrize(
    "name", [b"X_Auth_User", b"X.Auth.User", b"x_plain", b"X-Auth_User", b"A!B", b"a'b", b"_x", b"x~"]
)
def test_names_with_other_marks_are_dropped(name: bytes) -> None:
    assert passed(head(name + b": root")).head.headers == ((b"host", b"gw.example"),)


@pytest.mark.parametrize(
    "name",
    [
        b"Content_Length", b"Transfer_Encoding", b"transfer.encoding", b"X_Forwarded_For",
        b"X_Api_Key", b"Api_Key", b"Mcp_Session_Id", b"Mcp_Method", b"A2A_Version", b"Proxy_Authorization",
        b"X_HTTP_Method_Override", b"Sec_WebSocket_Key", b"Content_Type", b"X_Original_URL", b"Keep_Alive",
    ],
)  # fmt: skip
def test_names_that_imitate_one_that_counts_are_refused(name: bytes) -> None:
    assert refusal(head(name + b": x")).rule == "head.alias"


@pytest.mark.parametrize("name", [b"X-HTTP-Method-Override", b"X-HTTP-Method", b"x-method-override"])
def test_a_header_that_asks_for_another_method_is_refused(name: bytes) -> None:
    assert refusal(head(name + b": DELETE", line=b"POST / HTTP/1.1")).rule == "head.override"


def test_headers_named_by_connection_are_taken_away() -> None:
    found = passed(head(b"X-Hop: 1", b"Connection: close, X-Hop", b"X-Kept: 1", b"x-hop: 2"))
    assert found.head.headers == ((b"host", b"gw.example"), (b"x-kept", b"1"))
    assert not found.keep_alive


@pytest.mark.parametrize(
    "option",
    [b"host", b"authorization", b"cookie", b"content-type", b"content-length", b"transfer-encoding", b"x-api-key",
     b"api-key", b"mcp-session-id", b"mcp-method", b"a2a-version", b"origin", b"x-forwarded-for", b"sec-websocket-key",
     b"traceparent", b"a b", b"a/b", b"(", b"x-request-id"],
)  # fmt: skip
def test_connection_may_not_name_a_header_that_counts(option: bytes) -> None:
    for value in (option, b"close, " + option, option.upper() + b" , close"):
        assert refusal(head(b"Connection: " + value)).rule == "head.connection"
    assert refusal(head(b"Connection: close", b"Connection: " + option)).rule == "head.connection"


def test_connection_options_of_several_lines_count_together() -> None:
    assert not passed(head(b"Connection: keep-alive", b"Connection: , Close")).keep_alive


def test_http_1_0_is_never_kept_alive() -> None:
    found = passed(head(b"Connection: keep-alive", line=b"GET / HTTP/1.0"))
    assert found.http10
    assert not found.keep_alive


@pytest.mark.parametrize("value", [b"", b"100", b"100-continue, x", b"200-ok", b"100-continue;a", b"continue"])
def test_an_unknown_expectation_is_a_417(value: bytes) -> None:
    assert refusal(head(b"Expect: " + value, b"Content-Length: 1")).http_status == 417


def test_an_expectation_is_owed_only_where_a_body_follows() -> None:
    assert passed(head(b"Expect: 100-Continue", b"Content-Length: 1")).expects
    assert passed(head(b"Expect: 100-continue", b"Transfer-Encoding: chunked")).expects
    assert not passed(head(b"Expect: 100-continue")).expects
    assert not passed(head(b"Expect: other", b"Content-Length: 1", line=b"POST / HTTP/1.0")).expects
    assert passed(head(b"Expect: 100-continue", b"Content-Length: 1")).head.first(b"expect") is None


WEBSOCKET = (
    b"Connection: Upgrade",
    b"Upgrade: websocket",
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
    b"Sec-WebSocket-Version: 13",
)


def test_a_whole_handshake_is_a_websocket() -> None:
    found = passed(head(*WEBSOCKET)).head
    assert found.websocket
    assert found.first(b"upgrade") is None
    assert found.first(b"sec-websocket-key") == b"dGhlIHNhbXBsZSBub25jZQ=="


@pytest.mark.parametrize(
    ("number", "line"),
    [
        (2, b"X: y"),
        (2, b"Sec-WebSocket-Key: short"),
        (2, b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ"),
        (3, b"X: y"),
        (3, b"Sec-WebSocket-Version: 8"),
    ],
)
def test_half_a_handshake_is_refused(number: int, line: bytes) -> None:
    lines = list(WEBSOCKET)
    lines[number] = line
    assert refusal(head(*lines)).rule == "head.upgrade"


def test_a_handshake_has_no_body_and_is_a_get() -> None:
    assert refusal(head(*WEBSOCKET, b"Content-Length: 1")).rule == "head.upgrade"
    assert refusal(head(*WEBSOCKET, b"Transfer-Encoding: chunked")).rule == "head.upgrade"
    assert refusal(head(*WEBSOCKET, line=b"POST / HTTP/1.1")).rule == "head.upgrade"


@pytest.mark.parametrize(
    "lines",
    [
        (b"Connection: Upgrade, HTTP2-Settings", b"Upgrade: h2c", b"HTTP2-Settings: AAMAAABkAAQAAP__"),
        (b"Connection: Upgrade", b"Upgrade: TLS/1.0"),
        (b"Connection: Upgrade", b"Upgrade: h2c, websocket"),
        (b"Connection: Upgrade", b"Upgrade: websocket", b"Upgrade: h2c"),
        (b"Upgrade: websocket",),
        (b"Connection: Upgrade",),
    ],
)
def test_other_upgrades_are_as_if_not_asked_for(lines: tuple[bytes, ...]) -> None:
    found = passed(head(*lines)).head
    assert not found.websocket
    assert found.headers == ((b"host", b"gw.example"),)


def test_an_upgrade_in_http_1_0_is_as_if_not_asked_for() -> None:
    assert not passed(head(*WEBSOCKET, line=b"GET / HTTP/1.0")).head.websocket


def test_too_many_and_too_large_are_431_and_414() -> None:
    assert refusal(head(*[b"A: b"] * 100)).http_status == 431
    passed(head(*[b"A: b"] * 99))
    assert refusal(head(b"A: " + b"b" * 200), header_bytes=200).http_status == 431
    assert refusal(head(line=b"GET /" + b"a" * 8192 + b" HTTP/1.1")).http_status == 414
    passed(head(line=b"GET /" + b"a" * 8191 + b" HTTP/1.1"))


def test_a_header_section_may_have_exactly_its_limit() -> None:
    lines = b"Host: gw.example\r\nA: b\r\n"
    raw = b"GET / HTTP/1.1\r\n" + lines
    assert isinstance(scanner(header_bytes=len(lines)).scan(raw, PEER), Scanned)
    assert refusal(raw, header_bytes=len(lines) - 1).http_status == 431


def test_the_memories_are_bounded_and_change_no_answer() -> None:
    one = scanner()
    for number in range(3000):
        raw = head(b"X-N%d: 1" % number, line=b"GET /%d HTTP/1.1" % number, host=b"h%d.example" % number)
        found = one.scan(raw, PEER)
        assert isinstance(found, Scanned)
        assert found.head.headers[1] == (b"x-n%d" % number, b"1")
        assert (found.head.path, found.head.authority) == (f"/{number}", f"h{number}.example")
    assert len(one._hosts) <= 512
    assert len(one._targets) <= 512
    assert len(one._names.known) <= 1024


def test_a_remembered_target_does_not_outlive_its_rules() -> None:
    one = scanner()
    absolute = b"GET http://gw.example/a HTTP/1.1"
    assert isinstance(one.scan(head(line=absolute), PEER), Scanned)
    assert isinstance(one.scan(head(line=absolute, host=b"other.example"), PEER), Refusal)


# fuzz: whatever comes, an answer of ours


MARKS = [
    b"\r\n", b"\n", b"\r", b" ", b"\t", b":", b"\x00", b",", b";", b"%2e", b"/", b"\\", b"#", b"?", b"Host: a\r\n",
    b"GET / HTTP/1.1\r\n", b"Transfer-Encoding: chunked\r\n", b"Content-Length: 1\r\n", b"Connection: close\r\n",
    b"Upgrade: websocket\r\n", b"HTTP/1.1", b"_", b"\xff", b"\xc3\xa4", b"chunked", b"Expect: 100-continue\r\n",
]  # fmt: skip
PIECES = st.lists(st.one_of(st.sampled_from(MARKS), st.binary(max_size=6)), max_size=20).map(b"".join)


@settings(QUIET, max_examples=examples(800))
@given(raw=st.one_of(st.binary(max_size=200), PIECES, PIECES.map(lambda tail: b"GET / HTTP/1.1\r\nHost: a\r\n" + tail)))
@example(raw=b"")
@example(raw=b"\r\n")
def test_any_bytes_are_a_head_or_a_refusal(raw: bytes) -> None:
    found = scanner().scan(raw, PEER)
    if isinstance(found, Refusal):
        assert found.reason in TABLE
        assert 400 <= found.http_status < 600
    else:
        _is_sound(found, raw)


def _is_sound(found: Scanned, raw: bytes) -> None:
    """What passed is canonical: written out and scanned again it is the same, and llhttp reads the same in it."""
    one = found.head
    assert one.method in ALLOWED_METHODS.values()
    assert one.target.startswith("/")
    assert one.target == one.path + (one.target[len(one.path) :])
    for name, value in one.headers:
        assert name == name.lower()
        assert not set(value) & set(b"\r\n\x00\x7f")
        assert value == value.strip(b" \t")
        assert name not in (b"connection", b"transfer-encoding", b"te", b"upgrade", b"expect", b"forwarded")
    again = scanner().scan(
        b"\r\n".join(
            (f"{one.method} {one.target} HTTP/1.1".encode(), *(b": ".join(item) for item in one.headers), b"")
        ),
        PEER,
    )
    assert isinstance(again, Scanned)
    if not one.websocket:
        assert again.head == one
    theirs = Theirs()
    parser = httptools.HttpRequestParser(theirs)
    theirs.parser = parser
    with contextlib.suppress(httptools.HttpParserUpgrade):
        parser.feed_data(raw + b"\r\n")
    assert theirs.method == one.method.encode()
    ours = dict.fromkeys(name for name, _ in one.headers)
    assert [item for item in theirs.headers if item[0] in ours] == list(one.headers)


class Theirs:
    """What llhttp makes of the same bytes."""

    def __init__(self) -> None:
        self.headers: list[tuple[bytes, bytes]] = []
        self.parser: Any = None
        self.method = b""

    def on_header(self, name: bytes, value: bytes) -> None:
        self.headers.append((name.lower(), value.rstrip(b" \t")))

    def on_headers_complete(self) -> None:
        self.method = self.parser.get_method()


NAMES = st.from_regex(rb"[A-Za-z0-9-]{1,12}", fullmatch=True)
VALUES = st.from_regex(rb"[!-~]{0,8}([ \t]{1,2}[!-~]{1,8}){0,2}", fullmatch=True)
METHODS = st.sampled_from([b"GET", b"POST", b"PUT", b"DELETE", b"OPTIONS", b"PATCH", b"HEAD"])
TARGETS = st.from_regex(rb"/[a-z0-9/._~%;:@=+-]{0,20}(\?[a-z0-9/?%&=]{0,10})?", fullmatch=True)


@settings(QUIET, max_examples=examples(300))
@given(method=METHODS, target=TARGETS, fields=st.lists(st.tuples(NAMES, VALUES), max_size=8))
def test_what_passes_is_what_llhttp_reads(method: bytes, target: bytes, fields: list[tuple[bytes, bytes]]) -> None:
    raw = head(*[name + b": " + value for name, value in fields], line=method + b" " + target + b" HTTP/1.1")
    found = scanner().scan(raw, PEER)
    if isinstance(found, Scanned):
        assert found.head.target == target.decode()
        _is_sound(found, raw)


# trusted proxies

TRUSTED = (ipaddress.ip_network("10.0.0.0/8"), ipaddress.ip_network("2001:db8::/32"))


def from_proxy(*lines: bytes) -> Head:
    found = scanner(trusted=TRUSTED).scan(head(*lines), Peer("10.0.0.1", "http", trusted=True))
    assert isinstance(found, Scanned), found
    return found.head


@pytest.mark.parametrize(
    ("lines", "peer", "scheme"),
    [
        ((), "10.0.0.1", "http"),
        ((b"X-Forwarded-For: 203.0.113.9", b"X-Forwarded-Proto: https"), "203.0.113.9", "https"),
        ((b"X-Forwarded-For: 1.1.1.1, 203.0.113.9, 10.2.3.4",), "203.0.113.9", "http"),
        ((b"X-Forwarded-For: 1.1.1.1", b"X-Forwarded-For: 203.0.113.9"), "203.0.113.9", "http"),
        ((b"X-Forwarded-For: 203.0.113.9:4711",), "203.0.113.9", "http"),
        ((b"X-Forwarded-For: [2001:db9::1]:4711",), "2001:db9::1", "http"),
        ((b"X-Forwarded-For: unknown",), "10.0.0.1", "http"),
        ((b"X-Forwarded-For: 1.1.1.1, nonsense, 10.9.9.9",), "10.9.9.9", "http"),
        ((b"X-Forwarded-For: 10.1.1.1, 10.1.1.2",), "10.1.1.1", "http"),
        ((b"X-Forwarded-Proto: gopher",), "10.0.0.1", "http"),
        ((b"X-Forwarded-Proto: https, http",), "10.0.0.1", "http"),
        ((b'Forwarded: for=203.0.113.9;proto=https;by="_x"',), "203.0.113.9", "https"),
        ((b'Forwarded: for="[2001:db9::1]:99", for=10.0.0.7;proto=https',), "2001:db9::1", "https"),
        ((b"Forwarded: for=_hidden",), "10.0.0.1", "http"),
        ((b"Forwarded: for=1.1.1.1;for=2.2.2.2",), "10.0.0.1", "http"),
        ((b'Forwarded: for="1.1.1.1',), "10.0.0.1", "http"),
        ((b"Forwarded: for=203.0.113.9", b"X-Forwarded-For: 203.0.113.9"), "203.0.113.9", "http"),
        ((b"Forwarded: for=1.1.1.1", b"X-Forwarded-For: 203.0.113.9"), "10.0.0.1", "http"),
    ],
)
def test_a_trusted_proxy_tells_the_peer_and_the_scheme(lines: tuple[bytes, ...], peer: str, scheme: str) -> None:
    found = from_proxy(*lines)
    assert (found.peer, found.scheme) == (peer, scheme)
    assert found.headers == ((b"host", b"gw.example"),)


def test_an_untrusted_peer_tells_nothing() -> None:
    lines = (b"X-Forwarded-For: 1.1.1.1", b"X-Forwarded-Proto: https", b"Forwarded: for=1.1.1.1;proto=https")
    found = scanner(trusted=TRUSTED).scan(head(*lines), PEER)
    assert isinstance(found, Scanned)
    assert (found.head.peer, found.head.scheme) == ("192.0.2.7", "http")
    assert found.head.headers == ((b"host", b"gw.example"),)


@settings(QUIET, max_examples=examples(300))
@given(
    value=st.one_of(
        st.from_regex(rb"[ -~]{0,60}", fullmatch=True),
        st.from_regex(rb'(for|proto|by)=[0-9a-f.:"\[\]_,; =]{0,40}', fullmatch=True),
    )
)
def test_no_claim_makes_the_scanner_fail(value: bytes) -> None:
    for name in (b"Forwarded", b"X-Forwarded-For", b"X-Forwarded-Proto"):
        found = from_proxy(name + b": " + value)
        ipaddress.ip_address(found.peer)
        assert found.scheme in ("http", "https")
