"""Which of an upstream's addresses is asked: the one with the least under way, or one after the other. Sans-I/O.

1. An address is out while its health was found bad, or after `failures` failed calls in a row for a while that doubles
   each time; one good call starts the count anew, and one that is in again as long as it was out is new again.
2. The last one that is in is never ejected by calls; where all are out, all are asked as if none were.
3. Whoever tried some addresses is given another one while there is another.
4. A call counts at its address from when it is chosen until it is released, once.
It must never send a call to an address that the configuration does not name.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from typing import Final

from gateway.core.attempts import AddressStanding, BalanceSettings, Shift
from gateway.core.snapshot import Upstream


class Place:
    """One address and how it does."""

    __slots__ = ("failed", "in_flight", "level", "out_s", "sick", "unanswered", "until", "upstream", "why")

    def __init__(self, upstream: Upstream) -> None:
        self.upstream = upstream
        self.in_flight = 0
        self.failed = 0  # calls in a row
        self.level = 0  # how often in a row it was ejected
        self.out_s = 0.0  # for how long, last
        self.until = 0.0  # monotonic; ejected before that
        self.sick = False  # its health was found bad
        self.unanswered = 0  # questions after its health in a row
        self.why = ""

    def out(self, now: float) -> bool:
        return self.sick or now < self.until


class Visit:
    """The `Chosen` port."""

    __slots__ = ("_open", "_place", "_pool", "upstream")

    def __init__(self, pool: Pool, place: Place) -> None:
        self._pool: Final = pool
        self._place: Final = place
        self._open = True
        self.upstream: Upstream = place.upstream
        place.in_flight += 1

    def ended(self, failed: bool) -> None:
        self._pool.told(self._place, failed)

    def release(self) -> None:
        if self._open:  # 4
            self._open = False
            self._place.in_flight -= 1


class Pool:
    """The addresses of one upstream."""

    __slots__ = ("_monotonic", "_next", "_shifted", "name", "places", "settings")

    def __init__(
        self,
        name: str,
        settings: BalanceSettings,
        places: Sequence[Place],
        monotonic: Callable[[], float],
        shifted: Callable[[Shift], None],
    ) -> None:
        self.name: Final = name
        self.settings: Final = settings
        self.places: Final = list(places)
        self._monotonic: Final = monotonic
        self._shifted: Final = shifted
        self._next = 0

    def choose(self, tried: Collection[str]) -> Visit:
        now = self._monotonic()
        self._returned(now)
        best: Place | None = None
        rank = 0
        count = len(self.places)
        for offset in range(count):
            place = self.places[(self._next + offset) % count]
            found = (2 if place.upstream.authority in tried else 0) + (1 if place.out(now) else 0)  # 2, 3
            if (
                best is None
                or found < rank
                or (found == rank and self.settings.by != "round_robin" and place.in_flight < best.in_flight)
            ):
                best, rank = place, found
        if best is None:
            raise RuntimeError(f"upstream {self.name} has no address")
        self._next = (self.places.index(best) + 1) % count
        return Visit(self, best)

    def known(self, authority: str) -> Visit | None:
        for place in self.places:
            if place.upstream.authority == authority:
                return Visit(self, place)
        return None

    def told(self, place: Place, failed: bool) -> None:
        now = self._monotonic()
        if not failed:
            place.failed = 0
            return
        place.failed += 1
        if place.failed < self.settings.failures or now < place.until:
            return
        if not any(other is not place and not other.out(now) for other in self.places):  # 2
            return
        place.level = place.level + 1 if place.out_s and now < place.until + place.out_s else 0  # 1
        place.out_s = min(self.settings.eject_s * 2.0 ** min(place.level, 32), self.settings.eject_most_s)
        place.until = now + place.out_s
        self._leave(place, f"{place.failed} failed calls in a row")
        place.failed = 0

    def members(self) -> list[Upstream]:
        return [place.upstream for place in self.places]

    def healthy(self, authority: str, well: bool, why: str) -> None:
        """What its health was found to be."""
        for place in self.places:
            if place.upstream.authority == authority:
                self._examined(place, well, why)

    def _examined(self, place: Place, well: bool, why: str) -> None:
        health = self.settings.health
        if health is None:
            return
        if well:
            place.unanswered = 0
            if place.sick:
                place.sick = False
                self._enter(place, "its health is good again")
            return
        place.unanswered += 1
        if place.unanswered >= health.failures and not place.sick:
            place.sick = True
            self._leave(place, f"its health: {why}")

    def _returned(self, now: float) -> None:
        for place in self.places:
            if place.why and not place.out(now):
                self._enter(place, "it was left out for long enough")

    def _leave(self, place: Place, why: str) -> None:
        place.why = why
        self._shifted(Shift(self.name, place.upstream.authority, True, why))

    def _enter(self, place: Place, why: str) -> None:
        if not place.out(self._monotonic()):
            place.why = ""
            self._shifted(Shift(self.name, place.upstream.authority, False, why))


class AddressBook:
    """The `Addresses` port over all upstreams that have several; outlives snapshots. `told` hears of every shift."""

    def __init__(self, monotonic: Callable[[], float], told: Callable[[Shift], None]) -> None:
        self._monotonic = monotonic
        self._told = told
        self._pools: dict[str, Pool] = {}
        self.ejections: dict[tuple[str, str], int] = {}  # by upstream and address, since the start

    def adopt(self, upstreams: Iterable[Upstream]) -> None:
        """Those that are configured now. An address that is as it was keeps what is known of it."""
        found: dict[str, Pool] = {}
        for upstream in upstreams:
            if not upstream.members:
                continue
            known = self._pools.get(upstream.name)
            before = {place.upstream.authority: place for place in known.places} if known is not None else {}
            places = []
            for member in upstream.members:
                place = before.get(member.authority)
                if place is None or place.upstream != member:
                    place = Place(member)
                place.upstream = member
                if upstream.balance.health is None:
                    place.sick = False
                places.append(place)
            found[upstream.name] = Pool(upstream.name, upstream.balance, places, self._monotonic, self._shifted)
        self._pools = found

    def choose(self, upstream: Upstream, tried: Collection[str]) -> Visit:
        return self._pool(upstream).choose(tried)

    def known(self, upstream: Upstream, authority: str) -> Visit | None:
        return self._pool(upstream).known(authority)

    def pools(self) -> Sequence[Pool]:
        return list(self._pools.values())

    def standing(self) -> list[AddressStanding]:
        """Of all, for whoever looks."""
        now = self._monotonic()
        found: list[AddressStanding] = []
        for pool in self._pools.values():
            for place in pool.places:
                state = "unhealthy" if place.sick else "ejected" if now < place.until else "in"
                wait = max(0.0, place.until - now)
                why = place.why if place.out(now) else ""
                found.append(AddressStanding(pool.name, place.upstream.authority, state, place.in_flight, why, wait))
        return found

    def _pool(self, upstream: Upstream) -> Pool:
        """An exchange that pinned an older snapshot goes by the addresses it knows."""
        found = self._pools.get(upstream.name)
        if found is not None and len(found.places) == len(upstream.members):
            for place, member in zip(found.places, upstream.members, strict=True):
                if place.upstream is not member and place.upstream != member:
                    break
            else:
                return found
        places = [Place(member) for member in upstream.members]
        return Pool(upstream.name, upstream.balance, places, self._monotonic, self._shifted)

    def _shifted(self, shift: Shift) -> None:
        if shift.out:
            key = (shift.upstream, shift.address)
            self.ejections[key] = self.ejections.get(key, 0) + 1
        self._told(shift)
