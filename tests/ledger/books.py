"""Ledgers with budgets over counters in memory, clocks that are moved by hand, and calls that are priced."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from itertools import count
from types import SimpleNamespace
from typing import Any

from gateway.core.accounts import Budget
from gateway.core.exchange import Call, Exchange, Principal
from gateway.core.reasons import Refusal
from gateway.ledger.counters import KEYS_LIMIT, MemoryCounters
from gateway.ledger.ledger import Asking, Memory
from gateway.ledger.limits import LimitSettings
from gateway.ledger.prices import PriceTable
from gateway.protocols.http import Http
from tests.ledger.pricing import exchange as priced_exchange
from tests.ledger.pricing import model, prices

LIST = """\
models: [{model: m, input: 1, output: 10}]
tools: [{tool: weather/*, per_call: 0.01}]
free: {tools: [weather/free]}
"""
_idents = count()


class MovedClock:
    """`wall` may be set to anything; `monotonic` only passes."""

    def __init__(self, at: str = "2026-11-10T12:00:00+00:00") -> None:
        self.wall = datetime.fromisoformat(at).timestamp()
        self.passed = 1000.0

    def time(self) -> float:
        return self.wall

    def monotonic(self) -> float:
        return self.passed

    def pass_(self, seconds: float) -> None:
        self.wall += seconds
        self.passed += seconds


def budget(name: str = "org-month", amount: int = 1000, unit: str = "calls", **more: Any) -> Budget:
    return Budget(**{"name": name, "key": ("subject.org",), "unit": unit, "amount": amount, "period": "month"} | more)


class Books:
    """One process: counters, and the ledger of the snapshot in force."""

    def __init__(
        self, budgets: Sequence[Budget], limits: Sequence[LimitSettings] = (), listed: str = LIST, *,
        clock: MovedClock | None = None, keys_limit: int = KEYS_LIMIT,
    ) -> None:  # fmt: skip
        self.clock = clock or MovedClock()
        self.counters = MemoryCounters(self.clock, keys_limit)
        self.memory = Memory()
        self.table = prices(listed) if listed else PriceTable()
        self.reload(budgets, limits)

    def reload(self, budgets: Sequence[Budget], limits: Sequence[LimitSettings] = ()) -> None:
        self.ledger = Asking(limits, budgets, self.counters, self.clock, self.memory)

    def tool(self, name: str = "weather/get", **more: Any) -> Exchange:
        call = Call("mcp.tools/call", "tool", name)
        return self.of(
            priced_exchange(Http(), "/x", b"12345", upstream="weather", listed=self.table, asked=call), **more
        )

    def chat(self, *, stream: bool = False, max_tokens: int | None = 100, **more: Any) -> Exchange:
        body: dict[str, Any] = {"messages": [{"role": "user", "content": "Snow in Oslo?"}], "stream": stream}
        if max_tokens is not None:
            body["max_tokens"] = max_tokens
        return self.of(model("chat", body, listed=self.table), **more)

    def of(self, found: Exchange, *, org: str | None = "acme", subject: str = "agent:idp/a", **more: Any) -> Exchange:
        found.id = f"x-{next(_idents)}"
        found.principal = Principal(subject, "agent", org=org)
        found.snapshot = replace(found.snapshot, ledger=self.ledger)
        for name, value in more.items():
            setattr(found, name, value)
        return found

    def take(self, found: Exchange) -> Refusal | None:
        said = self.ledger.take(found)
        assert said is None or isinstance(said, Refusal)
        return said

    def grow(self, found: Exchange) -> Refusal | None:
        said = self.ledger.grow(found)
        assert said is None or isinstance(said, Refusal)
        return said

    def settle(self, found: Exchange, usd: int | None = None, *, sent: bool = True, **usage: int) -> list[int | None]:
        """As Meter does it, of a call that was answered."""
        found.sent = sent
        answer: Any = SimpleNamespace(status=200)
        found.answer = answer
        for name, value in usage.items():
            setattr(found.usage, name, value)
        found.usage.usd = usd
        self.ledger.settle(found)
        return [charge.settled for charge in found.charges]

    def left(self, of: Budget, found: Exchange) -> int:
        [account] = [one for one in self.ledger._accounts if one.budget.name == of.name]
        return self.counters.balance(of, account.account(found, self.clock.time())[0]).left
