"""An allowed answer is the upstream's answer, and what the upstream gets is what the caller sent, byte for byte.

Everything is looked at on raw sockets, at both ends, straight and through the gateway (contract, ruling 6).
"""

from __future__ import annotations

import gzip
import hashlib
from collections.abc import Iterator

import pytest
from rig import run

from tests.flows.lanes import Lanes, compared, lanes, same
from tests.flows.recording import Answer, Closing, ask, bare, chunked, dialled, head_of, says, whole

ALL_BYTES = bytes(range(256)) * 5
LARGE = hashlib.shake_256(b"large").digest(3_000_000)


@pytest.fixture(scope="module")
def lane(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lanes]:
    with lanes(tmp_path_factory.mktemp("fidelity")) as found:
        yield found


REPEATED = (
    "Set-Cookie: a=1; Path=/", "Set-Cookie: b=2; HttpOnly", "Link: </a>; rel=next", "Link: </b>; rel=prev",
    "Vary: Accept", "Vary: Accept-Encoding", "Cache-Control: max-age=1", "Cache-Control: private", "X-Empty:",
    "X-Spaces:   inner  spaces  ", "X-Latin: caf\xe9 \xfc", "X-Same: 1", "X-Same: 1", "X_Under: 1",
    "x-lower: 1", "ETag: W/\"1\"", "WWW-Authenticate: Basic realm=\"a, b\"", "WWW-Authenticate: Bearer", "Server: 1",
    "Content-Language: en", "Warning: 199 - \"old\"", "Age: 3", "Alt-Svc: clear", "Refresh: 0",
)  # fmt: skip

ANSWERS: dict[str, bytes] = {
    "json": whole("200 OK", b'{ "a": 1.50,\n "b": "\\u00e9" }', "Content-Type: application/json"),
    "dated": whole("200 OK", b"x", "Date: Sun, 06 Nov 1994 08:49:37 GMT", "Content-Type: text/plain"),
    "chunked": chunked("200 OK", [b"one", b"two" * 1000, b"3"], "Content-Type: text/plain"),
    "chunked and empty": chunked("200 OK", []),
    "trailers are dropped": chunked("200 OK", [b"body"], "Trailer: X-Sum", trailers="X-Sum: 1\r\n"),
    "an event stream": chunked("200 OK", [b": hi\n\n", b"id: 1\r\ndata: x\r\n\r\n", b"data: rest"],
                               "Content-Type: text/event-stream", "Cache-Control: no-cache", "X-Accel-Buffering: no"),
    "empty": whole("200 OK", b""),
    "no content": bare("204 No Content", "ETag: \"1\""),
    "not modified": bare("304 Not Modified", "ETag: \"1\"", "Cache-Control: max-age=9", "Vary: Accept"),
    "not modified, with the length": bare("304 Not Modified", "ETag: \"1\"", "Content-Length: 12345"),
    "created": whole("201 Created", b"", "Location: /plain/things/1"),
    "partial": whole("206 Partial Content", b"bcd", "Content-Range: bytes 1-3/5", "Accept-Ranges: bytes"),
    "binary": whole("200 OK", ALL_BYTES, "Content-Type: application/octet-stream"),
    "large": whole("200 OK", LARGE, "Content-Type: application/octet-stream"),
    "large and chunked": chunked("200 OK", [LARGE[at : at + 70_001] for at in range(0, len(LARGE), 70_001)]),
    "gzip": whole("200 OK", gzip.compress(b"text " * 500, mtime=0), "Content-Encoding: gzip", "Vary: Accept-Encoding"),
    "an unknown coding": whole("200 OK", ALL_BYTES, "Content-Encoding: aws-chunked, x-own"),
    "headers again and again": whole("200 OK", b"x", *REPEATED),
    "many headers": whole("200 OK", b"x", *(f"X-Many-{number}: {number}" for number in range(80))),
    "a long header": whole("200 OK", b"x", "X-Long: " + "v" * 6000),
    "an id of its own": whole("200 OK", b"x", "X-Request-Id: theirs", "Request-Id: req_1"),
    "limits of its own": whole("200 OK", b"x", "X-RateLimit-Remaining: 3", "Retry-After: 9"),
    "hop by hop": whole("200 OK", b"x", "Keep-Alive: timeout=5, max=100"),
    "early hints come before": bare("103 Early Hints", "Link: </s.css>; rel=preload") + whole("200 OK", b"x"),
    "no reason phrase": whole("200 ", b"x"),
}  # fmt: skip
ANSWERS |= {
    f"redirect {code}": whole(f"{code} Moved", b"there", f"Location: {to}")
    for code, to in (
        (301, "/elsewhere"),
        (302, "https://other.example/?a=%20#f"),
        (303, "?q=1"),
        (307, "//host/"),
        (308, ""),
    )
}
ANSWERS |= {
    f"error {code}": whole(f"{code} No", b'{"error": %d}' % code, "Content-Type: application/json", "X-Why: yes")
    for code in (*range(400, 419), *range(421, 432), 451, 499, *range(500, 512), 599)
}


@pytest.mark.parametrize("name", ANSWERS)
def test_an_answer_is_the_upstreams_own(lane: Lanes, name: str) -> None:
    answer = run(compared(lane, "GET", "plain", "/x", says(ANSWERS[name])))
    assert "via" in dict(answer.headers)
    assert "x-sum" not in dict(answer.headers)


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE", "OPTIONS"])
def test_an_answer_is_the_upstreams_own_whatever_the_method(lane: Lanes, method: str) -> None:
    run(compared(lane, method, "plain", "/x", says(ANSWERS["headers again and again"])))


@pytest.mark.parametrize(
    "data",
    [
        bare("200 OK", "Content-Length: 12345", "Content-Type: text/plain", "ETag: \"1\""),
        bare("200 OK", "Transfer-Encoding: chunked", "Content-Type: text/plain"),
        bare("200 OK", "Content-Type: text/plain"),
        bare("404 Not Found", "Content-Length: 5"),
        bare("302 Found", "Location: /there", "Content-Length: 0"),
    ],
)  # fmt: skip
def test_the_answer_to_head_has_the_headers_of_the_body_that_is_not_sent(lane: Lanes, data: bytes) -> None:
    assert run(compared(lane, "HEAD", "plain", "/x", says(data))).body == b""


def test_an_answer_that_ends_with_its_connection_ends_for_the_caller_too(lane: Lanes) -> None:
    data = bare("200 OK", "Content-Type: text/plain") + b"until the end"
    assert run(compared(lane, "GET", "plain", "/x", Closing(data))).body == b"until the end"


def test_many_answers_on_one_connection_stay_apart_and_in_order(lane: Lanes) -> None:
    names = ["json", "no content", "chunked", "not modified, with the length", "binary", "gzip", "empty", "large"]

    async def talk() -> None:
        for name in names:
            lane.upstream.plays[f"/plain/{name.split()[0]}-{len(name)}"] = says(ANSWERS[name])
        async with lane.upstream.serving(), dialled(lane.through.port) as line:
            for name in names:
                rest = f"/{name.split()[0]}-{len(name)}"
                alone = await ask(lane.straight.port, lane.straight.request("GET", "plain", rest))
                await line.write(lane.through.request("GET", "plain", rest))
                status, headers = await head_of(line, "GET")
                same(Answer(status, headers, await line.rest()), alone)

    run(talk())
