"""What a driver prints: each step of its scenario by name, with what the unmodified client saw.

A driver reads `{"url", "credential", ...}` from stdin, so that no secret is an argument, and prints one JSON list of
`{"step", "saw"}` or `{"step", "error"}`. Standard library only: it runs in every client's own environment.
"""

from __future__ import annotations

import dataclasses
import json
import sys
from collections.abc import Awaitable, Callable
from typing import Any


def given() -> dict[str, Any]:
    """What the test asks for."""
    found: dict[str, Any] = json.load(sys.stdin)
    return found


def plain(value: Any) -> Any:
    """A client's typed value as JSON, nothing left out that the client kept."""
    if hasattr(value, "model_dump"):
        return value.model_dump(mode="json", by_alias=True, exclude_none=True)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return plain(dataclasses.asdict(value))
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, bytes):
        return {"bytes": value.hex()}
    return value if value is None or isinstance(value, bool | int | float | str) else str(value)


class Transcript:
    """`show` turns this client's values into JSON, `tell` its errors into more than class and text."""

    def __init__(
        self, show: Callable[[Any], Any] = plain, tell: Callable[[Exception], dict[str, Any]] = lambda _: {}
    ) -> None:
        self._steps: list[dict[str, Any]] = []
        self._show = show
        self._tell = tell

    async def step(self, name: str, what: Awaitable[Any]) -> Any:
        """One step. An error is what the client saw, and the scenario goes on."""
        try:
            value = await what
        except Exception as error:  # noqa: BLE001 (whatever the client raises is the result)
            said = {"class": type(error).__name__, "message": str(error), **self._tell(error)}
            self._steps.append({"step": name, "error": said})
            return None
        self._steps.append({"step": name, "saw": self._show(value)})
        return value

    def print(self) -> None:
        json.dump(self._steps, sys.stdout)
