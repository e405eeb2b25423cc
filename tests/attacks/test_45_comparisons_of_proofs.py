"""What proves a caller is looked up by its hash, verified by arithmetic, or compared in constant time."""

from __future__ import annotations

import ast
import hmac
from pathlib import Path

import pytest

from gateway.core.exchange import Principal
from gateway.identity import dpop
from gateway.identity.dpop import Nonces
from tests.identity.bound_rig import Bound
from tests.identity.issuer import HandClock

ROW = 45
GATEWAY = Path(dpop.__file__).resolve().parents[1]
FILES = [
    "identity/dpop.py", "identity/possession.py", "identity/signature.py", "identity/signed.py", "identity/digests.py",
    "identity/replays.py", "trust/proofs.py", "trust/callers.py", "trust/presented.py", "core/confirmation.py",
]  # fmt: skip
SECRET = {
    "nonce",
    "token",
    "signature",
    "said",
    "digest",
    "proof",
    "mac",
    "secret",
    "ath",
    "jti",
    "certificate",
    "bound",
}


@pytest.mark.parametrize("name", FILES)
def test_nothing_that_proves_is_compared_by_equality(name: str) -> None:
    wrong = []
    for node in ast.walk(ast.parse((GATEWAY / name).read_text())):
        if isinstance(node, ast.Compare) and any(isinstance(op, ast.Eq | ast.NotEq) for op in node.ops):
            sides = [node.left, *node.comparators]
            names = {getattr(side, "id", getattr(side, "attr", "")) for side in sides}
            if not any(isinstance(side, ast.Constant) for side in sides) and SECRET & names:
                wrong.append((node.lineno, names))
    assert wrong == []


def test_a_nonce_and_a_tokens_digest_are_compared_in_constant_time(monkeypatch: pytest.MonkeyPatch) -> None:
    lengths: list[tuple[int, int]] = []

    class Counting:
        digest = staticmethod(hmac.digest)

        @staticmethod
        def compare_digest(one: bytes, other: bytes) -> bool:
            lengths.append((len(one), len(other)))
            return hmac.compare_digest(one, other)

    monkeypatch.setattr(dpop, "hmac", Counting)
    nonces = Nonces(b"s" * 32, HandClock())
    assert nonces.takes(nonces.give())
    assert not nonces.takes("x" * 24)
    assert lengths == [(24, 24)] * 3
    lengths.clear()
    door = Bound()
    assert isinstance(door.ask(*door.headers(door.token())), Principal)
    assert not isinstance(door.ask(*door.headers(door.token(), ath="x" * 43)), Principal)
    assert lengths == [(43, 43)] * 3  # the digest twice, the key once
