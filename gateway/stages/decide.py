"""The policy decision: default deny, and every doubt is a deny that says which.

A request the protocol could not understand is refused here with the protocol's own reason, after the caller is known.
The engine's faults arrive as denials marked `fault`; they are `policy_unavailable` for the caller, an allow only
on a route that says `on_error: allow`. In report mode a no of the policy lets pass, with the decision recorded as it
was; a fault does not.
"""

from __future__ import annotations

from collections.abc import Awaitable
from dataclasses import replace

from gateway.core.access import access_request
from gateway.core.exchange import Call, Decision, Exchange
from gateway.core.pipeline import CONTINUE, Verdict
from gateway.core.reasons import Reason, Refusal


class Decide:
    name = "decide"

    def __call__(self, exchange: Exchange) -> Verdict | Awaitable[Verdict]:
        asked = exchange.asked
        if isinstance(asked, Refusal):
            return asked
        if not isinstance(asked, Call):
            return Refusal(Reason.MALFORMED, "The request could not be read", rule="unclassified")
        answer = exchange.snapshot.engine.decide(access_request(exchange, asked))
        if isinstance(answer, Decision):
            return self._verdict(exchange, answer)
        return self._later(exchange, answer)

    async def _later(self, exchange: Exchange, pending: Awaitable[Decision]) -> Verdict:
        return self._verdict(exchange, await pending)

    def _verdict(self, exchange: Exchange, decision: Decision) -> Verdict:
        exchange.decision = decision
        if decision.fault:
            opened = exchange.route.on_error == "allow"  # an allow that is a fault is counted, and its record says so
            exchange.decision = replace(decision, allow=opened, obligations=())
            if opened:
                return CONTINUE
            return Refusal(Reason.POLICY_UNAVAILABLE, decision.reason, rule=decision.rule, retry_after=1)
        if decision.would_deny:
            return CONTINUE
        if decision.allow is not True:
            return Refusal(Reason.DENIED, decision.reason, rule=decision.rule)
        return CONTINUE  # Fulfil comes next, and does what the policy asks for besides
