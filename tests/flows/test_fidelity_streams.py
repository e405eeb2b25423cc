"""Streams in lock step: the caller has seen event k before the upstream releases event k+1, whatever the protocol.

Nobody waits for time to pass here: the upstream waits for the caller's word, so an event that is held back anywhere
ends the test. Uploads are the same the other way round.
"""

from __future__ import annotations

import asyncio
import statistics
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass

import pytest
from rig import run
from websockets.asyncio.client import connect
from websockets.asyncio.server import ServerConnection, serve

from tests.flows.lanes import Lanes, Way, lanes
from tests.flows.recording import Duplex, Line, Play, bare, dialled, head_of, whole

ROUNDS = 15
EVENTS_HEAD = bare("200 OK", "Content-Type: text/event-stream", "Cache-Control: no-cache", "Transfer-Encoding: chunked")
OCTETS_HEAD = bare("200 OK", "Content-Type: application/octet-stream", "Transfer-Encoding: chunked")

CHUNKED = ("Transfer-Encoding", "chunked")
JSON = ("Content-Type", "application/json")
BOTH = ("Accept", "application/json, text/event-stream")
LEGACY = ("MCP-Protocol-Version", "2025-11-25")
META = b'"io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientCapabilities":{}'


@pytest.fixture(scope="module")
def lane(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lanes]:
    with lanes(tmp_path_factory.mktemp("streams")) as found:
        yield found


@dataclass(frozen=True)
class Stream:
    """A request and the events that answer it, each as the bytes of one release."""

    method: str
    route: str
    rest: str
    headers: tuple[tuple[str, str], ...]
    body: bytes | None
    events: tuple[bytes, ...]
    head: bytes = EVENTS_HEAD


def data(*documents: bytes, prefix: bytes = b"") -> tuple[bytes, ...]:
    return tuple(prefix + b"data: " + document + b"\n\n" for document in documents)


def rpc(method: bytes, params: bytes, ident: bytes = b"1") -> bytes:
    return b'{"jsonrpc":"2.0","id":%s,"method":"%s","params":{%s}}' % (ident, method, params)


PROGRESS = b'{"jsonrpc":"2.0","method":"notifications/progress","params":{"progressToken":1,"progress":%d}}'
LOGGED = b'{"jsonrpc":"2.0","method":"notifications/message","params":{"level":"info","data":"d"}}'
CHANGED = b'{"jsonrpc":"2.0","method":"notifications/tools/list_changed"}'
RESULT = b'{"jsonrpc":"2.0","id":1,"result":{"content":[]}}'
UPDATE = b'{"jsonrpc":"2.0","id":"1","result":{"artifactUpdate":{"taskId":"%s","contextId":"c","artifact":{}}}}'
TASK = b'{"jsonrpc":"2.0","id":"1","result":{"task":{"id":"%s","contextId":"c","status":{"state":"S"}}}}'
CHAT = b'{"choices":[{"index":0,"delta":{"content":"w%d"}}]}'
WORD = b'{"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"w%d"}}'
OUTPUT = b'{"type":"response.output_text.delta","delta":"w%d"}'
CALL = rpc(b"tools/call", b'"name":"t","arguments":{},"_meta":{"progressToken":1}')
MODERN_CALL = rpc(b"tools/call", b'"name":"t","arguments":{},"_meta":{%s}' % META)
LISTEN = rpc(b"subscriptions/listen", b'"notifications":{"toolsListChanged":true},"_meta":{%s}' % META)


def modern(method: str, *more: tuple[str, str]) -> tuple[tuple[str, str], ...]:
    return (("MCP-Protocol-Version", "2026-07-28"), ("Mcp-Method", method), *more, BOTH, JSON)


ASKED = b'{"model":"m","max_tokens":9,"stream":true,"messages":[],"input":""}'
SENT = b'"message":{"messageId":"m","role":"ROLE_USER","parts":[{"text":"x"}]}'
MCP_EVENTS = (b": hello\n\n", *data(PROGRESS % 1, LOGGED, PROGRESS % 2, RESULT, prefix=b"id: 7\nevent: message\n"))

