from __future__ import annotations

from pathlib import Path

import pytest

from gateway.core.exchange import Header, Principal
from gateway.core.reasons import Reason
from gateway.core.snapshot import Route
from gateway.identity.apikey import mint
from gateway.identity.caller import REMEMBER_SECONDS
from gateway.identity.challenge import Challenges
from gateway.trust.jose import signer
from tests.identity.issuer import (
    OPEN_ROUTE,
    HandClock,
    Issuer,
    Keys,
    api_keys,
    ask,
    bearer,
    caller,
    challenge,
    head,
    key_set,
    known,
    refused,
)

KEY, HASH = mint("bob")


@pytest.mark.parametrize("name", [b"x-api-key", b"api-key"])
def test_a_token_may_come_where_a_vendors_client_puts_its_key(name: bytes) -> None:
    idp = Issuer()
    assert known(ask(caller(idp), (name, idp.token()))).id == "agent:idp/planner"


@pytest.mark.parametrize("name", [b"x-api-key", b"api-key", b"authorization"])
def test_a_key_may_come_in_each_of_the_three_headers(tmp_path: Path, name: bytes) -> None:
    clock = HandClock()
    who = caller(clock=clock, api_keys=api_keys(tmp_path / "k", [{"id": "bob", "sha256": HASH}], clock))
    value = b"Bearer " + KEY.encode() if name == b"authorization" else KEY.encode()
    assert known(ask(who, (name, value))).id == "key:bob"


@pytest.mark.parametrize("scheme", [b"Bearer ", b"bearer ", b"BEARER "])
def test_the_scheme_is_read_in_any_case(scheme: bytes) -> None:
    idp = Issuer()
    known(ask(caller(idp), (b"authorization", scheme + idp.token())))


@pytest.mark.parametrize("value", [b"Basic YTpi", b"Bearer", b"Bearer ", b"", b"DPoP x", b"Bearer\tx", b"Token x"])
def test_another_scheme_or_an_empty_credential_is_401(value: bytes) -> None:
    assert refused(ask(caller(Issuer()), (b"authorization", value))).reason is Reason.UNAUTHENTICATED


def test_a_good_token_under_another_scheme_is_401() -> None:
    idp = Issuer()
    for scheme in (b"Basic ", b"Token ", b"Bearer:", b" ", b"Bearer,Bearer "):
        verdict = refused(ask(caller(idp), (b"authorization", scheme + idp.token())))
        assert verdict.rule == "credential_scheme"


def test_a_token_with_anything_around_it_is_refused() -> None:
    idp = Issuer()
    for value in (b" " + idp.token(), idp.token() + b" ", idp.token() + b",x", idp.token() + b"="):
        refused(ask(caller(idp), (b"authorization", b"Bearer " + value)))


def test_no_credential_is_401_with_a_bare_challenge() -> None:
    found = ask(caller(Issuer()))
    assert refused(found).reason is Reason.UNAUTHENTICATED
    assert challenge(found) == (
        'Bearer resource_metadata="https://gw.example/.well-known/oauth-protected-resource/weather"'
    )


def test_a_bad_credential_is_401_with_an_error_and_no_reason_from_the_inside() -> None:
    idp = Issuer()
    stranger = Issuer()
    said = challenge(ask(caller(idp), bearer(stranger.token())))
    assert said.startswith('Bearer error="invalid_token", error_description="')
    assert 'resource_metadata="https://gw.example/.well-known/oauth-protected-resource/weather"' in said
    assert "signature" not in said


@pytest.mark.parametrize(
    ("public", "path", "host", "resource"),
    [
        ("https://gw.example", "/weather", "", "https://gw.example/weather"),
        ("https://gw.example/", "/a/b", "", "https://gw.example/a/b"),
        ("http://127.0.0.1:8080", "", "", "http://127.0.0.1:8080"),
        ("https://gw.example:8443", "", "tools.example", "https://tools.example:8443"),
        ("https://gw.example", "/x", "tools.example", "https://tools.example/x"),
    ],
)
def test_a_resource_and_its_metadata_have_the_address_that_callers_use(
    public: str, path: str, host: str, resource: str
) -> None:
    said = Challenges(public)
    assert said.resource_url(path, host) == resource
    origin = resource.removesuffix(path) if path else resource
    assert said.metadata_url(path, host) == f"{origin}/.well-known/oauth-protected-resource{path}"


def test_the_metadata_of_a_route_matched_by_host_is_at_that_host() -> None:
    route = Route("tools", "", "tools.example", "weather", "required", "json")
    found = ask(caller(Issuer()), route=route)
    assert challenge(found) == 'Bearer resource_metadata="https://tools.example/.well-known/oauth-protected-resource"'


