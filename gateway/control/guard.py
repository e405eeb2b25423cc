"""The admin plane's door: one raw ASGI callable around everything else.

1. Only HTTP; a WebSocket is refused before the upgrade. 2. One Host, one of ours, or 403: DNS rebinding. 3. An Origin,
where there is one, is the plane's own, or 403; a method that changes something needs one where a cookie says who asks.
4. `/healthz`, `/readyz` and the log-in are open, `/metrics` where the configuration says so; everything else, also what
does not exist, needs the token or a session; what OPAs fetch and report is open to the fleet's token too. 5. Every
answer carries the security headers. The path that is judged here is the one that is routed: both are `scope["path"]`.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping
from dataclasses import dataclass
from http.cookies import CookieError, SimpleCookie
from typing import Any, TypeAlias
from urllib.parse import urlsplit

from starlette.responses import Response

from gateway.control.access import Access
from gateway.control.problem import problem

Scope: TypeAlias = MutableMapping[str, Any]
Message: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[Message]]
Send: TypeAlias = Callable[[Message], Awaitable[None]]
App: TypeAlias = Callable[[Scope, Receive, Send], Awaitable[None]]

_OPEN = frozenset({"/healthz", "/readyz", "/login"})
_FLEET = ("/bundles/", "/status", "/logs")  # not /log/, which is the audit log's files
_ID_BYTES = 256
_SAFE = frozenset({"GET", "HEAD", "OPTIONS"})


@dataclass(frozen=True, slots=True)
class Door:
    """What the guard holds requests against. `hosts` are names without port, lower case, IPv6 in brackets."""

    public_url: str
    hosts: frozenset[str]
    metrics_open: bool = False

    @property
    def https(self) -> bool:
        return self.public_url.startswith("https://")

    @property
    def cookie(self) -> str:
        """The session's cookie: with the __Host- prefix no other host or path can set it."""
        return "__Host-tollgate" if self.https else "tollgate"


class Guard:
    def __init__(self, app: App, door: Door, access: Access, policy: str) -> None:
        """`policy` is the Content-Security-Policy of all answers."""
        self._app = app
        self._door = door
        self._access = access
        self._headers = _security_headers(door, policy)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
        elif scope["type"] != "http":
            await send({"type": "websocket.close", "code": 1008, "reason": "no WebSocket here"})  # 1
        else:
            guarded = self._guarded(send, _request_id(scope))
            refused = self._refused(scope)
            if refused is None:
                await self._app(scope, receive, guarded)
            else:
                await refused(scope, receive, guarded)

    def _refused(self, scope: Scope) -> Response | None:
        headers: list[tuple[bytes, bytes]] = scope["headers"]
        hosts = [value.decode("latin-1").lower() for name, value in headers if name == b"host"]
        if len(hosts) != 1 or _hostname(hosts[0]) not in self._door.hosts:  # 2
            return problem(403, "This admin plane does not answer to that Host name; admin.public_url sets its own")
        origins = [value.decode("latin-1").lower() for name, value in headers if name == b"origin"]
        own = {_origin(self._door.public_url), f"{scope['scheme']}://{hosts[0]}"}
        if any(origin not in own for origin in origins):  # 3
            return problem(403, "This origin may not call the admin plane")
        session = self._session(headers)
        bearer = self._bearer(headers, self._access.bearer)
        means = "token" if bearer else "session" if session else ""
        scope["state"] = {**scope.get("state", {}), "session": session, "means": means}
        path: str = scope["path"]
        if path in _OPEN or (path == "/metrics" and self._door.metrics_open):  # 4
            return None
        if bearer or (path.startswith(_FLEET) and self._bearer(headers, self._access.fleet)):
            return None
        if session:
            if scope["method"] in _SAFE or origins:
                return None
            return problem(403, "A browser's request that changes something must say its Origin")
        if scope["method"] == "GET" and path == "/":
            return Response(status_code=303, headers={"location": "/login"})
        return problem(
            401,
            "The admin token is needed: Authorization: Bearer <token>",
            {"www-authenticate": 'Bearer realm="tollgate"'},
        )

    def _bearer(self, headers: list[tuple[bytes, bytes]], known: Callable[[str], bool]) -> bool:
        given = [value for name, value in headers if name == b"authorization"]
        if len(given) != 1:
            return False
        scheme, _, token = given[0].decode("latin-1").partition(" ")
        return scheme.lower() == "bearer" and known(token.strip())

    def _session(self, headers: list[tuple[bytes, bytes]]) -> str:
        """The id of the caller's living session, "" where there is none."""
        for name, value in headers:
            if name != b"cookie":
                continue
            try:
                found = SimpleCookie(value.decode("latin-1")).get(self._door.cookie)
            except CookieError:
                continue
            if found is not None and self._access.session(found.value):
                return found.value
        return ""

    def _guarded(self, send: Send, ident: list[tuple[bytes, bytes]]) -> Send:
        async def guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                given = {name.lower() for name, _ in message.get("headers", ())}
                extra = [item for item in (*self._headers, *ident) if item[0] not in given]
                message["headers"] = [*message.get("headers", ()), *extra]
            await send(message)

        return guarded


def _request_id(scope: Scope) -> list[tuple[bytes, bytes]]:
    """What every answer to an AuthZEN request repeats, refusals too (its version 1.0, Request Identification)."""
    found = [item for item in scope["headers"] if item[0] == b"x-request-id"]
    fits = len(found) == 1 and len(found[0][1]) <= _ID_BYTES and all(32 <= byte < 127 for byte in found[0][1])
    return found if fits and str(scope["path"]).startswith("/access/") else []


def _security_headers(door: Door, policy: str) -> list[tuple[bytes, bytes]]:
    headers = {
        "content-security-policy": policy,
        "x-content-type-options": "nosniff",
        "x-frame-options": "DENY",
        "referrer-policy": "no-referrer",
        "cross-origin-opener-policy": "same-origin",
        "cross-origin-resource-policy": "same-origin",
        "permissions-policy": "camera=(), geolocation=(), microphone=()",
        "cache-control": "no-store",
    }
    if door.https:
        headers["strict-transport-security"] = "max-age=31536000"
    return [(name.encode(), value.encode()) for name, value in headers.items()]


def _hostname(authority: str) -> str:
    if authority.startswith("["):
        return authority[: authority.find("]") + 1]
    return authority.partition(":")[0]


def _origin(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}".lower()
