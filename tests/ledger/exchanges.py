"""Exchanges as far as the ledger looks at them, and a clock that is moved by hand in whole nanoseconds."""

from __future__ import annotations

from typing import Any, cast

from gateway.core.exchange import Call, Exchange, Head, Principal
from gateway.core.snapshot import Route, Upstream


class HandClock:
    def __init__(self, nanoseconds: int = 0) -> None:
        self.nanoseconds = nanoseconds

    def time(self) -> float:
        raise AssertionError("limits may not look at the wall clock")

    def monotonic(self) -> float:
        return self.nanoseconds / 1_000_000_000

    def pass_(self, seconds: float) -> None:
        self.nanoseconds += round(seconds * 1_000_000_000)


def exchange(
    subject: str = "agent:idp/a",
    *,
    org: str | None = "acme",
    agent: str | None = None,
    route: str = "weather",
    upstream: str = "weather",
    resource: str = "weather/get",
    peer: str = "192.0.2.1",
) -> Exchange:
    nothing: Any = None
    return Exchange(
        id="0",
        time=0.0,
        started=0.0,
        head=Head("POST", "/weather", "/weather", "", "gw.example", "https", (), peer),
        snapshot=nothing,
        route=Route(route, "/weather", "", upstream, "required", "json"),
        upstream=Upstream(upstream, "mcp", "http", "127.0.0.1", 9001, "127.0.0.1:9001", "/mcp"),
        protocol=cast(Any, None),
        asked=Call("mcp.tools/call", "tool", resource),
        principal=Principal(id=subject, type="agent", org=org, agent=agent),
    )
