"""The front over real sockets: one request at a time, the right bytes to the application, the right framing back."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.wire.front_rig import Answer, Listener, Wire, listening, request

CLOSE = b"Connection: close"


@pytest.fixture(scope="module")
def front() -> Iterator[Listener]:
    with listening() as found:
        yield found


def one(wire: Wire, raw: bytes) -> Answer:
    wire.send(raw)
    answer = wire.read()
    assert answer is not None
    return answer


def test_the_application_sees_the_very_bytes_that_were_sent(front: Listener) -> None:
    body = bytes(range(256)) * 10
    raw = request(
        b"POST", b"/a%20b;c?d=%2F", b"X-One: 1", b"Content-Length: %d" % len(body), b"x-one: 2", CLOSE, body=body
    )
    answers = front.ask(raw)
    seen = front.seen[-1]
    assert [(answer.status, answer.body) for answer in answers] == [(200, body)]
    assert seen.body == body
    assert seen.head.target == "/a%20b;c?d=%2F"
    assert seen.head.headers == (
        (b"host", b"gw.example"),
        (b"x-one", b"1"),
        (b"content-length", b"2560"),
        (b"x-one", b"2"),
    )
    assert seen.scope["path"] == "/a b;c"
    assert seen.scope["raw_path"] == b"/a%20b;c"
    assert seen.scope["query_string"] == b"d=%2F"
    assert tuple(seen.scope["headers"]) == seen.head.headers
    assert (seen.scope["scheme"], seen.scope["client"][0], seen.scope["http_version"]) == ("http", "127.0.0.1", "1.1")
    assert seen.head.peer == "127.0.0.1"
    assert seen.scope["extensions"]["tollgate.chunked"] is False


def test_a_chunked_body_arrives_decoded_and_without_its_trailers(front: Listener) -> None:
    raw = request(
        b"POST", b"/", b"Transfer-Encoding: chunked", CLOSE, body=b"3\r\nabc\r\n2;x=y\r\nde\r\n0\r\nX-T: 1\r\n\r\n"
    )
    assert [answer.body for answer in front.ask(raw)] == [b"abcde"]
    assert front.seen[-1].scope["extensions"]["tollgate.chunked"] is True
    assert front.seen[-1].head.headers == ((b"host", b"gw.example"),)


def test_a_connection_carries_one_request_after_the_other(front: Listener) -> None:
    with front.connect() as wire:
        for number in range(20):
            body = b"%d" % number
            assert one(wire, request(b"POST", b"/", b"Content-Length: %d" % len(body), body=body)).body == body
            assert (
                one(wire, request(b"POST", b"/", b"Transfer-Encoding: chunked", body=b"1\r\nx\r\n0\r\n\r\n")).body
                == b"x"
            )


def test_the_same_head_may_come_with_another_body_and_another_head_after_it(front: Listener) -> None:
    with front.connect() as wire:
        for body in (b"abc", b"def", b"\r\n\r"):
            assert one(wire, request(b"POST", b"/a", b"Content-Length: 3", body=body)).body == body
        one(wire, request(b"GET", b"/b"))
        assert front.seen[-1].head.path == "/b"
        one(wire, request(b"GET", b"/b?c"))
        assert front.seen[-1].head.query == "c"


def test_pipelined_requests_are_answered_in_order(front: Listener) -> None:
    bodies = [b"%d" % number * (number + 1) for number in range(30)]
    raw = b"".join(request(b"POST", b"/", b"Content-Length: %d" % len(body), body=body) for body in bodies)
    with front.connect() as wire:
        wire.send(raw + request(b"GET", b"/", CLOSE))
        assert [answer.body for answer in wire.all()] == [*bodies, b""]


def test_one_request_cut_at_every_byte_is_the_same_request(front: Listener) -> None:
    lines = (b"Transfer-Encoding: chunked", b"X-A:  b ", CLOSE)
    raw = request(b"POST", b"/x?y", *lines, body=b"5\r\nhello\r\n1\r\n!\r\n0\r\n\r\n")
    front.ask(raw)
    whole = front.seen[-1]
    for at in range(1, len(raw)):
        with front.connect() as wire:
            wire.send(raw[:at])
            front.call(lambda: None)  # two turns of the loop: the first part has been read by itself
            front.call(lambda: None)
            wire.send(raw[at:])
            assert [(answer.status, answer.body) for answer in wire.all()] == [(200, b"hello!")]
        assert (front.seen[-1].head, front.seen[-1].body) == (whole.head, whole.body)


def test_one_request_byte_by_byte_is_the_same_request(front: Listener) -> None:
    raw = request(b"POST", b"/slow", b"Content-Length: 5", CLOSE, body=b"hello")
    with front.connect() as wire:
        for at in range(len(raw)):
            wire.send(raw[at : at + 1])
            front.call(lambda: None)
        assert [answer.body for answer in wire.all()] == [b"hello"]


@pytest.mark.parametrize(
    "raw",
    [
        request(b"GET", b"/", b"X-A : b"),
        request(b"GET", b"/", b"X-A: b\x00"),
        request(b"GET", b"/#"),
        b"GET / HTTP/1.1\nHost: a\n\n",
        request(b"POST", b"/", b"Content-Length: +1", body=b"x"),
        request(b"GET", b"/", b"Host: b"),
    ],
)
def test_a_bad_head_cut_at_every_byte_is_refused_the_same(front: Listener, raw: bytes) -> None:
    whole = front.refused(raw)
    for at in range(1, len(raw)):
        with front.connect() as wire:
            before = len(front.seen)
            wire.send(raw[:at])
            front.call(lambda: None)
            front.call(lambda: None)
            wire.send(raw[at:])
            assert [answer.status for answer in wire.all()] == [whole.status]
            assert len(front.seen) == before


@pytest.mark.parametrize(
    "start", [b"GET / HTTP/1.1\nH", b"\x16\x03\x01\x02\x00\x01", b"GET /\x00", b"GET / HTTP/1.1\r\nA: \rb", b"\n"]
)
def test_a_head_that_cannot_become_good_is_refused_before_it_is_whole(front: Listener, start: bytes) -> None:
    assert front.refused(start).status == 400


def test_one_empty_line_before_a_request_is_passed_over_and_two_are_not(front: Listener) -> None:
    assert [answer.status for answer in front.ask(b"\r\n" + request(b"GET", b"/", CLOSE))] == [200]
    assert [answer.status for answer in front.ask(b"\r", b"\n" + request(b"GET", b"/", CLOSE))] == [200]
    assert front.refused(b"\r\n\r\n" + request(b"GET", b"/", CLOSE)).status == 400
    raw = request(b"POST", b"/", b"Content-Length: 1", body=b"x") + b"\r\n" + request(b"GET", b"/", CLOSE)
    assert [answer.status for answer in front.ask(raw)] == [200, 200]


def test_large_heads_and_targets_are_refused_while_they_come(front: Listener) -> None:
    assert front.refused(b"GET /" + b"a" * 9000).status == 414
    assert front.refused(request(b"GET", b"/" + b"a" * 9000)).status == 414
    assert front.refused(b"GET / HTTP/1.1\r\nHost: a\r\nA: " + b"b" * 40_000).status == 431
    assert front.refused(request(b"GET", b"/", b"A: " + b"b" * 40_000)).status == 431
    assert front.refused(request(b"GET", b"/", *[b"A: b"] * 100)).status == 431


def test_a_refusal_says_its_reason_and_who_made_it(front: Listener) -> None:
    answer = front.refused(request(b"GET", b"/secret?token=x#", b"Authorization: Bearer s"))
    problem = json.loads(answer.body)
    assert problem == {
        "type": "about:blank",
        "title": "The request is malformed",
        "status": 400,
        "detail": "The request target has a character it may not have",
        "reason": "malformed",
    }
    assert answer.values(b"proxy-status") == [b'tollgate; error=http_request_error; details="target.character"']
    assert len(answer.values(b"date")) == 1
    assert front.bad[-1] == ("127.0.0.1", "target.character")


def test_a_refused_head_request_is_answered_without_a_body(front: Listener) -> None:
    with front.connect() as wire:
        wire.send(b"HEAD / HTTP/1.1\r\n\r\n")
        answer = wire.read(head=True)
        assert answer is not None
        assert answer.status == 400
        assert wire.closed()


def test_after_a_refusal_nothing_is_read_as_a_request(front: Listener) -> None:
    before = len(front.seen)
    good = request(b"POST", b"/", b"Content-Length: 2", body=b"ok")
    answers = front.ask(good + b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n" + good + good)
    assert [answer.status for answer in answers] == [200, 400]
    assert len(front.seen) == before + 1


def test_a_refusal_arrives_even_when_much_of_the_request_is_unread(front: Listener) -> None:
    raw = request(b"POST", b"/", b"Content-Length: 1", b"Transfer-Encoding: chunked", body=b"x" * 3_000_000)
    assert front.refused(raw).status == 400


# 100-continue


def test_a_100_is_sent_when_the_body_is_asked_for(front: Listener) -> None:
    with front.connect() as wire:
        wire.send(request(b"POST", b"/", b"Expect: 100-continue", b"Content-Length: 2"))
        assert wire.interim() == b"HTTP/1.1 100 Continue"
        wire.send(b"ok")
        assert one(wire, b"").body == b"ok"
        assert one(wire, request()).status == 200


def test_a_417_is_no_100(front: Listener) -> None:
    assert front.refused(request(b"POST", b"/", b"Expect: 200-ok", b"Content-Length: 2")).status == 417


# what the application does


class Told:
    """An application that does as it is told, one request at a time."""

    def __init__(self) -> None:
        self.messages: list[dict[str, Any]] = []
        self.read = True
        self.fails = False
        self.cancelled = 0
        self.gate: asyncio.Event | None = None

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        try:
            while self.read and (await receive()).get("more_body"):
                pass
            if self.gate is not None:
                await self.gate.wait()
            for message in self.messages:
                await send(message)
            if self.fails:
                raise ValueError("told to")
        except asyncio.CancelledError:
            self.cancelled += 1
            raise


def start(status: int, *headers: tuple[bytes, bytes]) -> dict[str, Any]:
    return {"type": "http.response.start", "status": status, "headers": list(headers)}


def piece(data: bytes, more: bool = False) -> dict[str, Any]:
    return {"type": "http.response.body", "body": data, "more_body": more}


@pytest.fixture(scope="module")
def told_app() -> Told:
    return Told()


@pytest.fixture(scope="module")
def told_front(told_app: Told) -> Iterator[Listener]:
    with listening(told_app) as found:
        yield found


@pytest.fixture
def told(told_app: Told, told_front: Listener) -> Told:
    told_app.__init__()  # type: ignore[misc]
    return told_app


def test_without_a_length_the_answer_is_chunked_and_the_connection_stays(told: Told, told_front: Listener) -> None:
    told.messages = [start(200), piece(b"ab", True), piece(b"", True), piece(b"c" * 70_000)]
    with told_front.connect() as wire:
        for _ in range(2):
            answer = one(wire, request())
            assert answer.body == b"ab" + b"c" * 70_000
            assert answer.values(b"transfer-encoding") == [b"chunked"]


def test_to_http_1_0_nothing_is_chunked_and_the_connection_closes(told: Told, told_front: Listener) -> None:
    told.messages = [start(200), piece(b"ab", True), piece(b"c")]
    [answer] = told_front.ask(b"GET / HTTP/1.0\r\nHost: a\r\nConnection: keep-alive\r\n\r\n")
    assert answer.body == b"abc"
    assert answer.values(b"transfer-encoding") == []
    assert answer.values(b"connection") == [b"close"]


@pytest.mark.parametrize(("method", "status"), [(b"HEAD", 200), (b"GET", 204), (b"GET", 304)])
def test_what_has_no_body_gets_none(told: Told, told_front: Listener, method: bytes, status: int) -> None:
    told.messages = [start(status, (b"content-length", b"5")), piece(b"hello")]
    with told_front.connect() as wire:
        for _ in range(2):
            wire.send(request(method))
            answer = wire.read(head=True)
            assert answer is not None
            assert answer.status == status
            assert answer.values(b"content-length") == ([] if status == 204 else [b"5"])
            assert answer.values(b"transfer-encoding") == []
        assert wire.rest == b""


def test_a_304_may_name_a_length_and_send_nothing(told: Told, told_front: Listener) -> None:
    told.messages = [start(304, (b"content-length", b"1234"), (b"etag", b'"a"')), piece(b"")]
    with told_front.connect() as wire:
        assert one(wire, request()).values(b"etag") == [b'"a"']
        assert one(wire, request()).status == 304


def test_the_framing_of_an_answer_is_the_fronts_alone(told: Told, told_front: Listener) -> None:
    told.messages = [
        start(
            200, (b"Transfer-Encoding", b"gzip"), (b"connection", b"x-a"), (b"keep-alive", b"5"), (b"upgrade", b"h2c"),
            (b"trailer", b"x"), (b"content-length", b"2"), (b"content-length", b"2"), (b"X-A", b"b"),
        ),
        piece(b"ok"),
    ]  # fmt: skip
    with told_front.connect() as wire:
        answer = one(wire, request())
    names = [name for name, _ in answer.headers]
    assert names == [b"content-length", b"x-a", b"date"]
    assert answer.body == b"ok"


def test_an_answer_is_dated_once(told: Told, told_front: Listener) -> None:
    told.messages = [start(200, (b"date", b"Sun, 22 Nov 2026 12:00:00 GMT"), (b"content-length", b"0")), piece(b"")]
    with told_front.connect() as wire:
        assert one(wire, request()).values(b"date") == [b"Sun, 22 Nov 2026 12:00:00 GMT"]
        told.messages = [start(200, (b"content-length", b"0")), piece(b"")]
        assert len(one(wire, request()).values(b"date")) == 1


def test_an_answer_that_asks_for_it_closes(told: Told, told_front: Listener) -> None:
    told.messages = [start(403, (b"connection", b"Close"), (b"content-length", b"2")), piece(b"no")]
    [answer] = told_front.ask(request())
    assert (answer.status, answer.values(b"connection")) == (403, [b"close"])


@pytest.mark.parametrize(
    "header",
    [
        (b"x-a", b"b\r\nset-cookie: c"),
        (b"x-a", b"b\nc"),
        (b"x-a", b"b\x00"),
        (b"x-a", b"\x1b[31m"),
        (b"x-a\r\nx-b", b"c"),
        (b"x a", b"b"),
        (b"x-a:", b"b"),
        (b"", b"b"),
        (b"content-length", b"+2"),
        (b"content-length", b"two"),
    ],
)
def test_a_header_that_may_not_leave_is_a_fault_and_nothing_of_it_leaves(
    told: Told, told_front: Listener, header: tuple[bytes, bytes]
) -> None:
    told.messages = [start(200, (b"x-good", b"1"), header), piece(b"ok")]
    [answer] = told_front.ask(request())
    assert answer.status == 500
    assert json.loads(answer.body)["reason"] == "fault"
    assert answer.values(b"x-good") == []


def test_two_lengths_that_disagree_are_a_fault(told: Told, told_front: Listener) -> None:
    told.messages = [start(200, (b"content-length", b"2"), (b"content-length", b"3")), piece(b"ok")]
    [answer] = told_front.ask(request())
    assert answer.status == 500


@pytest.mark.parametrize("body", [b"shrt", b"longer"])
def test_a_body_that_is_not_as_long_as_it_said_is_cut(told: Told, told_front: Listener, body: bytes) -> None:
    told.messages = [start(200, (b"content-length", b"5")), piece(body)]
    with told_front.connect() as wire:
        wire.send(request() * 2)
        while wire._more():
            pass
        head, _, rest = wire.rest.partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200")
        assert len(rest) < 5
        assert b"HTTP/1.1" not in rest


def test_an_application_that_fails_is_a_500_and_one_that_says_nothing_too(told: Told, told_front: Listener) -> None:
    told.fails = True
    [answer] = told_front.ask(request())
    assert (answer.status, json.loads(answer.body)["reason"]) == (500, "fault")
    told.fails = False
    [answer] = told_front.ask(request())
    assert (answer.status, answer.values(b"connection")) == (500, [b"close"])


def test_a_failure_in_mid_answer_leaves_it_visibly_torn(told: Told, told_front: Listener) -> None:
    told.fails = True
    told.messages = [start(200), piece(b"abc", True)]
    with told_front.connect() as wire:
        wire.send(request())
        while wire._more():
            pass
        assert wire.rest.endswith(b"\r\n\r\n3\r\nabc\r\n")  # no last chunk
    with told_front.connect() as wire:
        wire.send(b"GET / HTTP/1.0\r\nHost: a\r\n\r\n")
        with pytest.raises(ConnectionResetError):  # such a body ends with its connection, so the connection must break
            _to_the_end(wire)


def _to_the_end(wire: Wire) -> None:
    while wire.sock.recv(100):
        pass


def test_an_early_answer_does_not_lose_the_connection(told: Told, told_front: Listener) -> None:
    told.read = False
    told.messages = [start(401, (b"content-length", b"0")), piece(b"")]
    with told_front.connect() as wire:
        assert one(wire, request(b"POST", b"/", b"Content-Length: 300000", body=b"x" * 100_000)).status == 401
        wire.send(b"x" * 200_000)
        assert one(wire, request()).status == 401
        wire.send(request(b"POST", b"/", b"Transfer-Encoding: chunked", body=b"3\r\nabc\r\n"))
        assert one(wire, b"").status == 401
        assert one(wire, b"3\r\nabc\r\n0\r\n\r\n" + request()).status == 401


def test_an_early_answer_whose_body_turns_bad_ends_the_connection(told: Told, told_front: Listener) -> None:
    told.read = False
    told.messages = [start(401, (b"content-length", b"0")), piece(b"")]
    with told_front.connect() as wire:
        assert one(wire, request(b"POST", b"/", b"Transfer-Encoding: chunked", body=b"3\r\nabc\r\n")).status == 401
        wire.send(b"3\nabc\r\n0\r\n\r\n" + request())
        assert wire.all() == []


def test_an_answer_instead_of_the_100_closes_since_the_body_may_come_or_not(told: Told, told_front: Listener) -> None:
    told.read = False
    told.messages = [start(401, (b"content-length", b"0")), piece(b"")]
    raw = request(b"POST", b"/", b"Expect: 100-continue", b"Content-Length: 30")
    [answer] = told_front.ask(raw)
    assert (answer.status, answer.values(b"connection")) == (401, [b"close"])


def test_a_client_that_goes_away_cancels_its_request(told: Told, told_front: Listener) -> None:
    told.gate = told_front.call(asyncio.Event)
    with told_front.connect() as wire:
        wire.send(request())
        told_front.until(lambda: told_front.front.exchanges == 1)
    told_front.until(lambda: told.cancelled == 1)
    told_front.until(lambda: told_front.front.exchanges == 0)


# bodies and back-pressure


def test_a_declared_body_over_the_limit_is_refused_unread() -> None:
    with listening(body_bytes=100) as front:
        assert front.refused(request(b"POST", b"/", b"Content-Length: 101")).status == 413
        assert front.refused(request(b"POST", b"/", b"Content-Length: 101", b"Expect: 100-continue")).status == 413
        assert front.ask(request(b"POST", b"/", b"Content-Length: 100", CLOSE, body=b"x" * 100))[0].status == 200


def test_a_streamed_body_over_the_limit_is_refused_where_it_passes_it() -> None:
    with listening(body_bytes=100) as front:
        assert front.refused(request(b"POST", b"/", b"Transfer-Encoding: chunked", body=b"65\r\n")).status == 413
        with front.connect() as wire:
            wire.send(request(b"POST", b"/", b"Transfer-Encoding: chunked", body=b"32\r\n" + b"x" * 50 + b"\r\n"))
            front.until(lambda: bool(front.seen and front.seen[0].body))
            wire.send(b"33\r\n" + b"x" * 51 + b"\r\n0\r\n\r\n" + request())
            [answer] = wire.all()
        assert answer.status == 413
        [seen] = front.seen
        assert (seen.ended, len(seen.body)) == ("refused", 50)
        assert seen.refusal is not None
        assert seen.refusal.http_status == 413


def test_a_body_that_turns_bad_is_told_to_the_application_and_answered_once() -> None:
    with listening() as front, front.connect() as wire:
        wire.send(request(b"POST", b"/", b"Transfer-Encoding: chunked", body=b"3\r\nabc\r\n"))
        front.until(lambda: bool(front.seen and front.seen[0].body))
        wire.send(b"3\nabc\r\n0\r\n\r\n" + request())
        [answer] = wire.all()
        assert (answer.status, json.loads(answer.body)["reason"]) == (400, "malformed")
        [seen] = front.seen
        assert (seen.ended, seen.body) == ("refused", b"abc")


def test_a_body_nobody_reads_is_not_read_from_the_socket(told: Told, told_front: Listener) -> None:
    told.read = False
    told.gate = told_front.call(asyncio.Event)
    told.messages = [start(200, (b"content-length", b"0")), piece(b"")]
    with told_front.connect() as wire:
        wire.sock.setblocking(False)
        wire.sock.send(request(b"POST", b"/", b"Content-Length: 50000000"))
        sent = 0
        told_front.until(lambda: told_front.front.exchanges == 1)
        [connection] = told_front.front.door.inside
        for _ in range(2000):
            try:
                sent += wire.sock.send(b"x" * 65536)
            except BlockingIOError:
                if told_front.call(lambda: connection.flow.read_paused):
                    break
                told_front.call(lambda: None)
        held = told_front.call(lambda: connection.current.held)
        assert held < 1_000_000
        assert sent < 50_000_000
        told_front.call(told.gate.set)
        wire.sock.setblocking(True)
        wire.sock.settimeout(10)
        assert one(wire, b"x" * (50_000_000 - sent)).status == 200  # and it is read to its end all the same
        assert one(wire, request()).status == 200


def test_a_client_that_does_not_read_holds_the_application_not_the_memory() -> None:
    sent: list[int] = []

    async def endless(scope: Any, receive: Any, send: Any) -> None:
        await send(start(200))
        while True:
            await send(piece(b"x" * 100, True))
            sent.append(1)

    with listening(endless) as front, front.connect() as wire:
        wire.send(request())
        front.until(lambda: front.front.exchanges == 1)
        [connection] = front.front.door.inside
        front.until(lambda: connection.flow.write_paused)
        before = front.call(lambda: len(sent))
        assert front.call(connection.transport.get_write_buffer_size) < 200_000
        front.call(lambda: None)
        assert front.call(lambda: len(sent)) == before
        wire.sock.recv(1_000_000)
        while not front.call(lambda: len(sent)) > before:
            wire.sock.recv(1_000_000)


def test_an_application_that_never_waits_still_learns_that_its_client_left() -> None:
    async def endless(scope: Any, receive: Any, send: Any) -> None:
        await send(start(200))
        while True:
            await send(piece(b"x" * 100, True))

    with listening(endless) as front:
        for _ in range(20):
            with front.connect() as wire:
                wire.send(request())
        front.until(lambda: not front.front.exchanges and not front.front.door.inside)


def test_a_client_that_leaves_before_its_application_begins_leaves_no_exchange() -> None:
    begun: list[int] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        begun.append(1)

    with listening(app) as front, front.connect() as wire:
        front.until(lambda: len(front.front.door.inside) == 1)
        [connection] = front.front.door.inside

        def at_once() -> None:
            connection.data_received(request())
            connection.connection_lost(None)

        front.call(at_once)
        front.until(lambda: not front.front.exchanges)
        assert begun == []
        assert wire.closed()


# several in one process, and start-up


def test_two_fronts_live_in_one_process_and_share_nothing() -> None:
    with listening(exchanges=1) as one_front, listening() as other:
        assert one_front.port != other.port
        assert one_front.refused(b"\x00").status == 400
        assert (len(one_front.bad), len(other.bad)) == (1, 0)
        assert other.ask(request(b"GET", b"/", CLOSE))[0].status == 200
