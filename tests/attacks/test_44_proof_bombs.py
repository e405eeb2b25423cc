"""Descriptors, proofs and signatures that are large, nested or many cost no more than reading that they are."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Any

import pytest

from gateway.core.exchange import Principal
from gateway.trust.callers import DESCRIPTOR_LIMIT_BYTES
from gateway.trust.jose import encoded
from gateway.trust.presented import TYPE
from tests.identity.bound_rig import Bound
from tests.identity.prover import Prover
from tests.identity.signature_rig import REQUEST, Door
from tests.trust.descriptor_rig import Desk, Source, rule

ROW = 44


class Untouchable:
    """Keys that nobody may come to ask."""

    def __getattr__(self, name: str) -> Any:
        raise AssertionError("a bomb came as far as the keys")


def guarded() -> Desk:
    desk = Desk()
    source = Source()
    source.keys = Untouchable()
    desk.source = source
    desk.checker = desk.made({})
    return desk


@pytest.mark.parametrize("size", [DESCRIPTOR_LIMIT_BYTES + 1, 30_000, 5_000_000])
@pytest.mark.parametrize("form", [b"a", b"a.a.a", b"id:"])
def test_a_descriptor_above_16_kib_is_refused_unread(size: int, form: bytes) -> None:
    desk = guarded()
    assert rule(desk.ask(form + b"a" * (size - len(form)))) == "descriptor_size"


@pytest.mark.parametrize(
    "more", [{"zip": "DEF"}, {"zip": ""}, {"p2c": 2_000_000_000}, {"enc": "A256GCM"}, {"epk": {}}], ids=str
)
def test_compression_and_costly_derivation_are_refused_by_the_header_alone(more: dict[str, Any]) -> None:
    desk, door = guarded(), Bound()
    made = Prover(desk.private).jws({"alg": "EdDSA", "kid": "acme-1", "typ": TYPE, **more}, desk.claims()).encode()
    assert rule(desk.ask(made)) == "descriptor_malformed"
    found = door.ask(*door.headers(door.token(), header=more))
    assert not isinstance(found, Principal)
    assert found.rule == "dpop_malformed"


@pytest.mark.parametrize("depth", [65, 1000, 5000])
def test_depth_is_refused_without_recursion(depth: int) -> None:
    desk, door = Desk(), Bound()
    nested = b"[" * depth + b"]" * depth
    by = Prover(desk.private)
    for value in (
        by.jws({"alg": "EdDSA", "kid": "acme-1", "typ": TYPE}, b'{"x":' + nested + b"}").encode(),
        encoded(b'{"x":' + nested + b"}"),
    ):
        assert rule(desk.ask(value)) == "descriptor_malformed"
    signed = encoded(b'{"alg":"EdDSA","typ":"dpop+jwt","jwk":' + nested + b"}") + b"." + encoded(b"{}")
    found = door.ask((b"authorization", f"DPoP {door.token()}".encode()), (b"dpop", signed + b"." + encoded(b"x" * 64)))
    assert not isinstance(found, Principal)


def test_a_card_of_many_signatures_is_refused() -> None:
    desk = guarded()
    item = {"protected": encoded(b'{"alg":"EdDSA","kid":"acme-1"}').decode(), "signature": "AA"}
    value = encoded(json.dumps({"name": "x", "signatures": [item] * 17}).encode())
    assert rule(desk.ask(value)) == "descriptor_malformed"


@pytest.mark.parametrize(
    "value",
    [
        b"s=(" + b" " * 7000 + b")",
        b"s=(" + b'"a" ' * 1500 + b")",
        b", ".join(b"s%d=()" % number for number in range(700)),
        b"s=()" + b";a" * 3000,
        b's=("a");created=1;keyid="' + b"\\\\" * 3000 + b'"',
        b"s=:" + b"A" * 8000,
        b"s=" + b"(" * 8000,
        b"s=1" + b"1" * 8000,
    ],
)
def test_a_signature_input_of_any_shape_is_read_in_no_time(value: bytes) -> None:
    door = Door()
    head = door.head(REQUEST)
    headers = ((b"signature-input", value), *(pair for pair in head.headers if pair[0] == b"signature"))
    begin = time.process_time()
    found = door.ask(type(head)("POST", "/weather", "/weather", "", "gw.example", "https", headers, ""))
    assert time.process_time() - begin < 0.1
    assert not isinstance(found, Principal)


def cost(ask: Callable[[], object]) -> float:
    begin = time.process_time()
    for _ in range(20):
        ask()
    return time.process_time() - begin


def test_refusing_a_bomb_costs_no_more_than_a_verification() -> None:
    """A ratio within one run: what a stranger can send for nothing must not cost more than an honest descriptor."""
    desk = Desk()
    values = [desk.jws(jti=str(number)) for number in range(80)]
    honest = min(cost(lambda: desk.ask(values.pop())) for _ in range(4))
    for bomb in (b"a" * 16_000, b"a." * 8_000, encoded(b'{"a":' + b"[" * 8000), encoded(b'{"a":"' + b"x" * 11_000)):
        assert min(cost(lambda value=bomb: desk.ask(value)) for _ in range(4)) < 3 * honest  # type: ignore[misc]
