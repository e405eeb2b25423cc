"""A token made for somebody else opens nothing here (the part of the row that is about `aud`)."""

from __future__ import annotations

from typing import Any

import pytest

from gateway.core.reasons import Reason
from tests.identity.issuer import Issuer, ask, bearer, caller, challenge, known, refused

ROW = 37


@pytest.mark.parametrize(
    "audience",
    [
        "https://upstream.example",
        ["https://upstream.example", "account"],
        "tollgate ",
        "TOLLGATE",
        "tollgate,other",
        "tollgate/weather",
        ["tollgate", 7],
        {"tollgate": True},
        [],
        None,
    ],
)
def test_a_token_for_another_audience_is_401_and_names_the_error(audience: Any) -> None:
    idp = Issuer()
    found = ask(caller(idp), bearer(idp.token(aud=audience)))
    assert refused(found).reason is Reason.UNAUTHENTICATED
    assert refused(found).http_status == 401
    assert 'error="invalid_token"' in challenge(found)


def test_an_issuers_own_client_id_or_issuer_name_is_no_audience() -> None:
    idp = Issuer()
    refused(ask(caller(idp), bearer(idp.token(aud=None, azp="tollgate", client_id="tollgate"))))


def test_the_audience_of_one_issuer_is_not_that_of_another() -> None:
    """Two issuers with two audiences: a token is judged by the audience of the issuer that signed it."""
    one = Issuer()
    two = Issuer("other", "https://other.example", one.clock)
    who = caller(one, two, audiences=frozenset({"only-for-one"}))
    known(ask(who, bearer(one.token(aud="only-for-one"))))
    refused(ask(who, bearer(two.token(aud="only-for-one"))))
    refused(ask(who, bearer(one.token(aud="tollgate"))))
