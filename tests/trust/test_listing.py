"""The gateway's own listing of what MCP upstreams describe: both eras, real servers, and servers that misbehave."""

from __future__ import annotations

import json
import socket
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from changing import changing, tool
from rig import run

from gateway.core.exchange import Header
from gateway.core.reasons import Malformed, UpstreamFailed
from gateway.core.snapshot import Timeouts, Upstream
from gateway.trust import listing
from gateway.trust.listing import McpLister
from gateway.wire.upstream import Clients
from tests.wire.faulty import Peer, Server

NODE = Path(__file__).resolve().parent.parent / "clients" / "node"
TOKEN: list[Header] = [(b"Authorization", b"Bearer ours")]


def at(url: str) -> Upstream:
    parts = urlsplit(url)
    return Upstream(
        "up", "mcp", parts.scheme, parts.hostname or "", parts.port or 80, parts.netloc, parts.path,
        timeouts=Timeouts(connect=2.0, response=2.0, idle=2.0),
    )  # fmt: skip


async def own(upstream: Upstream) -> list[Header]:
    return TOKEN


async def lists(url: str) -> dict[str, list[str]]:
    """The names in each list."""
    clients = Clients()
    try:
        found = await McpLister(clients, own)(at(url))
    finally:
        await clients.aclose()
    keys = {"tools": "name", "prompts": "name", "resources": "uri", "templates": "uriTemplate"}
    return {name: [str(item[keys[name]]) for item in items] for name, items in found.items()}


def test_a_modern_server_on_the_python_sdk_is_listed() -> None:
    with changing() as server:
        assert run(lists(server.url)) == {
            "tools": ["forecast"], "prompts": ["packing"], "resources": [], "templates": ["weather://city/{name}"],
        }  # fmt: skip


