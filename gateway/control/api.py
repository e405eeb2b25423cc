"""`/api/v1/`: status, who asks, routes, records, decisions, the checkpoint, and the description of it all.

Read-only, but for agents and tools (agents.py) and keys (keys.py). A parameter that is not known is an error, not
ignored: a filter with a slip of the pen must not look like an answer.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route as Way

from gateway.control.agents import Agents
from gateway.control.asking import Asking
from gateway.control.budgets import Budgets
from gateway.control.bundles import Bundles
from gateway.control.fleet import Fleet
from gateway.control.guard import Door
from gateway.control.keys import Keys
from gateway.control.openapi import FILTERS, description
from gateway.control.prices import Prices
from gateway.control.problem import answer, problem
from gateway.control.replay import Replays
from gateway.control.shadow import Shadows
from gateway.control.upstreams import Upstreams
from gateway.control.usage import Usage
from gateway.core.canonical import Json
from gateway.core.query import PAGE_MOST, RecordQuery, Records
from gateway.core.snapshot import Route, Snapshot, Upstream

_EXCHANGE = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_RECORDS_OF_ONE = 500  # an exchange has two records; a WebSocket's messages are exchanges of their own
_CHECKPOINT_BYTES = 64 * 1024


class Api:
    def __init__(
        self,
        door: Door,
        snapshot: Callable[[], Snapshot],
        ready: Callable[[], list[str]],
        status: Callable[[], dict[str, Json]],
        records: Records,
        log_folder: Path,
        agents: Agents,
        keys: Keys,
        shadows: Shadows,
        replays: Replays,
        asking: Asking,
        bundles: Bundles,
        fleet: Fleet,
        budgets: Budgets,
        usage: Usage,
        upstreams: Upstreams,
        version: str,
    ) -> None:
        self._snapshot = snapshot
        self._ready = ready
        self._status = status
        self._records = records
        self._log_folder = log_folder
        self._agents = agents
        self._keys = keys
        self._shadows = shadows
        self._replays = replays
        self._asking = asking
        self._bundles = bundles
        self._fleet = fleet
        self._budgets = budgets
        self._usage = usage
        self._upstreams = upstreams
        self._version = version
        self._description = description(version, door.public_url)

    def ways(self) -> list[Way]:
        """The routes of the API; openapi.py describes the same."""
        return [
            Way("/api/v1/status", self.status),
            Way("/api/v1/me", self.me),
            Way("/api/v1/routes", self.routes),
            Way("/api/v1/records", self.find),
            Way("/api/v1/decisions/{exchange_id}", self.decision),
            Way("/api/v1/checkpoint", self.checkpoint),
            Way("/api/v1/openapi.json", self.openapi),
            *self._agents.ways(),
            *self._keys.ways(),
            *self._shadows.ways(),
            *self._replays.ways(),
            *self._asking.ways(),
            *self._bundles.ways(),
            *self._fleet.ways(),
            *self._budgets.ways(),
            *self._usage.ways(),
            *Prices(self._snapshot).ways(),
            *self._upstreams.ways(),
        ]

    def status_document(self) -> dict[str, Json]:
        snapshot, problems = self._snapshot(), self._ready()
        return {
            "ready": not problems,
            "problems": list(problems),
            "version": self._version,
            "public_url": snapshot.public_url,
            "revision": snapshot.revision,
            "policy": {"engine": snapshot.engine.name, "revision": snapshot.engine.revision},
            "index": {"behind": self._records.behind},
            **self._status(),
        }

    def route_documents(self) -> list[dict[str, Json]]:
        snapshot = self._snapshot()
        return [_route(route, snapshot.upstreams[route.upstream]) for route in snapshot.routes]

    async def status(self, request: Request) -> Response:
        return answer(request, self.status_document())

    async def me(self, request: Request) -> Response:
        """There is one administrator, by its token or by a session that the token opened."""
        subject: dict[str, Json] = {"id": "admin", "type": "admin"}
        return answer(request, {"subject": subject, "roles": ["admin"], "means": request.state.means})

    async def routes(self, request: Request) -> Response:
        return answer(request, {"routes": list(self.route_documents())})

    async def find(self, request: Request) -> Response:
        try:
            query = _query(request)
        except ValueError as error:
            return problem(400, str(error))
        page = await self._records.find(query)
        return answer(request, {"records": list(page.records), "next": page.cursor})

    async def decision(self, request: Request) -> Response:
        exchange = str(request.path_params["exchange_id"]).lower()
        if _EXCHANGE.fullmatch(exchange) is None:
            return problem(400, "An exchange id is a UUID, as X-Request-Id carries it")
        page = await self._records.find(RecordQuery(exchange=exchange, limit=_RECORDS_OF_ONE))
        if not page.records:
            return problem(404, "No record has that exchange id; ids come from X-Request-Id or from records")
        return answer(request, await self._asking.explanation(tuple(reversed(page.records))))

    async def checkpoint(self, request: Request) -> Response:
        try:
            note = await run_in_threadpool(_read, self._log_folder / "checkpoint")
            lines = note.split("\n")
            document: dict[str, Json] = {"origin": lines[0], "size": int(lines[1]), "root": lines[2], "note": note}
        except (OSError, ValueError, IndexError):
            return problem(404, "The log has no checkpoint yet; it gets one with its first record")
        try:
            document["vkey"] = (await run_in_threadpool(_read, self._log_folder / "vkey")).strip()
        except OSError:
            document["vkey"] = None
        return answer(request, document)

    async def openapi(self, request: Request) -> Response:
        return answer(request, self._description)


def _read(path: Path) -> str:
    with path.open("rb") as stream:
        return stream.read(_CHECKPOINT_BYTES).decode("utf-8")


def _query(request: Request) -> RecordQuery:
    """Raises ValueError that names the parameter."""
    given: dict[str, str] = {}
    for name, value in request.query_params.multi_items():
        if name not in FILTERS and name not in ("cursor", "limit"):
            raise ValueError(
                f"The parameter {name!r} is not known; there are {', '.join([*FILTERS, 'cursor', 'limit'])}"
            )
        if name in given:
            raise ValueError(f"The parameter {name} is there twice")
        given[name] = value
    numbers: dict[str, int] = {}
    for name, least, most in (("cursor", 0, 2**53), ("limit", 1, PAGE_MOST)):
        if name in given:
            text = given.pop(name)
            if re.fullmatch(r"[0-9]{1,16}", text) is None or not least <= int(text) <= most:
                raise ValueError(f"{name} is a whole number from {least} to {most}")
            numbers[name] = int(text)
    for name in ("since", "until"):
        if name in given:
            given[name] = _moment(name, given[name])
    return RecordQuery(**given, before=numbers.get("cursor"), limit=numbers.get("limit", 100))


def _moment(name: str, text: str) -> str:
    """RFC 3339 as records spell it."""
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        raise ValueError(f"{name} is RFC 3339, as in 2026-11-22T12:00:00Z") from None
    if found.tzinfo is None:
        raise ValueError(f"{name} needs its offset, as in 2026-11-22T12:00:00Z")
    return found.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def _route(route: Route, upstream: Upstream) -> dict[str, Json]:
    return {
        "name": route.name, "path": route.path, "host": route.host, "upstream": route.upstream,
        "protocol": upstream.protocol, "auth": route.auth, "body": route.body, "cookies": route.cookies,
        "deny_as": route.deny_as, "audit": route.audit,
    }  # fmt: skip
