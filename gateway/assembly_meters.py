"""What several workers counted, added up: figures, gauges, and how upstreams stand as all of them see it.

1. What a dead worker counted stays counted; what it had open is over. 2. A gauge is the sum of all, but for what there
is only one of, and for states, of which the worst counts. 3. What a worker says is as old as its last answer.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import astuple, replace
from typing import Any, Final

from gateway.core.attempts import AddressStanding
from gateway.core.breaking import Hold, Standing, State
from gateway.core.canonical import Json
from gateway.core.counts import Counts
from gateway.core.ports import Clock
from gateway.telemetry import Reading

_WORST: Final = frozenset({"tollgate_breaker_state"})
_LEAST: Final = frozenset({"tollgate_upstream_address_in"})
_OWN: Final = frozenset({"tollgate_bundle_info", "tollgate_log_unsequenced_records"})
_STATES: Final = (State.CLOSED, State.HALF_OPEN, State.OPEN)
_ADDRESSES: Final = ("in", "unhealthy", "ejected")

Meters = Mapping[str, Any]


def meters(
    exchanges: int, streams: int, malformed: int, counts: Counts, gauges: Mapping[str, Sequence[Reading]],
    totals: Sequence[str], breakers: Sequence[Standing], addresses: Sequence[AddressStanding],
) -> dict[str, Any]:  # fmt: skip
    """What a worker says, as JSON. `totals` names the gauges that never go down."""
    return {
        "exchanges": exchanges,
        "streams": streams,
        "malformed": malformed,
        "counts": counts.said(),
        "gauges": gauges,
        "totals": totals,
        "breakers": [astuple(one) for one in breakers],
        "addresses": [astuple(one) for one in addresses],
    }


class Sums:
    """Over all workers. `living` gives what each of those that serve said last. Is `telemetry.Elsewhere`."""

    def __init__(self, clock: Clock, living: Callable[[], Sequence[Meters]]) -> None:
        self._clock = clock
        self._living = living
        self._dead = Counts(clock)  # 1
        self._gone: dict[str, dict[tuple[str, ...], float]] = {}
        self._malformed = 0

    def buried(self, said: Meters) -> None:
        """The last that a dead worker said."""
        self._dead.add(said["counts"])
        self._malformed += int(said["malformed"])
        for name in said["totals"]:
            gone = self._gone.setdefault(name, {})
            for labels, value in said["gauges"][name]:
                gone[tuple(labels)] = gone.get(tuple(labels), 0.0) + value

    def counts(self, own: Counts) -> Counts:
        whole = Counts(self._clock)
        for said in (own.said(), self._dead.said(), *(one["counts"] for one in self._living())):
            whole.add(said)
        return whole

    def gauge(self, name: str, own: list[Reading]) -> list[Reading]:
        """2."""
        if name in _OWN:
            return own
        found: dict[tuple[str, ...], float] = dict(own)
        gone = list(self._gone.get(name, {}).items())
        for read in (gone, *(said["gauges"].get(name, ()) for said in self._living())):
            for labels, value in read:
                key = tuple(labels)
                before = found.get(key)
                if before is None or (name in _WORST and value > before) or (name in _LEAST and value < before):
                    found[key] = value
                elif name not in _WORST and name not in _LEAST:
                    found[key] = before + value
        return list(found.items())

    def breakers(self, own: Sequence[Standing]) -> list[Standing]:
        """2: one that is open in a worker is open."""
        found = {(one.upstream, one.tool): one for one in own}
        for said in self._living():
            for upstream, tool, state, held, why, wait in said["breakers"]:
                before = found.get((upstream, tool))
                if before is None or _STATES.index(State(state)) > _STATES.index(before.state):
                    found[upstream, tool] = Standing(upstream, tool, State(state), Hold(held), why, wait)
        return [found[key] for key in sorted(found)]

    def addresses(self, own: Sequence[AddressStanding]) -> list[AddressStanding]:
        """2: with the calls of all workers."""
        found = {(one.upstream, one.address): one for one in own}
        for said in self._living():
            for row in said["addresses"]:
                one = AddressStanding(*row)
                before = found.get((one.upstream, one.address))
                if before is None:
                    found[one.upstream, one.address] = one
                    continue
                worse = max(one, before, key=lambda item: _ADDRESSES.index(item.state))
                calls = one.in_flight + before.in_flight
                found[one.upstream, one.address] = replace(worse, in_flight=calls)
        return list(found.values())

    def status(self, streams: int, malformed: int) -> dict[str, Json]:
        """`streams` and `malformed` are the owner's own."""
        living = self._living()
        return {
            "streams": streams + sum(int(one["streams"]) for one in living),
            "malformed": malformed + self._malformed + sum(int(one["malformed"]) for one in living),
        }
