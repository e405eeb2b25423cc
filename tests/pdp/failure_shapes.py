"""How an engine that is asked over HTTP can fail: what its end of the connection does, and what the record says of it.

`SHAPES` fail whatever the protocol; `OPA` and `AUTHZEN` are answers in the protocol's own form that decide nothing.
Each play is one connection's.
"""

from __future__ import annotations

import asyncio
import gzip
import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from tests.wire.faulty import Peer, answer

JSON = b"Content-Type: application/json"
YES = b'{"result":true,"decision":true}'  # what each engine would take for an allow


@dataclass(frozen=True)
class Shape:
    """`rule` is how the record's begins. `fault`: the caller is told `policy_unavailable`, not `denied`."""

    play: Callable[[Peer], Awaitable[None]]
    rule: str
    fault: bool = True


def saying(data: bytes, *, then_close: bool = False) -> Callable[[Peer], Awaitable[None]]:
    async def play(peer: Peer) -> None:
        while True:
            await peer.request()
            await peer.send(data)
            if then_close:
                return

    return play


async def _silent(peer: Peer) -> None:
    await peer.request()
    await peer.gone()


async def _half(peer: Peer) -> None:
    await peer.request()
    await peer.send(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 31\r\n\r\n" + YES[:20])
    await peer.gone()


async def _reset(peer: Peer) -> None:
    await peer.request()
    peer.reset()


async def _drip(peer: Peer) -> None:
    """A byte at a time, never long silent."""
    await peer.request()
    await peer.send(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n")
    left = asyncio.ensure_future(peer.gone())
    while not left.done():
        await peer.send(b"1\r\n \r\n")
        await asyncio.wait({left}, timeout=0.01)


async def _hundred_megabytes(peer: Peer) -> None:
    await peer.request()
    await peer.send(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 104857600\r\n\r\n")
    for _ in range(1600):
        await peer.send(b" " * 65536)


async def _endless(peer: Peer) -> None:
    await peer.request()
    await peer.send(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n")
    while True:
        await peer.send(b"10000\r\n" + b" " * 65536 + b"\r\n")


def _coded() -> bytes:
    return answer(gzip.compress(YES), JSON, b"Content-Encoding: gzip")


DEEP = b'{"result":' + b"[" * 100_000 + b"]" * 100_000 + b"}"

SHAPES: dict[str, Shape] = {
    "slow": Shape(_silent, "late"),
    "half an answer": Shape(_half, "late"),
    "a byte at a time": Shape(_drip, "late"),
    "closed without a word": Shape(lambda peer: _after(peer, b""), "unreachable: "),
    "closed within the head": Shape(lambda peer: _after(peer, b"HTTP/1.1 200 OK\r\nConte"), "unreachable: "),
    "closed within the body": Shape(lambda peer: _after(peer, answer(YES, JSON)[:-5]), "unreachable: "),
    "reset": Shape(_reset, "unreachable: "),
    "500": Shape(saying(answer(YES, JSON, status=b"500 Internal Server Error")), "status 500"),
    "503": Shape(saying(answer(YES, JSON, status=b"503 Service Unavailable")), "status 503"),
    "429": Shape(saying(answer(YES, JSON, status=b"429 Too Many Requests")), "status 429"),
    "401": Shape(saying(answer(YES, JSON, status=b"401 Unauthorized")), "status 401"),
    "204": Shape(saying(b"HTTP/1.1 204 No Content\r\n\r\n"), "status 204"),
    "201": Shape(saying(answer(YES, JSON, status=b"201 Created")), "status 201"),
    "302": Shape(saying(answer(YES, JSON, b"Location: /yes", status=b"302 Found")), "status 302"),
    "HTML": Shape(saying(answer(b"<html>true</html>", b"Content-Type: text/html")), "content_type"),
    "HTML that says it is JSON": Shape(saying(answer(b"<html>true</html>", JSON)), "answer_unreadable"),
    "no content type": Shape(saying(answer(YES)), "content_type"),
    "two content types": Shape(saying(answer(YES, JSON, b"Content-Type: text/html")), "content_type"),
    "text": Shape(saying(answer(YES, b"Content-Type: text/plain")), "content_type"),
    "compressed": Shape(saying(_coded()), "content_encoding"),
    "garbage": Shape(saying(b"\x00\xff\xfe\x01garbage\r\n\r\n" * 9), "unreachable: "),
    "garbage in the body": Shape(saying(answer(b"\x00\xff\xfe", JSON)), "answer_unreadable"),
    "another protocol": Shape(saying(b"SSH-2.0-OpenSSH_9.2\r\n\r\n"), "unreachable: "),
    "100 MB": Shape(_hundred_megabytes, "answer_too_large"),
    "endless": Shape(_endless, "answer_too_large"),
    "an empty body": Shape(saying(answer(b"", JSON)), "answer_unreadable"),
    "a bare true": Shape(saying(answer(b"true", JSON)), "answer_unreadable"),
    "the text true": Shape(saying(answer(b'"true"', JSON)), "answer_unreadable"),
    "a list": Shape(saying(answer(b"[" + YES + b"]", JSON)), "answer_unreadable"),
    "two values": Shape(saying(answer(YES + YES, JSON)), "answer_unreadable"),
    "a member twice": Shape(
        saying(answer(b'{"result":true,"result":true,"decision":true,"decision":true}', JSON)), "answer_unreadable"
    ),
    "brackets": Shape(saying(answer(DEEP, JSON)), "answer_unreadable"),
    "UTF-16": Shape(saying(answer(YES.decode().encode("utf-16"), JSON)), "answer_unreadable"),
}


async def _after(peer: Peer, data: bytes) -> None:
    await peer.request()
    await peer.send(data)


def _said(document: Any) -> Callable[[Peer], Awaitable[None]]:
    return saying(answer(json.dumps(document).encode(), JSON))


def _decided(decision: Any, **context: Any) -> dict[str, Any]:
    return {"decision": decision, **({"context": context} if context else {})}


NOT_DECISIONS: dict[str, tuple[Any, str]] = {
    "no decision": ({}, "wrong_type"),
    "null": (_decided(None), "wrong_type"),
    "text": (_decided("true"), "wrong_type"),
    "a number": (_decided(1), "wrong_type"),
    "a list": (_decided([True]), "wrong_type"),
    "an object": (_decided({"allow": True}), "wrong_type"),
    "an unknown obligation": (_decided(True, obligations=[{"type": "dance"}], rule="odd"), "odd"),
    "an obligation without a type": (_decided(True, obligations=[{}]), "wrong_type"),
    "obligations that are no list": (_decided(True, obligations={"type": "redact"}), "wrong_type"),
    "an obligation under another name": (_decided(True, obligation=[{"type": "redact"}]), "wrong_type"),
    "a context that is no object": ({"decision": True, "context": "allowed"}, "wrong_type"),
    "a reason that is no text": (_decided(True, reason=["because"]), "wrong_type"),
}

OPA: dict[str, Shape] = {
    "{}": Shape(_said({}), "undefined", fault=False),
    "only a decision id": Shape(_said({"decision_id": "1"}), "undefined", fault=False),
    "a result that is text": Shape(_said({"result": "true"}), "wrong_type", fault=False),
    "a result that is null": Shape(_said({"result": None}), "wrong_type", fault=False),
    "an unknown member": Shape(_said({"result": {"decision": True, "obligations": []}}), "wrong_type", fault=False),
    **{name: Shape(_said({"result": said}), rule, fault=False) for name, (said, rule) in NOT_DECISIONS.items()},
}
AUTHZEN: dict[str, Shape] = {
    "OPA's wrapper": Shape(_said({"result": {"decision": True}}), "wrong_type", fault=False),
    **{name: Shape(_said(said), rule, fault=False) for name, (said, rule) in NOT_DECISIONS.items()},
}
