"""Questions of policy at random: few values, alike and confusable, on heads that are said again."""

from __future__ import annotations

import random
from types import SimpleNamespace
from typing import Any

from gateway.core.access import AccessRequest, access_request
from gateway.core.exchange import Call, Exchange, Head, Principal
from gateway.core.snapshot import Route, Upstream
from tests.unlimited import unlimited

SHIPPED = {
    ("action", "name"), ("context", "arguments", "amount"), ("context", "arguments", "path"), ("context", "direction"),
    ("context", "listing"), ("resource", "id"), ("resource", "properties", "route"), ("resource", "type"),
    ("resource", "properties", "upstream"), ("subject", "id"), ("subject", "properties", "roles"),
}  # fmt: skip
PLACES = [
    *sorted(SHIPPED), ("action",), ("action", "name", "x"), ("action", "other"), ("context",), ("context", "arguments"),
    ("context", "arguments", "x"), ("context", "arguments", "x", "y"), ("context", "listing", "x"),
    ("context", "session"), ("context", "request"), ("context", "request", "id"), ("context", "request", "headers"),
    ("context", "request", "path"),
    ("context", "request", "headers", "x-a"), ("context", "request", "query"), ("context", "request", "peer"),
    ("context", "time"), ("context", "trace_id"), ("nothing",), ("nothing", "at", "all"), ("resource",),
    ("resource", "id", "x"), ("resource", "properties"), ("resource", "properties", "digest"), ("resource", "skill"),
    ("resource", "properties", "skill"), ("subject",), ("subject", "properties"), ("subject", "properties", "org"),
    ("subject", "properties", "descriptor", "digest"), ("subject", "type"), (),
]  # fmt: skip

# Of each, some that are alike and some that careless keys confuse. Shared, as a kept connection shares them.
PRINCIPALS = [
    Principal("user:idp/ann", "user", "idp", roles=("reader",)),
    Principal("user:idp/ann", "user", "idp", roles=("reader",)),
    Principal("user:idp/ann", "user", "idp", roles=("reader", "")),
    Principal("agent:idp/ann", "agent", "idp", org="1", agent="planner", delegated_by=("user:idp/ann",)),
    Principal("anonymous", "anonymous"),
]
VOUCHED: list[Any] = [None, None, {"digest": "sha256:a", "n": 1}, {"digest": "sha256:a", "n": True}, {"n": 1.0}]
ROUTES = [
    Route("tools", "/tools", "", "shop", "required", "json"),
    Route("tools", "/tools", "", "other", "required", "json"),
    Route('to"ols\x00', "/t", "", "shop", "required", "json"),
]
ALLOWED: list[tuple[bytes, ...]] = [(), (b"x-a",), (b"x-a", b"x-b")]
ACTIONS = [
    ("mcp.tools/call", "tool"),
    ("mcp.tools/call", "prompt"),
    ("mcp.ping", "endpoint"),
    ("http.G\x00T", "endpoint"),
]
IDENTS = ["shop/buy", "shop/buy ", "", "\x00", '"', "é", "\u2028", '","properties":{}']
VALUES: list[Any] = [
    None, True, False, 0, 1, -1, 1.0, 1.5, "", "1", "true", "\x00", '"', "é", [], [1], [True], {}, {"y": 1},
    {"y": True},
]  # fmt: skip
RESOURCES: list[Any] = [{}, {}, {}, {"skill": "cook"}, {"digest": "sha256:x"}, {"route": "else"}]
CONTEXTS: list[Any] = [
    {}, {}, {"session": "s-1"}, {"listing": True}, {"direction": "server", "failed": True}, {"arguments": {"x": 1}},
    {"request": "mine"}, {"request": {"id": 1, "path": 2, "headers": {"x-a": 3}}}, {"time": None},
    {"body": {"opaque": True}},
]  # fmt: skip


def heads() -> list[Head]:
    fields = [(), ((b"x-a", b"1"), (b"x-b", b"2"), (b"x-a", b"\xff")), ((b"x-a", b"1"),)]
    return [
        Head("POST", path, path.partition("?")[0], path.partition("?")[2], "gw.test", "http", headers, "192.0.2.7")
        for path, headers in zip(("/tools", "/tools?a=1", "/t"), fields, strict=True)
    ]


def question(rnd: random.Random, among: list[Head]) -> AccessRequest:
    """A question on one of these heads; its caller, route and listed headers are mostly those it had the last time."""
    head = rnd.choice(among)
    if "caller" not in head.facts or rnd.random() < 0.2:
        head.facts["caller"] = [rnd.choice(items) for items in (PRINCIPALS, VOUCHED, ROUTES, ALLOWED)]
    elif rnd.random() < 0.2:
        at = rnd.randrange(4)
        head.facts["caller"][at] = rnd.choice((PRINCIPALS, VOUCHED, ROUTES, ALLOWED)[at])
    principal, vouched, route, allowed = head.facts["caller"]
    snapshot: Any = SimpleNamespace(policy_headers=allowed, ledger=unlimited())
    upstream = Upstream("shop", "mcp", "http", "127.0.0.1", 9, "127.0.0.1:9", "/mcp")
    protocol: Any = SimpleNamespace(name="mcp")
    exchange = Exchange(
        rnd.choice(["e-1", "e-2"]), rnd.choice([0.0, 1.5]), 5.0, head, snapshot, route, upstream, protocol,
        trace_id=rnd.choice(["", "t"]), principal=principal,
    )  # fmt: skip
    exchange.vouched, exchange.item_digest = vouched, rnd.choice(["", "", "sha256:d"])
    action, kind = rnd.choice(ACTIONS)
    names = rnd.sample(["x", "amount", "path", "z"], rnd.randint(0, 3))
    arguments = {name: rnd.choice(VALUES) for name in names} if rnd.random() < 0.8 else rnd.choice(VALUES)
    call = Call(
        action, kind, rnd.choice(IDENTS), arguments=arguments, has_arguments=rnd.random() < 0.8,
        resource=rnd.choice(RESOURCES), context=rnd.choice(CONTEXTS),
    )  # fmt: skip
    exchange.asked = call if rnd.random() < 0.7 else call.but()
    return access_request(exchange, call)


def typed(item: Any) -> Any:
    """Two values are the same to a policy only if this is: `1`, `1.0` and `True` are not the same in JSON."""
    if isinstance(item, dict):
        return "object", tuple(sorted((name, typed(part)) for name, part in item.items()))
    if isinstance(item, list):
        return "list", tuple(typed(part) for part in item)
    return type(item).__name__, repr(item)
