"""From an exchange and a call to the AuthZEN-shaped question, and the asking of further questions.

One document for every engine (contract, section 5): it is OPA's `input`. What is absent is left out, so that a policy
sees `undefined` and never an empty stand-in. The caller's own claims about itself never get in here. The document is
made when somebody looks at it; an engine that reads little of it takes an Excerpt (excerpt.py), made of the same parts.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Awaitable, Mapping, Sequence
from dataclasses import replace
from functools import lru_cache

from gateway.core.accounts import Fee
from gateway.core.canonical import Json
from gateway.core.exchange import Call, Decision, Exchange
from gateway.core.obligations import read, unfit
from gateway.core.reasons import Malformed


class AccessRequest:
    """The AuthZEN-shaped question of contract section 5, as one JSON document; the same for every engine. It is either
    given, or that of an exchange and a call: then an engine takes it before it first waits."""

    __slots__ = ("_document", "call", "exchange")

    def __init__(
        self,
        document: Mapping[str, Json] | None = None,
        exchange: Exchange | None = None,
        call: Call | None = None,
    ) -> None:
        self._document = document
        self.exchange = exchange
        self.call = call

    @property
    def document(self) -> Mapping[str, Json]:
        if self._document is None:
            if self.exchange is None or self.call is None:
                raise RuntimeError("a question needs a document, or an exchange and a call")
            self._document = _document(self.exchange, self.call)
        return self._document


def access_request(exchange: Exchange, call: Call) -> AccessRequest:
    """May this exchange's caller do `call` (its own, or an item or server request judged for it)?"""
    if exchange.principal is None:
        raise RuntimeError("policy is asked only about an identified caller")
    return AccessRequest(None, exchange, call)


async def ask(exchange: Exchange, calls: Sequence[Call]) -> list[Decision]:
    """Decides further calls of the same caller, in order and together, with the snapshot the exchange pinned. As in
    Decide and Fulfil, an allow with a doubt (a fault, an obligation nobody could fulfil) is none, and a deny that is
    only reported, or a fault on a route whose `on_error` is allow, is counted and lets pass."""
    if not calls:
        return []
    answers = exchange.snapshot.engine.decide_many([access_request(exchange, call) for call in calls])
    decisions = await answers if isinstance(answers, Awaitable) else answers
    pairs = zip(calls, decisions, strict=True)
    return [_obeyed(exchange, _certain(exchange, call, decision)) for call, decision in pairs]


def _obeyed(exchange: Exchange, decision: Decision) -> Decision:
    if decision.fault and exchange.route.on_error == "allow":
        exchange.failed_open += 1
        return replace(decision, allow=True, obligations=())
    if decision.would_deny:
        exchange.would_deny += 1
        return replace(decision, allow=True, obligations=())
    return decision


def _certain(exchange: Exchange, call: Call, decision: Decision) -> Decision:
    """An item of a list is shown where the call of it would pass: what the policy asks for then is done then. For what
    the upstream asks of the caller nobody would do it."""
    if decision.allow is not True or decision.fault:
        return replace(decision, allow=False) if decision.allow else decision
    if not decision.obligations:
        return decision
    if call.context.get("listing") is True:
        with contextlib.suppress(Malformed):
            duties = read(decision.obligations)
            if not unfit(call, duties) and _covered(exchange, duties.fees):
                return replace(decision, obligations=())
    return replace(decision, allow=False)


def _covered(exchange: Exchange, fees: Sequence[Fee]) -> bool:
    """Whether there is a budget for whatever policy charges: without one the call would be refused."""
    return all(any(fee.unit == budget.unit for budget in exchange.snapshot.ledger.budgets) for fee in fees)


def _document(exchange: Exchange, call: Call) -> dict[str, Json]:
    return {
        "subject": subject_of(exchange),
        "action": {"name": call.action},
        "resource": resource_of(exchange, call),
        "context": context_of(exchange, call),
    }


def context_of(exchange: Exchange, call: Call) -> dict[str, Json]:
    context: dict[str, Json] = {}
    for name in ("time", "listing", "request", "arguments", "budget", "trace_id"):
        add_context(context, name, exchange, call)
    context.update(call.context)
    return context


def add_context(context: dict[str, Json], name: str, exchange: Exchange, call: Call) -> None:
    """One member of the context, where it is there. What a call brings of its own wins over it."""
    if name == "listing":
        context[name] = False
    elif name == "arguments":
        if call.has_arguments:
            context[name] = call.arguments
    elif name == "request":
        context[name] = request_of(exchange)
    elif name == "time":
        context[name] = _rfc3339(int(exchange.time))
    elif name == "budget":
        if found := exchange.snapshot.ledger.remaining(exchange, call):
            context[name] = found
    elif name == "trace_id" and exchange.trace_id:
        context[name] = exchange.trace_id


def request_of(exchange: Exchange) -> dict[str, Json]:
    head = exchange.head
    request: dict[str, Json] = {
        "id": exchange.id,
        "method": head.method,
        "path": head.path,
        "peer": head.peer,
        "headers": _headers(exchange),
    }
    if head.query:
        request["query"] = head.query
    return request


def resource_of(exchange: Exchange, call: Call) -> dict[str, Json]:
    properties: dict[str, Json] = {"route": exchange.route.name, "upstream": exchange.route.upstream}
    properties.update(call.resource)
    if exchange.item_digest and call is exchange.asked:
        properties["digest"] = exchange.item_digest
    return {"type": call.resource_type, "id": call.resource_id, "properties": properties}


def subject_of(exchange: Exchange) -> dict[str, Json]:
    principal = exchange.principal
    if principal is None:
        raise RuntimeError("policy is asked only about an identified caller")
    properties: dict[str, Json] = {"roles": list(principal.roles), "delegated_by": list(principal.delegated_by)}
    if principal.org is not None:
        properties["org"] = principal.org
    if principal.team is not None:
        properties["team"] = principal.team
    if principal.issuer:
        properties["issuer"] = principal.issuer
    if principal.agent is not None:
        properties["agent"] = principal.agent
    if exchange.vouched is not None:
        properties["descriptor"] = exchange.vouched
    return {"type": principal.type, "id": principal.id, "properties": properties}


def _headers(exchange: Exchange) -> dict[str, Json]:
    """Allowed headers as lists of strings: repeated ones stay apart (a rule on one value sees each of them)."""
    head, allowed = exchange.head, exchange.snapshot.policy_headers
    known: tuple[tuple[bytes, ...], dict[str, Json]] | None = head.facts.get("policy")
    if known is not None and known[0] == allowed:
        return known[1]
    found: dict[str, Json] = {}
    for name, value in head.headers:
        if name in allowed:
            values = found.setdefault(name.decode("ascii"), [])
            if isinstance(values, list):
                values.append(value.decode("latin-1"))
    head.facts["policy"] = (allowed, found)
    return found


@lru_cache(maxsize=4)
def _rfc3339(epoch: int) -> str:
    """Many requests share a second."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(epoch))
