"""What this node has of every account: the figures that Redis is told, and told again whenever it may have lost some.

Rules, numbered as in the code:
1. A node's part of an account is absolute and in its memory: what its log said at the start, and what was closed since.
2. What an open exchange holds is in its memory too, until it is closed.
3. What Redis was not surely told is dirty, and told at the next chance.
4. A part is forgotten a while after its period, when nobody can ask for it any more.
Nothing here does I/O or knows the time.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime
from typing import Final, TypeAlias

from gateway.core.accounts import PARTS, Account, Budget, Standing, part

DAY = 86_400
KEPT_SECONDS = 75 * DAY  # from a period's begin: of a month, until the one behind it was filled with what is left
RUN_SECONDS = 8 * DAY  # that an account of a run is kept, from its first call; Redis keeps it as long
RUNS_LIMIT = 200_000  # about 60 MB; the oldest are forgotten first

Entry: TypeAlias = "tuple[Account, str, str, int, int]"
"""Of an account: kind (`s` settled, `g` granted, `u` granted for a time), value, part, window of a rolling one."""


class Own:
    """This node's part of one account. `parts` has one entry, 0, unless the period is rolling."""

    __slots__ = ("granted", "parts", "timed", "window")

    def __init__(self, window: int) -> None:
        self.window: Final = window
        self.parts: dict[int, int] = {}
        self.granted = 0
        self.timed: list[tuple[int, int]] = []


class Held:
    """What an open exchange has: amounts by account, and the keys of its places. `left`: its places are free, it is
    about to be closed."""

    __slots__ = ("amounts", "left", "places")

    def __init__(self, amounts: dict[Account, int], places: Sequence[str]) -> None:
        self.amounts: Final = amounts
        self.places: Final = places
        self.left = False


class Truth:
    """All of it. `dirty`: accounts that Redis was not surely told of (3); `unsent`: exchanges, with the keys of their
    places, that it was not surely told to close; `resized`: ids that may hold something else there than here."""

    __slots__ = ("accounts", "dirty", "most", "open", "resized", "runs", "seen", "unsent")

    def __init__(self) -> None:
        self.accounts: Final[dict[Account, Own]] = {}
        self.runs: Final[dict[Account, int]] = {}  # accounts of runs, oldest first: when each began to be counted here
        self.open: Final[dict[str, Held]] = {}
        self.dirty: Final[set[Account]] = set()
        self.resized: Final[set[str]] = set()
        self.unsent: list[tuple[str, Sequence[str]]] = []
        self.most: Final[dict[str, tuple[int | None, float]]] = {}  # by field: what an administrator set, and when
        self.seen: Final[set[str]] = set()  # adjustments

    def own(self, account: Account, budget: Budget, now: int) -> Own:
        found = self.accounts.get(account)
        if found is None:
            found = self.accounts[account] = Own(budget.window if budget.period == "rolling" else 0)
            if "run" in budget.key and not account.period:
                self.runs[account] = now
        return found

    def begin(self, budgets: Sequence[Budget], standing: Standing, now: int) -> None:
        """1: what the log says."""
        named = {budget.name: budget for budget in budgets}
        self.seen.update(standing.adjusted)
        for tally in standing.tallies:
            budget = named[tally.account.budget]
            own = self.own(tally.account, budget, now)
            if own.window:
                for ends, amount in tally.slices:
                    at = part(max(0, ends - 1), own.window)
                    own.parts[at] = own.parts.get(at, 0) + amount
            else:
                own.parts[0] = own.parts.get(0, 0) + tally.settled
            own.granted += tally.granted
            own.timed += [(amount, until) for amount, until in tally.grants]
            if tally.set_at:
                self.set_most(f"{budget.name} {tally.account.key}", tally.most, tally.set_at)
            self.dirty.add(tally.account)

    def set_most(self, field: str, most: int | None, at: float) -> None:
        known = self.most.get(field)
        if known is None or at >= known[1]:
            self.most[field] = (most, at)

    def settle(self, budget: Budget, account: Account, amount: int, now: int) -> tuple[int, int, int]:
        """A closed charge: the account's new figure, its part, its window."""
        own = self.own(account, budget, now)
        at = 0
        if own.window:
            at = part(now, own.window)
            if at not in own.parts:
                for old in [each for each in own.parts if each < at - PARTS]:
                    del own.parts[old]
        value = own.parts[at] = own.parts.get(at, 0) + amount
        return value, at, own.window

    def entries(self, wanted: Iterable[Account]) -> Iterator[Entry]:
        """What Redis is to be told of them."""
        for account in wanted:
            own = self.accounts.get(account)
            if own is None:
                continue
            for at, value in own.parts.items():
                yield account, "s", str(value), at, own.window
            if own.granted:
                yield account, "g", str(own.granted), 0, own.window
            if own.timed:
                yield account, "u", ",".join([f"{amount}:{until}" for amount, until in own.timed]), 0, own.window

    def forget(self, now: int) -> None:
        """4."""
        oldest = datetime.fromtimestamp(now - KEPT_SECONDS, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        gone = [
            account
            for account, own in self.accounts.items()
            if (account.period and account.period < oldest)
            or (own.window and not own.timed and all(at < part(now, own.window) - PARTS for at in own.parts))
        ]
        runs: list[Account] = []
        for account, begun in self.runs.items():
            if begun + RUN_SECONDS > now and len(self.runs) - len(runs) <= RUNS_LIMIT:
                break
            runs.append(account)
        for account in [*gone, *runs]:
            self.accounts.pop(account, None)
            self.runs.pop(account, None)
            self.dirty.discard(account)

    @property
    def reserved(self) -> int:
        """How many exchanges hold something."""
        return len(self.open)
