"""Who calls, and whether the session or task it names is its own.

The credential is judged by the snapshot's authenticator; a handle is judged by its recorded owner (ruling 13). Both
come before policy, so that policy is only ever asked about somebody. Nothing of the credential is kept.
"""

from __future__ import annotations

from collections.abc import Awaitable

from gateway.core.exchange import Call, Exchange, Principal
from gateway.core.pipeline import CONTINUE, Verdict
from gateway.core.ports import Handles
from gateway.core.reasons import Reason, Refusal, StoreFailed, store_refusal


class Identify:
    name = "identify"

    def __init__(self, handles: Handles) -> None:
        self._handles = handles

    def __call__(self, exchange: Exchange) -> Verdict | Awaitable[Verdict]:
        found = exchange.snapshot.authenticator.authenticate(exchange.head, exchange.route)
        if isinstance(found, Principal):
            return self._known(exchange, found)
        if isinstance(found, Refusal):
            return found
        return self._later(exchange, found)

    async def _later(self, exchange: Exchange, pending: Awaitable[Principal | Refusal]) -> Verdict:
        found = await pending
        if isinstance(found, Refusal):
            return found
        verdict = self._known(exchange, found)
        return await verdict if isinstance(verdict, Awaitable) else verdict

    def _known(self, exchange: Exchange, principal: Principal) -> Verdict | Awaitable[Verdict]:
        if principal.proof:
            refusal = exchange.snapshot.authenticator.once(exchange, principal)
            if isinstance(refusal, Refusal):
                return refusal
            if refusal is not None:
                return self._proved(exchange, principal, refusal)
        return self._allowed(exchange, principal)

    async def _proved(self, exchange: Exchange, principal: Principal, pending: Awaitable[Refusal | None]) -> Verdict:
        refusal = await pending
        if refusal is not None:
            return refusal
        verdict = self._allowed(exchange, principal)
        return await verdict if isinstance(verdict, Awaitable) else verdict

    def _allowed(self, exchange: Exchange, principal: Principal) -> Verdict | Awaitable[Verdict]:
        exchange.principal = principal
        if principal.routes is not None and exchange.route.name not in principal.routes:
            text = f"This key may not be used on route {exchange.route.name}"
            return exchange.snapshot.authenticator.insufficient(exchange.route, text)
        if isinstance(exchange.asked, Call) and exchange.asked.handles:
            return self._owns(exchange, principal, exchange.asked)
        return CONTINUE

    async def _owns(self, exchange: Exchange, principal: Principal, call: Call) -> Verdict:
        for handle in call.handles:
            try:
                owner = await self._handles.owner(handle, route=exchange.route.name, upstream=exchange.upstream.name)
            except StoreFailed as error:
                return store_refusal(error)
            if owner is None:
                if handle.chosen:
                    continue
                return Refusal(Reason.SESSION_UNKNOWN, "This session or task is not known here", rule=handle.kind)
            if owner != principal.id:
                return Refusal(Reason.SESSION_FOREIGN, "This session or task belongs to another caller", handle.kind)
        return CONTINUE
