"""The kill switch: what an administrator blocked is not reached, and what is open to it ends.

The rule: a block holds for every call, whatever policy, pins or signatures say, and for every open stream, asked at
each event and twice a second (wire/streams.py). Blocked are an upstream, one of its tools, prompts, resources or
resource templates, or a caller. It must cost nothing while nothing is blocked.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from gateway.core.descriptors import Blocks, Described
from gateway.core.exchange import Call, Exchange
from gateway.core.pipeline import CONTINUE, Verdict
from gateway.core.reasons import Reason, Refusal
from gateway.trust.templates import pattern


class KillSwitch:
    """A DescriptorCheck, the first of them; and the answer to whether an open stream may go on."""

    def __init__(self, blocks: Blocks) -> None:
        self._blocks = blocks
        self._any = False
        self._upstreams: frozenset[str] = frozenset()
        self._callers: frozenset[str] = frozenset()
        self._items: frozenset[tuple[str, str, str]] = frozenset()  # resource type, upstream, resource id
        self._templates: tuple[tuple[str, str, re.Pattern[str]], ...] = ()
        self.told(())

    def told(self, changed: Sequence[Described]) -> None:
        """Something changed in the registry: blocks are rare, so all of them are read again."""
        blocked = self._blocks.blocked
        self._upstreams = frozenset(upstream for upstream, _ in blocked("agent"))
        self._callers = frozenset(name for _, name in blocked("caller"))
        self._items = frozenset(
            (kind, upstream, name if kind == "resource" else f"{upstream}/{name}")
            for kind in ("tool", "prompt", "resource")
            for upstream, name in blocked(kind)
        )
        self._templates = tuple((upstream, name, pattern(name)) for upstream, name in blocked("resource_template"))
        self._any = bool(self._upstreams or self._callers or self._items or self._templates)

    def check(self, exchange: Exchange) -> Verdict:
        if not self._any:
            return CONTINUE
        kind, name = self._blocked(exchange)
        if not kind:
            return CONTINUE
        return Refusal(Reason.DENIED, f"The {kind} {name} was blocked by an administrator", rule=f"{kind}_blocked")

    def barred(self, exchange: Exchange) -> str:
        """Why an open stream of this exchange may not go on; "" while it may."""
        if not self._any:
            return ""
        kind, name = self._blocked(exchange)
        return f"blocked: the {kind} {name} was blocked while the stream was open" if kind else ""

    def _blocked(self, exchange: Exchange) -> tuple[str, str]:
        upstream, principal, call = exchange.upstream.name, exchange.principal, exchange.asked
        if upstream in self._upstreams:
            return "agent", upstream
        if principal is not None and principal.id in self._callers:
            return "caller", principal.id
        if isinstance(call, Call):
            kind, ident = call.resource_type, call.resource_id
            if (kind, upstream, ident) in self._items:
                return kind, ident
            if kind == "resource":
                for owner, template, matches in self._templates:
                    if owner == upstream and (template == ident or matches.fullmatch(ident) is not None):
                        return "resource_template", template
        return "", ""