STREAMS: dict[str, Stream] = {
    "events over http": Stream(
        "GET", "plain", "/events", (("Accept", "text/event-stream"),), None,
        (b": hello\n\n", b"id: 1\r\ndata: a\r\n\r\n", b"data: half", b" of it\n", b"\n", b"data: no end"),
    ),
    "a download in chunks": Stream(
        "GET", "plain", "/download", (), None, (b"\x00", b"two" * 10_000, b"\xff" * 3, b"last"), OCTETS_HEAD
    ),
    "a download of a known length": Stream(
        "GET", "plain", "/known", (), None, (b"one", b"two", b"three"), bare("200 OK", "Content-Length: 11")
    ),
    "openai chat": Stream(
        "POST", "openai", "/v1/chat/completions", (JSON,), ASKED, data(*(CHAT % n for n in range(5)), b"[DONE]")
    ),
    "openai responses": Stream("POST", "openai", "/v1/responses", (JSON,), ASKED, data(OUTPUT % 1, OUTPUT % 2)),
    "anthropic messages": Stream(
        "POST", "anthropic", "/v1/messages", (JSON, ("anthropic-version", "2023-06-01")), ASKED,
        data(*(WORD % n for n in range(5)), prefix=b"event: content_block_delta\n"),
    ),
    "mcp, a call in the old era": Stream("POST", "mcp", "", (LEGACY, BOTH, JSON), CALL, MCP_EVENTS),
    "mcp, a call in the new era": Stream(
        "POST", "mcp", "", modern("tools/call", ("Mcp-Name", "t")), MODERN_CALL, MCP_EVENTS
    ),
    "mcp, a subscription": Stream(
        "POST", "mcp", "", modern("subscriptions/listen"), LISTEN, (b": hello\n\n", *data(CHANGED, CHANGED, CHANGED))
    ),
    "a2a over JSON-RPC": Stream(
        "POST", "a2a", "/rpc", (("A2A-Version", "1.0"), JSON), rpc(b"SendStreamingMessage", SENT, b'"1"'),
        data(TASK % b"T-1", UPDATE % b"T-1", UPDATE % b"T-1", UPDATE % b"T-1"),
    ),
    "a2a over JSON-RPC, 0.3": Stream(
        "POST", "a2a", "/rpc", (JSON,), rpc(b"message/stream", SENT, b'"1"'), data(TASK % b"T-2", UPDATE % b"T-2"),
    ),
    "a2a over HTTP+JSON": Stream(
        "POST", "a2a", "/message:stream", (("A2A-Version", "1.0"), JSON), b"{" + SENT + b"}",
        data(b'{"task":{"id":"T-3","status":{"state":"S"}}}', *[b'{"artifactUpdate":{"taskId":"T-3"}}'] * 3),
    ),
}  # fmt: skip


class Steps:
    """What one side has let go, and the other has seen."""

    def __init__(self) -> None:
        self._seen: asyncio.Queue[None] = asyncio.Queue()

    def saw(self) -> None:
        self._seen.put_nowait(None)

    async def seen(self) -> None:
        await self._seen.get()


def released(stream: Stream, steps: Steps) -> Play:
    """Plays the stream: the head, then each event only when the caller has seen all before it."""
    chunked = b"chunked" in stream.head

    async def play(line: Line) -> None:
        await line.write(stream.head)
        for event in stream.events:
            await steps.seen()
            await line.write(b"%x\r\n%s\r\n" % (len(event), event) if chunked else event)
        await steps.seen()
        if chunked:
            await line.write(b"0\r\n\r\n")

    return play


