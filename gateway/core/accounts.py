"""The words of the ledger: what one exchange asks of all limits and budgets together, and what it was given.

1. An exchange asks once (`Ask`), for all of its rates, places and charges, and is given all of them or none.
2. Amounts are whole numbers: micro-dollars for `usd`, else tokens, calls or bytes. No float ever counts money.
3. A charge is reserved before anything is forwarded and closed once: settled at what it came to, or released.
4. An account is a budget and the values of its key, in one period. Values are compared as they are.
Who counts and who asks are ports of their own (ledger.py). Nothing here does I/O or knows the time.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import ROUND_CEILING, Decimal, InvalidOperation
from typing import Final, TypeAlias

UNITS: Final = ("usd", "tokens", "calls", "bytes")
MICRO: Final = 1_000_000  # micro-dollars of a dollar
STEP_TOKENS: Final = 1024  # of output, by which the reservation of a stepwise stream grows
PARTS: Final = 64  # of a sliding window or rolling period
MOST: Final = 2**53 - 1  # the largest amount: Redis's Lua counts in doubles

KeyValues: TypeAlias = "tuple[str | None, ...]"
"""The values of a key, None for one that the exchange has not (a caller without org): these share an account."""

_DECIMAL: Final = re.compile(r"[0-9]{1,16}(\.[0-9]{1,18})?")


def scale(unit: str) -> int:
    """How many of the ledger's whole numbers make one of the unit."""
    return MICRO if unit == "usd" else 1


def amount(text: str | int | Decimal, unit: str) -> int:
    """A decimal number of the unit, rounded up. Raises ValueError for what is none, negative or too large."""
    if isinstance(text, str) and _DECIMAL.fullmatch(text) is None:
        raise ValueError(f"{text[:40]!r} is not a decimal number")
    if isinstance(text, Decimal) and text.is_finite() and text.adjusted() > 20:
        raise ValueError(f"{text:.3g} {unit} is not from 0 to {shown(MOST, unit)}")  # nor made an integer of
    try:
        found = int((Decimal(text) * scale(unit)).to_integral_value(ROUND_CEILING))
    except (InvalidOperation, OverflowError):
        raise ValueError(f"{str(text)[:40]!r} is not a decimal number") from None
    if not 0 <= found <= MOST:
        raise ValueError(f"{text} {unit} is not from 0 to {shown(MOST, unit)}")
    return found


def shown(value: int, unit: str) -> str:
    """The amount as a decimal string of the unit, without trailing zeros: `1.5`, `0`, `-2`."""
    if unit != "usd":
        return str(value)
    sign, rest = ("-", -value) if value < 0 else ("", value)
    whole, part = divmod(rest, MICRO)
    return f"{sign}{whole}.{part:06d}".rstrip("0") if part else f"{sign}{whole}"


def part(at: int, window: int) -> int:
    """Which part of a sliding window or rolling period a time is in; both in the same unit."""
    return at * PARTS // window


def handed_over(budget: Budget, most: int, used: int) -> int:
    """What the next period begins with besides its own amount. What was granted lapses: so one period back says it."""
    return min(most, max(0, most - used)) * budget.carry // 1000


def key_text(values: KeyValues) -> str:
    """The one spelling of key values: a JSON array, as records, stores and people see it."""
    return json.dumps(values, ensure_ascii=True, separators=(",", ":"))


@dataclass(frozen=True, slots=True)
class Budget:
    """One entry of `budgets`. `amount` in the ledger's whole numbers per account and period; `warn_at` per mille of it,
    ascending; `window` seconds of a rolling period; `carry` per mille of what was left over that is handed to the next
    period; `anchor` days (month) or hours (day) that a period begins later; `zone` an IANA name."""

    name: str
    key: tuple[str, ...]
    unit: str
    amount: int
    period: str  # hour | day | month | rolling | total
    window: int = 0
    zone: str = "UTC"
    anchor: int = 0
    warn_at: tuple[int, ...] = ()
    unpriced: str = "deny"  # | "allow": counted and recorded
    carry: int = 0


class Account:
    """`key` is `key_text`'s spelling; `period` the time its period began, RFC 3339 UTC with seconds, "" for total and
    rolling ones. A value, compared by its members; its hash is reckoned once."""

    __slots__ = ("_hash", "budget", "key", "period")
    __match_args__ = ("budget", "key", "period")

    def __init__(self, budget: str, key: str, period: str) -> None:
        self.budget: Final = budget
        self.key: Final = key
        self.period: Final = period
        self._hash: Final = hash((budget, key, period))

    def __eq__(self, other: object) -> bool:
        if self is other:
            return True
        return (
            isinstance(other, Account)
            and self.key == other.key
            and self.budget == other.budget
            and self.period == other.period
        )

    def __hash__(self) -> int:
        return self._hash

    def __repr__(self) -> str:
        return f"Account({self.budget!r}, {self.key!r}, {self.period!r})"


