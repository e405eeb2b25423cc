"""What a token endpoint is asked, and what of its answer is believed."""

from __future__ import annotations

import base64
import json
from typing import Any
from urllib.parse import parse_qs

import pytest

from gateway.core.fetching import Fetched
from gateway.identity.grants import (
    ACCESS_TOKEN,
    LONGEST_SECONDS,
    UNSAID_SECONDS,
    Client,
    GrantFailed,
    client_credentials,
    read_grant,
    token_exchange,
)

CLIENT = Client(
    "https://idp.example/token", "gate way", "s:e+c%r t", scope="a b", audience="x", resource="https://x/mcp"
)
GOOD: dict[str, Any] = {"access_token": "tok-1", "token_type": "Bearer", "expires_in": 600}


def answer(said: Any, status: int = 200, kind: str = "application/json") -> Fetched:
    return Fetched(status, (("content-type", kind),), said if isinstance(said, bytes) else json.dumps(said).encode())


def form(body: bytes) -> dict[str, str]:
    return {name: value for name, [value] in parse_qs(body.decode(), strict_parsing=True).items()}


def test_client_credentials_are_asked_for_with_basic_or_in_the_form() -> None:
    asked = client_credentials(CLIENT)
    assert asked.url == "https://idp.example/token"
    assert form(asked.body) == {
        "grant_type": "client_credentials",
        "scope": "a b",
        "audience": "x",
        "resource": "https://x/mcp",
    }
    basic = dict(asked.headers)["authorization"].removeprefix("Basic ")
    assert base64.b64decode(basic) == b"gate+way:s%3Ae%2Bc%25r+t"
    posted = client_credentials(Client(CLIENT.token_url, CLIENT.client_id, CLIENT.client_secret, post=True))
    assert form(posted.body) == {
        "grant_type": "client_credentials",
        "client_id": "gate way",
        "client_secret": "s:e+c%r t",
    }
    assert "authorization" not in dict(posted.headers)


def test_an_exchange_names_subject_and_actor() -> None:
    sent = form(token_exchange(CLIENT, "caller's.token", "actor.token").body)
    assert sent["grant_type"] == "urn:ietf:params:oauth:grant-type:token-exchange"
    assert (sent["subject_token"], sent["subject_token_type"]) == ("caller's.token", ACCESS_TOKEN)
    assert (sent["actor_token"], sent["actor_token_type"]) == ("actor.token", ACCESS_TOKEN)
    assert "actor_token" not in form(token_exchange(CLIENT, "t", None).body)


def test_no_secret_and_no_token_is_in_a_repr() -> None:
    shown = repr((CLIENT, token_exchange(CLIENT, "the-subject", "the-actor"), read_grant(answer(GOOD))))
    for secret in ("s:e+c%r t", "the-subject", "the-actor", "tok-1", "Basic"):
        assert secret not in shown


@pytest.mark.parametrize(
    ("changed", "seconds"),
    [
        ({}, 600),
        ({"expires_in": None}, UNSAID_SECONDS),
        ({"expires_in": 1.5}, 1.5),
        ({"expires_in": 10**9}, LONGEST_SECONDS),
        ({"token_type": "bEaReR"}, 600),
        ({"refresh_token": "r", "scope": "a"}, 600),
    ],
)
def test_a_token_lives_as_long_as_is_said_within_bounds(changed: dict[str, Any], seconds: float) -> None:
    found = read_grant(answer({**GOOD, **changed}))
    assert (found.token, found.seconds) == ("tok-1", seconds)


@pytest.mark.parametrize(
    "said",
    [
        b"",
        b"[]",
        b"{",
        b'"x"',
        b"null",
        b'{"access_token":"a","access_token":"b","token_type":"Bearer"}',
        {},
        {**GOOD, "access_token": None},
        {**GOOD, "access_token": ""},
        {**GOOD, "access_token": "a b"},
        {**GOOD, "access_token": "a\r\nx: y"},
        {**GOOD, "access_token": "\u00fc"},
        {**GOOD, "access_token": "a" * 16385},
        {**GOOD, "access_token": ["tok-1"]},
        {**GOOD, "token_type": None},
        {**GOOD, "token_type": "DPoP"},
        {**GOOD, "token_type": "N_A"},
        {**GOOD, "expires_in": "600"},
        {**GOOD, "expires_in": 0},
        {**GOOD, "expires_in": -1},
        {**GOOD, "expires_in": True},
    ],
    ids=repr,
)
def test_an_answer_that_is_not_just_a_bearer_token_is_none(said: Any) -> None:
    with pytest.raises(GrantFailed):
        read_grant(answer(said))


def test_an_answer_of_another_kind_or_status_is_none_whatever_it_contains() -> None:
    for wrong in (answer(GOOD, kind="text/html"), answer(GOOD, kind=""), answer(GOOD, 201), answer(GOOD, 500)):
        with pytest.raises(GrantFailed):
            read_grant(wrong)


@pytest.mark.parametrize("which", ["subject", "actor"])
def test_a_token_that_was_sent_is_not_taken_back(which: str) -> None:
    with pytest.raises(GrantFailed, match="sent back"):
        read_grant(answer({**GOOD, "access_token": which, "issued_token_type": ACCESS_TOKEN}), ("subject", "actor"))


@pytest.mark.parametrize("kind", [None, "urn:ietf:params:oauth:token-type:refresh_token", "urn:x", 7])
def test_an_exchange_must_say_that_it_issued_an_access_token(kind: Any) -> None:
    with pytest.raises(GrantFailed):
        read_grant(answer({**GOOD, "issued_token_type": kind}), exchanged=True)
    assert read_grant(answer({**GOOD, "issued_token_type": ACCESS_TOKEN}), exchanged=True).token == "tok-1"


def test_of_a_refusal_the_error_code_is_told_and_nothing_that_could_be_a_secret() -> None:
    said = {"error": "invalid_grant", "error_description": "token eyJ.secret is bad", "error_uri": "https://x"}
    with pytest.raises(GrantFailed) as told:
        read_grant(answer(said, 400))
    assert str(told.value) == "the authorization server answered 400 invalid_grant"
    for odd in ({"error": "Invalid eyJ.secret"}, {"error": ["x"]}, b"<html>secret"):
        with pytest.raises(GrantFailed) as told:
            read_grant(answer(odd, 400))
        assert str(told.value) == "the authorization server answered 400"