async def follow(way: Way, stream: Stream, steps: Steps, more: tuple[tuple[str, str], ...] = ()) -> None:
    async with dialled(way.port) as line:
        await line.write(way.request(stream.method, stream.route, stream.rest, [*stream.headers, *more], stream.body))
        status, _ = await head_of(line, stream.method)
        assert status == 200
        for event in stream.events:
            steps.saw()
            assert await line.exactly(len(event)) == event
        steps.saw()
        assert await line.rest() == b""


@pytest.mark.parametrize("way", ["straight", "through"])
@pytest.mark.parametrize("name", STREAMS)
def test_an_event_is_seen_before_the_next_is_released(lane: Lanes, name: str, way: str) -> None:
    stream, steps = STREAMS[name], Steps()
    lane.upstream.plays[f"/{stream.route}{stream.rest}"] = released(stream, steps)

    async def talk() -> None:
        async with lane.upstream.serving():
            await follow(dict(lane.both())[way], stream, steps)

    run(talk())


@pytest.mark.parametrize("way", ["straight", "through"])
def test_the_events_of_a_session_are_seen_one_by_one_on_its_own_stream(lane: Lanes, way: str) -> None:
    session, steps = f"session-{uuid.uuid4()}", Steps()
    opened = rpc(b"initialize", b'"protocolVersion":"2025-11-25","capabilities":{},"clientInfo":{}')
    init = Stream("POST", "mcp", "", (BOTH, JSON), opened, ())
    stream = Stream(
        "GET", "mcp", "", (LEGACY, ("Accept", "text/event-stream"), ("Mcp-Session-Id", session)), None,
        (b": hello\n\n", *data(CHANGED, LOGGED, CHANGED, prefix=b"id: 1\n"), b": still here\n\n", *data(PROGRESS % 1)),
    )  # fmt: skip
    play = released(stream, steps)

    async def both(line: Line) -> None:
        if lane.upstream.requests[-1].method == "GET":
            return await play(line)
        return await line.write(whole("200 OK", RESULT, "Content-Type: application/json", f"Mcp-Session-Id: {session}"))

    async def talk() -> None:
        chosen = dict(lane.both())[way]
        async with lane.upstream.serving():
            async with dialled(chosen.port) as line:
                await line.write(chosen.request("POST", "mcp", "", init.headers, init.body))
                assert (await head_of(line, "POST"))[0] == 200
                assert await line.rest() == RESULT
            await follow(chosen, stream, steps)

    lane.upstream.plays["/mcp"] = both
    run(talk())


UPLOAD = (b"one", b"\x00" * 5, b"three" * 20_000, b"x")


def framed(piece: bytes, length: str) -> bytes:
    return piece if length == "declared" else b"%x\r\n%s\r\n" % (len(piece), piece)


def framing(length: str) -> tuple[str, str]:
    return ("Content-Length", str(sum(map(len, UPLOAD)))) if length == "declared" else CHUNKED


@pytest.mark.parametrize("length", ["declared", "chunked"])
@pytest.mark.parametrize("way", ["straight", "through"])
def test_a_piece_of_an_upload_arrives_before_the_next_is_sent(lane: Lanes, way: str, length: str) -> None:
    steps = Steps()

    async def speak(line: Line) -> None:
        for piece in UPLOAD:
            assert await line.exactly(len(piece)) == piece
            steps.saw()
        assert await line.rest() == b""
        await line.write(whole("201 Created", b"all of it"))

    async def talk() -> None:
        chosen = dict(lane.both())[way]
        async with lane.upstream.serving(), dialled(chosen.port) as line:
            await line.write(chosen.request("PUT", "plain", "/upload", [framing(length)]))
            for piece in UPLOAD:
                await line.write(framed(piece, length))
                await steps.seen()
            if length == "chunked":
                await line.write(b"0\r\n\r\n")
            assert (await head_of(line, "PUT"))[0] == 201
            assert await line.rest() == b"all of it"

    lane.upstream.plays["/plain/upload"] = Duplex(speak)
    run(talk())


