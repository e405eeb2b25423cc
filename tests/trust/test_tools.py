"""Pins without I/O: what a digest is over, what an item is held to be, which URIs a template stands for."""

from __future__ import annotations

import hashlib
import time
from dataclasses import replace
from typing import Any

import pytest
import rfc8785
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.descriptors import Described, Standing
from gateway.core.reasons import Malformed
from gateway.trust.templates import MAX_EXPRESSIONS, pattern
from gateway.trust.tools import ITEM_BYTES, Before, Named, Pin, Rules, Seen, approved, canonical, judged, kept, see

TOOL: dict[str, Any] = {"name": "t", "description": "d", "inputSchema": {"type": "object"}}


def test_the_digest_is_over_the_canonical_bytes_of_all_but_meta() -> None:
    expected = "sha256:" + hashlib.sha256(rfc8785.dumps(TOOL)).hexdigest()
    assert see("tool", "t", TOOL).digest == expected
    assert see("tool", "t", {**dict(reversed(TOOL.items())), "_meta": {"x": 1}}).digest == expected
    assert see("tool", "t", {**TOOL, "meta": {}}).digest != expected
    assert see("tool", "t", {**TOOL, "inputSchema": {"type": "object", "_meta": 1}}).digest != expected


def test_integers_that_json_readers_round_keep_their_digits() -> None:
    near = [see("tool", "t", {**TOOL, "inputSchema": {"maximum": 2**63 - 1 - n}}).digest for n in range(3)]
    assert len(set(near)) == 3
    assert canonical({"b": 2**60, "a": [1.5, True, None, "é\n\u2028"]}) == (
        '{"a":[1.5,true,null,"é\\n\u2028"],"b":1152921504606846976}'.encode()
    )


_TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
_JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53) + 1, 2**53 - 1) | st.floats(allow_nan=False, allow_infinity=False)
    | _TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_TEXT, inner, max_size=3),
)  # fmt: skip


@given(_JSON)
def test_large_integers_change_nothing_about_the_form_of_the_rest(value: Any) -> None:
    marked = canonical({"a": value, "big": 2**70})
    assert marked == rfc8785.dumps({"a": value, "big": 7}).replace(b'"big":7}', b'"big":%d}' % 2**70)


def test_what_has_no_form_has_no_digest() -> None:
    with pytest.raises(Malformed):
        canonical({"a": "\ud800"})
    for item in ({**TOOL, "description": "\ud800"}, {**TOOL, "\udc00": 1}, {**TOOL, "description": "x" * ITEM_BYTES}):
        found = see("tool", "t", item)
        assert (found.digest, found.document) == ("", None)
        assert found.why


def seen(text: str) -> Seen:
    return see("tool", "t", {**TOOL, "description": text})


def held(found: Seen, by: str) -> Described:
    item = Described("tool", "up", "t", Standing.VERIFIED, found.digest, document=found.document)
    return approved(item, by)


A, B = seen("a"), seen("b")
NOTHING = Seen("tool", "t", "", None, "it is larger")
FIRST, ADMIN, SIGNED = (held(A, by) for by in ("first_use", "admin", "signer:acme"))
STUCK = replace(ADMIN, standing=Standing.QUARANTINED, digest=B.digest, document=B.document)
SIGNS_A = (Named("acme", {("tool", "t"): A.digest}),)
SIGNS_B = (Named("acme", {("tool", "t"): B.digest}),)
OTHER_KIND = (Named("acme", {("prompt", "t"): A.digest}),)

V, U, Q = Standing.VERIFIED, Standing.UNVERIFIED, Standing.QUARANTINED
REQUIRED, USE, NONE = Pin.REQUIRED, Pin.FIRST_USE, Pin.NONE


