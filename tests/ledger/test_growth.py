"""A stream's reservation grows ahead of it; at the limit it ends, and not a step before."""

from __future__ import annotations

from gateway.core.accounts import STEP_TOKENS
from gateway.core.exchange import Exchange, Usage
from gateway.core.reasons import Reason
from tests.ledger.books import Books, budget

PRICE = 10  # micro-dollars of a token of output


class Reader:
    def __init__(self) -> None:
        self.output = 0

    def feed(self, chunk: bytes) -> None: ...

    def seen(self) -> int:
        return self.output

    def finish(self, usage: Usage) -> None: ...


def streaming(books: Books, max_tokens: int = 100_000) -> tuple[Exchange, Reader]:
    found, reader = books.chat(stream=True, max_tokens=max_tokens), Reader()
    assert books.take(found) is None
    found.reader = reader
    return found, reader


def flows(books: Books, found: Exchange, reader: Reader, piece: int, most: int = 10**6) -> int:
    """Tokens that were let through."""
    while reader.output < most:
        reader.output += piece
        if books.grow(found) is not None:
            return reader.output - piece
    return reader.output


def test_a_stream_reserves_its_input_and_a_step() -> None:
    books = Books([budget("usd", 10**6, "usd"), budget("tokens", 10**6, "tokens")])
    found, _ = streaming(books)
    asked = found.charges[1].reserved - STEP_TOKENS
    assert 0 < asked < 100
    assert found.charges[0].reserved == asked + STEP_TOKENS * PRICE


def test_it_grows_ahead_of_what_was_seen() -> None:
    books = Books([budget("usd", 10**6, "usd")])
    found, reader = streaming(books)
    first = found.charges[0].reserved
    for output in range(0, 5000, 7):
        reader.output = output
        assert books.grow(found) is None
        assert found.charges[0].reserved >= first - STEP_TOKENS * PRICE + output * PRICE
    assert found.charges[0].reserved <= first + 5000 * PRICE


def test_it_ends_at_the_limit_and_not_a_step_before() -> None:
    for piece in (1, 3, 100, 1500):
        books = Books([budget("usd", 50_000, "usd")])
        found, reader = streaming(books)
        asked = found.charges[0].reserved - STEP_TOKENS * PRICE
        let = flows(books, found, reader, piece)
        assert asked + let * PRICE <= 50_000 < asked + (let + piece) * PRICE


def test_the_refusal_names_the_budget_and_the_narrowest_of_several_ends_it() -> None:
    books = Books([budget("wide", 10**9, "usd"), budget("narrow", 3000, "tokens")])
    found, reader = streaming(books)
    let = flows(books, found, reader, 1)
    refusal = books.grow(found)
    assert refusal is not None
    assert (refusal.reason, refusal.rule) == (Reason.BUDGET_EXHAUSTED, "narrow")
    assert found.charges[1].reserved == 3000
    assert 2900 < let <= 3000


def test_behind_a_large_piece_that_just_fits_no_small_one_slips_through() -> None:
    of = budget("tokens", 10**6, "tokens")
    books = Books([of])
    found, reader = streaming(books)
    asked = found.charges[0].reserved - STEP_TOKENS
    narrow = Books([budget("tokens", asked + 1510, "tokens")])
    found, reader = streaming(narrow)
    reader.output = 1500
    assert narrow.grow(found) is None
    reader.output = 1600
    assert narrow.grow(found) is not None


def test_two_streams_share_what_there_is_and_never_more() -> None:
    of = budget("usd", 100_000, "usd")
    books = Books([of])
    one, two = streaming(books), streaming(books)
    ended = [False, False]
    for _ in range(20_000):
        for at, (found, reader) in enumerate((one, two)):
            if not ended[at]:
                reader.output += 5
                ended[at] = books.grow(found) is not None
        assert sum(found.charges[0].reserved for found, _ in (one, two)) <= 100_000
    assert ended == [True, True]


def test_what_others_give_back_counts_for_who_is_at_the_limit() -> None:
    of = budget("usd", 60_000, "usd")
    books = Books([of])
    (found, reader), (other, _) = streaming(books), streaming(books)
    books.settle(other, usd=0, sent=False)
    held, _ = streaming(books)
    assert flows(books, found, reader, 10, most=3000) == 3000
    books.settle(held, usd=0, sent=False)
    assert flows(books, found, reader, 10) > 5000


def test_a_call_that_is_reserved_whole_never_grows() -> None:
    books = Books([budget("usd", 10**6, "usd")])
    found = books.chat(stream=False, max_tokens=10)
    assert books.take(found) is None
    reader = Reader()
    found.reader, before = reader, found.charges[0].reserved
    reader.output = 10**6
    assert books.grow(found) is None
    assert found.charges[0].reserved == before


def test_bytes_grow_by_steps_and_end_at_their_limit() -> None:
    of = budget("bytes", 300_000, "bytes")
    books = Books([of])
    found = books.tool()
    assert books.take(found) is None
    through = 0
    while True:
        found.usage.bytes_out += 1000
        if books.grow(found) is not None:
            break
        through = found.usage.bytes_out
    assert 5 + through <= 300_000 < 5 + through + 1000
    assert books.left(of, found) == 0


def test_all_of_what_grew_is_closed() -> None:
    of = budget("usd", 10**6, "usd")
    books = Books([of])
    found, reader = streaming(books)
    flows(books, found, reader, 50, most=5000)
    books.settle(found, usd=51_000)
    assert (books.counters.held(), books.left(of, found)) == ((0, 0), 10**6 - 51_000)


def test_without_charges_nothing_is_asked() -> None:
    books = Books([])
    found = books.chat(stream=True)
    assert books.take(found) is None
    assert books.grow(found) is None
