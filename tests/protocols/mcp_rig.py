"""MCP exchanges as the wire opens them, and answers as an upstream gives them."""

from __future__ import annotations

import asyncio
import json
from base64 import b64encode
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

from gateway.core.exchange import Call, Decision, Exchange, Handle, Head, Header, Principal
from gateway.core.reasons import Malformed, Refusal
from gateway.core.snapshot import Route, Upstream
from gateway.protocols.mcp import Mcp

ID = "0197c000-0000-7000-8000-00000000000a"
ANN = "user:idp/ann"
LEGACY = "2025-11-25"
MODERN = "2026-07-28"
VERSION_META = "io.modelcontextprotocol/protocolVersion"
META: dict[str, Any] = {VERSION_META: MODERN, "io.modelcontextprotocol/clientCapabilities": {}}
NAMED = {"tools/call": "name", "prompts/get": "name", "resources/read": "uri"}

NOBODY: Any = None


@dataclass
class Answer:
    """An upstream's answer; `complete` is its body where all of it came with the head."""

    body: bytes
    status: int = 200
    headers: list[Header] = field(default_factory=list)
    at_once: bool = True

    @property
    def complete(self) -> bytes | None:
        return self.body if self.at_once else None

    @property
    def address(self) -> str:
        return "127.0.0.1:9001"


@dataclass
class Bindings:
    """Handles of one route and upstream, bound by and for one principal, as the stores keep them."""

    subject: str = ANN
    owners: dict[Handle, str] = field(default_factory=dict)

    async def __call__(self, handle: Handle) -> None:
        if self.owners.setdefault(handle, self.subject) != self.subject:
            raise Malformed(f"the {handle.kind} belongs to another caller")

    async def owner(self, handle: Handle) -> str | None:
        return self.owners.get(handle)


@dataclass
class Policy:
    """Allows what `allows` says; keeps what it was asked."""

    allows: Callable[[Call], bool] = lambda call: True
    asked: list[Call] = field(default_factory=list)

    async def __call__(self, calls: Sequence[Call]) -> list[Decision]:
        self.asked += calls
        return [Decision(self.allows(call), "because", "a_rule", "test", "1") for call in calls]


def exchange(
    mcp: Mcp, body: bytes | None, headers: Sequence[tuple[str, str]] = (), method: str = "POST", **route: Any
) -> Exchange:
    """An exchange whose body has been read where the protocol wanted it, before it is classified."""
    found = tuple((name.lower().encode(), value.encode("latin-1")) for name, value in headers)
    head = Head(method, "/weather", "/weather", "", "gw.example", "https", found, "127.0.0.1")
    wanted = {"name": "weather", "path": "/weather", "host": "", "upstream": "up", "auth": "required", "body": "json"}
    upstream = Upstream("up", "mcp", "http", "127.0.0.1", 9001, "127.0.0.1:9001", "/mcp")
    opened = Exchange(ID, 0.0, 0.0, head, NOBODY, Route(**(wanted | route)), upstream, mcp, body=body)
    opened.principal = Principal(ANN, "user")
    return opened


def dump(value: object) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()


def call(method: str, params: dict[str, Any] | None = None, ident: object = 1) -> dict[str, Any]:
    message: dict[str, Any] = {"jsonrpc": "2.0", "id": ident, "method": method}
    if params is not None:
        message["params"] = params
    return message


def legacy(
    message: object, mcp: Mcp | None = None, session: str = "s1", version: str = LEGACY, **route: Any
) -> Exchange:
    """A classified exchange of the older era."""
    headers = [("content-type", "application/json"), ("mcp-protocol-version", version)]
    if session:
        headers.append(("mcp-session-id", session))
    opened = exchange(mcp or Mcp(), message if isinstance(message, bytes) else dump(message), headers, **route)
    opened.asked = opened.protocol.classify(opened)
    return opened


