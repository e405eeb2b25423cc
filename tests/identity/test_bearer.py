from __future__ import annotations

import json
from typing import Any

import pytest

from gateway.core.reasons import Reason
from gateway.identity.bearer import Bearer, Mapped
from gateway.trust.jose import read_token
from tests.identity.issuer import HandClock, Issuer, ask, bearer, caller, known, refused


def test_a_good_token_says_who_calls() -> None:
    idp = Issuer()
    token = idp.token(org="acme", roles=["reader", "writer", "reader"], client_id="cli-7")
    found = known(ask(caller(idp), bearer(token)))
    assert found.id == "agent:idp/planner"
    assert (found.type, found.issuer, found.org, found.agent) == ("agent", "idp", "acme", "cli-7")
    assert found.roles == ("reader", "writer")
    assert found.expires == idp.claims()["exp"] + idp.settings().leeway
    assert found.key == idp.signer.key.thumbprint()


def test_the_principal_carries_a_digest_and_no_credential() -> None:
    idp = Issuer()
    token = idp.token()
    found = known(ask(caller(idp), bearer(token)))
    assert len(found.credential) == 64
    assert token.decode() not in repr(found)


def test_what_the_token_does_not_say_is_absent() -> None:
    found = known(ask(caller(idp := Issuer()), bearer(idp.token())))
    assert (found.org, found.roles, found.agent, found.delegated_by) == (None, (), None, ())


def test_the_issuer_is_picked_by_iss_and_each_signs_for_itself_alone() -> None:
    clock = HandClock()
    one, two = Issuer(clock=clock), Issuer("other", "https://other.example", clock)
    who = caller(one, two)
    assert known(ask(who, bearer(two.token()))).id == "agent:other/planner"
    forged = two.token(iss=one.url)  # same kid, another's key
    assert refused(ask(who, bearer(forged))).rule == "token_signature"


@pytest.mark.parametrize(
    "issuer", ["https://idp.example/", "https://IDP.example", "", None, 7, ["https://idp.example"]]
)
def test_an_issuer_that_is_not_exactly_configured_is_refused(issuer: Any) -> None:
    idp = Issuer()
    assert refused(ask(caller(idp), bearer(idp.token(iss=issuer)))).rule == "token_issuer"


@pytest.mark.parametrize(("sent", "rule"), [(None, "exp"), ("soon", "exp"), (True, "exp"), (-1, "exp"), ([1], "exp")])
def test_a_token_without_a_clear_end_is_refused(sent: Any, rule: str) -> None:
    idp = Issuer()
    assert refused(ask(caller(idp), bearer(idp.token(exp=sent)))).rule == rule


def test_an_expired_token_is_refused_after_the_leeway_and_says_so() -> None:
    idp = Issuer()
    token = idp.token(exp=int(idp.clock.time()) + 10)
    who = caller(idp, leeway=30.0)
    idp.clock.pass_(39)
    known(ask(who, bearer(token)))
    idp.clock.pass_(1)
    verdict = refused(ask(who, bearer(token)))
    assert verdict.reason is Reason.UNAUTHENTICATED
    assert "expired" in verdict.text


@pytest.mark.parametrize("claim", ["nbf", "iat"])
def test_a_token_from_the_future_is_refused_beyond_the_leeway(claim: str) -> None:
    idp = Issuer()
    who = caller(idp, leeway=30.0)
    near, far = (idp.token(**{claim: idp.clock.time() + ahead}) for ahead in (30, 31))
    known(ask(who, bearer(near)))
    assert refused(ask(who, bearer(far))).rule == "token_dates"


@pytest.mark.parametrize("claim", ["nbf", "iat"])
def test_dates_in_the_wrong_order_are_refused(claim: str) -> None:
    idp = Issuer()
    now = int(idp.clock.time())
    assert refused(ask(caller(idp), bearer(idp.token(exp=now, **{claim: now + 5})))).rule == "token_dates"


def test_a_leeway_above_a_minute_is_not_accepted_as_a_setting() -> None:
    with pytest.raises(ValueError, match="leeway"):
        caller(Issuer(), leeway=60.5)


@pytest.mark.parametrize("audience", ["tollgate", ["other", "tollgate"]])
def test_an_audience_may_be_text_or_a_list(audience: Any) -> None:
    idp = Issuer()
    known(ask(caller(idp), bearer(idp.token(aud=audience))))


