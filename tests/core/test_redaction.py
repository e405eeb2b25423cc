"""Paths, and what they hide."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.reasons import Malformed
from gateway.core.redaction import HIDDEN, below, hide, steps, tree_of

PERSON: Any = {"name": "Ann", "ssn": "123", "kids": [{"name": "Bo", "ssn": "4"}, {"name": "Cy", "ssn": ["5", "6"]}]}


def hidden(document: Any, *paths: str) -> Any:
    found = copy.deepcopy(document)
    hide(found, tree_of(paths))
    return found


def test_a_place_is_hidden_whatever_stands_there_and_its_neighbours_stay() -> None:
    assert hidden(PERSON, "/ssn") == PERSON | {"ssn": HIDDEN}
    assert hidden(PERSON, "/kids") == PERSON | {"kids": HIDDEN}
    assert hidden(PERSON, "/kids/1/ssn")["kids"][1]["ssn"] == HIDDEN
    assert hidden(PERSON, "/kids/1/ssn")["kids"][0]["ssn"] == "4"


def test_a_star_is_every_element_and_every_member() -> None:
    assert [kid["ssn"] for kid in hidden(PERSON, "/kids/*/ssn")["kids"]] == [HIDDEN, HIDDEN]
    assert hidden(PERSON, "/*") == dict.fromkeys(PERSON, HIDDEN)
    assert hidden({"a": {"x": 1}, "b": {"x": 2}}, "/*/x") == {"a": {"x": HIDDEN}, "b": {"x": HIDDEN}}
    assert hidden({"a": {"x": 1, "y": 2}}, "/*/x", "/a/y") == {"a": {"x": HIDDEN, "y": HIDDEN}}
    assert hidden({"*": 1}, "/*") == {"*": HIDDEN}


def test_names_are_compared_without_regard_to_case() -> None:
    assert hidden({"SSN": 1, "Ssn": 2, "ssn": 3}, "/ssn") == {"SSN": HIDDEN, "Ssn": HIDDEN, "ssn": HIDDEN}
    assert hidden({"straße": 1, "STRASSE": 2}, "/Strasse") == {"straße": HIDDEN, "STRASSE": HIDDEN}


def test_escapes_are_those_of_a_json_pointer() -> None:
    assert steps("/a~1b/c~0d/~01") == ["a/b", "c~d", "~1"]
    assert hidden({"a/b": {"c~d": 1}}, "/a~1b/c~0d") == {"a/b": {"c~d": HIDDEN}}


def test_what_is_not_there_is_nothing_to_hide() -> None:
    assert hide(copy.deepcopy(PERSON), tree_of(["/nothing", "/name/first", "/kids/7/ssn", "/kids/ssn"])) == 0
    for document in (None, 1, "ssn", True, 1.5, [], {}):
        assert hide(document, tree_of(["/ssn"])) == 0


@pytest.mark.parametrize("first", [0, 1])
def test_a_shorter_path_hides_more_in_whatever_order_they_come(first: int) -> None:
    paths = ["/kids", "/kids/*/ssn"]
    assert hidden(PERSON, paths[first], paths[1 - first]) == PERSON | {"kids": HIDDEN}


@pytest.mark.parametrize(
    "path",
    ["", "/", "a", "a/b", "$.a", "$..a", "/a/", "//a", "/a//b", "/**", "/a/**/b", "/a*", "/*a", "/a~", "/a~2", "/~",
     "/" + "a" * 300, "/a" * 17],
)  # fmt: skip
def test_any_other_path_is_refused(path: str) -> None:
    with pytest.raises(Malformed, match="redact: path"):
        steps(path)


def test_the_same_places_are_looked_for_below_the_members_of_an_envelope() -> None:
    tree = below(tree_of(["/ssn"]), ("result",), ("error", "data"), ("params",))
    for message in ({"result": {"ssn": 1}}, {"Result": {"ssn": 1}}, {"params": {"ssn": 1}}):
        assert hide(message, tree) == 1
    error = {"error": {"data": {"ssn": 1}, "ssn": 2}}
    assert hide(error, tree) == 1
    assert error == {"error": {"data": {"ssn": HIDDEN}, "ssn": 2}}
    assert below(tree_of(["/ssn"]), ()) == {"ssn": {}}


leaves = st.none() | st.booleans() | st.integers() | st.text("abc*/~", max_size=3)
documents = st.recursive(
    leaves, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("abAB*/~0", max_size=2), inner)
)


@given(documents, st.lists(st.sampled_from(["a", "b", "A", "*", "0", "1", "~0", "~1"]), min_size=1, max_size=4))
def test_nothing_is_left_at_a_hidden_place_of_any_document(document: Any, path: list[str]) -> None:
    pointer = "/" + "/".join(path)
    found = hidden(document, pointer)
    assert all(value == HIDDEN for value in at(found, steps(pointer)))


def at(value: Any, path: list[str]) -> list[Any]:
    """The values at a place, by a reading of its own."""
    if not path:
        return [value]
    pairs = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else []
    inner = [item for name, item in pairs if path[0] == "*" or str(name).casefold() == path[0]]
    return [one for item in inner for one in at(item, path[1:])]
