"""A patch changes what it names and not a byte beside it."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.merging import merged, nested, replaced
from gateway.core.reasons import Malformed


def rfc7396(target: Any, patch: Any) -> Any:
    """The algorithm of RFC 7396, section 2, as it stands there."""
    if not isinstance(patch, dict):
        return patch
    target = dict(target) if isinstance(target, dict) else {}
    for name, value in patch.items():
        if value is None:
            target.pop(name, None)
        else:
            target[name] = rfc7396(target.get(name), value)
    return target


def test_what_is_not_named_keeps_its_very_bytes() -> None:
    body = b'{ "seed" : 123456789012345678901234567890, "t":1.10e+2,"m":[ {"role":"\\u0061\\ud800"} ],"x":0 }'
    shown = merged(body, {"x": 1})
    assert shown == (b'{"seed" : 123456789012345678901234567890,"t":1.10e+2,"m":[ {"role":"\\u0061\\ud800"} ],"x":1}')


def test_members_are_set_merged_and_removed_at_their_place() -> None:
    body = b'{"params":{"name":"pay","arguments":{"amount":5,"note":{"a":1,"b":2}}},"id":1}'
    patch = nested(("params", "arguments"), {"amount": None, "note": {"b": 3}, "currency": "EUR"})
    assert json.loads(merged(body, patch)) == {
        "params": {"name": "pay", "arguments": {"note": {"a": 1, "b": 3}, "currency": "EUR"}},
        "id": 1,
    }
    assert json.loads(merged(b'{"id":1}', patch))["params"]["arguments"] == {"note": {"b": 3}, "currency": "EUR"}


def test_a_name_is_found_however_it_is_spelled() -> None:
    assert json.loads(merged(b'{"\\u0061mount":5}', {"amount": 1})) == {"amount": 1}
    assert merged(b'{"\\u0061mount":5}', {"amount": None}) == b"{}"


def test_an_object_is_needed() -> None:
    for body in (b"[1]", b'"text"', b"1", b"null"):
        with pytest.raises(Malformed):
            merged(body, {"a": 1})


def test_what_would_be_gone_is_told() -> None:
    arguments: Any = {"region": "us", "n": 1, "deep": {"a": "x", "b": "y"}, "flag": True}
    patch: Any = {"region": "eu", "n": 1, "deep": {"a": None}, "flag": 1, "new": 5}
    assert replaced(arguments, patch) == ["us", "x", True]
    assert replaced(None, patch) == []


leaves = (
    st.none()
    | st.booleans()
    | st.integers(-9, 9)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=3)
)
names = st.sampled_from(["a", "b", "ä", '"', "\\", ""])
values = st.recursive(
    leaves, lambda inner: st.lists(inner, max_size=2) | st.dictionaries(names, inner, max_size=3), max_leaves=8
)
objects = st.dictionaries(names, values, max_size=4)


@given(objects, objects, st.booleans(), st.sampled_from([None, 1]))
def test_it_is_what_rfc_7396_says_for_any_document(target: Any, patch: Any, plain: bool, indent: int | None) -> None:
    body = json.dumps(target, ensure_ascii=plain, indent=indent).encode()
    assert json.loads(merged(body, patch)) == rfc7396(target, patch)
