"""Tokens that are bound to a key: with the key's proof they count, without it for nobody."""

from __future__ import annotations

from typing import Any

import pytest

from gateway.core.exchange import Head, Header, Principal
from gateway.core.reasons import Reason, Refusal
from gateway.core.snapshot import Route
from gateway.identity.dpop import AHEAD_SECONDS, NONCE_SECONDS, PROOF_LIMIT_BYTES, Nonces, same_address
from tests.identity.bound_rig import URL, Bound
from tests.identity.issuer import OPEN_ROUTE, ROUTE, HandClock, bearer, challenge, head, known, refused
from tests.identity.prover import Prover, p256


@pytest.mark.parametrize("key", [None, p256()], ids=["Ed25519", "P-256"])
def test_a_bound_token_with_its_proof_is_its_subject(key: Any) -> None:
    door = Bound(Prover(key) if key else None)
    found = known(door.ask(*door.headers(door.token())))
    assert (found.id, found.proof) == ("agent:idp/planner", door.prover.thumbprint)


@pytest.mark.parametrize("scheme", ["dpop", "DPOP", "DPoP"])
def test_the_scheme_is_read_in_any_case(scheme: str) -> None:
    door = Bound()
    token = door.token()
    _, proof = door.headers(token)
    known(door.ask((b"authorization", f"{scheme} {token}".encode()), proof))


@pytest.mark.parametrize("name", [b"authorization", b"x-api-key", b"api-key"])
def test_a_bound_token_without_a_proof_is_nobodys(name: bytes) -> None:
    door = Bound()
    token = door.token().encode()
    found = door.ask((name, b"Bearer " + token if name == b"authorization" else token))
    assert refused(found).reason is Reason.UNAUTHENTICATED
    assert refused(found).rule == "dpop_missing"
    assert challenge(found).startswith('DPoP algs="EdDSA ES256", error="invalid_token"')


def test_a_proof_beside_bearer_does_not_count() -> None:
    """RFC 9449 section 7.2: or a stolen token would need a proof only where the thief says so."""
    door = Bound()
    token = door.token()
    _, proof = door.headers(token)
    assert refused(door.ask((b"authorization", f"Bearer {token}".encode()), proof)).rule == "dpop_missing"


def test_an_unbound_token_as_dpop_is_refused() -> None:
    door = Bound()
    token = door.token(cnf=None)
    assert refused(door.ask(*door.headers(token))).rule == "dpop_unbound"
    known(door.ask(bearer(token.encode())))


def test_a_remembered_token_is_proved_again() -> None:
    door = Bound()
    token = door.token()
    known(door.ask(*door.headers(token)))
    assert refused(door.ask((b"authorization", f"DPoP {token}".encode()))).rule == "dpop_malformed"
    assert refused(door.ask(bearer(token.encode()))).rule == "dpop_missing"
    same = head((b"authorization", f"DPoP {token}".encode()))
    for _ in range(2):  # nor does a head that was read before
        verdict = door.caller.authenticate(same, ROUTE)
        assert isinstance(verdict, Refusal)


@pytest.mark.parametrize(
    ("changed", "rule"),
    [
        ({"method": "GET"}, "dpop_method"),
        ({"method": "post"}, "dpop_method"),
        ({"url": "https://gw.example/weather/"}, "dpop_url"),
        ({"url": "https://gw.example/"}, "dpop_url"),
        ({"url": "https://gw.example/Weather"}, "dpop_url"),
        ({"url": "https://gw.example/%77eather"}, "dpop_url"),
        ({"url": "http://gw.example/weather"}, "dpop_url"),
        ({"url": "https://gw.example:8443/weather"}, "dpop_url"),
        ({"url": "https://other.example/weather"}, "dpop_url"),
        ({"url": "https://gw.example@evil.example/weather"}, "dpop_url"),
        ({"url": "/weather"}, "dpop_url"),
        ({"iat": 0}, "dpop_time"),
        ({"ath": None}, "dpop_malformed"),
        ({"ath": "x" * 43}, "dpop_token"),
        ({"jti": None}, "dpop_malformed"),
        ({"jti": ""}, "dpop_malformed"),
        ({"jti": "j" * 513}, "dpop_malformed"),
        ({"jti": 5}, "dpop_malformed"),
        ({"htm": None}, "dpop_malformed"),
        ({"htu": None}, "dpop_malformed"),
        ({"iat": None}, "dpop_malformed"),
        ({"iat": "now"}, "dpop_malformed"),
        ({"iat": True}, "dpop_malformed"),
        ({"nonce": 5}, "dpop_malformed"),
        ({"header": {"typ": "JWT"}}, "dpop_malformed"),
        ({"header": {"typ": None}}, "dpop_malformed"),
        ({"header": {"jwk": None}}, "dpop_malformed"),
        ({"header": {"crit": []}}, "dpop_malformed"),
        ({"header": {"jku": "https://evil.example"}}, "dpop_malformed"),
    ],
)
def test_a_proof_of_something_else_is_refused(changed: dict[str, Any], rule: str) -> None:
    door = Bound()
    found = door.ask(*door.headers(door.token(), **changed))
    assert refused(found).rule == rule
    assert refused(found).reason is Reason.UNAUTHENTICATED
    assert 'error="invalid_dpop_proof"' in challenge(found)


