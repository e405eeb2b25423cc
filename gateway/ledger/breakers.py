"""The breakers of all upstreams: one each, or one for each tool; what an exchange holds of them. Sans-I/O.

1. An upstream without `breaker` has none, and nothing happens for it.
2. What counts as failed is what became of a call that was forwarded: no connection, no answer in time, an answer that
   broke off, a 5xx. What counts as nothing: a call that was refused behind it, whose caller went before an answer, or
   for which this gateway had no connection to spare. All else was answered: a 4xx, and an error within a protocol.
3. A probe has ended for the breaker when the head of its answer is here: streams last.
4. Per tool at most `TOOLS` breakers are kept for an upstream, for callers make up names: one that nothing was counted
   against makes room for another, and where none does the upstream's own serves. Whatever names no tool goes by that.
5. What somebody holds open or closed stays so over reloads, for all tools of the upstream.
Each change of state is told, once.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from typing import Final

from gateway.core.breaking import Breaker, BreakerSettings, End, Hold, Standing, State, Turn
from gateway.core.exchange import Call, Exchange
from gateway.core.reasons import Reason, Refusal
from gateway.core.snapshot import Upstream

TOOLS: Final = 1000
_OURS: Final = frozenset({"connection_limit_reached", "http_request_error", "proxy_internal_error"})  # RFC 9209


class Trial:
    """The core's Trial."""

    __slots__ = ("_admitted", "_breaker", "_breakers", "_exchange")

    def __init__(self, breakers: Breakers, breaker: Breaker, admitted: int, exchange: Exchange) -> None:
        self._breakers: Final = breakers
        self._breaker: Final = breaker
        self._admitted: Final = admitted
        self._exchange: Exchange | None = exchange

    @property
    def probing(self) -> bool:
        return self._exchange is not None and self._breaker.probing(self._admitted)

    def arrived(self) -> None:
        if self.probing:  # 3
            self.release()

    def release(self) -> None:
        exchange, self._exchange = self._exchange, None
        if exchange is not None:
            exchange.trial = None
            self._breakers.ended(self._breaker, self._admitted, exchange)


class Kept:
    """The breakers of one upstream."""

    __slots__ = ("held", "own", "settings", "tools")

    def __init__(self, settings: BreakerSettings, own: Breaker) -> None:
        self.settings: Final = settings
        self.own: Final = own
        self.tools: dict[str, Breaker] = {}
        self.held = Hold.AUTO


