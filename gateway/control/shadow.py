"""`/api/v1/shadow`: what a second engine said differently from the one in force, newest first, and how often.

It is read and never obeyed. A page stays what it was while differences arrive: its cursor is a difference's number.
Of arguments there is what the route's records hold, masked like theirs: by default nothing.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route as Way

from gateway.control.problem import answer, problem
from gateway.core.canonical import Json
from gateway.core.records import timestamp
from gateway.core.shadow import KINDS, PAGE_MOST, Difference, Differences

PARAMETERS = ("kind", "subject", "cursor", "limit")


class Shadows:
    """`current` describes the engine that is asked on the side, None while there is none."""

    def __init__(self, differences: Differences, current: Callable[[], dict[str, Json] | None]) -> None:
        self._differences = differences
        self._current = current

    def ways(self) -> list[Way]:
        return [Way("/api/v1/shadow", self.listed)]

    async def listed(self, request: Request) -> Response:
        given: dict[str, str] = {}
        for name, value in request.query_params.multi_items():
            if name not in PARAMETERS or name in given:
                return problem(400, f"There are the parameters {', '.join(PARAMETERS)}, each once; not {name!r}")
            given[name] = value
        if given.get("kind", KINDS[0]) not in KINDS:
            return problem(400, f"kind is one of {', '.join(KINDS)}")
        for name, least, most in (("cursor", 0, 2**53), ("limit", 1, PAGE_MOST)):
            text = given.get(name, str(least))
            if re.fullmatch(r"[0-9]{1,16}", text) is None or not least <= int(text) <= most:
                return problem(400, f"{name} is a whole number from {least} to {most}")
        page = self._differences.page(
            before=int(given["cursor"]) if "cursor" in given else None,
            limit=int(given.get("limit", "100")),
            kind=given.get("kind"),
            subject=given.get("subject"),
        )
        totals: dict[str, Json] = dict(self._differences.totals())
        kinds: dict[str, Json] = dict(self._differences.by_kind())
        document: dict[str, Json] = {"shadow": self._current(), "totals": totals, "kinds": kinds}
        document["differences"] = [_shown(item) for item in page.differences]
        document["next"] = page.cursor
        return answer(request, document)

    def newest(self, limit: int) -> list[dict[str, Json]]:
        """For the status page."""
        page = self._differences.page(before=None, limit=limit, kind=None, subject=None)
        return [_shown(item) for item in page.differences]


def _shown(item: Difference) -> dict[str, Json]:
    asked = item.asked
    found: dict[str, Json] = {
        "number": item.number,
        "kinds": list(item.kinds),
        "subject": asked.subject,
        "action": asked.action,
        "resource": {"type": asked.resource_type, "id": asked.resource_id},
        "listing": asked.listing,
        "digest": asked.digest,
        "enforced": dict(item.enforced),
        "shadow": dict(item.shadow),
        "count": item.count,
        "first": timestamp(item.first),
        "last": timestamp(item.last),
    }
    if item.input is not None:
        found["input"] = dict(item.input)
    if asked.exchange:
        found["exchange"] = asked.exchange
    return found
