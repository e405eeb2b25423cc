"""What the upstream gets is what the caller sent: method, target, headers and body."""

from __future__ import annotations

import gzip
import hashlib
from collections.abc import Iterator

import pytest
from rig import run

from tests.flows.lanes import Lanes, Way, arrives, lanes, sent


@pytest.fixture(scope="module")
def lane(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lanes]:
    with lanes(tmp_path_factory.mktemp("requests")) as found:
        yield found


ALL_BYTES = bytes(range(256)) * 5
LARGE = hashlib.shake_256(b"large").digest(3_000_000)

JSON = ("Content-Type", "application/json")
UTF8 = "café ☃".encode().decode("latin-1")
PLAIN_HEADERS = [
    ("User-Agent", "agent/1 (a; b)"), ("Accept", "*/*;q=0.1"), ("Accept-Encoding", "gzip, br"), ("X-Same", "1"),
    ("Accept-Language", "en, nb;q=0.5"), ("Cookie", "a=1; b=2"), ("X-Own", UTF8), ("X-Empty", ""),
    ("X-Same", "2"), ("X-Same", "1"),
    ("If-None-Match", '"1", W/"2"'), ("Range", "bytes=0-3"), ("Cache-Control", "no-cache"), ("Referer", "http://a/"),
    ("Idempotency-Key", "k"), ("Prefer", "wait=1"), ("Last-Event-ID", "7"), ("DNT", "1"), ("baggage", "a=1"),
    ("tracestate", "vendor=1"), ("Content-Language", "en"), ("If-Modified-Since", "Sun, 06 Nov 1994 08:49:37 GMT"),
]  # fmt: skip

TARGETS = [
    "/x", "/", "", "/x?", "/x?y=1&&z=%2F&=&y=2", "/x?a=b?c=d/../e", "/a%20b;p=1/(c),d'e!f*$&+:@=", "/%C3%A9%E2%98%83",
    "/x?q=%20%e2%98%83", "/%41%7e~", "/.hidden/..x/x..", "/x?redirect=http://a.example/%3Fb", "/" + "long/" * 200,
    "/x?" + "&".join(f"k{number}=v" for number in range(300)),
]  # fmt: skip


@pytest.mark.parametrize("rest", TARGETS)
def test_the_target_reaches_the_upstream_as_it_was_written(lane: Lanes, rest: str) -> None:
    sent(lane, "GET", "plain", rest, [], None)


@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "PROPFIND", "QUERY"])
def test_method_headers_and_body_reach_the_upstream_as_they_were_sent(lane: Lanes, method: str) -> None:
    body = None if method in ("GET", "OPTIONS") else ALL_BYTES
    sent(lane, method, "plain", "/x", [*PLAIN_HEADERS, ("Content-Type", "application/x-own")], body)


@pytest.mark.parametrize("body", [b"", b"x", ALL_BYTES, LARGE, gzip.compress(b"text")], ids=len)
def test_a_body_reaches_the_upstream_to_its_last_byte(lane: Lanes, body: bytes) -> None:
    sent(
        lane, "POST", "plain", "/x", [("Content-Type", "application/octet-stream"), ("Content-Encoding", "x-own")], body
    )


@pytest.mark.parametrize("chunks", [[], [b"x"], [b"one", b"two", ALL_BYTES], [LARGE[:100_000]] * 7], ids=len)
def test_a_chunked_body_reaches_the_upstream_to_its_last_byte(lane: Lanes, chunks: list[bytes]) -> None:
    data = b"".join(b"%x;x=1\r\n%s\r\n" % (len(chunk), chunk) for chunk in chunks) + b"0\r\n\r\n"

    def made(way: Way) -> bytes:
        return way.request("POST", "plain", "/x", [("Transfer-Encoding", "chunked")]) + data

    run(arrives(lane, "/plain/x", made(lane.straight), made(lane.through), "plain"))