@pytest.mark.parametrize(
    ("known", "now", "pin", "signed", "before", "standing"),
    [
        # 1
        (None, NOTHING, REQUIRED, (), Before.PINNED, Q), (None, NOTHING, USE, (), Before.NOTHING, Q),
        (ADMIN, NOTHING, USE, (), Before.PINNED, Q), (None, NOTHING, NONE, (), Before.PART, U),
        # 2
        (None, A, REQUIRED, SIGNS_A, Before.PINNED, V), (None, A, USE, SIGNS_A, Before.PINNED, V),
        (ADMIN, B, REQUIRED, SIGNS_B, Before.PINNED, V), (STUCK, B, REQUIRED, SIGNS_B, Before.PINNED, V),
        (None, B, REQUIRED, SIGNS_A, Before.PINNED, U), (None, A, REQUIRED, OTHER_KIND, Before.PINNED, U),
        # 3
        (STUCK, A, REQUIRED, (), Before.PINNED, Q), (STUCK, A, USE, (), Before.PINNED, Q),
        (STUCK, A, NONE, (), Before.PINNED, V),
        # 4
        (ADMIN, A, REQUIRED, (), Before.PINNED, V), (ADMIN, A, USE, (), Before.PINNED, V),
        (FIRST, A, USE, (), Before.PINNED, V), (FIRST, A, REQUIRED, (), Before.PINNED, U),
        (SIGNED, A, REQUIRED, (), Before.PINNED, U), (SIGNED, A, REQUIRED, SIGNS_A, Before.PINNED, V),
        # 5
        (None, A, USE, (), Before.NOTHING, V), (SIGNED, B, USE, (), Before.NOTHING, V),
        (ADMIN, B, USE, (), Before.NOTHING, Q), (None, A, REQUIRED, (), Before.NOTHING, U),
        (None, A, NONE, (), Before.NOTHING, U),
        # 6
        (ADMIN, B, REQUIRED, (), Before.PINNED, Q), (ADMIN, B, USE, (), Before.PINNED, Q),
        (FIRST, B, USE, (), Before.PINNED, Q), (ADMIN, B, NONE, (), Before.PINNED, U),
        # 7, 8
        (None, A, USE, (), Before.PINNED, Q), (None, A, USE, (), Before.PART, U),
        (None, A, REQUIRED, (), Before.PINNED, U), (FIRST, B, REQUIRED, (), Before.PINNED, U),
    ],
)  # fmt: skip
def test_what_an_item_is_held_to_be(
    known: Described | None, now: Seen, pin: Pin, signed: Any, before: Before, standing: Standing
) -> None:
    rules = Rules(pin, signed)
    found = judged("up", known, now, rules, before, 50.0)
    assert found.standing is standing
    assert found.seen == 50.0
    if pin is not NONE:
        assert rules.reached(found) == (standing is V)
    again = judged("up", found, now, rules, Before.PINNED if before is Before.NOTHING else before, 60.0)
    assert (again.standing, again.digest, again.changed) == (found.standing, found.digest, found.changed), (
        "it is stable"
    )


def test_a_block_does_not_look_like_news_each_time() -> None:
    blocked = replace(ADMIN, standing=Standing.BLOCKED, changed=7.0)
    found = judged("up", blocked, A, Rules(REQUIRED), Before.PINNED, 50.0)
    assert (found.standing, found.changed) == (V, 7.0)


def test_keeping_the_pin_ends_the_quarantine_and_a_change_begins_it_again() -> None:
    freed = replace(kept(STUCK), standing=V)
    rules = Rules(REQUIRED)
    assert judged("up", freed, A, rules, Before.PINNED, 1.0).standing is V
    assert judged("up", freed, B, rules, Before.PINNED, 1.0).standing is Q


@pytest.mark.parametrize(
    ("template", "uri", "fits"),
    [
        ("a://{x}", "a://1", True), ("a://{x}", "a://1/2?q#f", True), ("a://{x}", "b://1", False),
        ("a://{x}", "a:/1", False), ("a://{x}/b", "a://1/b", True), ("a://{x}/b", "a://1/c", False),
        ("a://{x}/b", "a://b", False), ("{+path}/b{?q}", "x/b?q=1", True), ("a{x}b{y}b", "aXb", False),
        ("a{x}b{y}b", "aXbYb", True), ("a{x}bb{y}c", "abbbc", True), ("a://static", "a://static", True),
        ("a://static", "a://static2", False), ("a://{", "a://{", True), ("a://{", "a://1", False),
        ("a.b/{x}", "aXb/1", False), ("a://{x}", "a://\n", True), ("{}", "{}", True), ("{}", "x", False),
    ],
)  # fmt: skip
def test_a_template_stands_for_what_its_literals_allow(template: str, uri: str, fits: bool) -> None:
    assert (pattern(template).fullmatch(uri) is not None) == fits


def test_no_template_makes_matching_slow() -> None:
    worst = "{a}b" * MAX_EXPRESSIONS + "c"
    began = time.perf_counter()
    assert pattern(worst).fullmatch("b" * 100_000) is None
    assert time.perf_counter() - began < 2.0
    assert pattern("{a}b" * (MAX_EXPRESSIONS + 1)).fullmatch("b" * 40) is None
