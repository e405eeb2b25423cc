"""What the caller's credential may be used for: the scopes that the route asks for, all of them.

It stands where the call is classified, so that one refusal names every scope of the operation. A credential that says
nothing of scopes has none. Policy is asked afterwards: a scope is what was delegated, never a permission by itself.
"""

from __future__ import annotations

from gateway.core.exchange import Call, Exchange
from gateway.core.pipeline import CONTINUE, Verdict


class Scopes:
    name = "scopes"

    def __call__(self, exchange: Exchange) -> Verdict:
        route, principal = exchange.route, exchange.principal
        if not route.scopes and not route.action_scopes:
            return CONTINUE
        asked = exchange.asked
        needed = route.needs(asked.action if isinstance(asked, Call) else "")
        if principal is not None and principal.scopes.issuperset(needed):
            return CONTINUE
        text = f"This asks for a credential with the scopes {' '.join(needed)}"
        return exchange.snapshot.authenticator.insufficient(route, text, needed)
