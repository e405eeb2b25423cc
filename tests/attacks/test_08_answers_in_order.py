"""Answers belong to their requests: pipelined, early, torn or too long, nobody gets another's."""

from __future__ import annotations

import threading
from typing import Any

from tests.wire.front_rig import listening, request

ROW = 8


def test_many_pipelining_clients_each_get_their_own_answers() -> None:
    wrong: list[Any] = []

    def client(front: Any, name: int) -> None:
        bodies = [b"%d-%d-" % (name, number) * (number * 50 + 1) for number in range(20)]
        raw = b"".join(request(b"POST", b"/", b"Content-Length: %d" % len(body), body=body) for body in bodies)
        with front.connect() as wire:
            wire.send(raw)
            for body in bodies:
                answer = wire.read()
                if answer is None or answer.body != body:
                    wrong.append((name, answer))

    with listening() as front:
        threads = [threading.Thread(target=client, args=(front, name)) for name in range(20)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(30)
        assert len(front.seen) == 400
    assert wrong == []


def test_an_answer_longer_than_it_said_never_becomes_the_next_answer() -> None:
    async def liar(scope: Any, receive: Any, send: Any) -> None:
        body = b"ok" + (b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nfalse" if scope["path"] == "/liar" else b"")
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
        await send({"type": "http.response.body", "body": body})

    with listening(liar) as front, front.connect() as wire:
        wire.send(request(b"GET", b"/honest") + request(b"GET", b"/liar") + request(b"GET", b"/next"))
        answer = wire.read()
        assert answer is not None
        assert answer.body == b"ok"
        while wire._more():
            pass
        assert b"false" not in wire.rest
        assert wire.rest.count(b"HTTP/1.1") == 1
        assert not wire.rest.endswith(b"ok")


def test_a_head_request_is_not_answered_with_bytes_that_the_next_would_take() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"5")]})
        await send({"type": "http.response.body", "body": b"hello"})

    with listening(app) as front, front.connect() as wire:
        wire.send(request(b"HEAD") + request(b"GET"))
        first, second = wire.read(head=True), wire.read()
        assert first is not None
        assert second is not None
        assert (first.status, second.status, second.body) == (200, 200, b"hello")


def test_a_request_whose_sender_left_answers_nobody_else() -> None:
    with listening() as front:
        for _ in range(50):
            with front.connect() as wire:
                wire.send(request(b"POST", b"/secret", b"Content-Length: 6", body=b"secret"))
            with front.connect() as wire:
                wire.send(request(b"POST", b"/mine", b"Content-Length: 4", body=b"mine"))
                answer = wire.read()
                assert answer is not None
                assert answer.body == b"mine"