@pytest.mark.parametrize("length", ["declared", "chunked"])
@pytest.mark.parametrize("way", ["straight", "through"])
def test_an_answer_that_begins_before_the_upload_has_ended_flows_beside_it(lane: Lanes, way: str, length: str) -> None:
    async def speak(line: Line) -> None:
        await line.write(OCTETS_HEAD)
        for piece in UPLOAD:
            assert await line.exactly(len(piece)) == piece
            await line.write(framed(piece[::-1], "chunked"))
        assert await line.rest() == b""
        await line.write(b"0\r\n\r\n")

    async def talk() -> None:
        chosen = dict(lane.both())[way]
        async with lane.upstream.serving(), dialled(chosen.port) as line:
            await line.write(chosen.request("POST", "plain", "/both", [framing(length)]))
            assert (await head_of(line, "POST"))[0] == 200
            for piece in UPLOAD:
                await line.write(framed(piece, length))
                assert await line.exactly(len(piece)) == piece[::-1]
            if length == "chunked":
                await line.write(b"0\r\n\r\n")
            assert await line.rest() == b""

    lane.upstream.plays["/plain/both"] = Duplex(speak)
    run(talk())


MESSAGES = ("first", b"\x00\xff", '{"jsonrpc":"2.0","id":1,"method":"m"}', "x" * 200_000, "", "last")


@pytest.mark.parametrize("way", ["straight", "through"])
def test_a_socket_carries_each_message_before_the_next_is_sent(lane: Lanes, way: str) -> None:
    steps, came = Steps(), Steps()

    async def speak(server: ServerConnection) -> None:
        for message in MESSAGES:
            await server.send(message)
            await steps.seen()
        for message in MESSAGES:
            assert await server.recv() == message
            came.saw()

    async def talk() -> None:
        async with serve(speak, sock=lane.sockets.dup()), connect(
            socket_url(lane, way), additional_headers=list(dict(lane.both())[way].headers)
        ) as client:  # fmt: skip
            for message in MESSAGES:
                assert await client.recv() == message
                steps.saw()
            for message in MESSAGES:
                await client.send(message)
                await came.seen()

    run(talk())


def socket_url(lane: Lanes, way: str) -> str:
    if way == "straight":
        return f"ws://127.0.0.1:{lane.sockets.getsockname()[1]}/x"
    return f"ws://127.0.0.1:{lane.through.port}{lane.through.prefix}/socket/x"


def test_the_first_byte_of_a_stream_comes_at_once(lane: Lanes, capsys: pytest.CaptureFixture[str]) -> None:
    """Measured, side by side, and printed as a ratio; the second event waits for the first as everywhere here."""

    async def first_byte(way: Way, stream: Stream) -> float:
        steps = Steps()
        lane.upstream.plays[f"/{stream.route}{stream.rest}"] = released(stream, steps)
        steps.saw()
        async with dialled(way.port) as line:
            asked = way.request(stream.method, stream.route, stream.rest, stream.headers, stream.body)
            began = time.perf_counter()
            await line.write(asked)
            await head_of(line, stream.method)
            await line.exactly(len(stream.events[0]))
            took = time.perf_counter() - began
            for event in stream.events[1:]:
                steps.saw()
                await line.exactly(len(event))
            steps.saw()
            assert await line.rest() == b""
        return took

    async def measure() -> list[str]:
        lines = []
        async with lane.upstream.serving():
            for name in ("events over http", "openai chat", "mcp, a call in the old era", "a2a over HTTP+JSON"):
                took: dict[str, list[float]] = {"straight": [], "through": []}
                for _ in range(ROUNDS):
                    for label, way in lane.both():
                        took[label].append(await first_byte(way, STREAMS[name]))
                straight, through = (statistics.median(took[label]) * 1000 for label in ("straight", "through"))
                lines.append(
                    f"{name}: {straight:.2f} ms straight, {through:.2f} ms through, ratio {through / straight:.1f}"
                )
        return lines

    found = run(measure())
    with capsys.disabled():
        print("\ntime to the first event (median):", *found, sep="\n  ")
