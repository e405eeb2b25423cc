"""From an exchange and a call to the AuthZEN-shaped question, and the asking of further questions.

One document for every engine (contract, section 5): it is OPA's `input`. What is absent is left out, so that a policy
sees `undefined` and never an empty stand-in. The caller's own claims about itself never get in here.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Sequence
from dataclasses import replace
from functools import lru_cache

from gateway.core.canonical import Json
from gateway.core.exchange import AccessRequest, Call, Decision, Exchange


def access_request(exchange: Exchange, call: Call) -> AccessRequest:
    """May this exchange's caller do `call` (its own, or an item or server request judged for it)?"""
    route, head = exchange.route, exchange.head
    request: dict[str, Json] = {
        "id": exchange.id,
        "method": head.method,
        "path": head.path,
        "peer": head.peer,
        "headers": _headers(exchange),
    }
    if head.query:
        request["query"] = head.query
    context: dict[str, Json] = {"time": _rfc3339(int(exchange.time)), "listing": False, "request": request}
    if call.has_arguments:
        context["arguments"] = call.arguments
    if exchange.trace_id:
        context["trace_id"] = exchange.trace_id
    context.update(call.context)
    properties: dict[str, Json] = {"route": route.name, "upstream": route.upstream}
    properties.update(call.resource)
    if exchange.item_digest and call is exchange.asked:
        properties["digest"] = exchange.item_digest
    return AccessRequest(
        {
            "subject": _subject(exchange),
            "action": {"name": call.action},
            "resource": {"type": call.resource_type, "id": call.resource_id, "properties": properties},
            "context": context,
        }
    )


async def ask(exchange: Exchange, calls: Sequence[Call]) -> list[Decision]:
    """Decides further calls of the same caller, in order and together, with the snapshot the exchange pinned. As in
    Decide, an allow with a doubt (a fault, an obligation nobody fulfils) is none."""
    if not calls:
        return []
    answers = exchange.snapshot.engine.decide_many([access_request(exchange, call) for call in calls])
    decisions = await answers if isinstance(answers, Awaitable) else answers
    return [_certain(decision) for _, decision in zip(calls, decisions, strict=True)]


def _certain(decision: Decision) -> Decision:
    if decision.allow and (decision.allow is not True or decision.fault or decision.obligations):
        return replace(decision, allow=False)
    return decision


def _subject(exchange: Exchange) -> dict[str, Json]:
    principal = exchange.principal
    if principal is None:
        raise RuntimeError("policy is asked only about an identified caller")
    properties: dict[str, Json] = {"roles": list(principal.roles), "delegated_by": list(principal.delegated_by)}
    if principal.org is not None:
        properties["org"] = principal.org
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
