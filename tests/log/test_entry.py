"""The fast spelling is RFC 8785's, byte for byte; what does not fit an entry is moved out or cut, never lost."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import orjson
import pytest
import rfc8785
from hypothesis import example, given
from hypothesis import strategies as st

from gateway.core.reasons import Malformed
from gateway.log import entry as entries
from gateway.log.entry import encode, fit
from gateway.log.tlog import ENTRY_BYTES
from gateway.log.verify_records import canonical

EXACT = 2**53 - 1
TEXT = st.text(st.characters(exclude_categories=["Cs"]))
PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers(-EXACT, EXACT) | TEXT,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(st.characters(max_codepoint=127)), inner),
    max_leaves=20,
)
ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers(-EXACT, EXACT) | TEXT | st.floats(allow_nan=False, allow_infinity=False),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=4),
    max_leaves=20,
)


@given(st.dictionaries(st.text(st.characters(max_codepoint=127)), PLAIN, max_size=8))
def test_the_fast_spelling_is_rfc_8785(record: dict[str, Any]) -> None:
    assert entries._plain(record), "the fast path was not taken: this test shows nothing"
    assert encode(record) == orjson.dumps(record, option=orjson.OPT_SORT_KEYS) == rfc8785.dumps(record)


@given(st.dictionaries(TEXT, ANYTHING, max_size=6))
@example({"\U0001f600": 1, "\uffff": 2})  # RFC 8785 sorts by UTF-16 units, orjson by code points
@example({"a": 1.0, "b": 1e16, "c": -0.0, "d": 5e-324, "e": 1e21, "f": 1e-7, "g": 0.00001, "h": 123456789012345680.0})
@example({"a": 0.7, "b": 12.345, "c": 1e-4, "d": 999999999999999.9, "e": 100000000000000.5})
@example({"a": '\x00\x1f\x7f\x80\u2028\u2029"\\/<>&\b\f\n\r\t'})
def test_every_spelling_is_rfc_8785(record: dict[str, Any]) -> None:
    assert encode(record) == rfc8785.dumps(record)
    assert canonical(record, encode(record))


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_everyday_fractions_take_the_fast_path_with_the_right_digits(value: float) -> None:
    if entries._everyday(value):
        assert orjson.dumps(value) == rfc8785.dumps(value)


@pytest.mark.parametrize(
    "value",
    [2**53, -(2**53), float("nan"), float("inf"), "\ud800", ["\udfff"], {"\ud800": 1}, object(), {1: 2}, b"bytes"],
)
def test_what_has_no_canonical_form_is_malformed(value: Any) -> None:
    with pytest.raises(Malformed):
        encode({"a": value})


def big(kind: str, **more: Any) -> dict[str, Any]:
    return {"v": 1, "seq": 7, "node": "gw", "kind": kind, "exchange": "x", **more}


def test_a_large_capture_moves_to_a_blob_and_nothing_else_does() -> None:
    capture = {"city": "Oslo" * 20_000, "n": 1.0}
    record = big("intent", request={"digest": "sha256:00", "capture": capture}, resource={"id": "weather/x"})
    before = json.dumps(record)
    entry, blobs = fit(record)
    assert json.dumps(record) == before, "the caller's record was changed"
    ((name, data),) = blobs
    assert hashlib.sha256(data).hexdigest() == name
    assert json.loads(data) == capture
    stored = json.loads(entry)
    assert stored["request"]["capture"] == {"blob": f"sha256:{name}", "bytes": len(data)}
    stored["request"]["capture"] = capture
    assert stored == record
    assert len(entry) <= ENTRY_BYTES


def test_both_captures_move() -> None:
    record = big("outcome", request={"capture": "a" * 70_000}, response={"status": 200, "capture": "b" * 70_000})
    entry, blobs = fit(record)
    assert len(blobs) == 2
    assert json.loads(entry)["response"]["status"] == 200


@pytest.mark.parametrize("size", [70_000, 4_000_000])
def test_a_name_that_weighs_too_much_is_cut_and_carries_its_digest(size: int) -> None:
    """A caller who names a tool with megabytes is denied, and the denial is a record all the same."""
    name = "weather/" + "\u00e9" * size
    entry, blobs = fit(big("refusal", resource={"type": "tool", "id": name}))
    assert not blobs
    assert len(entry) <= ENTRY_BYTES
    stored = json.loads(entry)
    assert stored["shortened"] is True
    kept, digest = stored["resource"]["id"].split("\N{HORIZONTAL ELLIPSIS}")
    assert name.startswith(kept)
    assert digest == "sha256:" + hashlib.sha256(name.encode()).hexdigest()
    assert stored["exchange"] == "x"


def test_many_long_strings_are_cut_until_they_fit() -> None:
    entry, _ = fit(big("refusal", roles=[f"{i}" * 500 for i in range(400)], trace_id="c" * 200))
    assert len(entry) <= ENTRY_BYTES
    assert json.loads(entry)["trace_id"] == "c" * 200, "what finds a record again was cut"


def test_a_record_that_no_cut_makes_fit_is_malformed() -> None:
    with pytest.raises(Malformed, match="65535"):
        fit(big("refusal", roles=list(range(100_000))))
