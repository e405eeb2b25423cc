"""One suite of questions for every engine: each is asked of the same policy, written in the engine's own language.

Every engine is made as the configuration makes it, and behind each is the real thing. What is compared is all that the
gateway and its callers see: the effect, the reason, the rule, the obligations, and that nothing was a fault.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import orjson
import pytest

from gateway import config
from gateway.assembly_policy import close_engine, make_engine
from gateway.core.access import AccessRequest
from gateway.core.canonical import digest
from gateway.core.exchange import Decision
from gateway.core.ports import DecisionPoint
from tests.pdp.asking import run, settled
from tests.pdp.engine_servers import cerbos_server, opa_server

POLICIES = Path(__file__).parent / "engines"
AUTHZEN = ("authzen to cerbos", "authzen to cerbos, discovered")
ENGINES = ("embedded", "opa", "opa through a socket file", "cerbos", *AUTHZEN)

TOLD = "Too many stand between you and the owner"
SANK = "There is no weather in Atlantis \u2013 it sank"
NOTHING = (False, "Denied by policy", "no_rule_matched", [])
IBAN = [{"type": "redact", "paths": ["/customer/iban"]}]


def subject(*roles: str, kind: str = "agent", org: str = "acme", by: tuple[str, ...] = ()) -> dict[str, Any]:
    properties: dict[str, Any] = {"roles": list(roles), "delegated_by": list(by)}
    if org:
        properties["org"] = org
    return {"type": kind, "id": f"{kind}:idp/ann" if kind != "anonymous" else kind, "properties": properties}


def call(who: dict[str, Any], tool: str, arguments: Any = None, **changed: Any) -> dict[str, Any]:
    context: dict[str, Any] = {"time": "2026-11-22T12:00:00Z", "listing": False, "request": {"id": "0190"}}
    if arguments is not None:
        context["arguments"] = arguments
    question = {
        "subject": who,
        "action": {"name": "mcp.tools/call"},
        "resource": {"type": "tool", "id": tool, "properties": {"route": "r", "upstream": tool.partition("/")[0]}},
        "context": context,
    }
    return {**question, **changed}


def thing(kind: str, ident: str) -> dict[str, Any]:
    return {"resource": {"type": kind, "id": ident, "properties": {"route": "r", "upstream": "u"}}}


READER, PAYER, NOBODY = subject("reader"), subject("payer"), subject(kind="anonymous", org="")
LISTING = {"context": {"time": "2026-11-22T12:00:00Z", "listing": True}}
READ = (True, "", "readers", [])
PAID = (True, "A small amount", "payments", [])
ODD = "The policy asks for the obligation 'dance', which this gateway cannot fulfil"

CASES: dict[str, tuple[dict[str, Any], tuple[bool, str, str, list[Any]]]] = {
    "a role that may": (call(READER, "weather/get", {"city": "Oslo"}), READ),
    "one role of many": (call(subject("a", "b", "reader", "c"), "weather/get", {"city": "Oslo"}), READ),
    "a role that may not": (call(PAYER, "weather/get", {"city": "Oslo"}), NOTHING),
    "a role that differs by case": (call(subject("Reader"), "weather/get", {"city": "Oslo"}), NOTHING),
    "a caller without roles": (call(subject(), "weather/get", {"city": "Oslo"}), NOTHING),
    "an anonymous caller": (call(NOBODY, "weather/get", {"city": "Oslo"}), NOTHING),
    "what anybody may": (
        call(NOBODY, "", action={"name": "mcp.initialize"}, **thing("endpoint", "weather")),
        (True, "", "anyone", []),
    ),
    "another action on it": (call(READER, "", action={"name": "mcp.shutdown"}, **thing("endpoint", "w")), NOTHING),
    "another action on a tool": (call(READER, "weather/get", action={"name": "mcp.tools/install"}), NOTHING),
    "a kind nobody wrote about": (call(READER, "", **thing("model", "gpt")), NOTHING),
    "a tool nobody wrote about": (call(READER, "weather/delete"), NOTHING),
    "an argument that is refused": (
        call(READER, "weather/get", {"city": "Atlantis"}),
        (False, SANK, "city", []),
    ),
    "no arguments": (call(READER, "weather/get"), READ),
    "arguments of another type": (call(READER, "weather/get", {"city": ["Atlantis"]}), READ),
    "a bound that is met": (call(PAYER, "bank/pay", {"amount": 100.5, "currency": "NOK"}), PAID),
    "a bound that is passed": (call(PAYER, "bank/pay", {"amount": 100.51, "currency": "NOK"}), NOTHING),
    "a whole number": (call(PAYER, "bank/pay", {"amount": 100, "currency": "EUR"}), PAID),
    "a negative number": (call(PAYER, "bank/pay", {"amount": -1, "currency": "EUR"}), PAID),
    "the largest integer": (call(PAYER, "bank/pay", {"amount": 2**53 - 1, "currency": "EUR"}), NOTHING),
    "another currency": (call(PAYER, "bank/pay", {"amount": 1, "currency": "USD"}), NOTHING),
    "a missing argument": (call(PAYER, "bank/pay", {"amount": 1}), NOTHING),
    "another org": (call(subject("payer", org="other"), "bank/pay", {"amount": 1, "currency": "EUR"}), NOTHING),
    "no org": (call(subject("payer", org=""), "bank/pay", {"amount": 1, "currency": "EUR"}), NOTHING),
    "a short delegation": (call(subject("reader", by=("a", "b")), "weather/get", {"city": "Oslo"}), READ),
    "a long delegation": (
        call(subject("reader", by=("a", "b", "c")), "weather/get", {"city": "Oslo"}),
        (False, TOLD, "depth", []),
    ),
    "an obligation": (call(READER, "crm/find", {"name": "Ola"}), (True, "", "masked", IBAN)),
    "an obligation nobody can fulfil": (call(READER, "crm/odd"), (False, ODD, "odd", [])),
    "what is listed": (call(READER, "", **thing("prompt", "p/hello"), **LISTING), (True, "", "listed", [])),
    "what is only listed": (call(READER, "", **thing("prompt", "p/hello")), NOTHING),
    "letters of all kinds": (call(READER, "weather/get", {"city": "\u00c5s \U0001f327 \u202e\x00 \"\\"}), READ),
    "deep arguments": (call(READER, "weather/get", {"a": [[{"b": [None, True, 1.5e300, ""]}]], "": {}}), READ),
    "many arguments": (call(READER, "weather/get", {f"n{i}": "x" * 90 for i in range(1000)}), READ),
}  # fmt: skip


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """Settings by the engine's name; a server is started when the first test asks for it."""
    with ExitStack() as stack:
        known: dict[str, Any] = {}

        def policy(name: str) -> config.Policy:
            if name == "embedded":
                return written({"bundle": str(POLICIES / "rego")})
            kind = "opa" if name.startswith("opa") else "cerbos"
            if kind not in known:
                scratch = tmp_path_factory.mktemp(kind)
                known[kind] = stack.enter_context(
                    opa_server(scratch, str(POLICIES / "rego"))
                    if kind == "opa"
                    else cerbos_server(POLICIES / "cerbos", scratch)
                )
            server = known[kind]
            return written({**where(name, server), "timeout": "10s"})

        yield policy


