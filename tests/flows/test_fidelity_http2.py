"""An upstream that speaks HTTP/2: its answers are its own, and it gets what the caller sent, over another framing.

What the upstream said and heard is compared with what the caller got and sent; only the framing is between them.
"""

from __future__ import annotations

import asyncio
import gzip
import hashlib
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TypeAlias

import pytest
from rig import Running, gateway, run

from tests.flows.canned import open_policy
from tests.flows.recording import Answer, ask, dialled, end_to_end_name, head_of, request
from tests.wire.faulty2 import Stream, server

Told: TypeAlias = "tuple[int, list[tuple[str, str]], bytes]"

ALL_BYTES = bytes(range(256)) * 5
LARGE = hashlib.shake_256(b"large").digest(3_000_000)
HOPS = frozenset({"via", "traceparent", "x-request-id"})  # what the gateway writes for the upstream
JSON = ("Content-Type", "application/json")
REPEATED = [
    ("set-cookie", "a=1; Path=/"), ("set-cookie", "b=2; HttpOnly"), ("link", "</a>; rel=next"), ("vary", "Accept"),
    ("link", "</b>; rel=prev"), ("cache-control", "private"), ("x-empty", ""), ("x-inner", "two  spaces"),
    ("x-latin", "caf\xe9"), ("x-same", "1"), ("x-same", "1"), ("etag", 'W/"1"'), ("retry-after", "9"),
]  # fmt: skip

ANSWERS: dict[str, Told] = {
    "json": (200, [("content-type", "application/json"), ("content-length", "10")], b'{ "a":1.0}'),
    "no length": (200, [("content-type", "text/plain")], b"until the stream ends"),
    "empty": (200, [("content-length", "0")], b""),
    "empty without a length": (200, [("x-a", "1")], b""),
    "no content": (204, [("etag", '"1"')], b""),
    "not modified": (304, [("etag", '"1"'), ("cache-control", "max-age=9")], b""),
    "partial": (206, [("content-range", "bytes 1-3/5"), ("content-length", "3")], b"bcd"),
    "binary": (200, [("content-type", "application/octet-stream")], ALL_BYTES),
    "large": (200, [("content-length", str(len(LARGE)))], LARGE),
    "large without a length": (200, [], LARGE),
    "gzip": (200, [("content-encoding", "gzip"), ("vary", "accept-encoding")], gzip.compress(b"x" * 999, mtime=0)),
    "headers again and again": (200, [*REPEATED, ("content-length", "1")], b"x"),
    "an id of its own": (200, [("x-request-id", "theirs"), ("request-id", "req_1"), ("content-length", "1")], b"x"),
    "moved": (307, [("location", "//host/?a=%20"), ("content-length", "5")], b"there"),
    "denied": (403, [JSON, ("www-authenticate", "Bearer")], b'{"error":1}'),
    "broken": (503, [("retry-after", "1")], b"later"),
}
ANSWERS["denied"] = (403, [("content-type", "application/json"), ("www-authenticate", "Bearer")], b'{"error":1}')


@asynccontextmanager
async def before(
    folder: Path, play: Callable[[Stream], Awaitable[None]]
) -> AsyncIterator[tuple[Running, tuple[tuple[str, str], ...]]]:
    """A gateway before an upstream that plays each stream, and what a caller has to say besides its request."""
    async with server(play) as found:
        base = f"http://127.0.0.1:{found.port}"
        kinds = {"plain": "http", "openai": "openai"}
        settings = {
            "policy": open_policy(folder),
            "upstreams": {
                name: {"url": f"{base}/{name}", "protocol": kind, "http": "2"} for name, kind in kinds.items()
            },
            "routes": [{"name": name, "match": {"path": f"/to/{name}"}, "upstream": name} for name in kinds],
        }
        with gateway(folder, **settings) as running:
            yield running, (("Host", "gw.test"), ("Authorization", f"Bearer {running.issuer.token()}"))


def says(
    told: Told, seen: list[tuple[list[tuple[str, str]], bytes]] | None = None
) -> Callable[[Stream], Awaitable[None]]:
    async def play(stream: Stream) -> None:
        body = await stream.body()
        if seen is not None:
            seen.append(([(name.decode(), value.decode("latin-1")) for name, value in stream.headers], body))
        status, headers, answer = told
        pairs = [(name.encode(), value.encode("latin-1")) for name, value in headers]
        await stream.begin(*pairs, status=b"%d" % status, end=not answer)
        if answer:
            await stream.send(answer, end=True)

    return play


def same(through: Answer, told: Told, *, body: bytes | None = None) -> None:
    """Ruling 6: status, body, and the headers that are the message's own."""
    status, headers, said = told
    assert (through.status, through.body) == (status, said if body is None else body)
    assert through.end_to_end() == [
        ("x-upstream-request-id", value) if name == "x-request-id" else (name, value)
        for name, value in headers
        if end_to_end_name(name) or name == "x-request-id"
    ]