class RateAsk:
    """One call of a rate: GCRA with `interval` and `capacity`, or at most `most` in a sliding `window`; nanoseconds.
    Exactly one of `interval` and `window` is not 0. `shadow`: told of, never refused for.

    What has the same members counts together, whatever `shadow` says: `counter` names it, and `key`. A sliding window
    is counted in `PARTS` parts (`part`): a call counts while its part is the current one or one of the `PARTS` before.
    """

    __slots__ = ("capacity", "counter", "interval", "key", "most", "name", "shadow", "window")

    def __init__(self, name: str, key: str, interval: int, capacity: int, window: int, most: int, shadow: bool) -> None:
        self.name: Final = name
        self.key: Final = key
        self.interval: Final = interval
        self.capacity: Final = capacity
        self.window: Final = window
        self.most: Final = most
        self.shadow: Final = shadow
        self.counter: Final = f"{name}/{interval}/{capacity}/{window}/{most}"


class PlaceAsk:
    """One of `most` calls at the same time, from `take` until the exchange is closed; counted by `name` and `key`.
    `held`: the exchange within which this one came up has the place: none is taken, how many are left is told."""

    __slots__ = ("held", "key", "most", "name", "shadow")

    def __init__(self, name: str, key: str, most: int, shadow: bool, held: bool = False) -> None:
        self.name: Final = name
        self.key: Final = key
        self.most: Final = most
        self.shadow: Final = shadow
        self.held: Final = held


class ChargeAsk:
    """`amount` of an account that may hold `most` altogether before what was granted. `ends` is epoch seconds when the
    period is over (0: never). It fits when it is not more than what is left: nothing does below 0.

    `previous`, of a budget with `carry` only: the same account in the period before. Who counts `account` for the first
    time grants it `carry` per mille of what is left of previous's `most` alone (`handed_over`). What is settled of a
    rolling account counts in the part (`part`, of epoch seconds and `budget.window`) in which it was closed."""

    __slots__ = ("account", "amount", "budget", "ends", "most", "previous")

    def __init__(
        self, budget: Budget, account: Account, amount: int, most: int, ends: int, previous: Account | None = None
    ) -> None:
        self.budget: Final = budget
        self.account: Final = account
        self.amount: Final = amount
        self.most: Final = most
        self.ends: Final = ends
        self.previous: Final = previous


class Ask:
    """Everything one exchange asks for; `id` is the exchange's, under which it is closed."""

    __slots__ = ("charges", "id", "places", "rates")

    def __init__(
        self, id: str, rates: Sequence[RateAsk], places: Sequence[PlaceAsk], charges: Sequence[ChargeAsk]
    ) -> None:
        self.id: Final = id
        self.rates: Final[list[RateAsk]] = rates if isinstance(rates, list) else list(rates)
        self.places: Final[list[PlaceAsk]] = places if isinstance(places, list) else list(places)
        self.charges: Final[list[ChargeAsk]] = charges if isinstance(charges, list) else list(charges)


class Given:
    """The answer to an Ask, in its order. `ok` False: nothing was taken, and the numbers say how things stand.

    `rates`: (calls left now, nanoseconds until a call is let through, nanoseconds until all are back) of each;
    `places`: how many are left; `charges`: how much is left of each account behind this charge (of a refused ask:
    before it). A rate or place that is exceeded in shadow is not taken, and told as it stood before.
    `exceeded`: the names of limits and budgets, shadow ones too, that this ask was too much for. `marks`: (budget's
    name, per mille) of the soft marks that this ask was the first to pass, ascending: what is settled and reserved is
    that much of the amount and what was granted. A refused ask passes none."""

    __slots__ = ("charges", "exceeded", "marks", "ok", "places", "rates")

    def __init__(
        self,
        ok: bool,
        rates: Sequence[tuple[int, int, int]],
        places: Sequence[int],
        charges: Sequence[int],
        exceeded: Sequence[str] = (),
        marks: Sequence[tuple[str, int]] = (),
    ) -> None:
        self.ok: Final = ok
        self.rates: Final[list[tuple[int, int, int]]] = rates if isinstance(rates, list) else list(rates)
        self.places: Final[list[int]] = places if isinstance(places, list) else list(places)
        self.charges: Final[list[int]] = charges if isinstance(charges, list) else list(charges)
        self.exceeded: Final = exceeded
        self.marks: Final = marks


