"""What a record says: from an Exchange to the members of contract section 6.

Pure. `v`, `seq` and `node` are the sequencer's. What is absent is left out; money and floats do not occur here, so the
log's canonical form has one spelling for each record and intents and terminals may be submitted as `plain`. Bodies,
credentials and header values never get in.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import replace
from functools import lru_cache

from gateway.core.accounts import Charge, shown
from gateway.core.canonical import Json, digest
from gateway.core.exchange import Call, Decision, Exchange, Obligation, Principal
from gateway.core.reasons import Refusal


def timestamp(epoch: float) -> str:
    """RFC 3339 UTC with six digits."""
    whole = int(epoch)
    return f"{second(whole)}.{str(1_000_000 + int((epoch - whole) * 1_000_000))[1:]}Z"  # a format costs five times it


@lru_cache(maxsize=4)
def second(whole: int) -> str:
    """Many records share a second."""
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(whole))


def intent(exchange: Exchange, ident: str, now: float) -> dict[str, Json]:
    """Written before anything leaves: who, what, why it may, and the digest of what will be sent."""
    record = _common(exchange, "intent", ident, now)
    record["upstream"] = {"name": exchange.upstream.name}
    if exchange.limits:
        record["limits"] = list(exchange.limits)
    if exchange.charges:
        record["budgets"] = [reserved_of(charge) for charge in exchange.charges]
    exchange.intent = record
    return record


def terminal(exchange: Exchange, ident: str, now: float) -> dict[str, Json]:
    """The one closing record: an outcome if an intent was sequenced, else a refusal (ruling 18). What limits and
    descriptors counted is decided before the intent, which says it: an outcome does not say it again."""
    sequenced = exchange.intent_seq is not None
    said_before = exchange.intent
    if sequenced and said_before is not None and exchange.body_stream is None:
        # Who asked for what did not change since; the sequencer gives `seq` anew.
        record = {**said_before, "id": ident, "kind": "outcome", "time": timestamp(now)}
        request = said_before["request"]
        if exchange.capture is not None and isinstance(request, dict):
            record["request"] = {name: value for name, value in request.items() if name != "capture"}
    else:
        record = _common(exchange, "outcome" if sequenced else "refusal", ident, now)
        if not sequenced and exchange.limits:
            record["limits"] = list(exchange.limits)
    if sequenced:
        record.pop("descriptor", None)
        record.pop("limits", None)
        record.pop("budgets", None)
        if exchange.charges:
            record["budgets"] = [settled_of(charge) for charge in exchange.charges]
        if exchange.decision is not None:
            record["decision"] = decision_of(replace(exchange.decision, input=""))
    if exchange.refusal is not None:
        record["refusal"] = _refused(exchange.refusal, exchange.stopped)
    if exchange.fault:
        record["fault"] = exchange.fault
    if exchange.filtered is not None:
        record["filtered"] = {"shown": exchange.filtered[0], "hidden": exchange.filtered[1]}
    if exchange.hides is not None:
        record["redacted"] = exchange.hidden
    if exchange.would_deny:
        record["would_deny"] = exchange.would_deny
    if exchange.failed_open:
        record["failed_open"] = exchange.failed_open
    response: dict[str, Json] = {"status": exchange.status, "bytes": exchange.usage.bytes_out}
    if exchange.response_digest:
        response["digest"] = exchange.response_digest
    record["response"] = response
    record["us"] = max(0, int((now - exchange.time) * 1_000_000))
    if not sequenced and exchange.decision is not None:
        record["upstream"] = {"name": exchange.upstream.name}  # policy saw it; nothing went there
    if sequenced:
        record["result"] = exchange.result
        record["usage"] = exchange.usage.record()
        upstream: dict[str, Json] = {"name": exchange.upstream.name}
        if exchange.upstream_address:
            upstream["address"] = exchange.upstream_address
        if exchange.attempts > 1:
            upstream["attempts"] = exchange.attempts
        if exchange.upstream_ms is not None:
            upstream["ms"] = int(exchange.upstream_ms)
        record["upstream"] = upstream
    return record


def _refused(refusal: Refusal, stage: str) -> dict[str, Json]:
    said: dict[str, Json] = {"reason": str(refusal.reason), "text": refusal.text}
    if refusal.rule:
        said["rule"] = refusal.rule
    if stage:
        said["stage"] = stage
    said.update(refusal.noted)
    return said


def reserved_of(charge: Charge) -> dict[str, Json]:
    """What is held of one account, as an intent says it; amounts are decimal strings in the budget's unit."""
    account, unit = charge.account, charge.budget.unit
    found: dict[str, Json] = {"key": json.loads(account.key), "name": account.budget}
    if account.period:
        found["period"] = account.period
    found["reserved"] = shown(charge.reserved, unit)
    found["unit"] = unit
    return found


def settled_of(charge: Charge) -> dict[str, Json]:
    """What came of it, as an outcome says it."""
    found = reserved_of(charge)
    found["settled"] = shown(charge.settled or 0, charge.budget.unit)
    if charge.marks:
        found["marks"] = list(charge.marks)
    return found


