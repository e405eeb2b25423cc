"""The gateway as an OAuth resource server: where a client without a token learns what to get, and what it is told when
its token covers too little."""

from __future__ import annotations

import json
import re
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
from rig import ISSUER, gateway

from tests.flows.canned import Canned, Said, canned, open_policy, say

PLACE = "/.well-known/oauth-protected-resource"
PAGE = "Origin: https://app.example"
CALL = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": "buy"}}
LIST = {"jsonrpc": "2.0", "id": 1, "method": "tools/list"}


def settings(folder: Path, upstream: Canned) -> dict[str, Any]:
    return {
        "policy": open_policy(folder),
        "origins": ["https://app.example"],
        "hosts": ["other.example"],
        "upstreams": {
            "shop": {"url": f"{upstream.url}/mcp", "protocol": "mcp"},
            "files": {"url": upstream.url, "protocol": "http"},
        },
        "routes": [
            {
                "name": "shop", "match": {"path": "/shop"}, "upstream": "shop", "scopes": ["shop.read"],
                "action_scopes": {"mcp.tools/call": ["shop.buy", "shop.read"], "mcp.prompts/get": ["shop.prompts"]},
            },
            {"name": "hosted", "match": {"host": "tools.example"}, "upstream": "files"},
            {"name": "open", "match": {"path": "/open"}, "upstream": "files", "auth": "anonymous"},
        ],
    }  # fmt: skip


def post(port: int, message: dict[str, Any], token: str = "") -> Said:
    more = [f"Authorization: Bearer {token}"] if token else []
    kind = ["Content-Type: application/json", "Accept: application/json, text/event-stream"]
    return say(port, "POST /shop", *kind, "MCP-Protocol-Version: 2025-11-25", *more, body=json.dumps(message).encode())


def challenge(said: Said) -> dict[str, str]:
    value = said.value("www-authenticate") or ""
    assert value.startswith("Bearer ")
    return dict(re.findall(r'(\w+)="([^"]*)"', value))


def test_a_client_without_a_token_is_led_to_metadata_that_says_what_to_ask_for(tmp_path: Path) -> None:
    with canned() as upstream, gateway(tmp_path, **settings(tmp_path, upstream)) as gate:
        said = post(gate.app.port, LIST)
        assert said.status == 401
        told = challenge(said)
        assert told == {"scope": "shop.read", "resource_metadata": f"{gate.url}{PLACE}/shop"}
        assert said.json()["error"]["code"] == -31401  # a body, or clients fall back to the older era

        found = say(gate.app.port, f"GET {PLACE}/shop")
        assert (found.status, found.value("content-type")) == (200, "application/json")
        assert found.json() == {
            "resource": f"{gate.url}/shop",
            "authorization_servers": [ISSUER],
            "bearer_methods_supported": ["header"],
            "resource_name": "shop",
            "dpop_signing_alg_values_supported": ["EdDSA", "ES256"],
            "scopes_supported": ["shop.read", "shop.buy", "shop.prompts"],
        }
        token = gate.issuer.token(aud=found.json()["resource"], scope=told["scope"])
        assert post(gate.app.port, LIST, token).status == 200


def test_a_token_that_covers_too_little_is_told_all_that_the_operation_needs_at_once(tmp_path: Path) -> None:
    with canned() as upstream, gateway(tmp_path, **settings(tmp_path, upstream)) as gate:
        said = post(gate.app.port, CALL, gate.issuer.token(scope="shop.read offline_access"))
        assert (said.status, said.json()["error"]["data"]["reason"]) == (403, "scope_insufficient")
        told = challenge(said)
        assert told["error"] == "insufficient_scope"
        assert told["scope"].split(" ") == ["shop.read", "shop.buy"]
        assert told["resource_metadata"] == f"{gate.url}{PLACE}/shop"
        assert upstream.heads == []
        assert gate.last("refusal")["refusal"]["reason"] == "scope_insufficient"
        for claims in ({"scope": "shop.buy shop.read"}, {"scp": ["shop.read", "shop.buy"]}):
            assert post(gate.app.port, CALL, gate.issuer.token(**claims)).status == 200


