"""What the policy asked for besides its yes becomes something that later stages do: an obligation nobody keeps is a no.

1. Each obligation is read once more, whatever the engine made of it; one that does not fit the call is a deny that
names it. 2. A rewritten body is classified like any other before it is forwarded: it must be the same call but for its
arguments, of the same object and the same handles. 3. What a redacted call names (a session, a task, a conversation) is
marked before anything is forwarded, durably, and what its answer mints when that is bound. 4. A call that names what is
marked is redacted as well, or refused: else the same thing could be asked for by another name, and seen whole. Sessions
are named by every call: there the stream that shows something again shows no results (protocols/mcp_judge.py).
In report mode nothing is carried out: such a policy changes nothing.
"""

from __future__ import annotations

from collections.abc import Awaitable, Sequence
from typing import Final

from gateway.core import obligations
from gateway.core.canonical import digest
from gateway.core.exchange import Call, Decision, Exchange, Handle
from gateway.core.obligations import Duties
from gateway.core.pipeline import CONTINUE, Verdict
from gateway.core.ports import Handles
from gateway.core.reasons import Malformed, Reason, Refusal, StoreFailed, store_refusal

# Part of an answer, or none because the caller has it already, cannot be redacted as the whole was.
_PARTS: Final = frozenset(
    {b"range", b"if-range", b"if-none-match", b"if-modified-since", b"if-match", b"if-unmodified-since"}
)
# What a caller said of the bytes that are not sent (RFC 9530, 9421).
_OF_THE_BYTES: Final = frozenset(
    {b"content-digest", b"repr-digest", b"digest", b"content-md5", b"signature", b"signature-input"}
)


class Fulfil:
    name = "fulfil"

    def __init__(self, handles: Handles) -> None:
        self._handles = handles

    def __call__(self, exchange: Exchange) -> Verdict | Awaitable[Verdict]:
        decision = exchange.decision
        if decision is None:
            raise RuntimeError("nothing was decided")
        if exchange.call.body is not None and not exchange.forwarded_digest:
            _changed(exchange, exchange.call, exchange.call.body)  # by an option of the route
        if decision.mode == "report":
            return CONTINUE
        if decision.obligations and (refusal := _carried_out(exchange, decision)) is not None:
            return refusal
        handles = exchange.call.handles
        if not handles:
            return CONTINUE
        if exchange.hides is not None:
            return self._marked(exchange, handles)
        looked_up = [handle for handle in handles if not handle.kind.endswith("-session")]
        return self._unmarked(exchange, looked_up) if looked_up else CONTINUE

    async def _marked(self, exchange: Exchange, handles: Sequence[Handle]) -> Verdict:
        route, upstream = exchange.route.name, exchange.upstream.name
        subject = exchange.principal.id if exchange.principal is not None else ""
        try:
            for handle in handles:
                found = obligations.mark(handle)
                if await self._handles.owner(found, route=route, upstream=upstream) is None:
                    await self._handles.bind(found, route=route, subject=subject, upstream=upstream)  # 3
        except StoreFailed as error:
            return store_refusal(error)
        return CONTINUE

    async def _unmarked(self, exchange: Exchange, handles: Sequence[Handle]) -> Verdict:
        route, upstream = exchange.route.name, exchange.upstream.name
        try:
            for handle in handles:
                if await self._handles.owner(obligations.mark(handle), route=route, upstream=upstream) is not None:
                    return _no("This came of an answer that is redacted, and the policy does not redact this one")  # 4
        except StoreFailed as error:
            return store_refusal(error)
        return CONTINUE


def _carried_out(exchange: Exchange, decision: Decision) -> Refusal | None:
    try:
        duties = obligations.read(decision.obligations)
    except Malformed as error:
        return _no(f"The policy asks for what this gateway cannot do: {error}")  # 1
    if why := obligations.unfit(exchange.call, duties):
        return _no(f"The policy asks for what cannot be done here: {why}")
    exchange.rates, exchange.fees = duties.rates, duties.fees
    if duties.rewrites and (refusal := _rewritten(exchange, duties)) is not None:
        return refusal
    if duties.hides:
        places = exchange.protocol.answers_in(exchange)
        if isinstance(places, Refusal):
            return places
        exchange.hides = duties.hides
        call = exchange.call
        exchange.asked = call.but(drop_headers=call.drop_headers | _PARTS)
    return None


def _rewritten(exchange: Exchange, duties: Duties) -> Refusal | None:
    body = exchange.protocol.rewrite(exchange, duties)
    if body is None or body == exchange.body:
        return None
    if isinstance(body, Refusal):
        return body
    if len(body) > exchange.snapshot.judged_body_bytes:
        return _no("What the policy sets makes the request larger than a judged body may be")
    original, exchange.body = exchange.body, body
    try:
        again = exchange.protocol.classify(exchange)
    finally:
        exchange.body = original
    if isinstance(again, Refusal):
        return _no(f"What the policy sets makes no good request: {again.text}")  # 2
    if _what(again) != _what(exchange.call):
        return _no("The policy sets arguments that would make another call of this one")
    _changed(exchange, again, body if again.body is None else again.body)
    return None


def _changed(exchange: Exchange, call: Call, body: bytes) -> None:
    """The call goes on with another body than the one that came."""
    exchange.asked = call.but(body=body, drop_headers=call.drop_headers | _OF_THE_BYTES)
    exchange.forwarded_digest = digest(body)


def _what(call: Call) -> tuple[object, ...]:
    asked = (call.action, call.resource_type, call.resource_id, call.listing, call.reply, call.era)
    return (*asked, type(call.message_id), call.message_id, call.handles)


def _no(text: str) -> Refusal:
    return Refusal(Reason.DENIED, text, rule="obligation")
