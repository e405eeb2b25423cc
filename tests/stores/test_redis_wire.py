"""How commands are spelled, against the library that spells them for others."""

from __future__ import annotations

import hiredis
from hypothesis import given
from hypothesis import strategies as st

from gateway.stores.redis_wire import WORD_BYTES, WORDS, Spelling, Word

SPELLED = st.one_of(
    st.text(st.characters(exclude_categories=["Cs"]), max_size=40), st.binary(max_size=40), st.integers(-(2**60), 2**60)
)


@given(st.lists(st.lists(SPELLED, min_size=1, max_size=8), min_size=1, max_size=6))
def test_commands_are_spelled_as_the_library_does_also_when_words_come_again(commands: list[list[Word]]) -> None:
    spelling = Spelling()
    for words in [*commands, *commands]:
        assert spelling.command(words) == hiredis.pack_command(tuple(words))  # type: ignore[arg-type]


def test_what_is_remembered_of_words_is_bounded() -> None:
    spelling = Spelling()
    for number in range(WORDS + 10):
        spelling.command([f"word-{number}", number])
        assert len(spelling._texts) <= WORDS
        assert len(spelling._numbers) <= WORDS
    long = "x" * WORD_BYTES
    assert spelling.command([long]) == hiredis.pack_command((long,))  # type: ignore[arg-type]
    assert long not in spelling._texts
