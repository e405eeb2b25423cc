"""Asks the addresses of upstreams whether they are well, where the configuration says how.

The rule: a plain GET of the configured path at the configured address, without any credential, with a deadline of its
own; below 400 is well, and what the answer says besides is nobody's business. An address that does not answer holds no
other one up. It must never follow where an answer leads.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from typing import Protocol as Port

from gateway.core.attempts import BalanceSettings, HealthSettings
from gateway.core.ports import UpstreamTargets
from gateway.core.reasons import UpstreamFailed
from gateway.core.snapshot import Upstream

TICK_SECONDS = 0.25  # how exactly `every` is kept

_log = logging.getLogger("tollgate.health")


class Examined(Port):
    """The addresses of one upstream (ledger/addresses.py)."""

    @property
    def name(self) -> str: ...

    @property
    def settings(self) -> BalanceSettings: ...

    def members(self) -> Sequence[Upstream]: ...

    def healthy(self, authority: str, well: bool, why: str) -> None: ...


class HealthChecks:
    """`pools` gives those that are configured now; `random` gives numbers from 0 to 1: gateways do not ask together."""

    def __init__(
        self,
        pools: Callable[[], Sequence[Examined]],
        targets: Callable[[], UpstreamTargets],
        monotonic: Callable[[], float],
        random: Callable[[], float],
    ) -> None:
        self._pools = pools
        self._targets = targets
        self._monotonic = monotonic
        self._random = random
        self._due: dict[tuple[str, str], float] = {}
        self._asking: dict[tuple[str, str], asyncio.Task[None]] = {}

    async def watch(self) -> None:
        """Runs until cancelled."""
        try:
            while True:
                self.look()
                await asyncio.sleep(TICK_SECONDS)
        finally:
            for task in self._asking.values():
                task.cancel()
            await asyncio.gather(*self._asking.values(), return_exceptions=True)

    def look(self) -> None:
        """Asks whom it is time to ask."""
        now = self._monotonic()
        for pool in self._pools():
            health = pool.settings.health
            if health is None:
                continue
            for member in pool.members():
                key = (pool.name, member.authority)
                if key in self._asking or now < self._due.get(key, 0.0):
                    continue
                self._due[key] = now + health.every_s * (0.9 + 0.2 * self._random())
                task = asyncio.get_running_loop().create_task(self._examine(pool, member, health), name=f"health {key}")
                self._asking[key] = task
                task.add_done_callback(lambda done, key=key: self._asking.pop(key, None))  # type: ignore[misc]

    async def _examine(self, pool: Examined, member: Upstream, health: HealthSettings) -> None:
        why = ""
        try:
            async with asyncio.timeout(health.timeout_s):
                status = await self._ask(member, health.path)
            if status >= 400:
                why = f"status {status}"
        except TimeoutError:
            why = "no answer in time"
        except UpstreamFailed as failure:
            why = str(failure)
        except Exception:  # noqa: BLE001 (a background loop: one failure must not end it)
            _log.exception("the health of %s at %s cannot be asked for", pool.name, member.authority)
            return
        pool.healthy(member.authority, not why, why)

    async def _ask(self, member: Upstream, path: str) -> int:
        headers = [(b"host", member.authority.encode()), (b"user-agent", b"tollgate-health"), (b"accept", b"*/*")]
        answer = await self._targets().client(member).send("GET", path, headers, None, idempotent=True)
        try:
            return answer.status
        finally:
            await answer.aclose()