def test_two_different_credentials_are_400(tmp_path: Path) -> None:
    idp = Issuer()
    clock = idp.clock
    who = caller(idp, api_keys=api_keys(tmp_path / "k", [{"id": "bob", "sha256": HASH}], clock))
    found = ask(who, bearer(idp.token()), (b"x-api-key", KEY.encode()))
    assert refused(found).reason is Reason.MALFORMED
    assert 'error="invalid_request"' in challenge(found)


@pytest.mark.parametrize(
    "headers",
    [
        [(b"authorization", b"Basic YTpi"), (b"x-api-key", KEY.encode())],
        [(b"x-api-key", b""), (b"api-key", KEY.encode())],
        [(b"x-api-key", KEY.encode()), (b"api-key", b"")],
        [(b"x-api-key", b""), (b"api-key", b"")],
        [(b"x-api-key", KEY.encode()), (b"x-api-key", KEY.encode())],
        [(b"authorization", b"Bearer " + KEY.encode()), (b"authorization", b"Bearer " + KEY.encode())],
        [(b"x-api-key", KEY.encode()), (b"api-key", KEY.encode()), (b"authorization", b"Bearer other")],
    ],
)
def test_credentials_that_are_not_one_are_400(tmp_path: Path, headers: list[Header]) -> None:
    clock = HandClock()
    who = caller(clock=clock, api_keys=api_keys(tmp_path / "k", [{"id": "bob", "sha256": HASH}], clock))
    assert refused(ask(who, *headers)).reason is Reason.MALFORMED


def test_the_same_credential_in_different_headers_is_one(tmp_path: Path) -> None:
    clock = HandClock()
    who = caller(clock=clock, api_keys=api_keys(tmp_path / "k", [{"id": "bob", "sha256": HASH}], clock))
    every = [(b"x-api-key", KEY.encode()), (b"api-key", KEY.encode()), (b"authorization", b"Bearer " + KEY.encode())]
    assert known(ask(who, *every)).id == "key:bob"


@pytest.mark.parametrize(
    "query",
    [
        "access_token=x",
        "a=1&access_token=x",
        "ACCESS_TOKEN=x",
        "access%5ftoken=x",
        "api_key=x",
        "api-key=x",
        "apikey=x",
        "x-api-key=x",
        "subscription-key=x",
        "a=1;apikey=x",
        pytest.param(f"anything={KEY}", id="a key"),
        pytest.param(f"anything={KEY.replace('tg_', 'tg%5F')}", id="an escaped key"),
    ],
)
def test_a_credential_in_the_query_is_refused_with_and_without_another(query: str) -> None:
    idp = Issuer()
    for headers in ((), (bearer(idp.token()),), (bearer(idp.token()), (b"api-key", idp.token()))):
        found = ask(caller(idp), *headers, query=query, route=OPEN_ROUTE)
        assert refused(found).reason is Reason.MALFORMED
        assert 'error="invalid_request"' in challenge(found)


@pytest.mark.parametrize("query", ["key=city", "q=access_token", "token=1", "api_key=", "a=b&c", "q=api_key%3Dx"])
def test_other_queries_pass(query: str) -> None:
    idp = Issuer()
    known(ask(caller(idp), bearer(idp.token()), query=query))


def test_an_open_route_lets_a_caller_without_credential_in() -> None:
    found = known(ask(caller(Issuer()), route=OPEN_ROUTE))
    assert (found.id, found.type) == ("anonymous", "anonymous")


@pytest.mark.parametrize(
    "header", [bearer(b"nonsense"), (b"x-api-key", b"tg_bob_x"), (b"authorization", b"Basic YTpi")]
)
def test_a_bad_credential_is_401_on_an_open_route_too(header: Header) -> None:
    assert refused(ask(caller(Issuer()), header, route=OPEN_ROUTE)).reason is Reason.UNAUTHENTICATED


def test_a_good_credential_counts_on_an_open_route() -> None:
    idp = Issuer()
    assert known(ask(caller(idp), bearer(idp.token()), route=OPEN_ROUTE)).id == "agent:idp/planner"


def test_a_verified_token_is_remembered_and_answers_without_waiting() -> None:
    idp = Issuer()
    who = caller(idp)
    token = idp.token()
    first = known(ask(who, bearer(token)))
    again = who.authenticate(head(bearer(token)), OPEN_ROUTE)
    assert again is first


def test_a_remembered_token_is_verified_again_after_a_minute() -> None:
    idp = Issuer()
    who = caller(idp)
    token = idp.token()
    first = known(ask(who, bearer(token)))
    idp.clock.pass_(REMEMBER_SECONDS - 0.1)
    assert known(ask(who, bearer(token))) is first
    idp.clock.pass_(0.1)
    again = known(ask(who, bearer(token)))
    assert again is not first
    assert again == first


