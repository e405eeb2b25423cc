"""What may be believed: no agent, tool or caller's own description counts that nobody trusted vouches for.

Every check is asked in order until one refuses. They come behind Identify, since some ask who is calling, and before
Decide, so that policy sees only what was verified.
"""

from __future__ import annotations

from collections.abc import Awaitable, Sequence

from gateway.core.descriptors import DescriptorCheck
from gateway.core.exchange import Exchange
from gateway.core.pipeline import CONTINUE, Verdict
from gateway.core.reasons import Refusal


class Verify:
    name = "verify"

    def __init__(self, checks: Sequence[DescriptorCheck]) -> None:
        self._checks = tuple(checks)

    def __call__(self, exchange: Exchange) -> Verdict | Awaitable[Verdict]:
        for index, check in enumerate(self._checks):
            verdict = check.check(exchange)
            if verdict is not CONTINUE:
                if isinstance(verdict, Refusal):
                    return verdict
                return self._later(exchange, verdict, index + 1)
        return CONTINUE

    async def _later(self, exchange: Exchange, pending: Awaitable[Verdict], index: int) -> Verdict:
        verdict = await pending
        for check in self._checks[index:]:
            if verdict is not CONTINUE:
                break
            found = check.check(exchange)
            verdict = await found if isinstance(found, Awaitable) else found
        return verdict
