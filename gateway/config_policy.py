"""The section of the configuration about policy: who decides, from what, and what happens when nobody does.

The rule: a default is the strict choice, and a key that belongs to another engine is an error that names it.
"""

# ruff: noqa: RUF009 (`option` is a dataclass field specifier, and every default it is given is frozen)
from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from gateway import config_values as values
from gateway.config_schema import Choice, ListOf, Of, Text, option

_DURATION = Text("a duration like 30s, 250ms or 5m", values.DURATION, values.parse_positive_duration)
_PATH = Text("a path on this machine", r"[^\x00]+", Path)


@dataclass(frozen=True, slots=True)
class Policy:
    LATER: ClassVar[Mapping[str, str]] = {
        "url": "remote engines are",
        "query": "remote engines are",
        "shadow": "shadow engines are",
    }

    engine: str = option(
        Choice(("embedded",), ("opa", "cerbos", "authzen")), "embedded", "who decides", shown="embedded"
    )
    bundle: Path = option(_PATH, Path("policies"), "folder of Rego and data files", shown="policies")
    timeout: float = option(_DURATION, 0.25, "a later answer is a deny", shown="250ms")
    mode: str = option(Choice(("enforce",), ("report",)), "enforce", "a deny is a deny", shown="enforce")
    headers: tuple[str, ...] = option(
        ListOf(Text("a header name", values.HEADER, str.lower)), (), "request headers policy may read", shown="[]"
    )


POLICY = Of(Policy)