def where(name: str, server: Any) -> dict[str, Any]:
    if name.startswith("opa"):
        return {"engine": "opa", "url": f"unix://{server.socket}" if "socket" in name else server.url}
    if name == "cerbos":
        return {"engine": "cerbos", "url": server.grpc}
    dialect = {"dialect": "cerbos", "discovery": "discovered" in name}
    return {"engine": "authzen", "url": server.http, "authzen": dialect}


def written(policy: dict[str, Any]) -> config.Policy:
    """As the configuration reads it."""
    return config.read(json.dumps({"policy": policy}), "test", {}).policy


def seen(decision: Decision) -> tuple[bool, str, str, list[Any]]:
    """One difference: a Cerbos policy without a rule that matches does not say so; then its own name is the rule."""
    assert not decision.fault, decision
    obligations = [{"type": item.type, **item.values} for item in decision.obligations]
    rule = "no_rule_matched" if decision.rule.startswith("resource.") else decision.rule
    return decision.allow, decision.reason, rule, obligations


async def asked(settings: config.Policy, questions: list[dict[str, Any]], together: bool) -> list[Decision]:
    engine: DecisionPoint = make_engine(settings)
    try:
        await engine.check()
        requests = [AccessRequest(question) for question in questions]
        if together:
            found: list[Decision] = await settled(engine.decide_many(requests))
            return found
        return [await settled(engine.decide(request)) for request in requests]
    finally:
        await close_engine(engine)


@pytest.mark.parametrize("name", ENGINES)
def test_every_engine_answers_the_same(servers: Any, name: str) -> None:
    decisions = run(asked(servers(name), [question for question, _ in CASES.values()], together=False))
    found = {case: seen(decision) for case, decision in zip(CASES, decisions, strict=True)}
    assert found == {case: wanted for case, (_, wanted) in CASES.items()}
    assert {decision.engine for decision in decisions} == {re.split(r"\W", name)[0]}


@pytest.mark.parametrize("name", ENGINES)
def test_the_items_of_a_list_are_answered_in_their_order(servers: Any, name: str) -> None:
    """More than any engine takes at once, of several callers, each thing more than once."""
    cases = [*CASES.values()] * 4
    decisions = run(asked(servers(name), [question for question, _ in cases], together=True))
    assert [seen(decision) for decision in decisions] == [wanted for _, wanted in cases]


@pytest.mark.parametrize("name", ENGINES[1:])
def test_an_engine_that_promises_nothing_reads_everything(servers: Any, name: str) -> None:
    assert make_engine(servers(name)).reads == frozenset({()})


@pytest.mark.parametrize("name", ["opa", "opa through a socket file", "cerbos"])
def test_a_decision_has_the_name_that_the_engine_gave_it(servers: Any, name: str) -> None:
    """By it the engine's own decision log is found; no two have the same."""
    [first, second] = run(asked(servers(name), [CASES["a role that may"][0]] * 2, together=False))
    assert re.fullmatch(r"[0-9a-zA-Z-]{20,40}", first.id)
    assert first.id != second.id


@pytest.mark.parametrize("name", ENGINES[1:])
def test_a_decision_has_the_digest_of_what_was_asked(servers: Any, name: str) -> None:
    questions = [CASES["a role that may"][0], CASES["an anonymous caller"][0]]
    wanted = [digest(orjson.dumps(question)) for question in questions]
    for together in (False, True):
        found = run(asked(servers(name), questions, together=together))
        assert [decision.input for decision in found] == wanted