@pytest.mark.parametrize("claims", [{"scope": 7}, {"scope": {"shop.read": True}}, {"scp": ["shop.read", 7]}])
def test_scopes_of_a_wrong_type_refuse_the_token(tmp_path: Path, claims: dict[str, Any]) -> None:
    with canned() as upstream, gateway(tmp_path, **settings(tmp_path, upstream)) as gate:
        said = post(gate.app.port, LIST, gate.issuer.token(**claims))
        assert (said.status, challenge(said)["error"]) == (401, "invalid_token")


def test_a_route_that_asks_nobody_has_no_metadata_and_a_host_shows_its_own_only(tmp_path: Path) -> None:
    with canned() as upstream, gateway(tmp_path, **settings(tmp_path, upstream)) as gate:
        assert say(gate.app.port, f"GET {PLACE}/open").status == 404
        assert say(gate.app.port, f"GET {PLACE}").status == 404
        hosted = say(gate.app.port, f"GET {PLACE}", host="tools.example")
        assert hosted.json()["resource"] == f"http://tools.example:{gate.app.port}"
        assert say(gate.app.port, f"GET {PLACE}/shop", host="tools.example").status == 401  # the route's own path there
        assert say(gate.app.port, f"GET {PLACE}/shop", host="other.example").json()["resource"] == f"{gate.url}/shop"
        assert say(gate.app.port, f"GET {PLACE}/shop", host="evil.example").status == 403


def test_the_metadata_is_read_and_nothing_else(tmp_path: Path) -> None:
    with canned() as upstream, gateway(tmp_path, **settings(tmp_path, upstream)) as gate:
        whole = say(gate.app.port, f"GET {PLACE}/shop")
        head = say(gate.app.port, f"HEAD {PLACE}/shop")
        assert (head.status, head.rest) == (200, b"")
        assert head.value("content-length") == str(len(whole.rest))
        for method in ("POST", "PUT", "DELETE", "OPTIONS"):
            said = say(gate.app.port, f"{method} {PLACE}/shop")
            assert (said.status, said.value("allow")) == (405, "GET, HEAD"), method
            said = say(gate.app.port, f"{method} {PLACE}", host="tools.example")
            assert said.status == 405, method
        assert upstream.heads == []


def test_a_page_of_a_listed_origin_may_read_the_metadata_and_the_challenge(tmp_path: Path) -> None:
    with canned() as upstream, gateway(tmp_path, **settings(tmp_path, upstream)) as gate:
        found = say(gate.app.port, f"GET {PLACE}/shop", PAGE)
        assert (found.status, found.value("access-control-allow-origin")) == (200, "*")
        before = say(gate.app.port, f"OPTIONS {PLACE}/shop", PAGE, "Access-Control-Request-Method: GET")
        assert (before.status, before.value("access-control-allow-origin")) == (204, "https://app.example")
        refused = say(gate.app.port, "GET /shop", PAGE)
        assert refused.status == 401
        assert "www-authenticate" in (refused.value("access-control-expose-headers") or "")
        assert say(gate.app.port, f"GET {PLACE}/shop", "Origin: https://evil.example").status == 403


def test_an_issuer_that_is_no_url_is_not_named_as_an_authorization_server(tmp_path: Path) -> None:
    with canned() as upstream, gateway(tmp_path, **settings(tmp_path, upstream)) as gate:
        [issuer] = gate.settings["trust"]["issuers"]
        gate.reload(trust={"issuers": [issuer, deepcopy(issuer) | {"name": "inner", "issuer": "inner-issuer"}]})
        assert say(gate.app.port, f"GET {PLACE}/shop").json()["authorization_servers"] == [ISSUER]
