"""Entries of a log that grows as a test says, and records as the gateway writes them."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from gateway.core.notices import Place


class Log:
    """The Entries port over a list."""

    def __init__(self) -> None:
        self.entries: list[bytes] = []

    def add(self, *records: dict[str, Any]) -> None:
        for record in records:
            whole = {**record, "seq": len(self.entries)}
            self.entries.append(json.dumps(whole, sort_keys=True, separators=(",", ":")).encode())

    def read(self, start: int, stop: int | None) -> Iterable[tuple[int, bytes]]:
        return list(enumerate(self.entries))[start:stop]


class Kept:
    """The Places port in memory."""

    def __init__(self, place: Place | None = None) -> None:
        self.place = place

    def found(self) -> Place | None:
        return self.place

    def keep(self, place: Place) -> None:
        self.place = place


class Moving:
    """A Clock that stands until it is moved."""

    def __init__(self, now: float = 1_790_000_000.0) -> None:
        self.now = now

    def time(self) -> float:
        return self.now

    def monotonic(self) -> float:
        return self.now


def outcome(n: int, **members: Any) -> dict[str, Any]:
    return {
        "action": "llm.chat",
        "exchange": f"x-{n}",
        "id": f"id-{n}",
        "kind": "outcome",
        "resource": {"id": "gpt-5", "type": "model"},
        "result": "ok",
        "route": "openai",
        "subject": {"agent": "rig", "id": "agent:idp/planner", "org": "acme", "team": "blue", "type": "agent"},
        "time": "2026-09-21T14:13:20.000000Z",
        "upstream": {"name": "openai"},
        "usage": {"bytes_in": 10, "bytes_out": 20, "calls": 1, "input_tokens": 3, "output_tokens": 4, "usd": "0.0125"},
        **members,
    }


def intent(n: int) -> dict[str, Any]:
    return {"exchange": f"x-{n}", "id": f"in-{n}", "kind": "intent", "request": {"capture": {"a": '"kind":"outcome"'}}}
