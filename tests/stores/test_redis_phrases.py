"""An ask that comes again is spelled as it would be anew, whatever its id and whichever connection it goes over."""

from __future__ import annotations

from gateway.core.accounts import Account, Ask, Budget, ChargeAsk, PlaceAsk, RateAsk
from gateway.stores.redis_phrases import KEPT, Phrase, Phrases
from gateway.stores.redis_wire import Spelling, Word
from gateway.stores.redis_words import Names

RATES = [RateAsk("rate", '["a"]', 10**9, 5 * 10**9, 0, 0, False)]
PLACES = [PlaceAsk("at-once", '["a"]', 5, False)]
MONTH = Budget("month", ("subject.id",), "usd", 10**9, "month", warn_at=(500, 800))
ACCOUNT = Account("month", '["a"]', "2026-11-01T00:00:00Z")
CHARGE = ChargeAsk(MONTH, ACCOUNT, 1000, 10**9, 1_796_083_200)
ONE: tuple[Word, ...] = ("node-1", 3, "epoch-a")
TWO: tuple[Word, ...] = ("node-1", 4, "epoch-b")
IDS = [f"01a20675-49c3-7880-9dd4-{number:012x}" for number in range(4)]


def of(phrases: Phrases, ask: Ask) -> Phrase:
    return phrases.of(ask, Names("tollgate:", "node-1"), lambda: 0.0, 60)


def plain(phrase: Phrase, session: tuple[Word, ...], ident: str) -> bytes:
    words = ("EVALSHA", "sha", len(phrase.keys), *phrase.keys, *session, ident, *phrase.argv)
    return Spelling().command(words)


def test_only_the_id_and_the_connection_differ() -> None:
    phrases, spelling = Phrases(), Spelling()
    first = of(phrases, Ask(IDS[0], RATES, PLACES, [CHARGE]))
    for session in (ONE, TWO, ONE):
        for ident in [*IDS, "short", "a" * 50]:
            phrase = of(phrases, Ask(ident, RATES, PLACES, [CHARGE]))
            assert phrase is first
            assert phrase.command("sha", session, ident, spelling) == plain(phrase, session, ident)


def test_an_ask_that_differs_in_anything_is_another() -> None:
    phrases = Phrases()
    dearer = ChargeAsk(MONTH, ACCOUNT, 2000, 10**9, CHARGE.ends)
    for ask in (
        Ask(IDS[1], RATES, PLACES, [dearer]),
        Ask(IDS[1], RATES, PLACES, []),
        Ask(IDS[1], RATES, PLACES, [CHARGE, dearer]),
        Ask(IDS[1], RATES, list(PLACES), [CHARGE]),
        Ask(IDS[1], list(RATES), PLACES, [CHARGE]),
    ):
        first = of(phrases, Ask(IDS[0], RATES, PLACES, [CHARGE]))
        other = of(phrases, ask)
        assert other is not first
        assert (other.rates, other.places, other.charges) == (ask.rates, ask.places, ask.charges)
        assert other.command("sha", ONE, IDS[1], Spelling()) == plain(other, ONE, IDS[1])


def test_what_is_kept_is_bounded() -> None:
    phrases = Phrases()
    for number in range(KEPT + 5):
        of(phrases, Ask(str(number), list(RATES), [], []))
        assert len(phrases._kept) <= KEPT
