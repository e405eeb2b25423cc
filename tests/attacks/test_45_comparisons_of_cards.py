"""Nothing about a card's signature is decided by comparing bytes one by one: it is arithmetic or a hashed lookup."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from gateway.core.reasons import Unverified
from gateway.trust.cards import verify_card
from gateway.trust.jose import decoded, encoded
from tests.trust.card_rig import ACME, OTHER, acme, card, signed

ROW = 45
TRUST = Path(__file__).resolve().parents[2] / "gateway" / "trust"
FILES = sorted([*TRUST.glob("card*.py"), TRUST / "jose_detached.py", TRUST / "signers.py"])
SECRETIVE = {"signature", "signed", "payload", "key", "thumbprint", "mac", "protected", "sign"}


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_no_signature_key_or_payload_is_compared(path: Path) -> None:
    wrong = []
    for node in ast.walk(ast.parse(path.read_text())):
        if not isinstance(node, ast.Compare) or not any(isinstance(op, ast.Eq | ast.NotEq) for op in node.ops):
            continue
        for side in (node.left, *node.comparators):
            name = side.attr if isinstance(side, ast.Attribute) else side.id if isinstance(side, ast.Name) else ""
            if name in SECRETIVE:
                wrong.append(f"{path.name}:{node.lineno} {name}")
    assert FILES
    assert not wrong


@pytest.mark.parametrize("by", [ACME, OTHER], ids=["ES256", "EdDSA"])
def test_a_signature_that_is_nearly_right_is_as_wrong_as_any(by: object) -> None:
    found = signed(card(), by)  # type: ignore[arg-type]
    item = found["signatures"][0]
    raw = decoded(item["signature"].encode())
    spoiled = [
        raw[:-1],
        raw + b"\0",
        raw[:-1] + bytes([raw[-1] ^ 1]),
        bytes([raw[0] ^ 128]) + raw[1:],
        b"\0" * len(raw),
    ]
    for signature in spoiled:
        changed = {**found, "signatures": [{**item, "signature": encoded(signature).decode()}]}
        with pytest.raises(Unverified):
            verify_card(changed, acme(by), 0.0)  # type: ignore[arg-type]
