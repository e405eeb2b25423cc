"""Request bytes for the front's rows, generated: every case is one request that must be refused whole, with another
request hidden behind it that nobody may ever see.
"""

from __future__ import annotations

from collections.abc import Iterable

from tests.wire.front_rig import Listener

HIDDEN = b"GET /hidden HTTP/1.1\r\nHost: gw.example\r\nX-Auth-User: root\r\n\r\n"
BASE = b"POST /public HTTP/1.1\r\nHost: gw.example\r\n"

CODINGS = [
    b"chunked", b"Chunked", b"CHUNKED", b" chunked", b"\tchunked", b"chunked ", b"chunked\t", b"xchunked",
    b"chunkedx", b"chunked, identity", b"identity, chunked", b"gzip, chunked", b"chunked, gzip", b"chunked, chunked",
    b",chunked", b"chunked,", b", chunked", b"chunked;", b"chunked;q=1", b'"chunked"', b"'chunked'", b"identity",
    b"gzip", b"deflate", b"", b" ", b"chunk", b"chu nked", b"chunked\x00", b"\x00chunked", b"chunked\x0b",
    b"\x0bchunked", b"chunked\x0c", b"\xa0chunked", b"chunked\xa0", b"chunked\x7f", b"c\xc4\xb1unked", b"chunked\r",
    b"chunked\nX: y", b"chunked\rX: y", b"\r\n chunked", b"\r\n\tchunked", b"chunked\r\n ", b"identity\r\n chunked",
    b"=?utf-8?Q?chunked?=", b"trailers",
]  # fmt: skip
CODING_NAMES = [
    b"Transfer-Encoding", b"transfer-encoding", b"TRANSFER-ENCODING", b"Transfer-Encoding ", b"Transfer-Encoding\t",
    b" Transfer-Encoding", b"\tTransfer-Encoding", b"Transfer_Encoding", b"Transfer.Encoding", b"Transfer-Encoding\x00",
    b"\x00Transfer-Encoding", b"Transfer\x00-Encoding", b"X: y\nTransfer-Encoding", b"X: y\rTransfer-Encoding",
    b"Transfer-Encoding\r\n ", b"Transfer-Encoding\xff", b"Transfer\xadEncoding", b"Foo:\r\n Transfer-Encoding",
]  # fmt: skip
NUMBERS = [
    b"", b" ", b"+5", b"-5", b"0x5", b"5_0", b"5,5", b"5, 5", b"5 5", b"5;5", b"5.0", b"5e0", b"0b11", b"0o5",
    b"five", b"5a", b"a5", b"\xd9\xa5", b"\xef\xbc\x95", b"\xc2\xb2", b"5\x00", b"\x005", b"5\x0b", b"\x0b5",
    b"5\x0c", b"5\xa0", b"\xa05", b"'5'", b'"5"', b"--5", b"+", b"-", b"_5", b"5_", b"1" * 19, b"9" * 40, b"0" * 19,
    b"-0", b"+0", b"NaN", b"inf", b"5L", b"5\t5",
]  # fmt: skip
SIZES = [
    b"", b" ", b"5 ", b" 5", b"\t5", b"5\t", b"+5", b"-5", b"0x5", b"0X5", b"5_0", b"5,5", b"5.0", b"5h", b"h5", b"g",
    b"AXX", b"5\x00", b"\x005", b"5\x0b", b"\xef\xbc\x95", b"'5'", b'"5"', b"0" * 17, b"0" * 16 + b"5", b"1" * 17,
    b"F" * 40, b"5;", b"5; ", b"5 ;a", b"5; a", b"5;a ", b"5;a =b", b"5;a= b", b"5;a=", b"5;=b", b'5;a="', b'5;a="b',
    b'5;a=b"', b"5;;a", b"5;a\x00", b"5;a\nb", b"5;a\rb", b"5;a=\nb", b'5;a="\nb"', b'5;a="\r\nb"', b"5;\nxx",
    b"5\n;a", b"5;a=b\n", b";a", b"5a;g\xff", b"-0", b"+0", b"5\r", b"\r5", b"\n5", b"5\n",
]  # fmt: skip


def coding_cases() -> Iterable[tuple[str, bytes]]:
    """Rows 1 and 4: every spelling of a coding beside a length, in both orders, and every wrong one by itself."""
    for coding in CODINGS:
        line = b"Transfer-Encoding: " + coding
        yield f"length, then {line!r}", b"Content-Length: 5\r\n" + line
        yield f"{line!r}, then length", line + b"\r\nContent-Length: 5"
        yield f"{line!r} with a zero length", line + b"\r\nContent-Length: 0"
        if coding.lower().strip(b" \t") != b"chunked":
            yield f"{line!r}", line
        yield f"chunked and {line!r}", b"Transfer-Encoding: chunked\r\n" + line
        yield f"{line!r} and chunked", line + b"\r\nTransfer-Encoding: chunked"
    for name in CODING_NAMES:
        yield f"length and {name!r}", b"Content-Length: 5\r\n" + name + b": chunked"
        yield f"{name!r} and length", name + b": chunked\r\nContent-Length: 5"
        if name.lower() != b"transfer-encoding":
            yield f"{name!r} alone", name + b": chunked"


def length_cases() -> Iterable[tuple[str, bytes]]:
    """Rows 3 and 4: every wrong number, and every right one that stands twice."""
    for number in NUMBERS:
        yield f"length {number!r}", b"Content-Length: " + number
        yield f"5 and length {number!r}", b"Content-Length: 5\r\nContent-Length: " + number
        yield f"length {number!r} and 5", b"Content-Length: " + number + b"\r\nContent-Length: 5"
    for other in (b"5", b"05", b"6", b"0"):
        yield f"5 and {other!r}", b"Content-Length: 5\r\nContent-Length: " + other
        yield f"5, {other!r}", b"Content-Length: 5, " + other
        yield f"5 and, folded, {other!r}", b"Content-Length: 5\r\n " + other
    for name in (
        b"Content-Length ",
        b" Content-Length",
        b"Content_Length",
        b"Content-Length\t",
        b"Content\x00-Length",
        b"content.length",
    ):
        yield f"{name!r}", name + b": 5"


def written(lines: bytes) -> bytes:
    return BASE + lines + b"\r\n\r\n0\r\n\r\n" + HIDDEN


def never_a_request(front: Listener, raw: bytes) -> None:
    """One refusal, the connection closed, and the application has seen nothing: not the request, not the hidden one."""
    answer = front.refused(raw)
    assert answer.status in (400, 413, 431, 501, 505), answer