@pytest.mark.parametrize("name", ANSWERS)
def test_an_answer_is_the_upstreams_own(tmp_path: Path, name: str) -> None:
    async def story() -> None:
        async with before(tmp_path, says(ANSWERS[name])) as (gate, own):
            for method in ("GET", "POST"):
                data = request(method, "/to/plain/x", own, b"y" if method == "POST" else None)
                same(await ask(gate.app.port, data), ANSWERS[name])

    run(story())


def test_the_answer_to_head_has_the_headers_of_the_body_that_is_not_sent(tmp_path: Path) -> None:
    told: Told = (200, [("content-length", "12345"), ("etag", '"1"')], b"")

    async def story() -> None:
        async with before(tmp_path, says(told)) as (gate, own):
            same(await ask(gate.app.port, request("HEAD", "/to/plain/x", own)), told)

    run(story())


@pytest.mark.parametrize(
    ("method", "rest", "headers", "body"),
    [
        ("GET", "/a%20b;p=1/(c),d'e!f*$&+:@=?y=1&&z=%2F&=", [("Accept", "*/*;q=0.1"), ("X-Same", "1"), ("X-Same", "2")], None),
        ("GET", "/x?", [("If-None-Match", '"1", W/"2"'), ("X-Empty", ""), ("Range", "bytes=0-3")], None),
        ("PUT", "/x", [("Content-Type", "application/x-own"), ("Accept-Encoding", "gzip, br")], ALL_BYTES),
        ("POST", "/x", [("Content-Encoding", "x-own")], LARGE),
        ("POST", "/x", [], b""),
        ("QUERY", "/x", [("X-Own", "caf\xe9")], b"q"),
    ],
)  # fmt: skip
def test_the_upstream_gets_what_the_caller_sent(
    tmp_path: Path, method: str, rest: str, headers: list[tuple[str, str]], body: bytes | None
) -> None:
    seen: list[tuple[list[tuple[str, str]], bytes]] = []

    async def story() -> None:
        async with before(tmp_path, says(ANSWERS["empty"], seen)) as (gate, own):
            assert (await ask(gate.app.port, request(method, f"/to/plain{rest}", [*own, *headers], body))).status == 200
            pieces = [] if not body else [body[at : at + 70_001] for at in range(0, len(body), 70_001)]
            if body is not None:
                chunks = b"".join(b"%x\r\n%s\r\n" % (len(piece), piece) for piece in pieces) + b"0\r\n\r\n"
                coded = [*own, *headers, ("Transfer-Encoding", "chunked")]
                assert (await ask(gate.app.port, request(method, f"/to/plain{rest}", coded) + chunks)).status == 200

    run(story())
    assert len(seen) == (1 if body is None else 2)
    for arrived, content in seen:
        named = dict(arrived)
        assert (named[":method"], named[":path"], content) == (method, f"/plain{rest}", body or b"")
        assert "authorization" not in named
        kept = [pair for pair in arrived if pair[0][0] != ":" and pair[0] not in HOPS | {"content-length", "host"}]
        assert sorted(kept) == sorted((name.lower(), value) for name, value in headers)


def test_a_judged_body_reaches_the_upstream_byte_for_byte(tmp_path: Path) -> None:
    asked = b' {"model":"m", "messages":[{"role":"user","content":"\\u2603"}],"n":1.0 } '
    seen: list[tuple[list[tuple[str, str]], bytes]] = []

    async def story() -> None:
        async with before(tmp_path, says(ANSWERS["json"], seen)) as (gate, own):
            data = request("POST", "/to/openai/v1/chat/completions", [*own, JSON], asked)
            same(await ask(gate.app.port, data), ANSWERS["json"])

    run(story())
    assert [body for _, body in seen] == [asked]
    assert dict(seen[0][0])["content-length"] == str(len(asked))


def test_events_pass_in_lock_step(tmp_path: Path) -> None:
    events = [b": hello\n\n", b"id: 1\r\ndata: a\r\n\r\n", b"data: half", b" of it\n\n", b"data: no end"]
    caught_up: asyncio.Queue[None] = asyncio.Queue()

    async def play(stream: Stream) -> None:
        await stream.body()
        await stream.begin((b"content-type", b"text/event-stream"))
        for event in events:
            await stream.send(event)
            await caught_up.get()  # the caller has seen all of it
        await stream.send(b"", end=True)

    async def story() -> None:
        async with before(tmp_path, play) as (gate, own), dialled(gate.app.port) as line:
            await line.write(request("GET", "/to/plain/events", own))
            status, headers = await head_of(line, "GET")
            assert (status, dict(headers)["content-type"]) == (200, "text/event-stream")
            for event in events:
                assert await line.exactly(len(event)) == event
                caught_up.put_nowait(None)
            assert await line.rest() == b""

    run(story())
