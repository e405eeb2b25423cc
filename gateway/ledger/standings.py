"""How the accounts of budgets stand, in memory. Sans I/O; amounts are whole numbers.

1. What is settled of a rolling account counts in the part in which it was closed, and is gone when that part is out of
the window. 2. An account begins with its first charge; with `carry` it is granted then what the period before left of
its own amount. 3. A soft mark is told once per account and period; of a rolling account again when less than nine
tenths of it had been used in between. 4. Memory is bounded: what has ended and holds nothing is forgotten, all but the
period before; when a budget has `keys_limit` accounts in a period, a new one is refused, unless its key is the run,
which callers make up: there the one that rests longest is forgotten.
"""

from __future__ import annotations

from typing import Final

from gateway.core.accounts import PARTS, Account, Adjustment, Budget, ChargeAsk, Tally, handed_over, part
from gateway.ledger.periods import before, running


class Standing:
    """One account. `most` is its budget's amount, or what it was set to."""

    __slots__ = ("ends", "granted", "grants", "marked", "most", "parts", "reserved", "settled", "version", "window")

    def __init__(self, most: int, window: int, ends: int) -> None:
        self.most = most
        self.window: Final = window
        self.ends: Final = ends
        self.granted = 0
        self.grants: list[tuple[int, int]] = []  # (amount, until) of those that end before the period does
        self.reserved = 0
        self.settled = 0
        self.marked = 0  # the highest soft mark that was told
        self.parts: list[tuple[int, int]] = []  # 1: (part, settled in it), oldest first
        self.version = 0  # another one when an administrator changed it

    def left(self, now: int) -> int:
        if self.window:
            self._forget(now)
        granted = self.granted
        if self.grants:
            self.grants = [found for found in self.grants if found[1] > now]
            granted += sum([found[0] for found in self.grants])
        return self.most + granted - self.settled - self.reserved

    def settle(self, amount: int, now: int) -> None:
        self.settled += amount
        if not self.window or not amount:
            return
        current = part(now, self.window)
        if self.parts and self.parts[-1][0] >= current:
            self.parts[-1] = (self.parts[-1][0], self.parts[-1][1] + amount)
        else:
            self.parts.append((current, amount))

    def forgive(self, amount: int) -> None:
        """Oldest first."""
        self.settled -= amount
        while self.parts and amount > 0:
            first, found = self.parts[0]
            if found > amount:
                self.parts[0] = (first, found - amount)
                return
            amount -= found
            del self.parts[0]

    def passes(self, budget: Budget, left: int) -> list[int]:
        """The soft marks that are passed now and were not told."""
        used = self.settled + self.reserved
        total = used + left
        if not self.marked and budget.warn_at and used * 1000 < budget.warn_at[0] * total:
            return []
        if self.window and self.marked and used * 10_000 < self.marked * total * 9:
            self.marked = 0  # 3
        found = [mark for mark in budget.warn_at if mark > self.marked and used * 1000 >= mark * total]
        if found:
            self.marked = found[-1]
        return found

    def unmark(self, budget: Budget, now: int) -> None:
        """The amount is another one now: marks that are not passed by it count as not told."""
        self.marked = 0
        self.version += 1
        self.passes(budget, self.left(now))

    def _forget(self, now: int) -> None:
        current = part(now, self.window)
        gone = 0
        for known, amount in self.parts:
            if known >= current - PARTS:
                break
            self.settled -= amount
            gone += 1
        if gone:
            del self.parts[:gone]