def modern_headers(message: dict[str, Any]) -> dict[str, str]:
    """What a client of 2026-07-28 repeats of this message in headers."""
    headers = {
        "content-type": "application/json",
        "mcp-protocol-version": MODERN,
        "mcp-method": str(message["method"]),
    }
    member = NAMED.get(str(message["method"]))
    value = message.get("params", {}).get(member)
    if isinstance(value, str):
        plain = value.isascii() and value.isprintable() and value == value.strip()
        headers["mcp-name"] = value if plain else f"=?base64?{b64encode(value.encode()).decode()}?="
    return headers


def modern(
    message: dict[str, Any], mcp: Mcp | None = None, headers: dict[str, str] | None = None, **route: Any
) -> Exchange:
    """A classified exchange of the newer era: `_meta` and mirrored headers are put there."""
    if "method" in message:
        params = message.get("params") or {}
        message = {**message, "params": {**params, "_meta": {**META, **params.get("_meta", {})}}}
    found = modern_headers(message) if headers is None else headers
    opened = exchange(mcp or Mcp(), dump(message), list(found.items()), **route)
    opened.asked = opened.protocol.classify(opened)
    return opened


def stream(mcp: Mcp | None = None, session: str = "s1", method: str = "GET", **headers: str) -> Exchange:
    """A classified GET or DELETE."""
    found = [("accept", "text/event-stream"), *((name.replace("_", "-"), value) for name, value in headers.items())]
    if session:
        found.append(("mcp-session-id", session))
    opened = exchange(mcp or Mcp(), None, found, method)
    opened.asked = opened.protocol.classify(opened)
    return opened


def asked(opened: Exchange) -> Call:
    assert isinstance(opened.asked, Call), opened.asked
    return opened.asked


def refused(opened: Exchange) -> Refusal:
    assert isinstance(opened.asked, Refusal), opened.asked
    return opened.asked


def told(opened: Exchange) -> tuple[int, Any]:
    """Status and JSON of the refusal as the caller gets it; None for an empty body."""
    status, _, body = opened.protocol.refuse(opened, refused(opened))
    return status, json.loads(body) if body else None


@dataclass
class Shown:
    """What became of an answer: the pieces shown, and what the upstream was told."""

    pieces: list[bytes]
    outbox: list[Any]
    filtered: bool

    @property
    def body(self) -> bytes:
        return b"".join(self.pieces)

    @property
    def json(self) -> Any:
        return json.loads(self.body)


def shown(
    opened: Exchange,
    answer: Answer,
    *,
    policy: Policy | None = None,
    bindings: Bindings | None = None,
    cuts: Sequence[int] = (),
) -> Shown:
    """Filters an answer whose body comes in pieces cut at `cuts`."""

    async def run() -> Shown:
        found = await opened.protocol.filter(opened, answer, policy or Policy(), bindings or Bindings())  # type: ignore[arg-type]
        edges = [0, *cuts, len(answer.body)]
        chunks = [answer.body[start:end] for start, end in pairwise(edges) if start < end]
        if found is None:
            return Shown(chunks, [], False)
        if found.whole is True:
            return Shown([await found.rewrite(answer.body)], [], True)
        pieces, messages = [], []
        for chunk in chunks:
            pieces.append(await found.feed(chunk))
            messages += found.outbox()
        pieces.append(await found.finish())
        messages += found.outbox()
        return Shown(pieces, [json.loads(message) for message in messages], True)

    return asyncio.run(run())


def as_json(value: object, **rest: Any) -> Answer:
    body = value if isinstance(value, bytes) else dump(value)
    return Answer(body, headers=[(b"content-type", b"application/json")], **rest)


def as_events(*events: object, **rest: Any) -> Answer:
    """Each event is its raw bytes, or a message."""
    raw = [event if isinstance(event, bytes) else b"event: message\ndata: " + dump(event) + b"\n\n" for event in events]
    return Answer(b"".join(raw), headers=[(b"content-type", b"text/event-stream")], at_once=False, **rest)


def result(value: object, ident: object = 1) -> dict[str, object]:
    return {"jsonrpc": "2.0", "id": ident, "result": value}