def test_a_remembered_token_is_forgotten_with_its_expiry() -> None:
    idp = Issuer()
    who = caller(idp, leeway=0.0)
    token = idp.token(exp=idp.clock.time() + 5)
    known(ask(who, bearer(token)))
    idp.clock.pass_(4.9)
    known(ask(who, bearer(token)))
    idp.clock.pass_(0.1)
    assert refused(ask(who, bearer(token))).rule == "token_expired"


def test_a_clock_turned_back_does_not_prolong_what_is_remembered() -> None:
    idp = Issuer()
    who = caller(idp)
    token = idp.token()
    first = known(ask(who, bearer(token)))
    idp.clock.mono += REMEMBER_SECONDS
    idp.clock.wall -= 3600
    assert known(ask(who, bearer(token))) is not first


def test_keys_that_changed_make_every_remembered_token_be_verified_again() -> None:
    idp = Issuer()
    who = caller(idp)
    token = idp.token()
    found = known(ask(who, bearer(token)))
    idp.source.keys = key_set(signer(Issuer().private, "k1"))
    assert not who.alive(found)
    assert refused(ask(who, bearer(token))).reason is Reason.UNAUTHENTICATED


def test_what_is_remembered_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.identity.caller.REMEMBER_TOKENS", 3)
    idp = Issuer()
    who = caller(idp)
    tokens = [idp.token(jti=str(number)) for number in range(5)]
    found = [known(ask(who, bearer(token))) for token in tokens]
    assert [known(ask(who, bearer(token))) is former for token, former in zip(tokens[2:], found[2:], strict=True)] == [
        True,
        True,
        True,
    ]
    assert known(ask(who, bearer(tokens[0]))) is not found[0]


def test_refused_tokens_are_not_remembered() -> None:
    idp = Issuer()
    who = caller(idp)
    refused(ask(who, bearer(idp.token(aud="other"))))
    assert not who._remembered


def test_an_unknown_key_is_fetched_once_and_then_accepted() -> None:
    idp = Issuer()
    former = key_set(signer(Issuer().private, "old"))
    idp.source = Keys(former, later=key_set(idp.signer))
    who = caller(idp)
    token = idp.token()
    assert known(ask(who, bearer(token))).id == "agent:idp/planner"
    assert idp.source.refreshes == 1
    assert isinstance(who.authenticate(head(bearer(token)), OPEN_ROUTE), Principal)


def test_an_unknown_key_that_stays_unknown_is_401() -> None:
    idp = Issuer()
    idp.source = Keys(key_set(signer(Issuer().private, "old")))
    assert refused(ask(caller(idp), bearer(idp.token()))).rule == "token_key"


def test_no_keys_at_all_is_503_for_that_issuers_callers_alone(tmp_path: Path) -> None:
    clock = HandClock()
    dark, lit = Issuer(clock=clock), Issuer("other", "https://other.example", clock)
    dark.source.keys = None
    who = caller(dark, lit, api_keys=api_keys(tmp_path / "k", [{"id": "bob", "sha256": HASH}], clock))
    verdict = refused(ask(who, bearer(dark.token())))
    assert verdict.reason is Reason.IDENTITY_UNAVAILABLE
    assert (verdict.http_status, verdict.retry_after) == (503, 5)
    known(ask(who, bearer(lit.token())))
    known(ask(who, (b"x-api-key", KEY.encode())))


def test_keys_that_come_while_a_caller_waits_let_it_in() -> None:
    idp = Issuer()
    idp.source = Keys(None, later=idp.source.keys)
    known(ask(caller(idp), bearer(idp.token())))


def test_a_stream_dies_with_its_token_its_issuer_or_its_key() -> None:
    idp = Issuer()
    who = caller(idp, leeway=0.0)
    found = known(ask(who, bearer(idp.token(exp=idp.clock.time() + 10))))
    assert who.alive(found)
    assert caller(idp).alive(found), "a newer snapshot answers for what a former one let in"
    assert not caller(Issuer("other", "https://other.example")).alive(found), "issuer gone"
    keys, idp.source.keys = idp.source.keys, None
    assert not who.alive(found), "keys gone"
    idp.source.keys = keys
    idp.clock.pass_(10)
    assert not who.alive(found), "expired"


def test_an_anonymous_stream_stays() -> None:
    who = caller(Issuer())
    assert who.alive(known(ask(who, route=OPEN_ROUTE)))


def test_a_principal_of_no_known_kind_is_not_alive() -> None:
    assert not caller(Issuer()).alive(Principal(id="agent:idp/planner", type="agent"))