def asked_subject(subject: Mapping[str, Json], issuer: str) -> dict[str, Json]:
    """The properties with which policy was shown the subject of a record; the issuer is "" where it had none."""
    found: dict[str, Json] = {"roles": subject.get("roles", []), "delegated_by": subject.get("delegated_by", [])}
    found |= {name: subject[name] for name in ("org", "team", "agent") if name in subject}
    if issuer:
        found["issuer"] = issuer
    return found


def item_digest(record: Mapping[str, Json]) -> str:
    """Which description of the item that is called an intent or a refusal counted, "" for none."""
    descriptor = record.get("descriptor")
    if isinstance(descriptor, dict):
        for kind in ("agent", "tool", "prompt", "resource", "resource_template"):
            said = descriptor.get(kind)
            if isinstance(said, dict) and isinstance(said.get("digest"), str):
                return str(said["digest"])
    return ""


def bare(exchange: Exchange, ident: str, now: float, why: str) -> dict[str, Json]:
    """A terminal record of what cannot be wrong, where the whole one has no canonical form: `fault` says why."""
    record: dict[str, Json] = {"exchange": exchange.id, "id": ident, "time": timestamp(now), "fault": why}
    record["route"] = exchange.route.name
    record["response"] = {"status": exchange.status}
    if exchange.intent_seq is not None:
        record |= {"kind": "outcome", "result": exchange.result}
        if exchange.charges:
            record["budgets"] = [settled_of(charge) for charge in exchange.charges]
    else:
        record |= {"kind": "refusal"}
        if exchange.refusal is not None:
            record["refusal"] = {"reason": str(exchange.refusal.reason)}
    return record


def subject_of(principal: Principal) -> dict[str, Json]:
    subject: dict[str, Json] = {"id": principal.id, "type": principal.type}
    if principal.org is not None:
        subject["org"] = principal.org
    if principal.team is not None:
        subject["team"] = principal.team
    if principal.agent is not None:
        subject["agent"] = principal.agent
    if principal.roles:
        subject["roles"] = list(principal.roles)
    if principal.delegated_by:
        subject["delegated_by"] = list(principal.delegated_by)
    return subject


def decision_of(decision: Decision) -> dict[str, Json]:
    found: dict[str, Json] = {
        "effect": "allow" if decision.allow else "deny",
        "engine": decision.engine,
        "mode": decision.mode,
        "reason": decision.reason,
        "revision": decision.revision,
        "rule": decision.rule,
    }
    if decision.id:
        found["id"] = decision.id
    if decision.allow and decision.fault:  # the route's on_error is allow
        found["fail_open"] = True
    if decision.input:
        found["input"] = decision.input
    if decision.obligations:
        found["obligations"] = [obligation_of(item) for item in decision.obligations]
    return found


def obligation_of(obligation: Obligation) -> Json:
    """What is asked for. Of arguments that it sets only the names: their values may be a caller's."""
    found: dict[str, Json] = {"type": obligation.type}
    for name, value in obligation.values.items():
        if obligation.type == "set_arguments" and isinstance(value, dict):
            found[name] = [*sorted(value)]
        elif name.isascii() and name != "type":
            found[name] = _plain(value)
    return found


def _plain(value: Json) -> Json:
    """Without floats, which records do not have, and names that sort otherwise in RFC 8785."""
    if isinstance(value, float):
        return str(value)
    if isinstance(value, int) and abs(value) > 2**53 - 1:
        return str(value)
    if isinstance(value, list):
        return [_plain(item) for item in value]
    if isinstance(value, dict):
        return {name: _plain(item) for name, item in value.items() if name.isascii()}
    return value


def _common(exchange: Exchange, kind: str, ident: str, now: float) -> dict[str, Json]:
    head, call = exchange.head, exchange.asked
    record: dict[str, Json] = {"exchange": exchange.id, "id": ident, "kind": kind, "time": timestamp(now)}
    if exchange.route.name:
        record["route"] = exchange.route.name
    principal = exchange.principal
    if principal is not None:
        record["subject"] = subject_of(principal)
    if isinstance(call, Call):
        record["action"] = call.action
        record["resource"] = {"id": call.resource_id, "type": call.resource_type}
    decision = exchange.decision
    if decision is not None:
        record["decision"] = decision_of(decision)
    if exchange.descriptor is not None:
        record["descriptor"] = exchange.descriptor
    request: dict[str, Json] = {"method": head.method, "path": head.path, "peer": head.peer}
    body = exchange.body
    if body is not None:
        request["bytes"] = len(body)
        if not exchange.request_digest:
            exchange.request_digest = digest(body)
    if exchange.request_digest:
        request["digest"] = exchange.request_digest
    if exchange.forwarded_digest:
        request["forwarded_digest"] = exchange.forwarded_digest
    if exchange.client_id:
        request["client_id"] = exchange.client_id
    if exchange.capture is not None and exchange.decision is not None and kind != "outcome":
        request["capture"] = exchange.capture  # once, beside the decision that was made of it
    record["request"] = request
    if exchange.parent:
        record["parent"] = exchange.parent
    if exchange.trace_id:
        record["trace_id"] = exchange.trace_id
    return record
