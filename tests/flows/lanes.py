"""A recording upstream, reached straight and through a gateway that allows everything, and what identical means.

`same` is the contract's word (ruling 6): status, concatenated body, end-to-end headers but for those that any hop
writes for itself.
"""

from __future__ import annotations

import socket
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from rig import Running, gateway, run

from tests.flows.recording import Answer, Play, Upstream, ask, end_to_end_name, listening, request, says, whole

CREDENTIAL = frozenset({"authorization", "host"})  # what each way has of its own


def same(through: Answer, straight: Answer) -> None:
    """Ruling 6."""
    assert through.status == straight.status
    assert through.body == straight.body
    assert through.end_to_end() == [
        ("x-upstream-request-id", value) if name == "x-request-id" else (name, value)
        for name, value in straight.headers
        if end_to_end_name(name) or name == "x-request-id"
    ]
    assert len(through.values("date")) == 1
    assert len(through.values("x-request-id")) == 1


@dataclass(frozen=True)
class Way:
    """A way to the upstream: straight at it, or through the gateway with the caller's credential."""

    port: int
    prefix: str
    headers: tuple[tuple[str, str], ...] = ()

    def request(
        self, method: str, route: str, rest: str, headers: Sequence[tuple[str, str]] = (), body: bytes | None = None
    ) -> bytes:
        host = ("Host", f"127.0.0.1:{self.port}")
        return request(method, f"{self.prefix}/{route}{rest}", [host, *self.headers, *headers], body)


@dataclass(frozen=True)
class Lanes:
    upstream: Upstream
    sockets: socket.socket  # where a WebSocket server may listen; the route `socket` leads there
    running: Running
    straight: Way
    through: Way

    def both(self) -> tuple[tuple[str, Way], tuple[str, Way]]:
        return ("straight", self.straight), ("through", self.through)


PROTOCOLS = {"plain": "http", "openai": "openai", "anthropic": "anthropic", "mcp": "mcp", "a2a": "a2a"}


@contextmanager
def lanes(folder: Path) -> Iterator[Lanes]:
    """A recording upstream and a gateway before it: a route for each protocol, and a policy that allows everything."""
    upstream, sockets = Upstream(), listening()
    policy = folder / "policy"
    policy.mkdir()
    (policy / "all.rego").write_text('package tollgate\n\ndecision := {"decision": true, "context": {"rule": "all"}}\n')
    base = f"http://127.0.0.1:{upstream.port}"
    upstreams = {name: {"url": f"{base}/{name}", "protocol": kind} for name, kind in PROTOCOLS.items()}
    upstreams["socket"] = {"url": f"http://127.0.0.1:{sockets.getsockname()[1]}", "protocol": "http"}
    settings = {
        "policy": {"bundle": str(policy)},
        "upstreams": upstreams,
        "routes": [
            {"name": name, "match": {"path": f"/to/{name}"}, "upstream": name, "cookies": "pass"} for name in upstreams
        ],
    }
    with gateway(folder, **settings) as running:
        credential = (("Authorization", f"Bearer {running.issuer.token()}"),)
        yield Lanes(upstream, sockets, running, Way(upstream.port, ""), Way(running.app.port, "/to", credential))
    upstream.listener.close()
    sockets.close()


async def compared(
    lane: Lanes, method: str, route: str, rest: str, play: Play, *headers: tuple[str, str], body: bytes | None = None
) -> Answer:
    """The answer to one request both ways, which must be the same."""
    lane.upstream.plays[f"/{route}{rest}"] = play
    async with lane.upstream.serving():
        straight, through = [
            await ask(way.port, way.request(method, route, rest, headers, body)) for _, way in lane.both()
        ]
    same(through, straight)
    return through


async def arrives(lane: Lanes, play: str, straight: bytes, through: bytes, route: str) -> None:
    """Both requests reach the upstream, and it could not tell which was which."""
    lane.upstream.plays[play] = says(whole("200 OK", b"{}", "Content-Type: application/json"))
    async with lane.upstream.serving():
        for way, data in ((lane.straight, straight), (lane.through, through)):
            answer = await ask(way.port, data)
            assert (answer.status, answer.body) == (200, b"{}"), answer
        first, second = lane.upstream.requests
    assert second.facts(f"/{route}", without=CREDENTIAL) == first.facts(f"/{route}", without=CREDENTIAL)
    assert dict(second.headers)["host"] == f"127.0.0.1:{lane.upstream.port}"
    assert "authorization" not in dict(second.headers)
    assert dict(second.headers)["via"] == "1.1 tollgate"


def sent(
    lane: Lanes, method: str, route: str, rest: str, headers: Sequence[tuple[str, str]], body: bytes | None
) -> None:
    straight, through = [way.request(method, route, rest, headers, body) for _, way in lane.both()]
    run(arrives(lane, f"/{route}{rest.partition('?')[0]}", straight, through, route))
