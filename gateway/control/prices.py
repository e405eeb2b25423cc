"""`/api/v1/prices`: the price list in force, as it was written, with the digest of its file."""

from __future__ import annotations

from collections.abc import Callable

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route as Way

from gateway.control.problem import answer
from gateway.core.canonical import Json
from gateway.core.snapshot import Snapshot


class Prices:
    def __init__(self, snapshot: Callable[[], Snapshot]) -> None:
        self._snapshot = snapshot

    def ways(self) -> list[Way]:
        return [Way("/api/v1/prices", self.prices)]

    async def prices(self, request: Request) -> Response:
        prices = self._snapshot().prices
        found: dict[str, Json] = {"listed": prices.listed, "rows": prices.listing()}
        if prices.listed:
            found |= {"currency": "usd", "revision": prices.revision}
        return answer(request, found)