@pytest.mark.parametrize(
    ("said", "same"),
    [
        ("https://gw.example/weather", True),
        ("HTTPS://GW.Example/weather", True),
        ("https://gw.example:443/weather", True),
        ("https://gw.example/weather?a=b", True),
        ("https://gw.example/weather#x", True),
        ("https://gw.example:80/weather", False),
        ("https://gw.example/weather\n", False),
        ("https://gw.example\\@x/weather", False),
    ],
)
def test_addresses_are_compared_as_they_stand(said: str, same: bool) -> None:
    assert same_address(said, "https://gw.example/weather") is same


def test_an_empty_path_is_the_root() -> None:
    assert same_address("https://gw.example", "https://gw.example/")


def test_a_query_is_not_part_of_the_address() -> None:
    door = Bound()
    known(door.ask(*door.headers(door.token()), query="a=b"))


def test_a_route_of_a_host_of_its_own_has_that_hosts_address() -> None:
    door = Bound()
    route = Route("tools", "", "tools.example", "weather", "required", "json")
    refused(door.ask(*door.headers(door.token()), route=route))
    known(door.ask(*door.headers(door.token(), url="https://tools.example/weather"), route=route))


@pytest.mark.parametrize(("late", "good"), [(0, True), (59, True), (61, False), (-14, True), (-16, False)])
def test_a_proof_is_good_just_now(late: int, good: bool) -> None:
    door = Bound()
    token = door.token()
    given = door.headers(token)
    door.clock.pass_(late)
    found = door.ask(*given)
    assert isinstance(found, Principal) is good
    assert AHEAD_SECONDS == 15


def test_another_keys_proof_is_not_the_tokens() -> None:
    door, thief = Bound(), Prover()
    token = door.token()
    given = thief.proof("POST", URL, token, door.clock.time())
    found = door.ask((b"authorization", f"DPoP {token}".encode()), (b"dpop", given.encode()))
    assert refused(found).rule == "dpop_key"
    assert 'error="invalid_token"' in challenge(found)


def test_a_proof_that_claims_a_key_it_was_not_made_with_is_refused() -> None:
    door, thief = Bound(), Prover()
    token = door.token()
    given = thief.proof("POST", URL, token, door.clock.time(), header={"jwk": door.prover.jwk})
    found = door.ask((b"authorization", f"DPoP {token}".encode()), (b"dpop", given.encode()))
    assert refused(found).rule == "dpop_malformed"


@pytest.mark.parametrize("count", [0, 2])
def test_there_is_exactly_one_proof(count: int) -> None:
    door = Bound()
    credential, proof = door.headers(door.token())
    assert refused(door.ask(credential, *[proof] * count)).rule == "dpop_malformed"


def test_a_proof_has_a_size() -> None:
    door = Bound()
    found = door.ask(*door.headers(door.token(), jti="j", pad="x" * PROOF_LIMIT_BYTES))
    assert "larger than" in refused(found).text


@pytest.mark.parametrize(
    "cnf",
    [
        None, {}, [], "x", {"jkt": "short"}, {"jkt": 5}, {"jkt": ""}, {"kid": "x"}, {"jwk": {}},
        {"jkt": "a" * 43, "kid": "x"}, {"x5t#S256": "*" * 43}, {"jkt": "a" * 44},
    ],
)  # fmt: skip
def test_a_binding_that_cannot_be_checked_refuses_the_token(cnf: Any) -> None:
    door = Bound()
    claims = door.idp.claims() | {"cnf": cnf}
    token = Prover(door.idp.private).jws({"alg": "EdDSA", "kid": door.idp.kid, "typ": "at+jwt"}, claims)
    assert refused(door.ask(bearer(token.encode()))).rule == "cnf"


