"""What open calls hold in memory: places of limits, and parts of accounts. MemoryCounters gives and takes them."""

from __future__ import annotations

from typing import Final

from gateway.core.accounts import Account
from gateway.ledger.standings import BudgetStandings, Standing

PLACES: Final = 4096  # keys of one limit that are kept, whoever is in them: about 600 KB


class Inside:
    """How many calls are in the places of one limit and key."""

    __slots__ = ("count", "gone")

    def __init__(self) -> None:
        self.count = 0
        self.gone = False  # forgotten, at 0


class Part:
    """What is held of one account, or asked for; `standing` None: there is no room for it. A `new` one is not kept
    before something is reserved of it."""

    __slots__ = ("account", "amount", "known", "new", "standing")

    def __init__(
        self, account: Account, known: BudgetStandings, standing: Standing | None, amount: int, new: bool
    ) -> None:
        self.account: Final = account
        self.known: Final = known
        self.standing: Final = standing
        self.amount = amount
        self.new: Final = new

    def left(self, now: int) -> int:
        return self.standing.left(now) if self.standing is not None else 0


class Held:
    """What one id took. `shared`: other ids have the same `charges`."""

    __slots__ = ("charges", "places", "shared")

    def __init__(self, places: list[Inside], charges: list[Part], shared: bool = False) -> None:
        self.places: Final = places
        self.charges = charges
        self.shared = shared

    def own(self) -> None:
        if self.shared:
            self.charges = [
                Part(found.account, found.known, found.standing, found.amount, found.new) for found in self.charges
            ]
            self.shared = False


class Insides:
    """The places of one limit by key. Those that nobody is in are kept while there are few: most keys come again."""

    __slots__ = ("by_key", "most")

    def __init__(self) -> None:
        self.by_key: dict[str, Inside] = {}
        self.most = PLACES  # keys, before those at rest are forgotten

    def of(self, key: str) -> Inside:
        found = self.by_key.get(key)
        if found is None:
            if len(self.by_key) >= self.most:
                self._forget()
            found = self.by_key[key] = Inside()
        return found

    def _forget(self) -> None:
        for key, found in list(self.by_key.items()):
            if not found.count:
                found.gone = True
                del self.by_key[key]
        self.most = max(PLACES, 2 * len(self.by_key))
