"""Differential and fuzz: what the application sees is what was sent, however it was cut; and any bytes end well."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.thorough import examples
from tests.wire.front_rig import Listener, listening

QUIET = settings(
    deadline=None, database=None, suppress_health_check=[HealthCheck.too_slow]
)  # a busy machine is no fault


@pytest.fixture(scope="module")
def front() -> Iterator[Listener]:
    with listening() as found:
        yield found


@dataclass(frozen=True)
class Sent:
    method: bytes
    target: bytes
    fields: list[tuple[bytes, bytes]]
    body: bytes
    chunks: list[int] | None

    def raw(self, last: bool) -> bytes:
        lines = [self.method + b" " + self.target + b" HTTP/1.1", b"Host: gw.example"]
        lines += [name + b": " + value for name, value in self.fields]
        body = self.body
        if self.chunks is None:
            if body:
                lines.append(b"Content-Length: %d" % len(body))
        else:
            lines.append(b"Transfer-Encoding: chunked")
            parts, rest = [], body
            for size in self.chunks:
                if rest:
                    parts.append(b"%x\r\n%b\r\n" % (len(rest[:size]), rest[:size]))
                    rest = rest[size:]
            if rest:
                parts.append(b"%x\r\n%b\r\n" % (len(rest), rest))
            body = b"".join(parts) + b"0\r\n\r\n"
        if last:
            lines.append(b"Connection: close")
        return b"\r\n".join([*lines, b"", b""]) + body


FIELDS = st.lists(
    st.tuples(
        st.from_regex(rb"X-[A-Za-z0-9-]{1,8}", fullmatch=True).filter(
            lambda name: (
                not name.lower().startswith((b"x-forwarded", b"x-original-", b"x-envoy-", b"x-method-", b"x-http-"))
            )
        ),
        st.from_regex(rb"([!-~]{1,6}( [!-~]{1,6}){0,2})?", fullmatch=True),
    ),
    max_size=5,
)
REQUESTS = st.builds(
    Sent,
    method=st.sampled_from([b"GET", b"POST", b"PUT", b"DELETE", b"OPTIONS"]),
    target=st.from_regex(rb"/([a-z0-9_~:;=-]{1,8}(/[a-z0-9]{1,4}){0,3})?(\?[a-z0-9=&/?.]{0,8})?", fullmatch=True),
    fields=FIELDS,
    body=st.one_of(
        st.binary(max_size=40), st.sampled_from([b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", b"0\r\n\r\n", b"\r\n\r\n"])
    ),
    chunks=st.one_of(st.none(), st.lists(st.integers(1, 9), max_size=5)),
)


@settings(QUIET, max_examples=examples(250))
@given(sent=st.lists(REQUESTS, min_size=1, max_size=4), cuts=st.lists(st.integers(1, 600), max_size=5))
def test_a_connections_requests_arrive_as_they_were_sent(front: Listener, sent: list[Sent], cuts: list[int]) -> None:
    raw = b"".join(one.raw(last=number == len(sent) - 1) for number, one in enumerate(sent))
    borders = sorted({0, len(raw), *(cut for cut in cuts if cut < len(raw))})
    front.seen.clear()
    with front.connect() as wire:
        for begin, end in itertools.pairwise(borders):
            wire.send(raw[begin:end])
            front.call(lambda: None)
        answers = wire.all()
    seen = front.seen
    assert [answer.body for answer in answers] == [one.body for one in sent]
    assert len(seen) == len(sent)
    for one, was in zip(sent, seen, strict=True):
        assert (was.head.method.encode(), was.head.target.encode(), was.body) == (one.method, one.target, one.body)
        ours = [item for item in was.head.headers if item[0] not in (b"host", b"content-length")]
        assert ours == [(name.lower(), value) for name, value in one.fields]


MARKS = [
    b"GET / HTTP/1.1\r\n", b"POST /a HTTP/1.1\r\n", b"Host: a\r\n", b"\r\n", b"\n", b"\r", b"Content-Length: 3\r\n",
    b"Transfer-Encoding: chunked\r\n", b"3\r\n", b"abc", b"0\r\n\r\n", b"Connection: close\r\n", b"\x00", b" ", b":",
    b"Expect: 100-continue\r\n", b"Upgrade: websocket\r\n", b"Connection: upgrade\r\n", b"PRI * HTTP/2.0\r\n",
    b"HTTP/1.0\r\n", b"HEAD / ", b"X: y\r\n", b";a=b", b"ffffffffffffffff\r\n", b"Sec-WebSocket-Version: 13\r\n",
    b"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n",
]  # fmt: skip


@settings(QUIET, max_examples=examples(400))
@given(
    raw=st.lists(st.one_of(st.sampled_from(MARKS), st.binary(max_size=5)), max_size=25).map(b"".join),
    cut=st.integers(0, 300),
)
def test_any_bytes_end_in_whole_answers_and_leave_nothing_behind(front: Listener, raw: bytes, cut: int) -> None:
    front.seen.clear()
    with front.connect() as wire:
        wire.send(raw[:cut])
        front.call(lambda: None)
        wire.send(raw[cut:])
        wire.sock.settimeout(0.02)
        found = b""
        try:
            while data := wire.sock.recv(65536):
                found += data
        except (TimeoutError, ConnectionResetError):
            pass
    assert not found or found.startswith(b"HTTP/1.1 ")
    for one in front.seen:
        assert one.head.target.encode() in raw
        assert one.body == b"" or one.body in raw or b"chunked" in raw
    front.until(lambda: not front.front.door.inside and not front.front.exchanges)
    assert front.front.door.half_open() == 0
    assert not front.front.door.idle
