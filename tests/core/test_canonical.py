"""Strict JSON in, canonical JSON out."""

from __future__ import annotations

import contextlib
import gc
import hashlib
import json
import math
import tarfile
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.canonical import MAX_DEPTH, MAX_INTEGER, digest, encode, member, parse, parse_answer, parse_object
from gateway.core.reasons import Malformed

VECTORS = Path(__file__).resolve().parents[3] / "shared" / "vectors" / "jsontestsuite.tar.xz"

# In the suite's accept set, and refused here on purpose: a member name that occurs twice.
REFUSED_ON_PURPOSE = {"y_object_duplicated_key.json", "y_object_duplicated_key_and_value.json"}


def refused(data: bytes, **rest: Any) -> str:
    with pytest.raises(Malformed) as caught:
        parse(data, **rest)
    return str(caught.value)


def test_the_accept_set_is_that_of_the_standard_but_for_names_that_occur_twice() -> None:
    if not VECTORS.exists():
        pytest.skip("the JSON test suite is not beside the repository")
    accepted, wrong = set(), []
    with tarfile.open(VECTORS) as suite:
        files = [entry for entry in suite.getmembers() if entry.isfile()]
        assert len(files) == 318
        for entry in files:
            name = Path(entry.name).name
            source = suite.extractfile(entry)
            assert source is not None
            try:
                parse(source.read())
                accepted.add(name)
            except Malformed:
                pass
    names = {Path(entry.name).name for entry in files}
    wrong += [name for name in names if name.startswith("n_") and name in accepted]
    missing = {name for name in names if name.startswith("y_") and name not in accepted}
    assert (wrong, missing) == ([], REFUSED_ON_PURPOSE)


@pytest.mark.parametrize(
    ("data", "value"),
    [
        (b"null", None),
        (b" [ ] ", []),
        (b'{"a":{"b":[1,-2,3.5,true,false,null,"x"]}}', {"a": {"b": [1, -2, 3.5, True, False, None, "x"]}}),
        (b"9007199254740991", MAX_INTEGER),
        (b"-9007199254740991", -MAX_INTEGER),
        (b'"\\ud83d\\ude00"', "\U0001f600"),
        (b'{"a":1,"b":1}', {"a": 1, "b": 1}),
        (b'{"a":{"x":1},"b":{"x":1}}', {"a": {"x": 1}, "b": {"x": 1}}),
        (b'"1234567890123456789012345678901234567890"', "1234567890123456789012345678901234567890"),
        (b"[" * MAX_DEPTH + b"]" * MAX_DEPTH, None),
        (b'["' + b"[{" * 100 + b'"]', ["[{" * 100]),
        (b"[" + b"{}," * 200 + b"{}]", [{}] * 201),
    ],
)
def test_what_is_json_is_read(data: bytes, value: Any) -> None:
    assert parse(data) == value or value is None


@pytest.mark.parametrize(
    "data",
    [
        b'{"a":1,"a":2}',
        b'{"a":1,"\\u0061":2}',
        b'{"a":{"b":{"c":1,"\\u0063":1}}}',
        b'[{"name":1,"na\\u006de":2}]',
        b'{"":1,"":2}',
    ],
)
def test_a_member_that_occurs_twice_is_refused_at_any_depth_and_in_any_spelling(data: bytes) -> None:
    assert refused(data) == "a member name occurs twice"
    with pytest.raises(Malformed):
        parse_answer(data)


@pytest.mark.parametrize(
    "data",
    [
        b"", b" ", b"nul", b"NaN", b"[Infinity]", b"-Infinity", b"[1,]", b'{"a":1,}', b"{'a':1}", b"01", b"+1", b".5",
        b"1.", b"0x10", b"1e", b"1e999", b"-1e999", b'"\x00"', b'"\n"', b'"\x1f"', b'"\\x41"', b'"\\u12"', b"[1] x",
        b"{}{}", b"// x\n1", b"\xff", b'"\xc3\x28"', b'"\xed\xa0\x80"', b"\xef\xbb\xbf{}", b"\xef\xbb\xbf", b"{\x00}",
        '{"a":1}'.encode("utf-16"), '{"a":1}'.encode("utf-16-le"), '{"a":1}'.encode("utf-32"), b"\x0b1", b"\xc2\xa01",
    ],
)  # fmt: skip
def test_what_is_not_json_is_refused(data: bytes) -> None:
    assert refused(data)
    with pytest.raises(Malformed):
        parse_answer(data)


def test_a_byte_order_mark_is_told_as_such() -> None:
    assert refused(b"\xef\xbb\xbf{}") == "a byte order mark is not allowed"


@pytest.mark.parametrize(
    "number", [b"9007199254740992", b"-9007199254740992", b"18446744073709551615", b"1" * 40, b"-" + b"9" * 5000]
)
def test_an_integer_that_other_readers_round_is_refused_wherever_it_stands(number: bytes) -> None:
    for data in (number, b"[%s]" % number, b'{"a":{"b":[1,%s]}}' % number):
        assert refused(data) == "an integer is beyond 2^53-1"


@pytest.mark.parametrize("text", [b'"\\ud800"', b'"\\udc00"', b'"\\udc00\\ud800"', b'"a\\uD83Db"', b'{"\\ud800":1}'])
def test_a_lone_surrogate_is_refused_in_values_and_names(text: bytes) -> None:
    assert refused(text) == "a lone surrogate is not text"


