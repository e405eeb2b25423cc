"""The signature base: the published vectors, and what is no signature of this request."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import pytest

from gateway.core.exchange import Head
from gateway.core.reasons import Malformed
from gateway.core.tokens import Distrust, Vouched
from gateway.identity.digests import ExpectedBody
from gateway.identity.signed import read_signed
from gateway.trust.jose import KeySet, read_jwks
from tests.identity.issuer import NOW
from tests.identity.prover import Prover

VECTORS = json.loads((Path(__file__).parent.parent / "vectors" / "message_signatures.json").read_text())
REQUESTS = {case["name"]: case for case in VECTORS["requests"]}


def head(request: dict[str, Any], case: dict[str, Any]) -> Head:
    target = request["target"]
    path, _, query = target.partition("?")
    headers = [(name.encode(), value.encode()) for name, value in request["headers"]]
    headers += [(b"signature-input", case["input"].encode()), (b"signature", case["signature"].encode())]
    return Head(
        request["method"], target, path, query, request["authority"], request["scheme"], tuple(headers), "192.0.2.1"
    )


def key(case: dict[str, Any]) -> tuple[KeySet, str]:
    keys = read_jwks(json.dumps({"keys": [VECTORS["keys"][case["key"]]]}).encode())
    return keys, keys.keys[0].thumbprint


def verdict(given: Head, case: dict[str, Any]) -> Vouched | Distrust:
    signed = read_signed(given)
    keys, thumbprint = key(case)
    return keys.proves(thumbprint, case["algorithm"], signed.base(given, given.scheme), signed.signature, NOW)


@pytest.mark.parametrize("name", REQUESTS)
def test_a_published_signature_has_its_published_base_and_is_right(name: str) -> None:
    case = REQUESTS[name]
    given = head(case["request"], case)
    assert read_signed(given).base(given, given.scheme).decode() == "\n".join(case["base"])
    assert isinstance(verdict(given, case), Vouched)


@pytest.mark.parametrize("case", VECTORS["kept"], ids=lambda case: case["name"])
def test_a_change_that_is_not_covered_keeps_it_right(case: dict[str, Any]) -> None:
    of = REQUESTS[case["of"]]
    assert isinstance(verdict(head(case["request"], of), of), Vouched)


@pytest.mark.parametrize("case", VECTORS["changed"], ids=lambda case: case["name"])
def test_a_change_that_is_covered_makes_it_wrong(case: dict[str, Any]) -> None:
    of = REQUESTS[case["of"]]
    assert verdict(head(case["request"], of), of) is Distrust.SIGNATURE


@pytest.mark.parametrize("case", VECTORS["bases"], ids=lambda case: case["name"])
def test_a_published_signature_over_a_published_base_is_right(case: dict[str, Any]) -> None:
    keys, thumbprint = key(case)
    base, signature = "\n".join(case["base"]).encode(), base64.b64decode(case["signature"])
    assert isinstance(keys.proves(thumbprint, case["algorithm"], base, signature, NOW), Vouched)
    assert keys.proves(thumbprint, case["algorithm"], base + b"\n", signature, NOW) is Distrust.SIGNATURE


@pytest.mark.parametrize("case", VECTORS["digests"], ids=lambda case: case["name"])
def test_published_digests_are_right(case: dict[str, Any]) -> None:
    given = Head("POST", "/", "/", "", "a", "https", ((b"content-digest", case["header"].encode()),), "")
    no: Any = object()
    assert ExpectedBody(given, no).compared(case["body"].encode()) is None
    assert ExpectedBody(given, no).compared(case["body"].encode() + b" ") is no


# What is no signature


def presented(*headers: tuple[str, str], target: str = "/a?b=c") -> Head:
    path, _, query = target.partition("?")
    found = tuple((name.encode(), value.encode()) for name, value in headers)
    return Head("GET", target, path, query, "gw.example:8443", "https", found, "192.0.2.1")


GOOD = Prover().signature([('"@method"', "GET")], NOW)


@pytest.mark.parametrize(
    "headers",
    [
        [],
        [("signature-input", GOOD["signature-input"])],
        [("signature", GOOD["signature"])],
        [*GOOD.items(), ("signature", GOOD["signature"])],
        [*GOOD.items(), ("signature-input", GOOD["signature-input"])],
        [("signature-input", GOOD["signature-input"]), ("signature", GOOD["signature"].replace("sig1", "sig2"))],
        [("signature-input", GOOD["signature-input"]), ("signature", "sig1=" + '"text"')],
        [("signature-input", GOOD["signature-input"]), ("signature", GOOD["signature"] + ";a")],
        [("signature-input", f'{GOOD["signature-input"]}, b=("@path")'), ("signature", GOOD["signature"])],
        [
            ("signature-input", f'{GOOD["signature-input"]}, b=("@path");created=1;keyid="k"'),
            ("signature", f"{GOOD['signature']}, b=:AAEC:"),
        ],
        [("signature-input", "x" * 9000), ("signature", GOOD["signature"])],
    ],
)
def test_anything_but_one_whole_signature_is_none(headers: list[tuple[str, str]]) -> None:
    with pytest.raises(Malformed):
        read_signed(presented(*headers))


@pytest.mark.parametrize(
    "said",
    [
        '("@method");keyid="k"',
        '("@method");created=1',
        '("@method");created="1";keyid="k"',
        '("@method");created=?1;keyid="k"',
        '("@method");created=1;keyid=k',
        '("@method");created=1;keyid="k";more=1',
        '("@method");created=1;keyid="k";nonce=5',
        '("@method");created=1;keyid="k";nonce="' + "n" * 257 + '"',
        '("@method" "@method");created=1;keyid="k"',
        '("@status");created=1;keyid="k"',
        '("@query-param";name="b");created=1;keyid="k"',
        '("@method";req);created=1;keyid="k"',
        '("@method";key="x");created=1;keyid="k"',
        '("accept";bs);created=1;keyid="k"',
        '("accept";sf);created=1;keyid="k"',
        '("accept";tr);created=1;keyid="k"',
        '("accept";key=1);created=1;keyid="k"',
        '("Accept");created=1;keyid="k"',
        '(1);created=1;keyid="k"',
        '"@method";created=1;keyid="k"',
    ],
)
def test_a_signature_over_what_is_not_known_is_none(said: str) -> None:
    with pytest.raises(Malformed):
        read_signed(presented(("signature-input", f"s={said}"), ("signature", "s=:AAEC:")))


@pytest.mark.parametrize("name", ['"accept"', '"signature-agent";key="x"', '"signature-agent";key="s"'])
def test_what_is_covered_must_be_there(name: str) -> None:
    given = presented(
        ("signature-agent", 't="https://a.example"'), ("signature-input", f's=({name});created=1;keyid="k"'),
        ("signature", "s=:AAEC:"),
    )  # fmt: skip
    with pytest.raises(Malformed):
        read_signed(given).base(given, "https")


@pytest.mark.parametrize(
    ("component", "value"),
    [
        ("@method", "GET"),
        ("@authority", "gw.example:8443"),
        ("@scheme", "https"),
        ("@target-uri", "https://gw.example:8443/a%2fb?b=c&d"),
        ("@request-target", "/a%2fb?b=c&d"),
        ("@path", "/a%2fb"),
        ("@query", "?b=c&d"),
    ],
)
def test_derived_components_are_the_raw_ones(component: str, value: str) -> None:
    given = presented(
        ("signature-input", f's=("{component}");created=1;keyid="k"'), ("signature", "s=:AAEC:"),
        target="/a%2fb?b=c&d",
    )  # fmt: skip
    assert read_signed(given).base(given, "https").decode().splitlines()[0] == f'"{component}": {value}'


@pytest.mark.parametrize(
    ("authority", "scheme", "value"),
    [
        ("gw.example:443", "https", "gw.example"),
        ("gw.example:80", "http", "gw.example"),
        ("gw.example:80", "https", "gw.example:80"),
        ("gw.example:8443", "https", "gw.example:8443"),
        ("[::1]:443", "https", "[::1]"),
    ],
)
def test_a_schemes_own_port_is_left_out(authority: str, scheme: str, value: str) -> None:
    headers = ((b"signature-input", b's=("@authority");created=1;keyid="k"'), (b"signature", b"s=:AAEC:"))
    given = Head("GET", "/", "/", "", authority, "http", headers, "")
    assert read_signed(given).base(given, scheme).decode().splitlines()[0] == f'"@authority": {value}'


def test_without_a_query_the_query_is_a_question_mark() -> None:
    headers = ((b"signature-input", b's=("@query");created=1;keyid="k"'), (b"signature", b"s=:AAEC:"))
    given = Head("GET", "/x", "/x", "", "a", "https", headers, "")
    assert read_signed(given).base(given, "https").decode().splitlines()[0] == '"@query": ?'
