"""Asks as commands for Redis. One that comes again, of the same caller, is spelled already: only its id is another.

The rule: the same ask is the very same rates, places and charges, which are held here; so whatever is spelled of them
still says what they say. What a charge says of the time is no caller's: its key is the run, and the asks of runs are
made anew each time.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from gateway.core.accounts import Ask, ChargeAsk, PlaceAsk, RateAsk
from gateway.stores.redis_wire import Spelling, Word, bulk
from gateway.stores.redis_words import Names, charge_words, place_words, rate_words

KEPT: Final = 4096
_ID: Final = b"\0" * 36  # where the id comes: no other word is like it
_MARK: Final = bulk(_ID)


class Phrase:
    """A script's keys, and its arguments behind the id."""

    __slots__ = ("_after", "_before", "_session", "argv", "charges", "keys", "places", "rates")

    def __init__(
        self, keys: list[Word], argv: list[Word], rates: list[RateAsk], places: list[PlaceAsk], charges: list[ChargeAsk]
    ) -> None:
        self.keys: Final = keys
        self.argv: Final = argv
        self.rates: Final = rates
        self.places: Final = places
        self.charges: Final = charges
        self._session: tuple[Word, ...] | None = None
        self._before = self._after = b""

    def says(self, ask: Ask) -> bool:
        """Of an ask with the very same list of rates."""
        charges = self.charges
        if ask.places is not self.places or len(ask.charges) != len(charges):
            return False
        same = True
        for at, charge in enumerate(ask.charges):
            same = same and charge is charges[at]
        return same

    def command(self, sha: str, session: tuple[Word, ...], id: str, spelling: Spelling) -> bytes:
        """For one script; `session` is the very same as long as the connection is."""
        if session is not self._session:
            keys = self.keys
            whole = spelling.command(("EVALSHA", sha, len(keys), *keys, *session, _ID, *self.argv))
            self._before, _, self._after = whole.partition(_MARK)
            self._session = session
        return b"".join([self._before, bulk(id.encode()), self._after])


class Phrases:
    """Those that were said last. Bounded, and forgotten all at once."""

    __slots__ = ("_kept",)

    def __init__(self) -> None:
        self._kept: Final[dict[int, Phrase]] = {}  # by what the list of rates is, which is held

    def of(self, ask: Ask, names: Names, now: Callable[[], float], place_seconds: int) -> Phrase:
        known = self._kept.get(id(ask.rates))
        if known is not None and known.says(ask):
            return known
        keys: list[Word] = [names.state, names.opened, names.most]
        argv: list[Word] = [len(ask.rates), len(ask.places), len(ask.charges), place_seconds]
        for rate in ask.rates:
            keys.append(names.rate(rate))
            argv += rate_words(rate)
        for place in ask.places:
            keys.append(names.place(place))
            argv += place_words(place)
        for charge in ask.charges:
            key = names.account(charge.account)
            keys += (key, key if charge.previous is None else names.account(charge.previous))
            argv += charge_words(charge, now)
        if len(self._kept) >= KEPT:
            self._kept.clear()
        found = self._kept[id(ask.rates)] = Phrase(keys, argv, ask.rates, ask.places, ask.charges)
        return found