class Charge:
    """What an exchange holds of one account. `reserved` grows with a stream; `settled` is there once it is closed.
    `marks`: the soft marks that it was the first to pass."""

    __slots__ = ("account", "budget", "marks", "reserved", "settled")

    def __init__(self, budget: Budget, account: Account, reserved: int) -> None:
        self.budget: Final = budget
        self.account: Final = account
        self.reserved = reserved
        self.settled: int | None = None
        self.marks: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Fee:
    """What policy's `charge` obligation takes of every budget of its unit besides what the call itself costs."""

    unit: str
    amount: int


@dataclass(frozen=True, slots=True)
class Balance:
    """How an account stands. `most` is the budget's amount, or what it was set to for this account; `granted` what was
    added for this period; `left` = most + granted - settled - reserved, below 0 where an upstream took more than it
    had said."""

    account: Account
    unit: str
    most: int
    granted: int
    reserved: int
    settled: int

    @property
    def left(self) -> int:
        return self.most + self.granted - self.reserved - self.settled


@dataclass(frozen=True, slots=True)
class Adjustment:
    """What an administrator did to an account, as its `admin` record has it; all of it adds up, so that nodes which
    count together may each tell of their own. `id` is that record's: the same one twice counts once.

    `most`: this amount instead of the budget's for this budget and key from now on, in later periods too; `unset`: the
    budget's again. `granted`: so much more in this period, until `until` (epoch seconds; 0: until the period ends).
    `forgiven`: taken off what is settled (a reset forgives what was settled when it was recorded, in the window of a
    rolling period). `ends` as in ChargeAsk, for an account that nobody used yet."""

    id: str
    budget: Budget
    account: Account
    ends: int
    most: int | None = None
    unset: bool = False
    granted: int = 0
    until: int = 0
    forgiven: int = 0


@dataclass(frozen=True, slots=True)
class Tally:
    """What one log says of an account. `settled` without what was forgiven: below 0 where another node's part was.
    `most` is what it was set to (None: the budget's), `set_at` when (epoch seconds): of several logs the last counts.
    `granted` counts until the period ends, `grants` are (amount, until) of those that end before. `slices`, of rolling
    periods only: (epoch seconds behind the slice, settled in it), oldest first; `settled` is their sum. `begun`: it was
    used or administered in this very period; `then`: what it was set to in it, which is what it hands over of."""

    account: Account
    settled: int
    most: int | None = None
    set_at: float = 0.0
    granted: int = 0
    grants: tuple[tuple[int, int], ...] = ()
    slices: tuple[tuple[int, int], ...] = ()
    begun: bool = True
    then: int | None = None


@dataclass(frozen=True, slots=True)
class Standing:
    """How accounts stood when everything before `seq` was counted. What open exchanges hold is not in it. `adjusted`:
    the ids of the adjustments of these budgets that are in it, in whatever period."""

    seq: int
    tallies: tuple[Tally, ...]
    adjusted: tuple[str, ...] = ()


class CountersUnavailable(Exception):
    """Nobody can say how things stand. `args[0]` says why, without secrets."""


class Worst:
    """What may come of a call. `usd` None: it has no price. `tokens` of input and output. A `stepwise` one is a stream
    whose output is all seen: its reservation covers the input and the next step, and grows. `assumed`: the bound on its
    output is the price list's, not the caller's. `input` is the tokens of it alone, `output` the bound on the call's
    output; 0 where a stepwise one has none. `hidden`: not all of its output is seen, what the vendor does not say of it
    is unknown. `fixed`: whatever it is answered, it costs `usd`."""

    __slots__ = ("assumed", "fixed", "hidden", "input", "output", "stepwise", "tokens", "usd")

    def __init__(
        self,
        usd: int | None,
        tokens: int,
        stepwise: bool = False,
        assumed: bool = False,
        input: int = 0,
        output: int = 0,
        hidden: bool = False,
        fixed: bool = False,
    ) -> None:
        self.usd: Final = usd
        self.tokens: Final = tokens
        self.fixed: Final = fixed
        self.stepwise: Final = stepwise
        self.assumed: Final = assumed
        self.input: Final = input
        self.output: Final = output
        self.hidden: Final = hidden