def test_named_members_may_have_what_others_may_not_and_policy_sees_a_safe_copy() -> None:
    data = b'{"seed":18446744073709551615,"input":["a\\ud800b",{"n":9007199254740993}]}'
    assert parse(data, tolerate=frozenset({"seed", "input"})) == {
        "seed": "18446744073709551615",
        "input": ["a\ufffdb", {"n": "9007199254740993"}],
    }
    assert refused(data, tolerate=frozenset({"seed"}))
    assert refused(b'{"other":18446744073709551615}', tolerate=frozenset({"seed"}))
    assert refused(b'{"x":{"seed":18446744073709551615}}', tolerate=frozenset({"seed"}))
    assert refused(b"[18446744073709551615]", tolerate=frozenset({"seed"}))


@pytest.mark.parametrize(
    "data",
    [
        b"[" * (MAX_DEPTH + 1) + b"]" * (MAX_DEPTH + 1),
        b'{"a":' * (MAX_DEPTH + 1) + b"1" + b"}" * (MAX_DEPTH + 1),
        b"[{}," * (MAX_DEPTH + 1) + b"1" + b"]" * (MAX_DEPTH + 1),
        b"[" * 100_000,
        b'{"a":' * 100_000,
        b"[" * 100_000 + b"]" * 100_000,
    ],
)
def test_what_is_too_deep_is_refused(data: bytes) -> None:
    assert refused(data) == f"deeper than {MAX_DEPTH} levels"


@pytest.mark.parametrize(
    "make",
    [
        lambda size: b"[" * size,
        lambda size: b"[" * 65 + b'"' + b'\\"' * size,
        lambda size: b"[" + b"[]," * size + b"[]]",
        lambda size: b"9" * size,
        lambda size: b"0." + b"9" * size,
        lambda size: b'"' + b"\\ud800" * size + b'"',
        lambda size: b"{" + b",".join(b'"%d":0' % number for number in range(size)) + b"}",
        lambda size: b"[" + b'"9999999999999999",' * size + b"0]",
    ],
    ids=["open", "quotes", "empties", "digits", "fraction", "surrogates", "members", "long digits"],
)
def test_no_body_costs_more_than_its_size(make: Any) -> None:
    def spent(size: int) -> float:
        data = make(size)
        best = math.inf
        for _ in range(5):
            started = time.process_time()
            for read in (parse, parse_answer):
                with contextlib.suppress(Malformed):
                    read(data)
            best = min(best, time.process_time() - started)
        return best

    gc.disable()  # a collection costs what the whole process holds, not what the body does
    try:
        small, large = spent(10_000), spent(320_000)
    finally:
        gc.enable()
    assert large < 400 * max(small, 0.0005), (small, large)  # 32 times the size; a square would be 1,024 times


def test_an_answer_keeps_what_only_judged_bodies_may_not_have() -> None:
    data = b'{"n":[18446744073709551615,-9223372036854775808,%s],"t":"\\ud800"}' % (b"7" * 1000)
    found = parse_answer(data)
    assert json.dumps(found, separators=(",", ":")).encode() == data
    with pytest.raises(Malformed):
        parse_answer(b"7" * 1001)


VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-MAX_INTEGER, MAX_INTEGER)
    | st.floats(-MAX_INTEGER, MAX_INTEGER)
    | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])), inner)
    ),
    max_leaves=20,
)


@given(VALUES)
def test_whatever_is_written_is_read_back(value: Any) -> None:
    assert parse(json.dumps(value).encode()) == value
    assert parse(json.dumps(value, ensure_ascii=False).encode()) == value
    assert parse_answer(json.dumps(value).encode()) == value


@given(st.binary(max_size=100) | st.text(max_size=60).map(lambda text: text.encode("utf-8", "surrogatepass")))
def test_any_bytes_are_a_value_or_malformed(data: bytes) -> None:
    for read in (parse, parse_answer):
        try:
            found = read(data)
        except Malformed:
            continue
        assert json.loads(data) == found


@given(VALUES)
def test_the_canonical_form_has_one_spelling(value: Any) -> None:
    data = encode(value)
    assert encode(parse(data)) == data


def test_the_canonical_form_is_rfc_8785s() -> None:
    assert encode({"b": [1.0, 1e21, 0.000001], "a": "€\u2028\x07", "\u20ac": 1}) == (
        '{"a":"€\u2028\\u0007","b":[1,1e+21,0.000001],"€":1}'.encode()
    )
    for impossible in (math.nan, math.inf, 2**53, "\ud800"):
        with pytest.raises(Malformed):
            encode(impossible)


def test_a_digest_names_its_algorithm() -> None:
    assert digest(b"x") == "sha256:" + hashlib.sha256(b"x").hexdigest()


def test_an_object_and_its_required_members_are_what_they_must_be() -> None:
    assert parse_object(b'{"a":1}') == {"a": 1}
    with pytest.raises(Malformed):
        parse_object(b"[]")
    assert member({"a": 1}, "a", int, where="card") == 1
    for value, kind in (({}, str), ({"a": 1}, str), ({"a": True}, int)):
        with pytest.raises(Malformed, match="card: a"):
            member(value, "a", kind, where="card")