@pytest.mark.parametrize("audience", ["other", ["other"], [], None, "Tollgate", 7, [7, "tollgate"], {"a": "tollgate"}])
def test_a_token_for_somebody_else_is_refused(audience: Any) -> None:
    idp = Issuer()
    assert refused(ask(caller(idp), bearer(idp.token(aud=audience)))).rule == "token_audience"


@pytest.mark.parametrize("typ", ["dpop+jwt", "JOSE", "logout+jwt", "secevent+jwt"])
def test_another_kind_of_token_is_no_access_token(typ: str) -> None:
    idp = Issuer()
    assert refused(ask(caller(idp), bearer(idp.token(typ=typ)))).rule == "token_type"


@pytest.mark.parametrize("typ", ["JWT", "at+jwt", "application/at+jwt", "AT+JWT"])
def test_the_spellings_of_an_access_token_are_accepted(typ: str) -> None:
    idp = Issuer()
    known(ask(caller(idp), bearer(idp.token(typ=typ))))


def test_a_token_bound_to_a_key_is_refused() -> None:
    idp = Issuer()
    assert refused(ask(caller(idp), bearer(idp.token(cnf={"jkt": "x"})))).rule == "cnf"


@pytest.mark.parametrize("subject", [None, "", 7, ["a"], "a\nb", "a\x1b[2J", "a\u202eb", "x" * 257, True])
def test_a_subject_that_is_no_short_printable_text_is_refused(subject: Any) -> None:
    idp = Issuer()
    assert refused(ask(caller(idp), bearer(idp.token(sub=subject)))).rule == "token_claim"


def test_subjects_are_never_folded_together() -> None:
    """threats.md row 58: case, composition and trailing space are different callers."""
    idp = Issuer()
    who = caller(idp)
    spellings = ["alice", "Alice", "alice ", "\u00e9", "e\u0301"]
    assert len({known(ask(who, bearer(idp.token(sub=one)))).id for one in spellings}) == len(spellings)


def test_the_configured_claim_names_the_subject() -> None:
    idp = Issuer()
    found = known(ask(caller(idp, subject="email"), bearer(idp.token(email="a@b.example"))))
    assert found.id == "agent:idp/a@b.example"


def test_a_fixed_organisation_overrules_the_token() -> None:
    idp = Issuer()
    found = known(ask(caller(idp, org=Mapped(const="acme")), bearer(idp.token(org="evil"))))
    assert found.org == "acme"


def test_an_organisation_the_issuer_may_not_speak_for_is_refused() -> None:
    idp = Issuer()
    who = caller(idp, org=Mapped(claim="org", of=frozenset({"acme"})))
    assert known(ask(who, bearer(idp.token(org="acme")))).org == "acme"
    assert refused(ask(who, bearer(idp.token(org="other")))).rule == "token_org"
    refused(ask(who, bearer(idp.token())))


def test_a_team_counts_only_as_the_issuer_may_say_it() -> None:
    idp = Issuer()
    assert known(ask(caller(idp), bearer(idp.token(team="red")))).team is None
    who = caller(idp, team=Mapped(claim="squad.name", of=frozenset({"red"})))
    assert known(ask(who, bearer(idp.token(squad={"name": "red"})))).team == "red"
    assert refused(ask(who, bearer(idp.token(squad={"name": "blue"})))).rule == "token_team"
    assert known(ask(caller(idp, team=Mapped(const="all")), bearer(idp.token()))).team == "all"


def test_without_a_mapping_the_token_says_nothing_about_organisation_and_roles() -> None:
    idp = Issuer()
    found = known(ask(caller(idp, org=None, roles=None), bearer(idp.token(org="acme", roles=["admin"]))))
    assert (found.org, found.roles) == (None, ())


def test_roles_the_issuer_may_not_give_do_not_count() -> None:
    idp = Issuer()
    who = caller(idp, roles=Mapped(claim="roles", of=frozenset({"reader"})))
    assert known(ask(who, bearer(idp.token(roles=["admin", "reader"])))).roles == ("reader",)


def test_one_role_as_text_is_one_role_and_is_not_split() -> None:
    idp = Issuer()
    assert known(ask(caller(idp), bearer(idp.token(roles="read admin")))).roles == ("read admin",)


def test_scopes_are_split_at_spaces_as_their_rfc_says() -> None:
    idp = Issuer()
    who = caller(idp, roles=Mapped(claim="scope"))
    assert known(ask(who, bearer(idp.token(scope="read write")))).roles == ("read", "write")


