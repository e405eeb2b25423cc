"""`tollgate card`: what the gateway would believe of a card, and cards that others believe."""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    KeySerializationEncryption,
    NoEncryption,
    PrivateFormat,
)

from gateway.trust.cards import Voucher, verify_card
from gateway.trust.jose import KeySet, read_jwk, read_jwks, signer
from tests.cli.rig_cli import Shell
from tests.flows.canned import answer, canned
from tests.trust.card_rig import ACME, OTHER, THIEF, card, jwks, signed


@pytest.fixture
def here(folder: Path) -> Path:
    (folder / "acme.jwks.json").write_bytes(jwks(ACME))
    return folder


def written(found: dict[str, Any]) -> Path:
    path = Path("card.json")
    path.write_text(json.dumps(found))
    return path


def pem(key: Any, encryption: KeySerializationEncryption | None = None) -> bytes:
    made: bytes = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encryption or NoEncryption())
    return made


def test_a_card_of_somebody_trusted_is_verified(shell: Shell, here: Path) -> None:
    found = shell("card", "verify", written(signed(card(), ACME)), "--jwks", "acme.jwks.json", "--json")
    assert found.code == 0
    assert (found.json["verified"], found.json["form"], found.json["kid"]) == (True, "spec", "acme-1")
    assert found.json["uncovered"] == []
    text = shell("card", "verify", "card.json", "--jwks", "acme.jwks.json")
    assert (text.code, text.err) == (0, "")
    assert "form: spec" in text.out


def test_what_the_signature_does_not_cover_is_named(shell: Shell, here: Path) -> None:
    spoiled = signed(card(), ACME) | {"peers": ["x"], "url": "https://evil.example"}
    spoiled["skills"][0]["instructions"] = "x"
    found = shell("card", "verify", written(spoiled), "--jwks", "acme.jwks.json", "--json")
    assert found.json["uncovered"] == ["skills[0].instructions", "peers", "url"]
    assert "skills[0].instructions, peers, url" in shell("card", "verify", "card.json", "--jwks", "acme.jwks.json").err


@pytest.mark.parametrize(
    "found",
    [
        card(),
        signed(card(), THIEF),
        {**signed(card(), ACME), "name": "changed"},
        {**signed(card(), ACME), "skills": {}},
    ],
    ids=["unsigned", "stranger", "changed", "no card"],
)
def test_a_card_that_cannot_be_verified_is_4(shell: Shell, here: Path, found: dict[str, Any]) -> None:
    ran = shell("card", "verify", written(found), "--jwks", "acme.jwks.json", "--json")
    assert ran.code == 4
    assert ran.json["verified"] is False
    assert ran.json["why"]
    assert "not verified" in shell("card", "verify", "card.json", "--jwks", "acme.jwks.json").err


def test_only_the_form_that_is_asked_for_counts(shell: Shell, here: Path) -> None:
    bare = {name: value for name, value in card().items() if name != "description"}
    written(signed(bare, ACME) | {"description": ""})
    codes = [
        shell("card", "verify", "card.json", "--jwks", "acme.jwks.json", "--form", form).code
        for form in ("spec", "sdk", "any")
    ]
    assert codes == [4, 0, 0]