class Breakers:
    """The `Breaking` port; outlives snapshots. `told` hears of every change of state."""

    def __init__(
        self, monotonic: Callable[[], float], random: Callable[[], float], told: Callable[[Turn], None]
    ) -> None:
        self._monotonic: Final = monotonic
        self._random: Final = random
        self._told: Final = told
        self._kept: dict[str, Kept] = {}

    def adopt(self, upstreams: Iterable[Upstream], held: Mapping[str, Hold] | None = None) -> None:
        """Those that are configured now. One whose settings are as they were goes on; what is held stays held, and
        `held` says what was when the gateway stopped."""
        found: dict[str, Kept] = {}
        for upstream in upstreams:
            settings = upstream.breaker
            if settings is None:
                continue
            known = self._kept.get(upstream.name)
            if known is None or known.settings != settings:
                wanted = known.held if known is not None else (held or {}).get(upstream.name, Hold.AUTO)
                known = Kept(settings, self._made(settings, upstream.name, ""))
                _hold(known, wanted, again=True)
            found[upstream.name] = known
        self._kept = found

    def admit(self, exchange: Exchange) -> Refusal | None:
        name = exchange.upstream.name
        kept = self._kept.get(name)
        if kept is None:
            return None
        breaker = self._of(kept, name, exchange) if kept.settings.per_tool else kept.own
        now = self._monotonic()
        admitted = breaker.admit(now)
        if admitted is None:
            return _refused(name, breaker, kept.settings, now)
        trial = Trial(self, breaker, admitted, exchange)
        exchange.trial = trial
        exchange.permits.append(trial)
        return None

    def ended(self, breaker: Breaker, admitted: int, exchange: Exchange) -> None:
        """What became of a call is on its exchange."""
        waited = exchange.upstream_ms
        kept = self._kept.get(exchange.upstream.name)
        slow = waited is not None and kept is not None and 0.0 < kept.settings.slow_s < waited / 1000
        breaker.ended(admitted, _end(exchange), self._monotonic(), slow)

    def hold(self, upstream: str, wanted: Hold) -> bool:
        """Holds all breakers of an upstream, or lets them go; False where it has none."""
        kept = self._kept.get(upstream)
        if kept is None:
            return False
        _hold(kept, wanted)
        return True

    def held(self) -> dict[str, Hold]:
        """What is held, by upstream."""
        return {name: kept.held for name, kept in self._kept.items() if kept.held is not Hold.AUTO}

    def standing(self) -> list[Standing]:
        """Of all: each upstream's own, and those of tools that are not at rest."""
        now = self._monotonic()
        found: list[Standing] = []
        for name, kept in self._kept.items():
            found.append(_standing(name, "", kept.own, now))
            found += [_standing(name, tool, item, now) for tool, item in kept.tools.items() if not item.calm]
        return found

    def _of(self, kept: Kept, name: str, exchange: Exchange) -> Breaker:
        call = exchange.asked
        if not isinstance(call, Call) or call.resource_type != "tool":
            return kept.own
        tool = call.resource_id.removeprefix(name + "/")
        breaker = kept.tools.get(tool)
        if breaker is None:
            if len(kept.tools) >= TOOLS:  # 4
                kept.tools = {known: item for known, item in kept.tools.items() if not item.calm}
                if len(kept.tools) >= TOOLS:
                    return kept.own
            breaker = kept.tools[tool] = self._made(kept.settings, name, tool)
            if kept.held is not Hold.AUTO:
                breaker.hold(kept.held, again=True)
        return breaker

    def _made(self, settings: BreakerSettings, upstream: str, tool: str) -> Breaker:
        def turned(before: State, after: State, why: str) -> None:
            self._told(Turn(upstream, tool, before, after, why))

        return Breaker(settings, self._random, turned)


def _hold(kept: Kept, wanted: Hold, again: bool = False) -> None:
    kept.held = wanted
    for breaker in (kept.own, *kept.tools.values()):
        breaker.hold(wanted, again)


def _standing(upstream: str, tool: str, breaker: Breaker, now: float) -> Standing:
    state = breaker.state(now)
    return Standing(upstream, tool, state, breaker.held, breaker.why, breaker.wait(now))


def _refused(name: str, breaker: Breaker, settings: BreakerSettings, now: float) -> Refusal:
    if breaker.held is Hold.OPEN:
        text, wait = f"Upstream {name} is switched off for now", settings.open_s
    else:
        text, wait = f"Upstream {name} fails and is left alone for now", breaker.wait(now)
    return Refusal(Reason.BREAKER_OPEN, text, rule=breaker.why, retry_after=max(1, math.ceil(wait)))


def _end(exchange: Exchange) -> End:
    status = _status(exchange)
    if status:
        if exchange.result == "upstream_gone" or status >= 500:
            return End.FAILED
        return End.FAILED if exchange.result == "timeout" and exchange.socket is None else End.ANSWERED
    if exchange.stopped != "forward" or exchange.result not in ("timeout", "upstream_gone"):
        return End.UNKNOWN
    return End.UNKNOWN if exchange.refusal is not None and exchange.refusal.rule in _OURS else End.FAILED  # 2


def _status(exchange: Exchange) -> int:
    """What the upstream itself said; 0: nothing yet, or it was not asked."""
    if exchange.socket is not None:
        return int(getattr(exchange.socket, "status", 101))
    answer = exchange.answer
    return answer.status if answer is not None and exchange.upstream_ms is not None else 0