def test_claims_are_found_below_others_and_a_dot_in_a_name_is_escaped() -> None:
    idp = Issuer()
    nested = caller(
        idp,
        roles=Mapped(claim="realm_access.roles", of=frozenset({"reader", "writer"})),
        org=Mapped(claim=r"https://acme\.example/org"),
        agent=r"act\\or.client\.id",
    )
    token = idp.token(
        realm_access={"roles": ["reader", "admin"]},
        roles=["writer"],
        org="evil",
        **{"https://acme.example/org": "acme", "realm_access.roles": ["writer"], "act\\or": {"client.id": "planner"}},
    )
    found = known(ask(nested, bearer(token)))
    assert (found.roles, found.org, found.agent) == (("reader",), "acme", "planner")
    bare = known(ask(nested, bearer(idp.token(realm_access={}))))
    assert (bare.roles, bare.org, bare.agent) == ((), None, None)


@pytest.mark.parametrize("above", ["reader", ["reader"], 7, None, [{"roles": ["reader"]}]])
def test_what_is_no_object_where_one_should_be_refuses_the_token(above: Any) -> None:
    idp = Issuer()
    claims = idp.claims() | {"realm_access": above}
    token = idp.raw(b'{"alg":"Ed25519","kid":"k1","typ":"at+jwt"}', json.dumps(claims).encode())
    found = refused(ask(caller(idp, roles=Mapped(claim="realm_access.roles")), bearer(token)))
    assert found.rule == "token_claim"


def test_the_subject_too_may_stand_below_another_claim() -> None:
    idp = Issuer()
    who = caller(idp, subject="user.login")
    assert known(ask(who, bearer(idp.token(user={"login": "ann"})))).id == "agent:idp/ann"
    assert refused(ask(who, bearer(idp.token()))).rule == "token_claim"


@pytest.mark.parametrize("roles", [7, {"admin": True}, [7], [["admin"]], [""], ["a\n"], ["r"] * 257])
def test_roles_of_a_wrong_type_refuse_the_token(roles: Any) -> None:
    idp = Issuer()
    assert refused(ask(caller(idp), bearer(idp.token(roles=roles)))).rule == "token_claim"


def test_delegation_is_told_present_actor_first() -> None:
    clock = HandClock()
    idp, other = Issuer(clock=clock), Issuer("other", "https://other.example", clock)
    chain = {"sub": "agent-2", "act": {"sub": "agent-1", "iss": other.url}}
    assert known(ask(caller(idp, other), bearer(idp.token(act=chain)))).delegated_by == ("idp/agent-2", "other/agent-1")


@pytest.mark.parametrize(
    "act", ["agent", [], {}, {"sub": 7}, {"sub": "a", "iss": "https://unknown.example"}, {"sub": "a", "act": "b"}]
)
def test_a_delegation_that_is_no_chain_of_known_actors_is_refused(act: Any) -> None:
    idp = Issuer()
    refused(ask(caller(idp), bearer(idp.token(act=act))))


def test_a_delegation_deeper_than_eight_is_refused() -> None:
    idp = Issuer()

    def chain(depth: int) -> Any:
        return {"sub": "a", "act": chain(depth - 1)} if depth > 1 else {"sub": "a"}

    assert len(known(ask(caller(idp), bearer(idp.token(act=chain(8))))).delegated_by) == 8
    assert refused(ask(caller(idp), bearer(idp.token(act=chain(9))))).rule == "act"


@pytest.mark.parametrize("changed", [{"name": "twin"}, {"issuer": "https://twin.example"}])
def test_two_issuers_may_not_share_a_name_or_an_address(changed: dict[str, str]) -> None:
    idp = Issuer()
    with pytest.raises(ValueError, match="two issuers"):
        Bearer([(idp.settings(), idp.source), (idp.settings(**changed), idp.source)], read_token, idp.clock)


@pytest.mark.parametrize(
    "changed",
    [
        {"audiences": frozenset()},
        {"algorithms": frozenset()},
        {"type": "key"},
        {"type": "anonymous"},
        {"type": "a:b"},
        {"name": "a/b"},
        {"issuer": ""},
    ],
)
def test_settings_that_would_accept_too_much_are_refused(changed: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="issuer"):
        caller(Issuer(), **changed)


def test_the_newer_name_of_an_algorithm_in_the_settings_means_the_same() -> None:
    idp = Issuer()
    known(ask(caller(idp, algorithms=frozenset({"Ed25519"})), bearer(idp.token())))