def test_a_route_for_anybody_lets_no_bound_token_pass_without_its_proof() -> None:
    door = Bound()
    assert refused(door.ask(bearer(door.token().encode()), route=OPEN_ROUTE)).rule == "dpop_missing"


# Counting once


def test_a_proof_counts_once() -> None:
    door = Bound()
    given = head(*door.headers(door.token()))
    for wanted in (None, "dpop_replay"):
        found = door.caller.authenticate(given, ROUTE)
        assert isinstance(found, Principal)  # asking who calls uses nothing up
        verdict = door.once(given, found)
        assert (verdict and verdict.rule) == wanted
    again = head(*given.headers[:2])  # another connection
    found = door.caller.authenticate(again, ROUTE)
    assert isinstance(found, Principal)
    assert door.once(again, found) is not None


def test_a_proof_made_before_the_gateway_began_does_not_count() -> None:
    """Another process may have seen it."""
    door = Bound()
    given = head(*door.headers(door.token(), iat=int(door.clock.time()) - 10))
    found = door.caller.authenticate(given, ROUTE)
    assert isinstance(found, Principal)
    verdict = door.once(given, found)
    assert verdict is not None
    assert verdict.rule == "dpop_replay"


def test_a_memory_that_is_full_refuses_for_the_moment() -> None:
    door = Bound(share=2)
    token = door.token()
    for wanted in (None, None, Reason.OVERLOADED):
        given = head(*door.headers(token, jti=f"j{wanted}{door.clock.mono}"))
        found = door.caller.authenticate(given, ROUTE)
        assert isinstance(found, Principal)
        verdict = door.once(given, found)
        assert (verdict and verdict.reason) == wanted
        door.clock.pass_(1)


# Nonces


def test_with_nonces_a_proof_without_one_is_told_the_next() -> None:
    door = Bound(nonces=True)
    token = door.token()
    found = door.ask(*door.headers(token))
    assert refused(found).rule == "dpop_nonce"
    assert 'error="use_dpop_nonce"' in challenge(found)
    nonce = dict(refused(found).headers)[b"dpop-nonce"].decode()
    known(door.ask(*door.headers(token, nonce=nonce)))


def test_a_nonce_is_good_for_a_while() -> None:
    door = Bound(nonces=True)
    token, nonce = door.token(), door.nonces.give()
    door.clock.pass_(NONCE_SECONDS)
    known(door.ask(*door.headers(token, nonce=nonce)))
    door.clock.pass_(NONCE_SECONDS)
    assert refused(door.ask(*door.headers(token, nonce=nonce))).rule == "dpop_nonce"


@pytest.mark.parametrize("nonce", ["", "x", "\ud800", "0" * 24])
def test_a_nonce_is_the_gateways_own(nonce: str) -> None:
    clock = HandClock()
    mine, other = Nonces(b"a" * 32, clock), Nonces(b"b" * 32, clock)
    assert mine.takes(mine.give())
    assert not mine.takes(other.give())
    assert not mine.takes(nonce)


# Certificates (RFC 8705)

CERTIFICATE = "c" * 43


def over(connection: str, *headers: Header) -> Head:
    plain = head(*headers)
    return Head(
        plain.method, plain.target, plain.path, plain.query, plain.authority, plain.scheme, plain.headers, plain.peer,
        certificate=connection,
    )  # fmt: skip


@pytest.mark.parametrize("connection", ["", "d" * 43])
def test_a_token_bound_to_a_certificate_counts_on_that_connection_only(connection: str) -> None:
    door = Bound()
    token = bearer(door.token(cnf={"x5t#S256": CERTIFICATE}).encode())
    for _ in range(2):
        mine, other = over(CERTIFICATE, token), over(connection, token)
        for _ in range(2):
            assert isinstance(door.caller.authenticate(mine, ROUTE), Principal)
            found = door.caller.authenticate(other, ROUTE)
            assert isinstance(found, Refusal)
            assert found.rule == "cnf_certificate"


def test_a_token_bound_to_both_needs_both() -> None:
    door = Bound()
    token = door.token(cnf={"jkt": door.prover.thumbprint, "x5t#S256": CERTIFICATE})
    assert isinstance(door.caller.authenticate(over(CERTIFICATE, *door.headers(token)), ROUTE), Principal)
    for given in (over("", *door.headers(token)), over(CERTIFICATE, bearer(token.encode()))):
        assert isinstance(door.caller.authenticate(given, ROUTE), Refusal)
