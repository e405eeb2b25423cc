"""Heads towards upstreams: what may leave, and what an upstream may say."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.reasons import UpstreamFailed
from gateway.wire.http1_head import MAX_FIELDS, MAX_HEAD_BYTES, check_names, encode_head, find_end, parse_head

HOST = (b"host", b"upstream.test")


def parsed(*lines: bytes, status: bytes = b"HTTP/1.1 200 OK"):  # type: ignore[no-untyped-def]
    return parse_head(b"\r\n".join((status, *lines)) + b"\r\n\r\n")


def test_a_request_head_is_exactly_what_was_given_and_framing() -> None:
    headers = [HOST, (b"accept", b"*/*"), (b"x-two", b"a"), (b"x-two", b"\xe9 b")]
    head = encode_head("POST", "/a/%2F/..;x?y=%00&z#no"[:-3], headers, b"content-length: 3\r\n")
    assert head == (
        b"POST /a/%2F/..;x?y=%00&z HTTP/1.1\r\nhost: upstream.test\r\naccept: */*\r\nx-two: a\r\nx-two: \xe9 b\r\n"
        b"content-length: 3\r\n\r\n"
    )


@pytest.mark.parametrize("bad", [b"\r\nx-injected: 1", b"\n", b"\r", b"\0", b"\x1b[31m", b"\x7f", b"\x0b"])
def test_a_control_byte_in_a_header_value_is_not_sent(bad: bytes) -> None:
    with pytest.raises(UpstreamFailed) as failure:
        encode_head("GET", "/", [HOST, (b"x-name", b"a" + bad + b"b")], b"")
    assert not failure.value.sent


@pytest.mark.parametrize("name", [b"", b"x y", b"x:y", b"x\r\ny", b"x\0", b"\xe9", b"x\ny: z\nq"])
def test_a_header_name_that_is_no_token_is_not_sent(name: bytes) -> None:
    with pytest.raises(UpstreamFailed):
        encode_head("GET", "/", [HOST, (name, b"1")], b"")


@pytest.mark.parametrize(
    "target", ["", "a", "*", "/a b", "/\r\nx: y", "/\x7f", "/é", "http://other/", "/ HTTP/1.1\r\nx: y\r\n\r\nGET /"]
)
def test_a_target_that_is_not_origin_form_is_not_sent(target: str) -> None:
    with pytest.raises(UpstreamFailed):
        encode_head("GET", target, [HOST], b"")


@pytest.mark.parametrize("method", ["", "G T", "GET\r\n", "GÉT", "GET /x HTTP/1.1\r\nx: y\r\n\r\nGET"])
def test_a_method_that_is_no_token_is_not_sent(method: str) -> None:
    with pytest.raises(UpstreamFailed):
        encode_head(method, "/", [HOST], b"")


@pytest.mark.parametrize(
    "name", [b"content-length", b"transfer-encoding", b"connection", b"te", b"trailer", b"upgrade", b"expect"]
)
def test_framing_belongs_to_the_client_alone(name: bytes) -> None:
    with pytest.raises(UpstreamFailed):
        check_names([HOST, (name, b"1")])


def test_exactly_one_host_is_sent() -> None:
    check_names([HOST])
    for headers in ([], [HOST, HOST]):
        with pytest.raises(UpstreamFailed):
            check_names(headers)


def test_names_come_lower_case_values_trimmed_order_and_repetition_kept() -> None:
    head = parsed(b"B: \t2 ", b"a:1", b"Set-Cookie: x=1", b"set-cookie: y=2", b"Empty:", b"Lat: \xe9")
    assert head.status == 200
    assert head.headers == [
        (b"b", b"2"),
        (b"a", b"1"),
        (b"set-cookie", b"x=1"),
        (b"set-cookie", b"y=2"),
        (b"empty", b""),
        (b"lat", b"\xe9"),
    ]


def test_a_reason_may_be_empty_or_missing() -> None:
    assert parsed(status=b"HTTP/1.1 404 ").status == 404
    assert parsed(status=b"HTTP/1.1 404").status == 404


@pytest.mark.parametrize(
    "status",
    [
        b"HTTP/1.1 099 X",
        b"HTTP/1.1 600 X",
        b"HTTP/1.1 000 X",
        b"HTTP/1.1 20 X",
        b"HTTP/1.1 2000 X",
        b"HTTP/1.1 +20 X",
        b"HTTP/1.1 0x1 X",
        b"HTTP/1.1  200 OK",
        b"HTTP/1.1\t200 OK",
        b"HTTP/1.2 200 OK",
        b"HTTP/2.0 200 OK",
        b"HTTP/2 200",
        b"HTTP/0.9 200 OK",
        b"http/1.1 200 OK",
        b"HTTP/1.1 200 O\0K",
        b"HTTP/1.1 200 O\rK",
        b"HTTP/1.1 200\x0bOK",
        b"ICY 200 OK",
        b" HTTP/1.1 200 OK",
        b"\r\nHTTP/1.1 200 OK",
        b"HTTP/1.1 2\xb200 OK",
        b"",
        b"garbage",
    ],
)
def test_a_status_line_that_is_not_one_is_refused(status: bytes) -> None:
    with pytest.raises(UpstreamFailed) as failure:
        parsed(b"Content-Length: 0", status=status)
    assert failure.value.error == "http_protocol_error"


@pytest.mark.parametrize(
    "line",
    [
        b"X",
        b"X y",
        b": empty",
        b"X : y",
        b" X: y",
        b"X\t: y",
        b"X\0: y",
        b"X: a\0b",
        b"X: a\nY: b",
        b"X: a\rY: b",
        b"X: a\r\n folded",
        b"X: a\r\n\tfolded",
        b"X\xe9: y",
        b"X: \x7f",
        b"X: \x1b",
        b"X(y): z",
        b"X: y\n",
    ],
)
def test_a_header_line_that_is_not_one_is_refused(line: bytes) -> None:
    with pytest.raises(UpstreamFailed):
        parsed(b"Good: 1", line, b"Content-Length: 0")


@pytest.mark.parametrize(
    "lines",
    [
        [b"Content-Length: 1", b"Content-Length: 1"],
        [b"Content-Length: 1", b"Content-Length: 2"],
        [b"Content-Length: 1, 1"],
        [b"Content-Length: +1"],
        [b"Content-Length: -1"],
        [b"Content-Length: 0x1"],
        [b"Content-Length: 1_0"],
        [b"Content-Length:"],
        [b"Content-Length: 1 1"],
        [b"Content-Length: 1.0"],
        [b"Content-Length: 9999999999999999999"],
        [b"Content-Length: \xb2"],
        [b"Transfer-Encoding: gzip"],
        [b"Transfer-Encoding: gzip, chunked"],
        [b"Transfer-Encoding: chunked, chunked"],
        [b"Transfer-Encoding: chunked", b"Transfer-Encoding: chunked"],
        [b"Transfer-Encoding: ,chunked"],
        [b"Transfer-Encoding:"],
        [b"Transfer-Encoding: identity"],
        [b"Transfer-Encoding: \x0bchunked"],
        [b"Transfer-Encoding: xchunked"],
        [b"Transfer-Encoding: chunked", b"Content-Length: 5"],
        [b"Content-Length: 5", b"Transfer-Encoding: chunked"],
    ],
    ids=repr,
)
def test_a_length_that_could_be_read_twice_is_refused(lines: list[bytes]) -> None:
    with pytest.raises(UpstreamFailed):
        parsed(*lines)


def test_chunked_is_known_in_any_case_and_never_in_http_1_0() -> None:
    assert parsed(b"Transfer-Encoding: Chunked").chunked
    with pytest.raises(UpstreamFailed):
        parsed(b"Transfer-Encoding: chunked", status=b"HTTP/1.0 200 OK")


def test_hop_by_hop_headers_and_those_that_connection_lists_do_not_go_on() -> None:
    head = parsed(
        b"Connection: X-Private, keep-alive",
        b"Connection:  x-other ,, Content-Length",
        b"X-Private: 1",
        b"X-Other: 2",
        b"X-Kept: 3",
        b"Keep-Alive: timeout=5, max=9",
        b"Proxy-Authenticate: Basic",
        b"Trailer: X",
        b"Upgrade: h2c",
        b"TE: x",
        b"Content-Length: 0",
    )
    assert head.headers == [(b"x-kept", b"3"), (b"content-length", b"0")]
    assert head.keep
    assert head.keep_seconds == 5


def test_a_connection_is_kept_only_when_http_1_1_says_nothing_else() -> None:
    assert parsed().keep
    assert not parsed(b"Connection: foo, CLOSE").keep
    assert not parsed(status=b"HTTP/1.0 200 OK").keep
    assert not parsed(b"Connection: keep-alive", status=b"HTTP/1.0 200 OK").keep


def test_a_204_goes_on_without_a_content_length() -> None:
    assert parsed(b"Content-Length: 7", status=b"HTTP/1.1 204 X").headers == []


def test_an_event_stream_is_known_by_its_type() -> None:
    assert parsed(b"Content-Type: Text/Event-Stream; charset=utf-8").event_stream
    assert not parsed(b"Content-Type: application/json").event_stream


def test_too_many_headers_are_refused() -> None:
    assert len(parsed(*[b"X: y"] * MAX_FIELDS).headers) == MAX_FIELDS
    with pytest.raises(UpstreamFailed):
        parsed(*[b"X: y"] * (MAX_FIELDS + 1))


def test_a_head_is_found_wherever_it_is_cut() -> None:
    data = b"HTTP/1.1 200 OK\r\nX: y\r\n\r\nbody"
    for cut in range(len(data)):
        first = find_end(data[:cut], 0)
        assert (first if first >= 0 else find_end(data, cut)) == len(data) - 4


def test_a_head_without_end_is_refused_at_its_limit() -> None:
    line = b"HTTP/1.1 200 OK\r\nX: " + b"y" * MAX_HEAD_BYTES
    assert find_end(line[:MAX_HEAD_BYTES], 0) == -1
    for data in (line, line + b"\r\n\r\n"):
        with pytest.raises(UpstreamFailed):
            find_end(data, 0)


@pytest.mark.parametrize(
    "data", [b"X", b"HTTP/2", b"\r\n", b"HTTP/1.1 200 OK\nX: y", b"HTTP/1.1 200 OK\r\nX: \0", b"HTTP/1.1 200\rX"]
)
def test_junk_is_refused_before_it_ends(data: bytes) -> None:
    with pytest.raises(UpstreamFailed):
        find_end(data, 0)
    with pytest.raises(UpstreamFailed):
        [find_end(data[:cut], cut - 1) for cut in range(1, len(data) + 1)]


@given(st.lists(st.tuples(st.binary(max_size=8), st.binary(max_size=12)), max_size=4), st.binary(max_size=6))
def test_whatever_is_accepted_holds_no_control_byte_and_reads_the_same_again(
    pairs: list[tuple[bytes, bytes]], reason: bytes
) -> None:
    lines = [b"%b: %b" % pair for pair in pairs]
    try:
        head = parsed(*lines, status=b"HTTP/1.1 200 " + reason)
    except UpstreamFailed:
        return
    assert len(head.headers) <= len(pairs)
    for name, value in head.headers:
        assert not any((byte < 32 and byte != 9) or byte == 127 for byte in name + value)
        assert name == name.lower()
    again = parsed(*[b"%b: %b" % pair for pair in head.headers])
    assert again.headers == head.headers


@given(st.lists(st.tuples(st.binary(max_size=8), st.binary(max_size=12)), max_size=4), st.text(max_size=6))
def test_whatever_is_sent_is_one_line_per_header(pairs: list[tuple[bytes, bytes]], target: str) -> None:
    try:
        head = encode_head("GET", "/" + target, [HOST, *pairs], b"")
    except UpstreamFailed:
        return
    assert head.split(b"\r\n")[1:-2] == [b"%b: %b" % pair for pair in [HOST, *pairs]]
    assert head.count(b"\n") == len(pairs) + 3
