"""The doctor's look at Redis, where limits and budgets are counted there: does it answer, does it keep what it has?"""

from __future__ import annotations

import asyncio

from gateway import config
from gateway.assembly_counters import looked_at
from gateway.cli.doctor_checks import FAIL, GOOD, WARN, Finding, State
from gateway.core.accounts import CountersUnavailable

SLOW_MS = 5.0  # every exchange waits for one answer


def counters(settings: config.Settings) -> list[Finding]:
    found = settings.stores.counters
    if found == "memory":
        return []
    where = f"Redis at {found.url}"
    try:
        took, full = asyncio.run(looked_at(found))
    except (CountersUnavailable, RuntimeError, OSError) as error:
        lost = "without it every call is 503" if found.mode == "strict" else "without it leases run out"
        return [Finding("counters", FAIL, f"{where}: {error.args[0] if error.args else error}; {lost}")]
    if full not in ("", "noeviction"):
        advice = "set maxmemory-policy to noeviction, or accounts may be thrown away"
        return [Finding("counters", WARN, f"{where} throws keys away when it is full ({full}): {advice}")]
    state: State = WARN if took > SLOW_MS else GOOD
    return [Finding("counters", state, f"{where} answers in {took:.1f} ms, mode {found.mode}")]
