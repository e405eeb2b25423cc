"""A transparent upstream's challenges and metadata: what is rewritten, what must stay, and what is never shown."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest

from gateway.core.reasons import Reason, Refusal, UpstreamFailed
from gateway.core.snapshot import Route, Upstream
from gateway.wire.protected_resource import LIMIT_BYTES, ProtectedResources
from tests.stages.exchanges import exchange

OWN = "https://mcp.example/mcp"
UPSTREAM = Upstream("shop", "mcp", "http", "10.0.0.5", 9000, "10.0.0.5:9000", "/mcp", transparent=True, resource=OWN)
ROUTE = Route(
    "shop",
    "/shop",
    "",
    "shop",
    "anonymous",
    "json",
    transparent=True,
    resource="https://gw.example/shop",
    metadata="https://gw.example/.well-known/oauth-protected-resource/shop",
)
BELOW, ROOT = "/.well-known/oauth-protected-resource/mcp", "/.well-known/oauth-protected-resource"


class Answer:
    def __init__(self, status: int, body: bytes) -> None:
        self.status = status
        self.rest = body

    async def chunk(self) -> bytes:
        shown, self.rest = self.rest[:1000], self.rest[1000:]
        return shown

    async def aclose(self) -> None:
        self.rest = b""


class Shop:
    """An upstream of fixed answers by target; `asked` is what came."""

    def __init__(self, says: Mapping[str, Any]) -> None:
        self.says = says
        self.asked: list[str] = []
        self.headers: list[tuple[bytes, bytes]] = []
        self.gate: asyncio.Event | None = None

    def client(self, upstream: Upstream) -> Shop:
        assert upstream == UPSTREAM
        return self

    async def send(self, method: str, target: str, headers: Any, body: None, **_: Any) -> Answer:
        assert method == "GET"
        self.asked.append(target)
        self.headers += headers
        if self.gate is not None:
            await self.gate.wait()
        said = self.says.get(target, (404, b"not here"))
        if isinstance(said, Exception):
            raise said
        return Answer(*said) if isinstance(said, tuple) else Answer(200, json.dumps(said).encode())


def metadata(resource: Any = OWN, **more: Any) -> dict[str, Any]:
    return {"resource": resource, "authorization_servers": ["https://as.example"], **more}


def shown(found: bytes | Refusal) -> dict[str, Any]:
    assert isinstance(found, bytes), found
    document: dict[str, Any] = json.loads(found)
    return document


def fetched(says: Mapping[str, Any], route: Route = ROUTE) -> tuple[bytes | Refusal, Shop]:
    shop = Shop(says)
    return asyncio.run(_document(ProtectedResources(shop), route)), shop


async def _document(resources: ProtectedResources, route: Route = ROUTE) -> bytes | Refusal:
    snapshot: Any = type("S", (), {"upstreams": {"shop": UPSTREAM}})()
    return await resources.document(snapshot, route)


def challenged(value: bytes, resources: ProtectedResources | None = None, upstream: Upstream = UPSTREAM) -> bytes:
    found = exchange()
    found.route, found.upstream = ROUTE, upstream
    return (resources or ProtectedResources(Shop({}))).challenge(value, found)


HERE = b'resource_metadata="https://gw.example/.well-known/oauth-protected-resource/shop"'


@pytest.mark.parametrize(
    ("said", "seen"),
    [
        (b'Bearer resource_metadata="https://mcp.example/.well-known/x"', b"Bearer " + HERE),
        (b"Bearer resource_metadata=https://mcp.example/x", b"Bearer " + HERE),
        (
            b'Bearer error="x", resource_metadata = "http://10.0.0.5:9000/x", scope="a b"',
            b'Bearer error="x", resource_metadata = "https://gw.example/.well-known/oauth-protected-resource/shop"'
            b', scope="a b"',
        ),
        (
            b'DPoP algs="A", RESOURCE_METADATA="https://MCP.example:443/x", Bearer resource_metadata="https://mcp.example/y"',
            b'DPoP algs="A", RESOURCE_METADATA="https://gw.example/.well-known/oauth-protected-resource/shop", Bearer '
            + HERE,
        ),
    ],
)
def test_a_challenge_leads_through_the_gateway_and_keeps_all_else(said: bytes, seen: bytes) -> None:
    assert challenged(said) == seen


@pytest.mark.parametrize(
    "said",
    [
        b"Bearer",
        b'Bearer scope="a"',
        b'Basic realm="resource_metadata=https://mcp.example/x"',
        b'Bearer realm="\\"resource_metadata=\\"https://mcp.example/x"',
        b'Bearer x_resource_metadata="https://mcp.example/x"',
        b'Bearer resource_metadata="https://mcp.example.evil.example/x"',
        b'Bearer resource_metadata="http://mcp.example/x"',
        b'Bearer resource_metadata="https://mcp.example:8443/x"',
        b'Bearer resource_metadata="https://u@mcp.example/x"',
        b'Bearer resource_metadata="//mcp.example/x"',
        b'Bearer resource_metadata="/x"',
        b'Bearer resource_metadata=""',
        b'Bearer resource_metadata="https://mcp.example/../admin"',
        b'Bearer resource_metadata="https://mcp.example/a b"',
        b'Bearer resource_metadata="https://mcp.example/x#y"',
        b'Bearer resource_metadata="https://mcp.example/' + b"x" * 1100 + b'"',
        b'Bearer resource_metadata="ftp://mcp.example/x"',
        b'Bearer resource_metadata="https://[::1/x"',
    ],
)
def test_what_is_announced_elsewhere_or_only_looks_like_it_stays(said: bytes) -> None:
    resources = ProtectedResources(Shop({}))
    assert challenged(said, resources) == said
    assert resources._announced == {}


def test_the_metadata_is_asked_for_where_it_was_announced() -> None:
    async def story() -> None:
        shop = Shop({"/custom/place.json?v=1": metadata()})
        resources = ProtectedResources(shop)
        challenged(b'Bearer resource_metadata="https://mcp.example/custom/place.json?v=1"', resources)
        assert shown(await _document(resources))["resource"] == "https://gw.example/shop"
        assert shop.asked == ["/custom/place.json?v=1"]

    asyncio.run(story())


def test_else_it_is_asked_for_below_the_path_and_then_at_the_root() -> None:
    found, shop = fetched({BELOW: metadata(), ROOT: metadata("https://other.example")})
    assert (shown(found)["resource"], shop.asked) == ("https://gw.example/shop", [BELOW])
    found, shop = fetched({ROOT: metadata("https://mcp.example")})
    assert (shown(found)["resource"], shop.asked) == ("https://gw.example/shop", [BELOW, ROOT])


def test_nothing_of_a_caller_goes_along() -> None:
    _, shop = fetched({BELOW: metadata()})
    assert dict(shop.headers) == {
        b"host": b"10.0.0.5:9000",
        b"accept": b"application/json",
        b"accept-encoding": b"identity",
        b"via": b"1.1 tollgate",
    }


@pytest.mark.parametrize("claimed", [OWN, OWN + "/", "https://mcp.example", "https://MCP.example:443/mcp"])
def test_the_upstreams_own_name_becomes_the_routes(claimed: str) -> None:
    found, _ = fetched({BELOW: metadata(claimed, scopes_supported=["a"], signed_metadata="x.y.z")})
    assert shown(found) == {**metadata("https://gw.example/shop"), "scopes_supported": ["a"]}


@pytest.mark.parametrize(
    "claimed",
    [
        "https://evil.example/mcp",
        "https://mcp.example/other",
        "https://mcp.example/mc",
        "https://mcp.example/mcp/below",
        "https://mcp.example/mcpx",
        "http://mcp.example/mcp",
        "https://mcp.example@evil.example/mcp",
        "mcp.example/mcp",
        "urn:mcp",
        "",
    ],
)
def test_any_other_name_stays_so_that_a_client_sees_that_it_is_wrong(claimed: str) -> None:
    document = metadata(claimed, signed_metadata="x.y.z")
    assert shown(fetched({BELOW: document})[0]) == document


def test_on_the_upstreams_own_name_nothing_is_rewritten() -> None:
    route = replace(ROUTE, path="/mcp", resource=OWN)
    for claimed in (OWN, "https://mcp.example"):
        document = metadata(claimed, signed_metadata="x.y.z")
        assert shown(fetched({BELOW: document}, route)[0]) == document


@pytest.mark.parametrize(
    "said",
    [
        (200, b""),
        (200, b"[]"),
        (200, b"{"),
        (200, b'{"resource": 7}'),
        (200, b'{"authorization_servers": []}'),
        (200, b'{"resource": "a", "resource": "b"}'),
        (200, b"\xff\xfe"),
        (200, b'"' + b"x" * LIMIT_BYTES + b'"'),
        (500, b"{}"),
        (302, b""),
        UpstreamFailed("refused", error="connection_refused", sent=False),
    ],
    ids=lambda said: repr(said)[:40],
)
def test_what_cannot_be_shown_is_502_and_not_looked_for_elsewhere(said: Any) -> None:
    found, shop = fetched({BELOW: said, ROOT: metadata()})
    assert isinstance(found, Refusal)
    assert (found.reason, shop.asked) == (Reason.UPSTREAM_FAILED, [BELOW])


def test_an_upstream_without_metadata_has_none_here_either() -> None:
    found, shop = fetched({})
    assert isinstance(found, Refusal)
    assert (found.http_status, shop.asked) == (404, [BELOW, ROOT])


def test_many_who_ask_at_once_cause_one_request_and_the_next_one_asks_anew() -> None:
    async def story() -> None:
        shop = Shop({BELOW: metadata()})
        shop.gate = asyncio.Event()
        resources = ProtectedResources(shop)
        waiting = [asyncio.create_task(_document(resources)) for _ in range(20)]
        for _ in range(5):
            await asyncio.sleep(0)
        waiting[0].cancel()
        shop.gate.set()
        assert len({await one for one in waiting[1:]}) == 1
        assert len(shop.asked) == 1
        await _document(resources)
        assert len(shop.asked) == 2
        await resources.aclose()

    asyncio.run(story())
