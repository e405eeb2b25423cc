"""Cards and the official SDKs, unmodified: what they sign is believed here, what is signed here they believe."""

from __future__ import annotations

import copy
import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from rig import ROOT, gateway, routes_to, until

from gateway.core.reasons import Unverified
from gateway.demo.started import upstreams
from gateway.trust.cards import Voucher, sign_card, verify_card
from gateway.trust.jose import KeySet, Signer, read_jwk, signer
from tests.trust.card_rig import acme, card, legacy, signed

pytestmark = pytest.mark.slow

CLIENTS = ROOT / "tests" / "clients"
SDKS = {
    "python": [str(ROOT / ".cache/clients/a2a/bin/python"), str(CLIENTS / "a2a/cards.py")],
    "javascript": [str(ROOT / ".cache/node/node_modules/.bin/node"), str(CLIENTS / "node/cards.mjs")],
}
RSA = rsa.generate_private_key(65537, 2048)
SIGNERS = {
    "ES256": signer(ec.generate_private_key(ec.SECP256R1()), "acme-1"),
    "ES384": signer(ec.generate_private_key(ec.SECP384R1()), "acme-1"),
    "EdDSA": signer(ed25519.Ed25519PrivateKey.generate(), "acme-1"),
    "RS256": signer(RSA, "acme-1"),
    "PS256": signer(RSA, "acme-1", pss=True),
}
EMPTY = card(
    description="",
    defaultOutputModes=[],
    securityRequirements=[],
    skills=[{"id": "book", "name": "Book", "description": "", "tags": []}],
)
CARDS = {"plain": card(), "empty": EMPTY, "future": card(trustedPeers=["https://friend.example"], futures={"x": []})}


def ask(sdk: str, **asked: Any) -> Any:
    if not Path(SDKS[sdk][0]).exists():
        pytest.fail(f"{SDKS[sdk][0]} is not here: run make test, whose tests/components.sh installs it")
    done = subprocess.run(
        SDKS[sdk], input=json.dumps(asked), text=True, capture_output=True, timeout=60, check=False, cwd=CLIENTS
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads(done.stdout)


def private(by: Signer) -> dict[str, Any]:
    return {**by.key.as_dict(private=True), "kid": by.kid, "alg": by.algorithm}


@pytest.mark.parametrize("sdk", SDKS)
@pytest.mark.parametrize("algorithm", SIGNERS)
def test_what_an_sdk_signs_is_believed(sdk: str, algorithm: str) -> None:
    by = SIGNERS[algorithm]
    header: dict[str, Any] = {"alg": algorithm, "kid": "acme-1", "typ": "JOSE"}
    if sdk == "python":
        header["jku"] = None  # its own type asks for the member
    open_card = {name: value for name, value in card().items() if name != "securitySchemes"}
    for found in (open_card, card(), EMPTY):
        shown = {"description": "", **ask(sdk, do="sign", card=found, jwk=private(by), header=header)}
        believed = verify_card(shown, acme(by), 0.0)
        form = "spec" if found is open_card or (found != EMPTY and sdk == "python") else "compat"
        assert (believed.form, believed.card["name"]) == (form, found["name"])
        assert ("securitySchemes" in believed.card) == (found is not open_card and sdk == "python")
        injected = copy.deepcopy(shown)
        injected["skills"][0]["instructions"] = "evil"
        injected["trustedPeers"] = ["https://evil.example"]
        assert "evil" not in json.dumps(verify_card(injected, acme(by), 0.0).card)
        injected["skills"][0]["description"] = "changed"
        with pytest.raises(Unverified):
            verify_card(injected, acme(by), 0.0)


@pytest.mark.parametrize("sdk", SDKS)
@pytest.mark.parametrize("found", CARDS.values(), ids=CARDS)
def test_what_is_signed_here_an_sdk_believes(sdk: str, found: dict[str, Any]) -> None:
    for algorithm in ("EdDSA", "ES256"):
        by = SIGNERS[algorithm]
        made = sign_card(found, by, jku="https://gw.example/.well-known/jwks.json", original="sha256:00")
        keys = {"keys": [by.jwk()]}
        assert ask(sdk, do="verify", card=made, jwks=keys) == {"verified": True}
        assert not ask(sdk, do="verify", card={**made, "name": "changed"}, jwks=keys)["verified"]


def test_a_literal_signature_over_empty_required_members_is_believed_here_and_by_neither_sdk() -> None:
    """Why cards are signed twice where the two forms differ."""
    by = SIGNERS["ES256"]
    literal = signed(EMPTY | {"securityRequirements": None}, by, payload=canonical_of(EMPTY))
    assert verify_card(literal, acme(by), 0.0).form == "spec"
    for sdk in SDKS:
        assert not ask(sdk, do="verify", card=literal, jwks={"keys": [by.jwk()]})["verified"]
        twice = sign_card(EMPTY, by)
        assert ask(sdk, do="verify", card=twice, jwks={"keys": [by.jwk()]})["verified"]
        assert verify_card(twice, acme(by), 0.0, ("spec",)).form == "spec"


def canonical_of(found: dict[str, Any]) -> bytes:
    """RFC 8785 by hand: nothing in it but text and lists."""
    bare = {name: value for name, value in found.items() if name != "securityRequirements"}
    return json.dumps(bare, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


@pytest.mark.parametrize("sdk", SDKS)
def test_the_card_that_the_gateway_shows_is_believed_with_the_keys_it_names(sdk: str, tmp_path: Path) -> None:
    with upstreams() as bases, gateway(tmp_path, **routes_to(bases)) as running:
        end = "/" if sdk == "javascript" else ""  # it resolves the card's address against its base URL
        url = f"{running.url}/concierge{end}"
        found = ask(sdk, do="fetch", url=url, credential=running.issuer.token())
        assert found["verified"], found
        assert found["jku"] == running.url + "/.well-known/jwks.json"
        shown = [item["url"] for item in found["card"]["supportedInterfaces"]]
        assert shown == [running.url + "/concierge/rpc", running.url + "/concierge/rest"]
        former = running.app.ring.current("cards").kid
        assert found["kid"] == former
        rotated = running.app.ring.rotate("cards").kid
        assert rotated != former

        def signed_by() -> str:
            found = ask(sdk, do="fetch", url=url, credential=running.issuer.token())
            assert found["verified"], found  # also while the key changes
            return str(found["kid"])

        until(lambda: signed_by() == rotated)


def test_an_older_card_signed_here_is_believed_here() -> None:
    """The SDKs of v1.0 read it as one of theirs before they look: no signature over a card of v0.3 is right then."""
    by = SIGNERS["EdDSA"]
    made = sign_card(legacy(), by)
    assert verify_card(made, [Voucher("gateway", KeySet([read_jwk(by.jwk())]))], 0.0).card == legacy()