class BudgetStandings:
    """All accounts of one budget, by period and key."""

    __slots__ = ("budget", "forgetful", "fullest", "keys_limit", "most", "newest", "periods", "reserved", "swept")

    def __init__(self, budget: Budget, keys_limit: int) -> None:
        self.budget = budget
        self.keys_limit: Final = keys_limit
        self.forgetful = _forgetful(budget)
        self.periods: dict[str, dict[str, Standing]] = {}
        self.most: dict[str, int] = {}  # what keys were set to, over all periods
        self.swept = -1
        self.reserved = 0  # of all accounts together
        self.newest = ""  # period that began last
        self.fullest = 0.0  # share of the amount that the fullest account of it has settled

    def known(self, account: Account) -> Standing | None:
        accounts = self.periods.get(account.period)
        return accounts.get(account.key) if accounts is not None else None

    def begun(self, ask: ChargeAsk, now: int) -> Standing | None:
        """The account of an ask that is not known yet; None where there is no room (4)."""
        accounts = self._accounts(ask.account.period, now)
        if len(accounts) >= self.keys_limit and not self._room(accounts, now):
            return None
        found = Standing(self.most.get(ask.account.key, ask.most), self.budget.window, ask.ends)
        if ask.previous is not None:
            previous = self.known(ask.previous)
            if previous is not None:  # 2
                found.granted = handed_over(self.budget, previous.most, previous.settled + previous.reserved)
        return found

    def keep(self, account: Account, found: Standing) -> None:
        self.periods.setdefault(account.period, {})[account.key] = found

    def rest(self, account: Account, found: Standing) -> None:
        """Something of it was closed: of accounts that may be forgotten it is the last one now (4)."""
        if self.forgetful:
            accounts = self.periods.get(account.period)
            if accounts is not None and accounts.get(account.key) is found:
                del accounts[account.key]
                accounts[account.key] = found

    def changed(self, budget: Budget) -> None:
        """The configuration has another amount, or other marks: what was used stays."""
        self.budget = budget
        self.forgetful = _forgetful(budget)
        for accounts in self.periods.values():
            for key, found in accounts.items():
                found.most = self.most.get(key, budget.amount)

    def adjust(self, wanted: Adjustment, now: int) -> None:
        key = wanted.account.key
        handed = self._handed_over(wanted)
        if wanted.most is not None:
            self.most[key] = wanted.most
        elif wanted.unset:
            self.most.pop(key, None)
        most = self.most.get(key, wanted.budget.amount)
        for accounts in self.periods.values():
            if key in accounts:
                accounts[key].most = most
        found = self.known(wanted.account)
        if found is None:
            found = Standing(most, self.budget.window, wanted.ends)
            found.granted = handed
            self.keep(wanted.account, found)
        if wanted.until:
            found.grants.append((wanted.granted, wanted.until))
        else:
            found.granted += wanted.granted
        found.forgive(wanted.forgiven)
        found.unmark(self.budget, now)

    def _handed_over(self, wanted: Adjustment) -> int:
        """2: to an account that begins with an adjustment, of what the one before had been set to."""
        if not self.budget.carry or not wanted.ends:
            return 0
        last = before(self.budget, running(self.budget, wanted.ends - 1))
        account = wanted.account
        previous = self.known(Account(account.budget, account.key, last.period)) if last is not None else None
        if previous is None:
            return 0
        return handed_over(self.budget, previous.most, previous.settled + previous.reserved)

    def fill(self, tally: Tally, ends: int, now: int) -> None:
        """As a log has it; of the same account twice, the one adds to the other."""
        key = tally.account.key
        if tally.most is not None:
            self.most[key] = tally.most
        if not tally.begun:
            return  # 2: it would be taken for one that has something to hand over
        found = self.known(tally.account)
        if found is None:
            found = Standing(self.most.get(key, self.budget.amount), self.budget.window, ends)
            self.keep(tally.account, found)
        found.granted += tally.granted
        found.grants += tally.grants
        found.settled += tally.settled
        self.filled(tally.account, found)
        found.parts = sorted([*found.parts, *[(part(at, found.window), much) for at, much in tally.slices]])
        found.unmark(self.budget, now)

    def filled(self, account: Account, found: Standing) -> None:
        if account.period > self.newest:
            self.newest, self.fullest = account.period, 0.0
        total = found.most + found.granted
        if account.period == self.newest:
            self.fullest = max(self.fullest, found.settled / total if total > 0 else 1.0)

    def _accounts(self, period: str, now: int) -> dict[str, Standing]:
        found = self.periods.get(period)
        if found is None:
            for other in list(self.periods):
                self._tidy(other, now)
            found = self.periods[period] = {}
        return found

    def _tidy(self, period: str, now: int) -> None:
        """4: a period that has ended before the one that ended last, as far as nothing is held of it."""
        accounts = self.periods[period]
        newest = max(self.periods)
        if period == newest:
            return
        for key in [key for key, found in accounts.items() if not found.reserved and 0 < found.ends <= now]:
            del accounts[key]
        if not accounts:
            del self.periods[period]

    def _room(self, accounts: dict[str, Standing], now: int) -> bool:
        if self.budget.window and now > self.swept:  # at most once a second, for it looks at every key
            self.swept = now
            for key in [key for key, found in accounts.items() if not found.reserved and self._rests(found, now)]:
                del accounts[key]
        elif self.forgetful:
            more = len(accounts) - self.keys_limit + 1  # a log may have brought more than there is room for
            for key in [key for key, found in accounts.items() if not found.reserved][:more]:
                del accounts[key]
        return len(accounts) < self.keys_limit

    @staticmethod
    def _rests(found: Standing, now: int) -> bool:
        return found.left(now) == found.most


def _forgetful(budget: Budget) -> bool:
    """4: whether its keys are made up by callers."""
    return "run" in budget.key and not budget.window
