"""Whether the gateway can do its work: the stores it stands on and its policy are asked once a second, beside it.

The rule: `problems` is what the last round found and costs nothing, so a probe makes nobody wait; what was never asked,
or does not answer in time, is not ready. A round never waits for the one before: it has a deadline.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping

from gateway.core.ports import Checked

ROUND_SECONDS = 1.0
ANSWER_SECONDS = 5.0  # an index that is searching may take four

_log = logging.getLogger("tollgate.ready")


class Readiness:
    """`checked` names what counts now: a reload may change it."""

    def __init__(self, checked: Callable[[], Mapping[str, Checked]]) -> None:
        self._checked = checked
        self._problems: dict[str, str] = {"readiness": "nothing was asked yet"}

    def problems(self) -> list[str]:
        """What is wrong, by name; nothing when all answered."""
        return [f"{name}: {what}" for name, what in self._problems.items()]

    async def look(self) -> None:
        """One round. Never raises."""
        checked = self._checked()
        found = await asyncio.gather(*(_asked(item) for item in checked.values()))
        wrong = {name: what for name, what in zip(checked, found, strict=True) if what}
        for name, what in wrong.items():
            if self._problems.get(name) != what:
                _log.error("not ready: %s: %s", name, what)
        self._problems = wrong

    async def watch(self) -> None:
        """Runs until cancelled."""
        while True:
            await asyncio.sleep(ROUND_SECONDS)
            await self.look()


async def _asked(item: Checked) -> str:
    try:
        async with asyncio.timeout(ANSWER_SECONDS):
            await item.check()
    except TimeoutError:
        return f"it did not answer in {ANSWER_SECONDS:g} s"
    except Exception as error:  # noqa: BLE001 (a background loop: whatever is wrong, it is not ready)
        return str(error) or type(error).__name__
    return ""
