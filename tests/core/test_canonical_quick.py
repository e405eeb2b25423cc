"""The quick reading of JSON accepts nothing else, and reads nothing differently, than the exact one."""

from __future__ import annotations

import json
import math
import tarfile
from decimal import Decimal
from pathlib import Path
from typing import Any

import orjson
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from gateway.core import canonical
from gateway.core.canonical import MAX_DEPTH, Json, parse, parse_answer, parse_exactly
from gateway.core.reasons import Malformed
from tests.thorough import examples

VECTORS = Path(__file__).resolve().parents[3] / "shared" / "vectors" / "jsontestsuite.tar.xz"


def typed(value: Any) -> Any:
    """What two readings must have in common: `1`, `1.0`, `True` and `-0.0` are not the same."""
    if isinstance(value, dict):
        return [(name, typed(item)) for name, item in value.items()]
    if isinstance(value, list):
        return [typed(item) for item in value]
    return type(value), repr(value)


def told(read: Any, data: bytes, **rest: Any) -> Any:
    try:
        return "value", typed(read(data, **rest))
    except Malformed as error:
        return "refused", str(error)


def same(data: bytes) -> None:
    """The whole claim: value, types, order, verdict and words are those of the exact reading."""
    assert told(parse, data) == told(parse_exactly, data), data
    some = frozenset({"a", "input"})
    assert told(parse, data, tolerate=some) == told(parse_exactly, data, tolerate=some), data
    exact = told(lambda data: canonical._decode(data, canonical._scan_exact), data)
    assert told(parse_answer, data) == exact, data


def vouched(data: bytes) -> bool:
    """Whether the quick reading was enough."""
    return canonical._quick(data) is not canonical._UNSURE


# Pieces of JSON text, well formed and not, so that what comes of them is nearly JSON or JSON said in odd ways.
SPACE = st.sampled_from(["", "", "", " ", "\n\t", "\r "])
NAMES = ["a", "\\u0061", "b", "input", "", "x:y", "x\\u003ay", "x\\u003Ay", "\\u003a", ":", "\\\\u003a", "é", "\\ud800"]
TEXTS = st.sampled_from(
    [
        *NAMES, "12:30", "https://a.example/b?c=d:e", '\\"', "\\\\", '\\":', "\\ud83d\\ude00", "\\uDC00",
        "\\ud800\\ud800", "\\uD83D\\u0041", "\\u0000", "\\/", "\\b\\f", "😀", "\x7f", "\u2028", "\\x", "\\u12", "\t",
        "{", "}:{", "[[[",
    ]
)  # fmt: skip
DIGITS = st.text("0123456789", min_size=1, max_size=25)
NUMBERS = (
    st.sampled_from(
        [
            "0", "-0", "-0.0", "0.0", "1", "1.0", "1e2", "1E+2", "1e-400", "1e400", "-1e400", "01", "+1", ".5", "1.",
            "-", "9007199254740991", "9007199254740992", "9007199254740993", "-9007199254740991", "-9007199254740992",
            "9007199254740991.0", "9007199254740992.0", "9007199254740991.4", "9007199254740991.5",
            "4503599627370496.5", "18446744073709551615", "18446744073709551616", "-9223372036854775808",
            "-9223372036854775809", "5e-324", "2.4703282292062327e-324", "2.4703282292062328e-324",
            "2.2250738585072011e-308", "1.7976931348623159e308", "0.1", "123456789012345678901234567890", "1e19",
            "NaN", "Infinity", "-Infinity", "0x10", "1_0",
        ]
    )
    | DIGITS
    | st.builds("{}{}.{}".format, st.sampled_from(["", "-"]), DIGITS, DIGITS)
    | st.builds("{}{}.{}e{}".format, st.sampled_from(["", "-"]), DIGITS, DIGITS, st.integers(-340, 320))
    | st.floats(allow_nan=False, allow_infinity=False).map(repr)
    | st.integers().map(str)
)  # fmt: skip
STRINGS = TEXTS.map('"{}"'.format) | st.text(max_size=8).map(json.dumps)
SCALARS = st.sampled_from(["null", "true", "false", "nul", "True", ""]) | NUMBERS | STRINGS
TEXT = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(st.builds("{}{}{}".format, SPACE, inner, SPACE), max_size=4).map(lambda items: f"[{','.join(items)}]")
        | st.lists(st.builds("{}{}{}:{}{}".format, SPACE, STRINGS, SPACE, SPACE, inner), max_size=4).map(
            lambda items: "{" + ",".join(items) + "}"
        )
    ),
    max_leaves=12,
)


@settings(max_examples=examples(1000), deadline=None)
@given(TEXT)
@example('{"a":1,"\\u0061":{"x":1}}')
@example('{"x:y":1,"x\\u003ay":2}')
@example('{"a":"\\u003a","b":1,"b":2}')
@example('{"a":":","a":"\\u003a\\u003a"}')
@example('{"a":{"b":":::"},"a":1}')
@example('[{"a":1,"a":1},"::"]')
def test_json_said_in_any_way_is_read_alike(text: str) -> None:
    same(text.encode("utf-8", "surrogatepass"))


