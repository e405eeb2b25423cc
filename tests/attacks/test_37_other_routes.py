"""Row 37, the confused deputy within: a token issued for one route's resource opens no other route."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import httpx2
import pytest
from rig import gateway

from gateway.core.exchange import Principal
from gateway.core.reasons import Refusal
from gateway.core.snapshot import Route
from gateway.identity.bearer import Bearer
from gateway.identity.caller import Caller
from gateway.identity.challenge import Challenges
from gateway.trust.jose import read_token
from tests.flows.canned import canned, open_policy
from tests.identity.issuer import Issuer, bearer, head

ROW = 37
BASE = "https://gw.example"
WEATHER, PAYMENTS = f"{BASE}/weather", f"{BASE}/payments"
BELOW, HOSTED = f"{BASE}/weather/admin", "https://tools.example"
RESOURCES = (WEATHER, PAYMENTS, BELOW, HOSTED)


def who(idp: Issuer) -> Caller:
    judge = Bearer([(idp.settings(), idp.source)], read_token, idp.clock, RESOURCES)
    return Caller(judge, None, Challenges(BASE), idp.clock)


def at(resource: str, caller: Caller, *headers: Any) -> Principal | Refusal:
    route = Route("r", "/r", "", "u", "required", "json", resource=resource)
    found = caller.authenticate(head(*headers), route)
    assert isinstance(found, Principal | Refusal)
    return found


@pytest.mark.parametrize("first", RESOURCES)
def test_a_token_for_one_resource_opens_that_route_and_no_other_in_whatever_order(first: str) -> None:
    idp = Issuer()
    token = idp.token(aud=first)
    for order in (RESOURCES, RESOURCES[::-1]):
        caller = who(idp)  # it remembers what it verified: that must not open more
        for resource in (*order, *order):
            found = at(resource, caller, bearer(token))
            assert isinstance(found, Principal) == (resource == first), (first, resource)
            if isinstance(found, Refusal):
                assert (found.http_status, found.rule) == (401, "token_audience")


def test_a_token_for_two_resources_opens_these_two() -> None:
    idp = Issuer()
    caller, token = who(idp), idp.token(aud=[WEATHER, HOSTED, "https://elsewhere.example/x"])
    opened = [resource for resource in RESOURCES if isinstance(at(resource, caller, bearer(token)), Principal)]
    assert opened == [WEATHER, HOSTED]


def test_a_token_for_the_gateway_opens_every_route() -> None:
    idp = Issuer()
    caller = who(idp)
    for audience in ("tollgate", ["tollgate", WEATHER]):
        assert all(isinstance(at(one, caller, bearer(idp.token(aud=audience))), Principal) for one in RESOURCES)


@pytest.mark.parametrize(
    "audience",
    [
        WEATHER + "/",
        WEATHER.upper(),
        WEATHER + "?x",
        WEATHER + "#x",
        "http://gw.example/weather",
        "/weather",
        "https://gw.example:443/weather",
        BASE,
        BASE + "/",
        "https://gw.example/weather/forecast",
        "https://gw.example.evil/weather",
    ],
)
def test_a_resource_is_compared_exactly(audience: str) -> None:
    idp = Issuer()
    assert isinstance(at(WEATHER, who(idp), bearer(idp.token(aud=audience))), Refusal)


def test_an_origin_may_be_written_with_the_slash_that_url_parsers_add() -> None:
    idp = Issuer()
    assert isinstance(at(HOSTED, who(idp), bearer(idp.token(aud=HOSTED + "/"))), Principal)
    assert isinstance(at(WEATHER, who(idp), bearer(idp.token(aud=HOSTED + "/"))), Refusal)


def test_the_same_kept_connection_is_judged_by_the_route_of_each_request() -> None:
    """The head remembers whose credential it was: that must not carry over to a route with another resource."""
    idp = Issuer()
    caller, same = who(idp), head(bearer(idp.token(aud=WEATHER)))
    for resource, good in ((WEATHER, True), (PAYMENTS, False), (WEATHER, True), (PAYMENTS, False)):
        route = Route("r", "/r", "", "u", "required", "json", resource=resource)
        assert isinstance(caller.authenticate(same, route), Principal) == good


def test_over_the_wire_a_token_for_one_route_is_401_at_the_other_and_nothing_is_forwarded(tmp_path: Path) -> None:
    with canned() as upstream:
        routes = [{"name": name, "match": {"path": f"/{name}"}, "upstream": "files"} for name in ("one", "two")]
        settings = {"upstreams": {"files": {"url": upstream.url, "protocol": "http"}}, "routes": routes}
        with gateway(tmp_path, policy=open_policy(tmp_path), **settings) as gate:
            token = {"authorization": f"Bearer {gate.issuer.token(aud=f'{gate.url}/one')}"}
            with httpx2.Client(base_url=gate.url) as client:
                statuses = [client.get(path, headers=token).status_code for path in ("/one/x", "/two/x", "/one/x")]
            assert statuses == [200, 401, 200]
            assert len(upstream.heads) == 2
            assert gate.last("refusal")["refusal"]["rule"] == "token_audience"
