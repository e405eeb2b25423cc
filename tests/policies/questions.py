"""Requests at random for the worked policies: names and values around what each policy is about, and beside it.

Each is one that the gateway could make of a request: identities have the types that the gateway gives them, arguments
are any JSON.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

WORKED = ("bounds", "classification", "delegation", "hours", "roles")

ROLES = ["reader", "operator", "treasurer", "staff", "analyst", "officer", "on-call", "Reader", "reader ", "nobody"]
SUBJECTS = ["agent:idp/ann", "user:idp/bea", "key:k1", "anonymous"]
ACTORS = ["agents/a", "agents/b", "agents/c", "partner/a", "agents", "my-agents/a", "Agents/a"]
UPSTREAMS = ["weather", "bank", "files", "mail", "wiki", "crm", "new"]
TOOLS = [
    "weather/get_forecast", "weather/list_stations", "weather/delete_station", "weather/*", "weather/Get_forecast",
    "bank/transfer", "bank/balance", "files/read_file", "mail/send", "wiki/read", "crm/find", "crm/export_all",
    "crm/count_customers", "new/thing",
]  # fmt: skip
RESOURCES = ["wiki://home", "crm://customers/7", "weather://oslo", "crm/*"]
ACTIONS = ["mcp.tools/call", "mcp.tools/install", "mcp.resources/read", "mcp.initialize", "llm.models", "mcp."]

ODD: list[Any] = [None, True, False, 0, 1, "", "1", [], {}, [1], {"a": 1}, "EUR", 500]
AMOUNTS: list[Any] = [0, 1, -1, 0.01, 499.99, 500, 500.0, 500.01, 501, 1e300, -1e300, 5e-324, 2**53 - 1, "500"]
CURRENCIES: list[Any] = ["EUR", "NOK", "USD", "eur", "EUR ", ["EUR"]]
PATHS: list[Any] = [
    "/srv/shared/a", "/srv/shared/", "/srv/shared", "/srv/shared/a/../b", "/srv/shared/..", "/srv/shared/a..b",
    "/srv/shared/a\\b", "/srv/shared/a\x00", "/srv/shared/\u00e9", "/srv/shared/\U0001f600",
    "/etc/passwd", "../srv/shared/a",
]  # fmt: skip
ADDRESSES: list[Any] = [
    "a@acme.example",
    "b@acme.example",
    "@acme.example",
    "a@evil.example",
    "a@acme.example ",
    1,
    None,
]
MONTHS = [(1, 31), (3, 31), (5, 31), (7, 31), (10, 31), (11, 30), (12, 31)]


def principal(rnd: random.Random) -> dict[str, Any]:
    ident = rnd.choice(SUBJECTS)
    known = ident != "anonymous"
    properties: dict[str, Any] = {
        "roles": rnd.sample(ROLES, rnd.choice([0, 1, 1, 2, 3])) if known else [],
        "delegated_by": some(rnd, ACTORS[:3] * 3 + ACTORS, [0, 0, 0, 1, 1, 2, 3, 4]) if known else [],
    }
    if known and rnd.random() < 0.9:
        properties["org"] = rnd.choice(["acme", "acme", "other", "Acme"])
    return {"type": ident.partition(":")[0], "id": ident, "properties": properties}


def some(rnd: random.Random, among: list[Any], sizes: list[int]) -> list[Any]:
    return [rnd.choice(among) for _ in range(rnd.choice(sizes))]


def time(rnd: random.Random) -> str:
    """Around the hours, the days and the holidays that count, on both sides of a change of the clocks."""
    month, days = rnd.choice(MONTHS)
    hour = rnd.choice([5, 6, 7, 8, 12, 14, 15, 16, 22, 23])
    day = rnd.choice([1, 17, 25, 26, 29, 30, days, rnd.randint(1, days)])
    return f"2026-{month:02}-{day:02}T{hour:02}:{rnd.choice([0, 30, 59]):02}:{rnd.choice([0, 59]):02}Z"


def arguments(rnd: random.Random, tool: str) -> Any:
    if rnd.random() < 0.05:
        return rnd.choice(ODD)
    near: dict[str, dict[str, Callable[[], Any]]] = {
        "bank/transfer": {
            "amount": lambda: rnd.choice(AMOUNTS),
            "currency": lambda: rnd.choice(CURRENCIES[:2] * 3 + CURRENCIES),
        },
        "files/read_file": {"path": lambda: rnd.choice(PATHS)},
        "mail/send": {"to": lambda: some(rnd, ADDRESSES[:2] * 4 + ADDRESSES, [0, 1, 1, 2, 3, 4])},
    }  # fmt: skip
    found = {name: make() for name, make in near.get(tool, {}).items() if rnd.random() < 0.93}
    for name in rnd.sample(["amount", "currency", "path", "to", "extra"], rnd.choice([0, 0, 0, 1])):
        found[name] = rnd.choice(ODD)
    return found


def question(rnd: random.Random, about: str, subject: dict[str, Any]) -> dict[str, Any]:
    """One request of `subject`; `about` names the policy that it is mostly about."""
    context: dict[str, Any] = {"listing": rnd.random() < 0.1, "time": time(rnd)}
    turn = rnd.random()
    if turn < 0.1:
        kind, ident, action = "endpoint", rnd.choice(UPSTREAMS), rnd.choice(ACTIONS)
        if rnd.random() < 0.3:
            context["direction"] = rnd.choice(["server", "response"])
    elif turn < 0.2:
        kind, ident, action = "resource", rnd.choice(RESOURCES), rnd.choice(["mcp.resources/read", *ACTIONS])
    else:
        near = {"bounds": TOOLS[5:9], "roles": TOOLS[:7]}.get(about, TOOLS) if turn < 0.9 else TOOLS
        kind, ident = "tool", rnd.choice(near)
        action = "mcp.tools/call" if rnd.random() < 0.95 else rnd.choice(ACTIONS)
    if not context["listing"] and rnd.random() < 0.97:
        context["arguments"] = arguments(rnd, ident)
    upstream = ident.partition("/")[0] if kind == "tool" else rnd.choice(UPSTREAMS)
    properties = {"route": "tools", "upstream": upstream}
    resource = {"type": kind, "id": ident, "properties": properties}
    return {"subject": subject, "action": {"name": action}, "resource": resource, "context": context}
