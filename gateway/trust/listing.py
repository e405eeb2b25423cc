"""An MCP client that does one thing: it lists all that an upstream describes, in whichever era the upstream speaks.

Modern (2026-07-28) is tried first: `server/discover`, then each list. An upstream that does not know that is asked the
older way: initialize, the lists within that session, and its end. Only lists that the upstream's capabilities name are
asked for; one it declares and does not have is empty. It must never believe a name, an id or a size: an answer is the
response to our own id, and bytes, pages and items are bounded. The deadline is its caller's.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass

from gateway.core import sse
from gateway.core.canonical import Json, parse_answer
from gateway.core.exchange import Header
from gateway.core.ports import HttpClient, UpstreamAnswer, UpstreamTargets
from gateway.core.reasons import Malformed, UpstreamFailed
from gateway.core.snapshot import Upstream
from gateway.trust.tools import SHAPES, Shape

MODERN = "2026-07-28"
LEGACY = "2025-11-25"
LIMIT_BYTES = 16 * 1024 * 1024  # of one answer
LIMIT_PAGES = 100
LIMIT_ITEMS = 5000

_UNKNOWN = frozenset({-32601, -32602})  # methods and params that the upstream does not know
_REFUSED = frozenset({401, 403, 429})
_CLIENT: dict[str, Json] = {"name": "tollgate", "version": "1"}

Credentials = Callable[[Upstream], Awaitable[list[Header]]]


class _Error(Exception):
    """A JSON-RPC error, or an HTTP status without one."""

    def __init__(self, text: str, code: int, status: int) -> None:
        super().__init__(text)
        self.code = code
        self.status = status


@dataclass(slots=True)
class _Talk:
    """One conversation. `session` and `modern` decide what goes with each message."""

    client: HttpClient
    target: str
    headers: list[Header]
    modern: bool = True
    session: bytes = b""
    said: int = 0


class McpLister:
    """`credentials` gives the headers that the gateway itself brings to an upstream."""

    def __init__(self, targets: UpstreamTargets, credentials: Credentials) -> None:
        self._targets = targets
        self._credentials = credentials

    async def __call__(self, upstream: Upstream) -> Mapping[str, list[dict[str, Json]]]:
        """All lists by name, empty where the upstream has none; of the first of its addresses that can be reached.
        Raises UpstreamFailed, Malformed."""
        *others, last = upstream.members or (upstream,)
        for member in others:
            try:
                return await self._at(member)
            except UpstreamFailed as failure:
                if failure.sent:
                    raise
        return await self._at(last)

    async def _at(self, upstream: Upstream) -> Mapping[str, list[dict[str, Json]]]:
        own = await self._credentials(upstream)
        headers: list[Header] = [
            (b"host", upstream.authority.encode()),
            (b"user-agent", b"tollgate"),
            (b"content-type", b"application/json"),
            (b"accept", b"application/json, text/event-stream"),
            (b"accept-encoding", b"identity"),
            *((name.lower(), value) for name, value in own),
        ]
        talk = _Talk(self._targets.client(upstream), upstream.path or "/", headers)
        try:
            return await _all(talk)
        except _Error as error:
            raise UpstreamFailed(f"it says: {error}", error="http_protocol_error", sent=True) from None


async def _all(talk: _Talk) -> Mapping[str, list[dict[str, Json]]]:
    try:
        hello = await _request(talk, "server/discover", {})
    except _Error as error:
        if error.status in _REFUSED or error.status >= 500:
            raise
        talk.modern = False
        hello = await _request(talk, "initialize", _introduction())
        await _notify(talk, "notifications/initialized")
    try:
        capabilities = hello.get("capabilities")
        if not isinstance(capabilities, dict):
            raise Malformed("it does not say what it can")
        return {
            name: await _list(talk, shape) if shape.capability in capabilities else [] for name, shape in SHAPES.items()
        }
    finally:
        if talk.session:
            await _goodbye(talk)


def _introduction() -> dict[str, Json]:
    return {"protocolVersion": LEGACY, "capabilities": {}, "clientInfo": dict(_CLIENT)}


async def _list(talk: _Talk, shape: Shape) -> list[dict[str, Json]]:
    found: list[dict[str, Json]] = []
    cursor: Json = None
    for _ in range(LIMIT_PAGES):
        try:
            result = await _request(talk, shape.method, {} if cursor is None else {"cursor": cursor})
        except _Error as error:
            if error.code in _UNKNOWN and cursor is None:
                return []
            raise
        items = result.get(shape.member)
        if not isinstance(items, list):
            raise Malformed(f"{shape.method} brings no {shape.member}")
        for item in items:
            if not isinstance(item, dict) or not isinstance(name := item.get(shape.key), str) or not _text(name):
                raise Malformed(f"an item of {shape.member} has no {shape.key}")
            found.append(item)
        if len(found) > LIMIT_ITEMS:
            raise Malformed(f"it has more than {LIMIT_ITEMS} {shape.member}")
        cursor = result.get("nextCursor")
        if cursor is None or cursor == "":
            return found
    raise Malformed(f"{shape.member} has more than {LIMIT_PAGES} pages")


def _text(name: str) -> bool:
    return bool(name) and (name.isascii() or not any("\ud800" <= mark <= "\udfff" for mark in name))


async def _request(talk: _Talk, method: str, params: dict[str, Json]) -> dict[str, Json]:
    """The result. Raises _Error, UpstreamFailed, Malformed."""
    talk.said += 1
    answer = await _post(talk, {"jsonrpc": "2.0", "id": talk.said, "method": method, "params": params})
    try:
        if not talk.modern and method == "initialize":
            talk.session = next((value for name, value in answer.headers if name == b"mcp-session-id"), b"")
        return await _result(answer, talk.said)
    finally:
        await answer.aclose()


async def _notify(talk: _Talk, method: str) -> None:
    answer = await _post(talk, {"jsonrpc": "2.0", "method": method})
    await answer.aclose()


async def _goodbye(talk: _Talk) -> None:
    """The upstream need not keep a session that nobody uses; what it says to that is of no interest."""
    headers = [item for item in talk.headers if item[0] != b"content-type"]
    headers += [(b"mcp-protocol-version", LEGACY.encode()), (b"mcp-session-id", talk.session)]
    try:
        answer = await talk.client.send("DELETE", talk.target, headers, None)
    except UpstreamFailed:
        return
    await answer.aclose()


async def _post(talk: _Talk, message: dict[str, Json]) -> UpstreamAnswer:
    headers = list(talk.headers)
    if talk.modern:
        meta: dict[str, Json] = {
            "io.modelcontextprotocol/protocolVersion": MODERN,
            "io.modelcontextprotocol/clientCapabilities": {},
            "io.modelcontextprotocol/clientInfo": dict(_CLIENT),
        }
        params = message.get("params")
        message["params"] = {**params, "_meta": meta} if isinstance(params, dict) else {"_meta": meta}
        headers += [(b"mcp-protocol-version", MODERN.encode()), (b"mcp-method", str(message["method"]).encode())]
    elif message["method"] != "initialize":
        headers.append((b"mcp-protocol-version", LEGACY.encode()))
        if talk.session:
            headers.append((b"mcp-session-id", talk.session))
    return await talk.client.send("POST", talk.target, headers, json.dumps(message).encode(), idempotent=True)


async def _result(answer: UpstreamAnswer, ident: int) -> dict[str, Json]:
    kind = next((value.lower() for name, value in answer.headers if name == b"content-type"), b"")
    if kind.startswith(b"text/event-stream"):
        return _read(await _event(answer, ident), answer.status)
    body = await _body(answer)
    value = parse_answer(body) if body.lstrip()[:1] == b"{" else None
    if not isinstance(value, dict):
        raise _Error(f"status {answer.status} without a JSON-RPC answer", 0, answer.status)
    return _read(value, answer.status)


def _read(value: dict[str, Json], status: int) -> dict[str, Json]:
    result, error = value.get("result"), value.get("error")
    if isinstance(result, dict) and status < 300:
        return result
    code = error.get("code") if isinstance(error, dict) else None
    text = error.get("message") if isinstance(error, dict) else None
    said = text[:200] if isinstance(text, str) else f"status {status}"
    raise _Error(said, code if isinstance(code, int) else 0, status)


async def _event(answer: UpstreamAnswer, ident: int) -> dict[str, Json]:
    """The response to our request among whatever else the stream brings."""
    scanner = sse.Scanner()
    size = 0
    while chunk := await answer.chunk():
        size += len(chunk)
        if size > LIMIT_BYTES:
            raise Malformed(f"its answer has more than {LIMIT_BYTES} bytes")
        for event in scanner.feed(chunk):
            if not event.data or event.data[:1] != b"{":
                continue
            value = parse_answer(event.data)
            if isinstance(value, dict) and value.get("id") == ident and "method" not in value:
                return value
    raise Malformed("its stream ended without the answer")


async def _body(answer: UpstreamAnswer) -> bytes:
    parts: list[bytes] = []
    size = 0
    while chunk := await answer.chunk():
        size += len(chunk)
        if size > LIMIT_BYTES:
            raise Malformed(f"its answer has more than {LIMIT_BYTES} bytes")
        parts.append(chunk)
    return b"".join(parts)
