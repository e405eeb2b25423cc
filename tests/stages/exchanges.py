"""An exchange to be judged by a stage alone: real values, and ports that do just what a test says."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from gateway.core.exchange import Call, Exchange, Head, Principal
from gateway.core.snapshot import Route, Upstream
from tests.unlimited import unlimited

ANN = Principal(id="user:idp/ann", type="user", issuer="https://idp.test", roles=("reader",))


class Clock:
    def time(self) -> float:
        return 1_700_000_000.0

    def monotonic(self) -> float:
        return 5.0


class Ids:
    def __init__(self) -> None:
        self.count = 0

    def new(self) -> str:
        self.count += 1
        return f"id-{self.count}"


def exchange(
    *, asked: Any = None, principal: Principal | None = ANN, audit: str = "strict", **snapshot: Any
) -> Exchange:
    head = Head("POST", "/tools?a=1", "/tools", "a=1", "gw.test", "http", (), "192.0.2.7")
    route = Route("tools", "/tools", "", "shop", "required", "json", audit=audit)
    upstream = Upstream("shop", "http", "http", "127.0.0.1", 9, "127.0.0.1:9", "/base")
    snap: Any = SimpleNamespace(**{"policy_headers": (), "ledger": unlimited(), **snapshot})
    protocol: Any = SimpleNamespace(name="http")
    asked = Call("http.POST", "endpoint", "/tools") if asked is None else asked
    return Exchange(
        "exchange-1", 1_700_000_000.0, 5.0, head, snap, route, upstream, protocol, asked=asked, principal=principal
    )
