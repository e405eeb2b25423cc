"""Callers' own descriptors: verified, theirs, and never ignored."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from gateway.core.exchange import Head, Principal
from gateway.core.pipeline import CONTINUE
from gateway.core.reasons import Reason, Refusal
from gateway.trust.callers import DESCRIPTOR_LIMIT_BYTES, CallerDescriptors
from gateway.trust.cards import sign_card
from gateway.trust.jose import Signer, read_jwks, signer
from gateway.trust.presented import BINDING
from tests.identity.issuer import NOW
from tests.stages.exchanges import exchange
from tests.trust.descriptor_rig import CERTIFICATE, PLANNER, PROOF, ROUTE, STRICT, Desk, card, keys, rule, shown

# What counts


def test_what_somebody_trusted_signed_is_shown_to_policy_and_recorded() -> None:
    desk = Desk()
    found = desk.ask(desk.jws(skills=["plan", {"id": "book", "name": "Book"}], capabilities=["streaming"], version="1"))
    said = shown(found)
    assert said == {
        "name": "planner", "version": "1", "skills": ["plan", "book"], "capabilities": ["streaming"], "form": "jws",
        "signer": "acme", "sub": PLANNER.id, "digest": said["digest"],
    }  # fmt: skip
    assert found[1].descriptor == {"caller": {"digest": said["digest"], "form": "jws", "signer": "acme"}}
    assert said["digest"].startswith("sha256:")


def test_claims_that_nobody_asked_for_are_not_shown() -> None:
    desk = Desk()
    assert "admin" not in shown(desk.ask(desk.jws(admin=True, roles=["admin"])))


def test_what_others_recorded_stays() -> None:
    desk = Desk()
    given = exchange(principal=PLANNER)
    given.head = Head("GET", "/", "/", "", "g", "https", ((b"agent-descriptor", desk.jws()),), "")
    given.route, given.descriptor = ROUTE, {"agent": {"digest": "d"}}
    assert desk.checker.check(given) is CONTINUE
    assert set(given.descriptor) == {"agent", "caller"}


def test_a_signed_card_counts_with_what_binds_it() -> None:
    desk = Desk()
    said = shown(desk.ask(desk.card(sub=PLANNER.id)))
    assert (said["name"], said["version"], said["skills"], said["capabilities"], said["form"]) == (
        "planner", "1.2.0", ["plan"], ["streaming"], "spec",
    )  # fmt: skip


def test_without_one_the_caller_goes_on_unless_the_route_asks_for_one() -> None:
    desk = Desk()
    verdict, given = desk.ask()
    assert verdict is CONTINUE
    assert given.vouched is None
    for _ in range(2):
        assert rule(desk.ask(route=STRICT)) == "descriptor_missing"
    shown(desk.ask(desk.jws(), route=STRICT))
    again = desk.ask()[1].head
    assert desk.ask(head=again)[0] is CONTINUE
    assert rule(desk.ask(head=again, route=STRICT)) == "descriptor_missing"  # the head remembers, the route decides


def test_without_any_signer_a_descriptor_is_refused_and_absence_is_not() -> None:
    desk = Desk()
    desk.checker = CallerDescriptors([], desk.named, {}, desk.issuers, desk.clock)
    assert desk.ask()[0] is CONTINUE
    assert rule(desk.ask(desk.jws())) == "descriptor_key"


# What does not


@pytest.mark.parametrize(
    ("changed", "wanted"),
    [
        ({"exp": None}, "descriptor_malformed"),
        ({"exp": "soon"}, "descriptor_malformed"),
        ({"exp": True}, "descriptor_malformed"),
        ({"exp": int(NOW)}, "descriptor: it has expired"),
        ({"nbf": int(NOW) + 31}, "descriptor: it is not valid yet"),
        ({"iat": int(NOW) + 31}, "descriptor: it is not valid yet"),
        ({"iat": int(NOW) + 3600}, "descriptor: it is not valid yet"),
        ({"name": None}, "descriptor_malformed"),
        ({"name": ""}, "descriptor_malformed"),
        ({"name": "x" * 257}, "descriptor_malformed"),
        ({"name": "a\nb"}, "descriptor_malformed"),
        ({"name": ["planner"]}, "descriptor_malformed"),
        ({"version": 1}, "descriptor_malformed"),
        ({"skills": "plan"}, "descriptor_malformed"),
        ({"skills": [1]}, "descriptor_malformed"),
        ({"skills": [{"name": "Plan"}]}, "descriptor_malformed"),
        ({"skills": ["s"] * 257}, "descriptor_malformed"),
        ({"capabilities": [{}]}, "descriptor_malformed"),
        ({"sub": ""}, "descriptor_malformed"),
        ({"sub": 5}, "descriptor_malformed"),
        ({"sub_id": {"format": "email", "email": "x"}}, "descriptor_malformed"),
        ({"sub_id": "planner"}, "descriptor_malformed"),
        ({"sub_id": {"format": "iss_sub", "iss": "https://idp.example"}}, "descriptor_malformed"),
        ({"cnf": {}}, "descriptor_malformed"),
        ({"cnf": {"kid": "x"}}, "descriptor_malformed"),
        ({"cnf": None, "iss": "other"}, "descriptor_key"),
        ({"typ": "at+jwt"}, "descriptor_malformed"),
        ({"typ": "JWT"}, "descriptor_malformed"),
        ({"typ": "dpop+jwt"}, "descriptor_malformed"),
    ],
)
def test_a_descriptor_that_is_not_one_is_refused(changed: dict[str, Any], wanted: str) -> None:
    desk = Desk()
    assert rule(desk.ask(desk.jws(**changed))).startswith(wanted)


def test_somebody_elses_signature_is_nobodys() -> None:
    desk = Desk()
    thief = Ed25519PrivateKey.generate()
    assert rule(desk.ask(desk.jws(by=signer(thief, "other")))) == "descriptor_key"
    assert rule(desk.ask(desk.jws(by=signer(thief, "acme-1")))).startswith("descriptor: its signature is wrong")
    unnamed = Signer("", "EdDSA", signer(desk.private, "x").key)
    assert isinstance(desk.ask(desk.jws(by=unnamed))[0], Refusal)


@pytest.mark.parametrize(
    "value", [b"", b"x", b"a.b", b"a.b.c", b"e30.e30.e30", b"id:", b"id:nobody", b"sha256:00", b"=", b"\xff"]
)
def test_what_is_nothing_is_refused(value: bytes) -> None:
    desk = Desk()
    assert isinstance(desk.ask(value)[0], Refusal)
    assert rule(desk.ask(value))


def test_there_is_one_header_of_a_bounded_size() -> None:
    desk = Desk()
    assert rule(desk.ask(desk.jws(), desk.jws())) == "descriptor_several"
    assert rule(desk.ask(b"a" * (DESCRIPTOR_LIMIT_BYTES + 1))) == "descriptor_size"


def test_a_card_that_was_changed_is_refused() -> None:
    desk = Desk()
    made = json.loads(base64.urlsafe_b64decode(desk.card(sub=PLANNER.id) + b"=="))
    made["name"] = "admin"
    value = base64.urlsafe_b64encode(json.dumps(made).encode()).rstrip(b"=")
    assert rule(desk.ask(value)).startswith("descriptor: ")


def test_what_was_injected_into_a_card_is_not_believed() -> None:
    desk = Desk()
    made = json.loads(base64.urlsafe_b64decode(desk.card() + b"=="))
    made["capabilities"]["extensions"] = [{"uri": BINDING, "params": {"sub": PLANNER.id}}]
    value = base64.urlsafe_b64encode(json.dumps(made).encode()).rstrip(b"=")
    assert isinstance(desk.ask(value)[0], Refusal)


def test_a_card_is_bound_in_one_place() -> None:
    desk = Desk()
    made = card(sub=PLANNER.id)
    made["capabilities"]["extensions"] *= 2
    value = base64.urlsafe_b64encode(json.dumps(sign_card(made, desk.signer)).encode()).rstrip(b"=")
    assert rule(desk.ask(value)) == "descriptor_malformed"


# Whose it is


@pytest.mark.parametrize(
    ("claims", "mine"),
    [
        ({"sub": "agent:idp/planner"}, True),
        ({"sub": "planner"}, True),
        ({"sub": "idp/planner"}, False),
        ({"sub": "other"}, False),
        ({"sub": "Planner"}, False),
        ({"sub": None}, False),
        ({"sub": None, "sub_id": {"format": "iss_sub", "iss": "https://idp.example", "sub": "planner"}}, True),
        ({"sub": None, "sub_id": {"format": "iss_sub", "iss": "https://evil.example", "sub": "planner"}}, False),
        ({"sub": "planner", "sub_id": {"format": "iss_sub", "iss": "https://x.example", "sub": "planner"}}, False),
    ],
)
def test_by_its_subject(claims: dict[str, Any], mine: bool) -> None:
    desk = Desk()
    found = desk.ask(desk.jws(**claims))
    assert (found[0] is CONTINUE) is mine
    if not mine:
        assert rule(found) == "descriptor_binding"


@pytest.mark.parametrize("sub", ["planner", "agent:idp/planner"])
def test_with_two_issuers_a_bare_subject_could_be_either_s(sub: str) -> None:
    desk = Desk(issuers={"idp": "https://idp.example", "partners": ""})
    value = desk.jws(sub=sub)
    other = Principal("agent:partners/planner", "agent", issuer="partners", key="k")
    assert rule(desk.ask(value, principal=other)) == "descriptor_binding"
    assert (desk.ask(value)[0] is CONTINUE) is (sub == "agent:idp/planner")


def test_an_api_key_is_named_whole() -> None:
    desk = Desk()
    key = Principal("key:bob", "agent", credential="x")
    assert rule(desk.ask(desk.jws(sub="bob"), principal=key)) == "descriptor_binding"
    shown(desk.ask(desk.jws(sub="key:bob"), principal=key))


def test_nobody_has_no_descriptor() -> None:
    desk = Desk()
    nobody = Principal("anonymous", "anonymous")
    assert rule(desk.ask(desk.jws(sub="anonymous"), principal=nobody)) == "descriptor_binding"
    held = desk.jws(cnf={"x5t#S256": CERTIFICATE})
    assert rule(desk.ask(held, principal=nobody, connection=CERTIFICATE)) == "descriptor_binding"


@pytest.mark.parametrize(
    ("cnf", "proof", "connection", "mine"),
    [
        ({"jkt": PROOF}, PROOF, "", True),
        ({"jkt": PROOF}, "q" * 43, "", False),
        ({"jkt": PROOF}, "", "", False),
        ({"x5t#S256": CERTIFICATE}, "", CERTIFICATE, True),
        ({"x5t#S256": CERTIFICATE}, PROOF, "", False),
        ({"x5t#S256": CERTIFICATE}, "", "d" * 43, False),
        ({"jkt": PROOF, "x5t#S256": CERTIFICATE}, PROOF, CERTIFICATE, True),
        ({"jkt": PROOF, "x5t#S256": CERTIFICATE}, PROOF, "", False),
        ({"jkt": PROOF, "x5t#S256": CERTIFICATE}, "", CERTIFICATE, False),
    ],
)
@pytest.mark.parametrize("sub", ["whoever", "agent:idp/planner"])
def test_by_what_it_is_bound_to(cnf: dict[str, str], proof: str, connection: str, mine: bool, sub: str) -> None:
    """A binding that is said must hold, even where the subject would do."""
    desk = Desk()
    principal = Principal("agent:idp/planner", "agent", issuer="idp", key="k", proof=proof)
    found = desk.ask(desk.jws(sub=sub, cnf=cnf), principal=principal, connection=connection)
    assert (found[0] is CONTINUE) is mine


def test_by_the_very_key_it_was_signed_with() -> None:
    desk = Desk()
    proved = Principal("agent:partners/x", "agent", issuer="partners", key="k", proof=signer(desk.private).kid)
    shown(desk.ask(desk.card(), principal=proved))
    assert rule(desk.ask(desk.card())) == "descriptor_binding"


def test_a_card_is_bound_by_its_extension() -> None:
    desk = Desk()
    shown(desk.ask(desk.card(sub="planner")))
    assert rule(desk.ask(desk.card(sub="other"))) == "descriptor_binding"
    assert rule(desk.ask(desk.card(cnf={"jkt": PROOF}))) == "descriptor_binding"


# Registered ones


def test_one_that_is_registered_may_be_named() -> None:
    desk = Desk()
    desk.checker = desk.made({"planner": desk.jws(), "card": desk.card(sub="planner")})
    said = shown(desk.ask(b"id:planner"))
    assert shown(desk.ask(said["digest"].encode())) == said
    of_card = shown(desk.ask(b"id:card"))
    assert shown(desk.ask(of_card["digest"].encode())) == of_card
    assert rule(desk.ask(b"id:other")) == "descriptor_unknown"
    assert rule(desk.ask(b"sha256:" + b"0" * 64)) == "descriptor_unknown"


def test_one_that_is_registered_must_be_right_and_the_callers_all_the_same() -> None:
    desk = Desk()
    thief = signer(Ed25519PrivateKey.generate(), "acme-1")
    desk.checker = desk.made({"a": desk.jws(by=thief), "b": desk.jws(sub="other")})
    assert rule(desk.ask(b"id:a")).startswith("descriptor: ")
    assert rule(desk.ask(b"id:b")) == "descriptor_binding"


# Remembering


def test_what_was_verified_is_not_verified_again_for_a_while() -> None:
    desk = Desk()
    asked: list[int] = []
    verify = desk.source.keys.verify

    class Counting:
        def __getattr__(self, name: str) -> Any:
            return getattr(keys_, name)

        def verify(self, *given: Any) -> Any:
            asked.append(1)
            return verify(*given)

    keys_ = desk.source.keys
    desk.source.keys = Counting()
    value = desk.jws()
    for _ in range(3):
        head = desk.ask(value)[1].head
        shown(desk.ask(head=head))
    assert len(asked) == 1
    desk.clock.pass_(61)
    shown(desk.ask(value))
    assert len(asked) == 2


def test_a_kept_head_is_asked_again_for_another_caller() -> None:
    desk = Desk()
    head = desk.ask(desk.jws())[1].head
    other = Principal("agent:idp/other", "agent", issuer="idp", key="k")
    assert rule(desk.ask(head=head, principal=other)) == "descriptor_binding"


@pytest.mark.parametrize("kept", [True, False])
def test_it_ends_when_it_expires(kept: bool) -> None:
    desk = Desk()
    value = desk.jws(exp=int(NOW) + 20)
    head = desk.ask(value)[1].head
    desk.clock.pass_(20)
    assert rule(desk.ask(head=head) if kept else desk.ask(value)).startswith("descriptor: it has expired")


@pytest.mark.parametrize("kept", [True, False])
def test_it_ends_when_its_signer_takes_the_key_back(kept: bool) -> None:
    desk = Desk()
    value = desk.jws()
    head = desk.ask(value)[1].head
    desk.source.keys = keys(signer(Ed25519PrivateKey.generate(), "acme-2"))
    assert rule(desk.ask(head=head) if kept else desk.ask(value)) == "descriptor_key"


@pytest.mark.parametrize("moment", [{"exp": int(NOW)}, {"nbf": int(NOW) + 60}])
def test_a_key_that_is_not_in_force_vouches_for_nothing(moment: dict[str, int]) -> None:
    desk = Desk()
    jwk = {**desk.signer.jwk(), **moment}
    desk.source.keys = read_jwks(json.dumps({"keys": [jwk]}).encode())
    assert isinstance(desk.ask(desk.jws())[0], Refusal)
    assert isinstance(desk.ask(desk.card(sub="planner"))[0], Refusal)


@pytest.mark.parametrize("form", ["jws", "card"])
def test_a_key_that_was_published_since_is_asked_for(form: str) -> None:
    desk = Desk()
    newer = signer(Ed25519PrivateKey.generate(), "acme-2")
    desk.source.later = newer
    made = desk.jws(by=newer)
    if form == "card":
        signed = sign_card(card(sub="planner"), newer)
        made = base64.urlsafe_b64encode(json.dumps(signed).encode()).rstrip(b"=")
    shown(desk.ask(made))
    assert desk.source.asked == 1


def test_while_no_keys_can_be_had_the_caller_is_told_to_try_again() -> None:
    desk = Desk()
    value = desk.jws()
    desk.source.keys = None
    verdict, _ = desk.ask(value)
    assert isinstance(verdict, Refusal)
    assert verdict.reason is Reason.IDENTITY_UNAVAILABLE
