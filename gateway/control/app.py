"""The admin plane as one ASGI application: health, metrics, the log's files, the API, the status page and its log-in.

Everything it shows arrives in its constructor. What it changes (who is logged in; what is approved, blocked, rotated)
is a record. It shares nothing with the data plane but the Snapshot and the stores. Who may ask is the Guard's business
(guard.py): a handler here never decides that.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response
from starlette.routing import Route as Way

from gateway.control.access import SESSION_SECONDS, Access
from gateway.control.acts import received
from gateway.control.agents import Agents
from gateway.control.api import Api
from gateway.control.asking import Asking
from gateway.control.budgets import Budgets
from gateway.control.bundles import Bundles
from gateway.control.fleet import Fleet
from gateway.control.guard import App, Door, Guard
from gateway.control.keys import Keys
from gateway.control.logfiles import LogFiles
from gateway.control.page import POLICY, login_page, status_page
from gateway.control.problem import problem
from gateway.control.replay import Replays
from gateway.control.shadow import Shadows
from gateway.control.upstreams import Upstreams
from gateway.control.usage import Usage
from gateway.core.canonical import Json
from gateway.core.ids import Ids
from gateway.core.ports import Clock, RecordLog
from gateway.core.query import QueryFailed, RecordQuery, Records
from gateway.core.reasons import LogUnavailable, StoreFailed
from gateway.core.records import timestamp
from gateway.core.snapshot import Snapshot

_FORM_BYTES = 4096  # the log-in form has one field


@dataclass(frozen=True, slots=True)
class Admin:
    """What the admin plane is made of.

    `ready` names what is not ready, nothing when all is. `status` is what /api/v1/status adds to what is known here.
    `metrics` gives the exposition and its content type for an Accept header. `log_folder` is `<data_dir>/log`.
    """

    door: Door
    access: Access
    snapshot: Callable[[], Snapshot]
    ready: Callable[[], list[str]]
    status: Callable[[], dict[str, Json]]
    records: Records
    metrics: Callable[[str], tuple[bytes, str]]
    log: RecordLog
    log_folder: Path
    agents: Agents
    keys: Keys
    shadows: Shadows
    replays: Replays
    asking: Asking
    bundles: Bundles
    fleet: Fleet
    budgets: Budgets
    usage: Usage
    upstreams: Upstreams
    ids: Ids
    clock: Clock
    version: str


def make_admin(plane: Admin) -> App:
    """The guarded application."""
    api = Api(
        plane.door,
        plane.snapshot,
        plane.ready,
        plane.status,
        plane.records,
        plane.log_folder,
        plane.agents,
        plane.keys,
        plane.shadows,
        plane.replays,
        plane.asking,
        plane.bundles,
        plane.fleet,
        plane.budgets,
        plane.usage,
        plane.upstreams,
        plane.version,
    )
    pages = Pages(plane, api)
    ways = [
        Way("/healthz", _healthz),
        Way("/readyz", pages.readyz),
        Way("/metrics", pages.metrics),
        Way("/log/{name:path}", LogFiles(plane.log_folder).__call__),
        *api.ways(),
        Way("/login", pages.login, methods=["GET"]),
        Way("/login", pages.log_in, methods=["POST"]),
        Way("/logout", pages.log_out, methods=["POST"]),
        Way("/", pages.home),
    ]
    handlers: Any = {
        HTTPException: _http_error, QueryFailed: _query_error, StoreFailed: _query_error, LogUnavailable: _log_error,
        500: _fault,
    }  # fmt: skip
    app = Starlette(routes=ways, exception_handlers=handlers)
    app.router.redirect_slashes = False
    return Guard(app, plane.door, plane.access, POLICY)


class Pages:
    """What is not the API: probes, numbers, the status page, log-in and log-out."""

    def __init__(self, plane: Admin, api: Api) -> None:
        self._plane = plane
        self._api = api

    async def readyz(self, request: Request) -> Response:
        ready = not self._plane.ready()
        return Response("ready\n" if ready else "not ready\n", 200 if ready else 503, media_type="text/plain")

    async def metrics(self, request: Request) -> Response:
        body, content_type = self._plane.metrics(request.headers.get("accept", ""))
        return Response(body, headers={"content-type": content_type})

    async def home(self, request: Request) -> Response:
        try:
            page = await self._plane.records.find(RecordQuery(limit=20))
            latest = page.records
        except QueryFailed:
            latest = ()
        differences = self._plane.shadows.newest(20)
        return HTMLResponse(status_page(self._api.status_document(), self._api.route_documents(), latest, differences))

    async def login(self, request: Request) -> Response:
        """The form; with `?token=` the log-in itself, which is how the demo's printed link works."""
        secret = request.query_params.get("token")
        if secret is None:
            return HTMLResponse(login_page())
        return await self._open(request, self._plane.access.redeem(secret))

    async def log_in(self, request: Request) -> Response:
        if "origin" not in request.headers:
            return problem(403, "A log-in form says its Origin; use a browser, or the token as a bearer token")
        body = await received(request, _FORM_BYTES)
        if len(body) > _FORM_BYTES:
            return problem(413, f"The form has at most {_FORM_BYTES} bytes")
        fields = parse_qs(body.decode("latin-1"), max_num_fields=8)
        return await self._open(request, self._plane.access.open(fields.get("token", [""])[0].strip()))

    async def log_out(self, request: Request) -> Response:
        session: str = request.state.session
        self._plane.access.close(session)
        answer = RedirectResponse("/login", 303)
        answer.delete_cookie(self._plane.door.cookie, secure=self._plane.door.https, httponly=True, samesite="strict")
        return answer

    async def _open(self, request: Request, session: str | None) -> Response:
        if session is None:
            return HTMLResponse(login_page("That token is not right, or was used already."), 401)
        try:
            await self._recorded(request)
        except LogUnavailable:
            self._plane.access.close(session)
            raise
        answer = RedirectResponse("/", 303)
        answer.set_cookie(
            self._plane.door.cookie,
            session,
            max_age=int(SESSION_SECONDS),
            secure=self._plane.door.https,
            httponly=True,
            samesite="strict",
        )
        return answer

    async def _recorded(self, request: Request) -> None:
        """A log-in is administration: it counts when its record is durable."""
        peer = request.client.host if request.client is not None else ""
        seq = self._plane.log.submit(
            {
                "kind": "admin",
                "id": self._plane.ids.new(),
                "time": timestamp(self._plane.clock.time()),
                "action": "admin.login",
                "subject": {"id": "admin", "type": "admin"},
                "request": {"method": request.method, "path": "/login", "peer": peer},
            }
        )
        await self._plane.log.sequenced(seq)


async def _healthz(request: Request) -> Response:
    return Response("ok\n", media_type="text/plain")


async def _http_error(request: Request, error: Exception) -> Response:
    if not isinstance(error, HTTPException):
        return problem(500, "The admin plane failed; its log lines say how")
    said = {404: "There is nothing there; /api/v1/openapi.json lists what is", 405: "This method is not allowed here"}
    headers = {name: value for name, value in (error.headers or {}).items() if name.lower() == "allow"}
    return problem(error.status_code, said.get(error.status_code, "The request cannot be answered"), headers)


async def _query_error(request: Request, error: Exception) -> Response:
    return problem(503, f"{error}", {"retry-after": "2"})


async def _log_error(request: Request, error: Exception) -> Response:
    return problem(503, "The audit log cannot be written, and this would have to be recorded", {"retry-after": "2"})


async def _fault(request: Request, error: Exception) -> Response:
    return problem(500, "The admin plane failed; its log lines say how")
