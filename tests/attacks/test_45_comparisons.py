"""Secrets are compared by digest lookup or `hmac.compare_digest`, never by `==` on the way of a credential."""

from __future__ import annotations

import ast
import hmac
from pathlib import Path

import pytest

from gateway.identity import apikey
from gateway.identity.apikey import mint
from tests.identity.issuer import HandClock, api_keys, ask, caller, known, refused

ROW = 45
GATEWAY = Path(apikey.__file__).resolve().parents[1]
SECRET = {"credential", "digest", "hash", "hashed", "signature", "value", "first", "one"}


def compared(tree: ast.AST) -> list[tuple[int, str]]:
    """`==` and `!=` between two names of which one may hold a secret."""
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Compare) and any(isinstance(op, ast.Eq | ast.NotEq) for op in node.ops):
            sides = [node.left, *node.comparators]
            names = [getattr(side, "id", getattr(side, "attr", "")) for side in sides]
            if not any(isinstance(side, ast.Constant) for side in sides) and SECRET.intersection(names):
                found.append((node.lineno, " == ".join(names)))
    return found


@pytest.mark.parametrize("name", ["identity/caller.py", "identity/apikey.py", "identity/bearer.py", "trust/jose.py"])
def test_no_secret_is_compared_by_equality(name: str) -> None:
    assert compared(ast.parse((GATEWAY / name).read_text())) == []


def test_the_search_would_find_one() -> None:
    assert compared(ast.parse("if entry.hash == digest: pass")) == [(1, "hash == digest")]


def test_every_judgement_of_a_key_is_one_constant_time_comparison(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """For a known id, an unknown id and a key of no form at all: the same comparison of the same length."""
    clock = HandClock()
    key, hashed = mint("bob")
    who = caller(clock=clock, api_keys=api_keys(tmp_path / "k", [{"id": "bob", "sha256": hashed}], clock))
    lengths: list[tuple[int, int]] = []

    def counting(one: bytes, other: bytes) -> bool:
        lengths.append((len(one), len(other)))
        return hmac.compare_digest(one, other)

    class Counting:
        compare_digest = staticmethod(counting)

    monkeypatch.setattr(apikey, "hmac", Counting)
    known(ask(who, (b"x-api-key", key.encode())))
    for wrong in (key[:-1] + ("A" if key[-1] != "A" else "B"), "tg_nobody_" + key[-43:], "tg_short"):
        refused(ask(who, (b"x-api-key", wrong.encode())))
    assert lengths == [(32, 32)] * 4
