"""Amounts are whole numbers, read from digits and shown as digits: no float ever counts money."""

from __future__ import annotations

import json
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.accounts import MICRO, MOST, PARTS, UNITS, Budget, amount, handed_over, key_text, part, shown


@given(st.integers(-MOST, MOST), st.sampled_from(UNITS))
def test_what_is_shown_is_the_number_and_nothing_else(value: int, unit: str) -> None:
    text = shown(value, unit)
    assert Decimal(text) * (MICRO if unit == "usd" else 1) == value
    assert "e" not in text.lower()
    assert text == "0" or not text.endswith((".", "0")) or "." not in text


@given(st.integers(0, MOST), st.sampled_from(UNITS))
def test_what_is_shown_can_be_read_again(value: int, unit: str) -> None:
    assert amount(shown(value, unit), unit) == value


@pytest.mark.parametrize(
    ("text", "unit", "found"),
    [("0.1", "usd", 100_000), ("0.0000001", "usd", 1), ("1.2", "tokens", 2), ("0", "calls", 0), (3, "bytes", 3)],
)
def test_what_is_finer_than_the_ledger_counts_is_rounded_up(text: str | int, unit: str, found: int) -> None:
    assert amount(text, unit) == found


@pytest.mark.parametrize("text", ["", "-1", "+1", "1e3", "0x1", "1,5", " 1", "1\n", "NaN", "Infinity", "١", "9" * 17])
def test_what_is_no_decimal_number_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="not a decimal number"):
        amount(text, "usd")


@pytest.mark.parametrize(
    "found", [Decimal("1e999999"), Decimal("NaN"), Decimal("Infinity"), Decimal(-1), Decimal(2**53)]
)
def test_what_no_counter_can_hold_is_refused(found: Decimal) -> None:
    with pytest.raises(ValueError, match=r"not a decimal number|is not from 0 to|cannot convert NaN"):
        amount(found, "tokens")


VALUES = st.lists(st.one_of(st.none(), st.text(max_size=6)), max_size=4)


@given(VALUES, VALUES)
def test_two_keys_are_spelled_alike_only_if_they_are_the_same(one: list[str | None], two: list[str | None]) -> None:
    assert (key_text(tuple(one)) == key_text(tuple(two))) == (one == two)
    assert json.loads(key_text(tuple(one))) == one
    assert key_text(tuple(one)).isascii()


@given(st.integers(0, 10**19), st.integers(1, 10**19))
def test_a_part_is_counted_until_nothing_of_it_is_within_the_window(at: int, window: int) -> None:
    """A call counts while its part is one of the last 65: for a window at least, and a part more at most."""
    while_counted = part(at, window) + PARTS
    assert part(at + window, window) <= while_counted
    assert part(at + window + -(-window // PARTS) + 1, window) > while_counted or window < PARTS


@given(st.integers(0, 10**9), st.integers(0, 2 * 10**9), st.integers(0, 1000))
def test_never_more_is_handed_over_than_was_left_of_the_amount(most: int, used: int, carry: int) -> None:
    of = Budget("b", ("run",), "tokens", most, "day", carry=carry)
    assert 0 <= handed_over(of, most, used) <= max(0, most - used)
