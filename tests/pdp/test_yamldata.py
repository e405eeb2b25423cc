"""Policy data as YAML: what two readers could read differently is an error that names its line."""

from __future__ import annotations

from typing import Any

import pytest

from gateway.core.reasons import Malformed
from gateway.pdp.yamldata import parse_yaml

GOOD = [
    ("", None),
    ("# only a comment\n", None),
    ("a: 1\nb: [x, 'z', \"w\"]\n", {"a": 1, "b": ["x", "z", "w"]}),
    ("c: {d: true, e: null, f: ~, g: }\n", {"c": {"d": True, "e": None, "f": None, "g": None}}),
    ("- -1\n- 0\n- 1.5\n- 1e3\n- -0.25\n", [-1, 0, 1.5, 1000.0, -0.25]),
    ("a: 'yes'\nb: \"0755\"\nc: |\n  two\n  lines\n", {"a": "yes", "b": "0755", "c": "two\nlines\n"}),
    ('"*": [get_forecast, weather/x, a b]\n', {"*": ["get_forecast", "weather/x", "a b"]}),
    ("a: 9007199254740991\n", {"a": 2**53 - 1}),
]  # fmt: skip

BAD = [
    ("a: 1\na: 2\n", "line 2: 'a' occurs twice"),
    ('x:\n  a: 1\n  "a": 2\n', "line 3: 'a' occurs twice"),
    ("a: &x 1\nb: *x\n", "line 1: anchors"),
    ("b: *x\n", "line 1"),
    ("a: &x {b: 1}\nc:\n  <<: *x\n", "line 1: anchors"),
    ("a:\n  <<: {b: 1}\n", "line 2: <<"),
    ("a: !!str 1\n", "line 1: tags"),
    ("a: !!python/object/apply:os.system [x]\n", "line 1: tags"),
    ("a: yes\n", "line 1: yes means"),
    ("a: 1\nb: off\n", "line 2: off means"),
    ("a: 0755\n", "0755"),
    ("a: 0o17\n", "0o17"),
    ("a: 0x1F\n", "0x1F"),
    ("a: 12:30\n", "12:30"),
    ("a: 1_000\n", "1_000"),
    ("a: 2026-11-22\n", "2026-11-22"),
    ("a: 2026-11-22T12:00:00Z\n", "2026-11-22T12:00:00Z"),
    ("a: .inf\n", ".inf"),
    ("a: -.Inf\n", "-.Inf"),
    ("a: .nan\n", ".nan"),
    ("a: 1e999\n", "1e999"),
    ("a: .5\n", ".5"),
    ("a: 1.\n", "1."),
    ("a: +1.5e\n", "+1.5e"),
    ("a: 9007199254740992\n", "2^53-1"),
    ("a: -99999999999999999999999\n", "2^53-1"),
    ("1: a\n", "a name must be text"),
    ("true: a\n", "a name must be text"),
    ("? [a]\n: b\n", "a name must be text"),
    ("no: a\n", "line 1: no means"),
    ("a: 1\n---\nb: 2\n", "more than one"),
    ("a: [1\n", "not YAML"),
    ("a: \x00\n", "not YAML"),
    ("a: " + "[" * 100 + "]" * 100 + "\n", "deeper than"),
]


@pytest.mark.parametrize(("text", "value"), GOOD, ids=range(len(GOOD)))
def test_plain_data_is_read(text: str, value: Any) -> None:
    found = parse_yaml(text)
    assert found == value
    assert repr(found) == repr(value)  # 1, 1.0 and True are equal in Python


@pytest.mark.parametrize(("text", "words"), BAD, ids=[text[:30] for text, _ in BAD])
def test_what_is_ambiguous_or_unsafe_is_refused_with_its_place(text: str, words: str) -> None:
    with pytest.raises(Malformed) as raised:
        parse_yaml(text)
    assert words in str(raised.value)
