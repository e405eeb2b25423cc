"""Structured fields: what a signature needs of them, and nothing that has two readings."""

from __future__ import annotations

import pytest

from gateway.core.reasons import Malformed
from gateway.identity.structured import InnerList, Item, Token, read_dictionary, read_item


@pytest.mark.parametrize(
    "text",
    [
        'sig1=("@method" "@path";key="a");created=1;keyid="k"',
        "a=1, b=?0, c, d=tok;p, e=:AAEC:",
        'a="with \\"quotes\\" and \\\\"',
        "a=(), b=-5",
    ],
)
def test_what_was_read_is_written_again_as_it_stood(text: str) -> None:
    written = ", ".join(_written(name, item) for name, item in read_dictionary(text).items())
    assert written == text


def _written(name: str, item: Item | InnerList) -> str:
    if isinstance(item, Item) and item.value is True:
        return name + str(item).removeprefix("?1")
    return f"{name}={item}"


def test_space_that_may_stand_there_is_not_written() -> None:
    [value] = read_dictionary('  sig1=(  "a"   "b" ); created=1  ').values()
    assert str(value) == '("a" "b");created=1'


def test_values_have_their_types() -> None:
    found = read_dictionary('i=-12, s="x", b=:aGk=:, t=tok, y=?1, n')
    assert [item.value for item in found.values() if isinstance(item, Item)] == [
        -12, "x", b"hi", Token("tok"), True, True,
    ]  # fmt: skip


@pytest.mark.parametrize(
    "text",
    [
        "", " ", "a=", "=1", "A=1", "a=1,", "a=1,,b=2", "a=1 b=2", "a=1, a=2", "a=1.5", "a=1234567890123456", "a=@1",
        'a=%"x"', 'a="x', 'a="\\n"', 'a="\x7f"', 'a="é"', "a=:AA:", "a=:AAE:", "a=:A A=:", "a=?2", "a=(1", "a=(1)(2)",
        "a=((1))", 'a=("x""y")', "a=1;p=1;p=2", "a=1;P", "a=1;=2", "a=1\t", "a=:AB==:", "a=1;p=(1)", "a=1, \tb=2,",
    ],
)  # fmt: skip
def test_what_has_two_readings_or_no_use_is_refused(text: str) -> None:
    with pytest.raises(Malformed):
        read_dictionary(text)


@pytest.mark.parametrize("text", ["", "a, b", '"a" "b"', "(1)", "a=1"])
def test_an_item_is_one_item(text: str) -> None:
    with pytest.raises(Malformed):
        read_item(text)


@pytest.mark.parametrize(
    "text",
    [
        ", ".join(f"k{number}=1" for number in range(33)),
        "a=(" + " ".join("1" for _ in range(33)) + ")",
        "a=1" + "".join(f";p{number}" for number in range(17)),
    ],
)
def test_there_are_not_more_of_anything_than_a_real_signature_has(text: str) -> None:
    with pytest.raises(Malformed):
        read_dictionary(text)
