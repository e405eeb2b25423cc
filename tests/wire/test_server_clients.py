"""What others speak: a Starlette application behind the front, real clients before it."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Iterator

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket
from websockets.sync.client import connect

from tests.wire.front_rig import Listener, listening, request


async def told(asked: Request) -> Response:
    return JSONResponse(
        {
            "path": asked.scope["path"],
            "query": dict(asked.query_params),
            "body": (await asked.body()).decode(),
            "headers": dict(asked.headers),
            "client": asked.client.host if asked.client else None,
        }
    )


async def endless(asked: Request) -> Response:
    async def pieces() -> AsyncIterator[bytes]:
        while True:
            yield b"data: x\n\n"
            await asyncio.sleep(0)

    return StreamingResponse(pieces(), media_type="text/event-stream")


async def echo(socket: WebSocket) -> None:
    await socket.accept()
    with contextlib.suppress(Exception):  # the client's leaving ends the story
        while True:
            await socket.send_text(await socket.receive_text())


@pytest.fixture(scope="module")
def front() -> Iterator[Listener]:
    routes = [
        Route("/told/{rest:path}", told, methods=["GET", "POST"]),
        Route("/endless", endless),
        WebSocketRoute("/ws", echo),
    ]
    with listening(Starlette(routes=routes)) as found:
        yield found


def test_starlette_reads_the_scope_as_any_servers(front: Listener) -> None:
    raw = request(b"POST", b"/told/a%20b?q=1", b"X-A: b", b"Connection: close", b"Content-Length: 2", body=b"ok")
    [answer] = front.ask(raw)
    assert json.loads(answer.body) == {
        "path": "/told/a b",
        "query": {"q": "1"},
        "body": "ok",
        "headers": {"host": "gw.example", "x-a": "b", "content-length": "2"},
        "client": "127.0.0.1",
    }


def test_a_stream_comes_in_chunks_and_stops_when_its_reader_leaves(front: Listener) -> None:
    with front.connect() as wire:
        wire.send(request(b"GET", b"/endless"))
        while b"data: x\n\n" not in wire.rest:
            assert wire._more()
        assert b"transfer-encoding: chunked" in wire.rest
    front.until(lambda: front.front.exchanges == 0)


def test_a_real_websocket_client_talks(front: Listener) -> None:
    with connect(f"ws://127.0.0.1:{front.port}/ws", compression="deflate") as socket:
        assert socket.response is not None
        assert "Sec-WebSocket-Extensions" not in socket.response.headers
        for text in ("hello", "x" * 200_000, "ä→🙂"):
            socket.send(text)
            assert socket.recv() == text