def test_a_card_comes_from_a_pipe(shell: Shell, here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Pipe:
        buffer = io.BytesIO(json.dumps(signed(card(), ACME)).encode())

    monkeypatch.setattr(sys, "stdin", Pipe())
    assert shell("card", "verify", "-", "--jwks", "acme.jwks.json").code == 0


def test_a_card_and_its_keys_come_from_addresses(shell: Shell, here: Path) -> None:
    with canned() as agent:
        found = signed(card(), OTHER, jku=agent.url + "/jwks.json")
        agent.says["/.well-known/agent-card.json"] = answer(json.dumps(found).encode())
        agent.says["/jwks.json"] = answer(jwks(OTHER))
        for place in (agent.url, agent.url + "/.well-known/agent-card.json"):
            ran = shell("card", "verify", place, "--allow-jku", agent.url, "--json")
            assert (ran.code, ran.json["kid"]) == (0, "other-1")
        asked = len(agent.heads)
        assert shell("card", "verify", agent.url, "--jwks", "acme.jwks.json").code == 4
        assert shell("card", "verify", agent.url, "--allow-jku", "https://elsewhere.example").code == 4
        assert len(agent.heads) == asked + 2
        agent.says["/jwks.json"] = answer(b"", status="404 Not Found")
        ran = shell("card", "verify", agent.url, "--allow-jku", agent.url)
        assert (ran.code, "404" in ran.err) == (4, True)
        agent.says["/.well-known/agent-card.json"] = answer(b"", "text/html", "302 Found", "Location: /jwks.json")
        assert shell("card", "verify", agent.url, "--jwks", "acme.jwks.json").code == 4


@pytest.mark.parametrize(
    "arguments",
    [
        (),
        ("--jwks", "missing.json"),
        ("--jwks", "gateway.yaml"),
        ("--allow-jku", "acme.example"),
        ("--allow-jku", "https://acme.example/keys"),
        ("--jwks", "acme.jwks.json", "--form", "all"),
    ],
)
def test_what_is_asked_wrongly_is_told_apart(shell: Shell, here: Path, arguments: tuple[str, ...]) -> None:
    ran = shell("card", "verify", written(signed(card(), ACME)), *arguments)
    assert ran.code in (1, 2)
    assert ran.out == ""


KEYS = {
    "EdDSA": ed25519.Ed25519PrivateKey.generate(),
    "ES256": ec.generate_private_key(ec.SECP256R1()),
    "ES384": ec.generate_private_key(ec.SECP384R1()),
    "RS256": rsa.generate_private_key(65537, 2048),
}


@pytest.mark.parametrize("algorithm", [*KEYS, "PS256"])
def test_a_card_is_signed_with_a_key_in_a_file(shell: Shell, here: Path, algorithm: str) -> None:
    pss = algorithm == "PS256"
    key = KEYS["RS256" if pss else algorithm]
    path = Path("own.pem")
    path.write_bytes(pem(key))
    path.chmod(0o600)
    more = ("--pss",) if pss else ()
    ran = shell("card", "sign", written(card()), "--key", path, "--kid", "own-1", "--jku", "https://a.example/k", *more)
    assert ran.code == 0
    assert f"signed with {algorithm} key own-1" in ran.err
    public = read_jwk(signer(key, "own-1", pss=pss).jwk())
    believed = verify_card(ran.json, [Voucher("own", KeySet([public]))], 0.0)
    assert (believed.card, believed.kid) == (card(), "own-1")


def test_a_key_under_a_passphrase_needs_it(shell: Shell, here: Path) -> None:
    path = Path("own.pem")
    path.write_bytes(pem(KEYS["ES256"], BestAvailableEncryption(b"correct horse")))
    Path("right").write_text("correct horse\n")
    Path("wrong").write_text("battery\n")
    written(card())
    assert shell("card", "sign", "card.json", "--key", path).code == 1
    assert shell("card", "sign", "card.json", "--key", path, "--passphrase-file", "wrong").code == 1
    ran = shell("card", "sign", "card.json", "--key", path, "--passphrase-file", "right")
    assert ran.code == 0
    assert "may be read by others" in ran.err


def test_the_gateways_own_key_signs_what_its_key_set_verifies(shell: Shell, here: Path) -> None:
    written(card(description=""))
    assert shell("card", "sign", "card.json", "--data-dir", "var").code == 1
    assert shell("keys", "new", "cards").code == 0
    ran = shell("card", "sign", "card.json", "--data-dir", "var")
    published = read_jwks(json.dumps(shell("keys", "jwks").json).encode())
    believed = verify_card(ran.json, [Voucher("gateway", published)], 0.0)
    assert (believed.form, believed.card) == ("spec", card(description=""))


def test_signatures_are_replaced_unless_they_are_to_stay(shell: Shell, here: Path) -> None:
    Path("own.pem").write_bytes(pem(KEYS["EdDSA"]))
    before = signed(card(), ACME)
    written(before)
    replaced = shell("card", "sign", "card.json", "--key", "own.pem").json["signatures"]
    assert before["signatures"][0] not in replaced
    kept = shell("card", "sign", "card.json", "--key", "own.pem", "--add").json
    assert kept["signatures"] == [*before["signatures"], *replaced]
    Path("card.json").write_text(json.dumps(kept))
    assert shell("card", "verify", "card.json", "--jwks", "acme.jwks.json").code == 0


@pytest.mark.parametrize("content", ["[]", "{", '{"name": 1}', '{"name": "a", "name": "b"}'])
def test_what_is_no_card_is_not_signed(shell: Shell, here: Path, content: str) -> None:
    Path("own.pem").write_bytes(pem(KEYS["EdDSA"]))
    Path("card.json").write_text(content)
    ran = shell("card", "sign", "card.json", "--key", "own.pem")
    assert (ran.code, ran.out) == (1, "")


def test_weak_and_strange_keys_sign_nothing(shell: Shell, here: Path) -> None:
    written(card())
    for key in (ec.generate_private_key(ec.SECP521R1()), rsa.generate_private_key(65537, 1024)):
        Path("own.pem").write_bytes(pem(key))
        assert shell("card", "sign", "card.json", "--key", "own.pem").code == 1
    Path("own.pem").write_text("nonsense")
    assert shell("card", "sign", "card.json", "--key", "own.pem").code == 1
    assert shell("card", "sign", "card.json").code == 2
    assert shell("card", "sign", "card.json", "--key", "own.pem", "--data-dir", "var").code == 2