@pytest.mark.parametrize("modern", [True, False])
def test_a_server_on_the_typescript_sdk_is_listed_in_either_era(modern: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if not (NODE / "node_modules" / "@modelcontextprotocol").is_dir():
        pytest.skip("the TypeScript SDK is not installed: make test installs it")
    if not modern:
        monkeypatch.setattr(listing, "MODERN", "2099-01-01")  # what it does not know: it is asked the older way then
    process = subprocess.Popen(
        ["node", str(NODE / "reference" / "server.mjs")], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        port = json.loads(process.stdout.readline())["port"]
        found = run(lists(f"http://localhost:{port}/mcp"))
    finally:
        process.stdin.close()
        process.wait(10)
        process.stdout.close()
    assert "test_simple_text" in found["tools"]
    assert "test_simple_prompt" in found["prompts"]
    assert "test://static-text" in found["resources"]
    assert found["templates"] == ["test://template/{id}/data"]


Play = Callable[[dict[str, Any], str], tuple[int, str, bytes] | None]


def response(message: dict[str, Any], **result: Any) -> tuple[int, str, bytes]:
    body = {"jsonrpc": "2.0", "id": message.get("id"), "result": result}
    return 200, "application/json", json.dumps(body).encode()


def failure(message: dict[str, Any], code: int, status: int = 200) -> tuple[int, str, bytes]:
    body = {"jsonrpc": "2.0", "id": message.get("id"), "error": {"code": code, "message": "no"}}
    return status, "application/json", json.dumps(body).encode()


class Played:
    """A server that answers as it is told; `heads` and `asked` are what reached it."""

    def __init__(self, play: Play) -> None:
        self._play = play
        self.heads: list[str] = []
        self.asked: list[str] = []

    async def __call__(self, peer: Peer) -> None:
        while True:
            head, body = await peer.request()
            text = head.decode().lower()
            message = json.loads(body) if body else {"method": text.split(" ")[0].upper()}
            self.heads.append(text)
            self.asked.append(message["method"])
            found = self._play(message, text)
            status, kind, content = found if found is not None else (202, "", b"")
            session = "mcp-session-id: s-1\r\n" if message["method"] == "initialize" else ""
            given = f"content-type: {kind}\r\n{session}content-length: {len(content)}\r\n"
            await peer.send(f"HTTP/1.1 {status} X\r\n{given}\r\n".encode() + content)


async def played(play: Play) -> tuple[dict[str, list[str]], Played]:
    found = Played(play)
    async with Server(found) as server:
        return await lists(f"http://127.0.0.1:{server.port}/mcp"), found


def legacy(message: dict[str, Any], head: str) -> tuple[int, str, bytes] | None:
    """Knows sessions only, and answers some of it as an event stream among other events."""
    if message["method"] == "initialize":
        return response(message, protocolVersion="2025-06-18", capabilities={"tools": {}}, serverInfo={})
    if "mcp-session-id: s-1" not in head:
        return failure(message, -32600, 400)
    if message["method"] == "tools/list":
        events = [
            {"jsonrpc": "2.0", "method": "notifications/message", "params": {}},
            {"jsonrpc": "2.0", "id": message["id"], "method": "ping"},
            {"jsonrpc": "2.0", "id": 99, "result": {"tools": [{"name": "foreign"}]}},
            {"jsonrpc": "2.0", "id": message["id"], "result": {"tools": [{"name": "a"}]}},
        ]
        return (
            200,
            "text/event-stream",
            b": hello\n\n" + b"".join(b"data: %b\n\n" % json.dumps(event).encode() for event in events),
        )
    return None


def test_an_older_server_is_asked_in_a_session_that_is_ended_again() -> None:
    found, server = run(played(legacy))
    assert found == {"tools": ["a"], "prompts": [], "resources": [], "templates": []}
    assert server.asked == ["server/discover", "initialize", "notifications/initialized", "tools/list", "DELETE"]
    assert all("authorization: bearer ours" in head for head in server.heads)
    assert "mcp-protocol-version: 2025-11-25" in server.heads[3]
    assert "mcp-session-id" not in server.heads[1]


def modern(**answers: Callable[[dict[str, Any]], tuple[int, str, bytes]]) -> Play:
    def play(message: dict[str, Any], head: str) -> tuple[int, str, bytes] | None:
        if message["method"] == "server/discover":
            return response(message, capabilities={"tools": {}, "prompts": {}})
        answer = answers.get(message["method"].replace("/", "_"))
        return answer(message) if answer is not None else response(message, tools=[], prompts=[])

    return play


def test_all_pages_of_a_list_are_read() -> None:
    def page(message: dict[str, Any]) -> tuple[int, str, bytes]:
        cursor = message["params"].get("cursor")
        more = {"nextCursor": "2"} if cursor is None else {}
        return response(message, tools=[{"name": f"page-{cursor or 1}"}], **more)

    found, _ = run(played(modern(tools_list=page)))
    assert found["tools"] == ["page-1", "page-2"]


def test_a_list_that_is_declared_and_not_there_is_empty() -> None:
    found, _ = run(played(modern(prompts_list=lambda message: failure(message, -32601, 404))))
    assert found["prompts"] == []


@pytest.mark.parametrize(
    "answer",
    [
        lambda message: failure(message, -32603, 500),
        lambda message: failure(message, -32000),
        lambda message: response(message),
        lambda message: response(message, tools={"a": 1}),
        lambda message: response(message, tools=[{"title": "no name"}]),
        lambda message: response(message, tools=[{"name": ""}]),
        lambda message: response(message, tools=[{"name": "\ud800"}]),
        lambda message: response(message, tools=[1]),
        lambda message: response(message, tools=[{"name": "endless"}], nextCursor="again"),
        lambda message: response(message, tools=[{"name": str(n)} for n in range(listing.LIMIT_ITEMS + 1)]),
        lambda message: (200, "application/json", b'{"jsonrpc":"2.0","id":1,"result":{"tools":[],"tools":[]}}'),
        lambda message: (200, "application/json", b"[]"),
        lambda message: (200, "text/html", b"<html>"),
        lambda message: (302, "text/html", b""),
        lambda message: (200, "text/event-stream", b"data: {}\n\n"),
    ],
)
def test_a_list_that_cannot_be_read_whole_counts_for_nothing(answer: Any) -> None:
    with pytest.raises((UpstreamFailed, Malformed)):
        run(played(modern(tools_list=answer)))


@pytest.mark.parametrize("status", [401, 403, 429, 500, 503])
def test_a_refusal_is_not_taken_for_an_older_server(status: int) -> None:
    found = Played(lambda message, head: (status, "text/plain", b"no"))

    async def ask() -> None:
        async with Server(found) as server:
            await lists(f"http://127.0.0.1:{server.port}/mcp")

    with pytest.raises(UpstreamFailed, match=str(status)):
        run(ask())
    assert found.asked == ["server/discover"]


def test_an_answer_without_end_is_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listing, "LIMIT_BYTES", 100_000)
    large = b'{"jsonrpc":"2.0","id":1,"result":{"tools":[' + b" " * 200_000 + b"]}}"
    stream = b"data: " + b"x" * 50_000 + b"\n\n"
    for kind, body in (("application/json", large), ("text/event-stream", stream * 4)):
        with pytest.raises(Malformed, match="more than 100000 bytes"):
            run(played(modern(tools_list=lambda message, kind=kind, body=body: (200, kind, body))))


def test_nobody_there_is_said_so() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with pytest.raises(UpstreamFailed):
        run(lists(f"http://127.0.0.1:{port}/mcp"))


def test_many_tools_are_listed_whole() -> None:
    with changing() as server:
        server.tools = [tool(f"tool-{n}") for n in range(500)]
        assert len(run(lists(server.url))["tools"]) == 500