@settings(max_examples=examples(1000), deadline=None)
@given(TEXT, st.data())
def test_json_that_was_damaged_is_read_alike(text: str, data: st.DataObject) -> None:
    raw = bytearray(text.encode("utf-8", "surrogatepass"))
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, len(raw)))
        piece = data.draw(st.binary(max_size=3) | st.sampled_from([b":", b'"', b",", b"\\u", b"\xed\xa0\x80", b"\x00"]))
        raw[at : at + data.draw(st.integers(0, 2))] = piece
    same(bytes(raw))


@settings(max_examples=examples(500), deadline=None)
@given(st.binary(max_size=40))
def test_any_bytes_are_read_alike(data: bytes) -> None:
    same(data)


@settings(max_examples=examples(1000), deadline=None)
@given(NUMBERS | st.decimals(allow_nan=False, allow_infinity=False, places=30).map(str))
def test_a_number_is_the_same_one_to_its_last_bit(text: str) -> None:
    same(text.encode())
    same(f'{{"a":[{text}]}}'.encode())


@settings(max_examples=examples(1000), deadline=None)
@given(st.floats(1e-300, 2.0**53 - 1), st.integers(1, 40))
def test_a_number_half_way_between_two_doubles_is_rounded_alike(value: float, more: int) -> None:
    """The hardest there are: exactly half way, and a digit far behind that decides."""
    up = float.fromhex(value.hex())
    other = math.nextafter(up, float("inf"))
    half = (Decimal(up) + Decimal(other)) / 2 if up < 2**53 - 2 else Decimal(up)
    exact = format(half, "f")
    same(exact.encode())
    same((exact + ("0" * more if "." in exact else "." + "0" * more) + "1").encode())


def test_surrogates_are_read_alike_in_values_and_names() -> None:
    for code in (*range(0xD7FF, 0xE001, 7), 0xDBFF, 0xDC00, 0xDFFF):
        for text in (
            f'"\\u{code:04x}"',
            f'{{"a":"x\\u{code:04X}y"}}',
            f'{{"\\u{code:04x}":1}}',
            f'"\\u{code:04x}\\udc00"',
        ):
            same(text.encode())
        same(b'"%s"' % chr(code).encode("utf-8", "surrogatepass"))


def test_every_byte_outside_and_inside_of_a_string_is_read_alike() -> None:
    for code in range(256):
        for text in (b"%c1", b"1%c", b"[1%c]", b'"%c"', b'"\\%c"', b'{"a"%c:1}', b'{"%c":1}'):
            same(text % code)


@pytest.mark.parametrize("depth", [MAX_DEPTH - 1, MAX_DEPTH, MAX_DEPTH + 1, 200, 1023, 1024, 1025, 50_000])
def test_any_depth_is_read_alike(depth: int) -> None:
    for start, middle, end in (
        (b"[", b"", b"]"),
        (b'{"a":', b"1", b"}"),
        (b"[{},", b"1", b"]"),
        (b'[{"a":', b'":"', b"}]"),
    ):
        for text in (start * depth + middle + end * depth, start * depth, b'{"a":1,"b":%s}' % (start * depth)):
            if depth <= 200:
                same(text)
            else:
                assert told(parse, text) == told(parse_exactly, text)


def test_the_whole_suite_is_read_alike() -> None:
    if not VECTORS.exists():
        pytest.skip("the JSON test suite is not beside the repository")
    with tarfile.open(VECTORS) as suite:
        for entry in suite.getmembers():
            source = suite.extractfile(entry)
            if source is not None:
                same(source.read())


@pytest.mark.parametrize(
    "data",
    [
        b'{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"a","arguments":{"city":"Oslo","days":1}}}',
        b'{"a":"see https://a.example:8443/ at 12:30","b":[1.5,-0.25,true,null,{"c":{}}]}',
        b'{"a":"caf\\u00e9\\n","b":"\xc3\xa9"}',
        b"[]",
        b"null",
    ],
)
def test_what_callers_really_send_needs_no_second_reading(data: bytes) -> None:
    assert vouched(data)


@pytest.mark.parametrize(
    "data",
    [
        b'{"a":1,"a":2}',
        b'{"a":":","a":"::"}',
        b'{"a":{"b":1},"a":"x:y:z"}',
        b'{"a":"\\u003a","b":1,"b":2}',
        b"9007199254740992",
        b"9223372036854775807",
        b"18446744073709551616",
        b"1e300",
        b"[" * (MAX_DEPTH + 1) + b"]" * (MAX_DEPTH + 1),
    ],
)
def test_what_the_quick_parser_takes_against_our_rules_is_not_vouched_for(data: bytes) -> None:
    orjson.loads(data)  # it does take it
    assert not vouched(data)


def test_a_value_that_is_vouched_for_is_the_parsers_own() -> None:
    found: Json = parse(b'{"a":[1,2]}')
    assert found == {"a": [1, 2]}
    assert parse(b'["unsure"]') == ["unsure"]
    assert parse(b'["unsure"]') is not parse(b'["unsure"]')
