"""The chunked decoder: the same answer however the bytes are cut, and nothing but the grammar."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway.core.reasons import Refusal
from gateway.wire.request_body import ChunkedBody
from tests.thorough import examples

QUIET = settings(
    deadline=None, database=None, suppress_health_check=[HealthCheck.too_slow]
)  # a busy machine is no fault


LIMIT = 1000


def decode(*pieces: bytes, limit: int = LIMIT) -> tuple[bytes, bytes | Refusal | None]:
    """(the body, what the last fed piece said): what comes behind the end is collected."""
    body = ChunkedBody(limit)
    into: list[bytes] = []
    said: bytes | Refusal | None = None
    for piece in pieces:
        if isinstance(said, bytes):
            said += piece
            continue
        said = body.feed(piece, into)
        if isinstance(said, Refusal):
            break
    return b"".join(into), said


@pytest.mark.parametrize(
    ("raw", "body", "rest"),
    [
        (b"0\r\n\r\n", b"", b""),
        (b"3\r\nabc\r\n0\r\n\r\n", b"abc", b""),
        (b"A\r\n0123456789\r\n1\r\nx\r\n000\r\n\r\nGET", b"0123456789x", b"GET"),
        (b"a\r\n0123456789\r\n0\r\n\r\n\r\n", b"0123456789", b"\r\n"),
        (b"0000000000000003\r\nabc\r\n0\r\n\r\n", b"abc", b""),
        (b"3;a\r\nabc\r\n0;b=c\r\n\r\n", b"abc", b""),
        (b'3;a="x;y \\" z";b=1\r\nabc\r\n0\r\n\r\n', b"abc", b""),
        (b"3\r\n\r\n0\r\n0\r\n\r\n", b"\r\n0", b""),
        (b"0\r\nX-Auth-User: root\r\nDigest:\r\n\r\nrest", b"", b"rest"),
    ],
)
def test_a_good_body_is_read_to_its_end_however_it_is_cut(raw: bytes, body: bytes, rest: bytes) -> None:
    assert decode(raw) == (body, rest)
    assert decode(*(raw[at : at + 1] for at in range(len(raw)))) == (body, rest)
    for at in range(1, len(raw)):
        assert decode(raw[:at], raw[at:]) == (body, rest)


BAD = [
    b"3\nabc\r\n0\r\n\r\n", b"3\r\nabc\n0\r\n\r\n", b"3\r\nabc0\r\n\r\n", b"3\r\nabcd\r\n0\r\n\r\n",
    b"3\r\nab\r\n0\r\n\r\n", b"\r\n3\r\nabc\r\n0\r\n\r\n", b"AXX\r\n", b"0x3\r\nabc\r\n0\r\n\r\n",
    b"+3\r\nabc\r\n0\r\n\r\n", b"-3\r\n", b"3 \r\nabc\r\n", b" 3\r\nabc\r\n", b"\t3\r\n", b"3_0\r\n", b"\r\n",
    b";a\r\n", b"g\r\n", b"00000000000000003\r\nabc\r\n", b"11111111111111111\r\n", b"3;\r\nabc\r\n0\r\n\r\n",
    b"3; a\r\nabc\r\n0\r\n\r\n", b"3 ;a\r\nabc\r\n0\r\n\r\n", b"3;a\nb\r\nabc\r\n0\r\n\r\n",
    b"3;a\rb\r\nabc\r\n0\r\n\r\n", b'3;a="b\r\nabc\r\n0\r\n\r\n', b"3;a=\r\nabc\r\n", b"3;a=\x00\r\nabc\r\n",
    b"3\r\r\nabc\r\n", b"3\rabc\r\n", b"3\r\nabc\r\r\n0\r\n\r\n", b"3,3\r\nabc\r\n", b"3.0\r\nabc\r\n",
    b"\xef\xbc\x93\r\nabc\r\n", b"\x00", b"0\n\r\n", b"0\r\n\n", b"0\r\nA\r\n\r\n", b"0\r\n A: b\r\n\r\n",
    b"0\r\nA : b\r\n\r\n", b"0\r\nA: b\n\r\n", b"0\r\nA: b\x00\r\n\r\n", b"0\r\nA: b\r\n c\r\n\r\n",
    b"0\r\n: b\r\n\r\n", b"3\r\nabc\r\nZ\r\n", b"-0\r\n\r\n", b"0,\r\n\r\n",
]  # fmt: skip


@pytest.mark.parametrize("raw", BAD)
def test_everything_else_is_refused_however_it_is_cut(raw: bytes) -> None:
    for pieces in ([raw], [raw[at : at + 1] for at in range(len(raw))]):
        _, said = decode(*pieces)
        assert isinstance(said, Refusal), said
        assert said.http_status == 400


def test_a_size_that_cannot_become_one_is_refused_before_its_line_ends() -> None:
    for start in (b"x", b"3x", b"1" * 17, b"0x", b" ", b"3\rx"):
        assert isinstance(decode(start)[1], Refusal), start
    for start in (b"3", b"3\r", b"3;a", b"1" * 16):
        assert decode(start)[1] is None, start


def test_a_body_over_its_limit_is_refused_before_its_bytes_are_kept() -> None:
    body, said = decode(b"%x\r\n" % (LIMIT + 1))
    assert isinstance(said, Refusal)
    assert (said.http_status, body) == (413, b"")
    half = b"1f4\r\n" + b"x" * 500 + b"\r\n"
    assert decode(half * 2 + b"0\r\n\r\n") == (b"x" * 1000, b"")
    found = decode(half * 2 + b"1\r\n")[1]
    assert isinstance(found, Refusal)
    assert found.http_status == 413


def test_extensions_and_trailers_have_an_end() -> None:
    said = decode(*[b"1;" + b"e" * 1000 + b"\r\nx\r\n"] * 4, b"1;" + b"e" * 1000)[1]
    assert said is None
    assert isinstance(decode(*[b"1;" + b"e" * 1000 + b"\r\nx\r\n"] * 5)[1], Refusal)
    assert isinstance(decode(b"1;" + b"e" * 2000)[1], Refusal)
    said = decode(b"0\r\n", *[b"A: " + b"b" * 500 + b"\r\n"] * 20)[1]
    assert isinstance(said, Refusal)
    assert said.http_status == 431
    assert isinstance(decode(b"0\r\n", b"A" * 9000)[1], Refusal)


def test_an_unfinished_line_is_all_that_is_held() -> None:
    body = ChunkedBody(10**9)
    into: list[bytes] = []
    assert body.feed(b"fffffff\r\n", into) is None
    for _ in range(100):
        assert body.feed(b"x" * 10_000, into) is None
        assert sum(map(len, into)) == 10_000
        into.clear()
    assert body._rest == b""


@settings(QUIET, max_examples=examples(800))
@given(
    chunks=st.lists(st.binary(min_size=1, max_size=30), max_size=6),
    rest=st.binary(max_size=8),
    cuts=st.lists(st.integers(0, 200), max_size=6),
)
def test_what_was_chunked_comes_out_whole(chunks: list[bytes], rest: bytes, cuts: list[int]) -> None:
    raw = b"".join(b"%x\r\n%b\r\n" % (len(chunk), chunk) for chunk in chunks) + b"0\r\n\r\n" + rest
    at = sorted({0, len(raw), *(cut for cut in cuts if cut < len(raw))})
    pieces = [raw[one:two] for one, two in itertools.pairwise(at)]
    assert decode(*pieces) == (b"".join(chunks), rest)


PIECES = st.sampled_from(
    [b"\r\n", b"\n", b"\r", b"0", b"3", b"a", b";", b"=", b'"', b"x", b"A: b", b" ", b"\x00", b"abc"]
)


@settings(QUIET, max_examples=examples(1500))
@given(raw=st.one_of(st.binary(max_size=40), st.lists(PIECES, max_size=14).map(b"".join)), at=st.integers(0, 40))
def test_any_bytes_give_the_same_answer_cut_or_whole(raw: bytes, at: int) -> None:
    whole, cut = decode(raw), decode(raw[:at], raw[at:])
    if isinstance(whole[1], Refusal) or isinstance(cut[1], Refusal):
        assert isinstance(whole[1], Refusal)
        assert isinstance(cut[1], Refusal)
    else:
        assert whole == cut
