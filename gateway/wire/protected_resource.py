"""An upstream that keeps its own authorization server, seen through the gateway: its challenges and its RFC 9728
metadata, with the gateway's address in the place of its own.

Rules, numbered as in the code:
1. A challenge that announces the upstream's metadata announces the gateway's address for it instead; where the upstream
   has it is remembered. What is announced elsewhere is left as it stands.
2. Metadata is asked for where it was announced, else where RFC 9728 section 3.1 puts it: below the path, then at the
   root. It is asked for with nothing of any caller's, at the configured upstream alone, and one request at a time.
3. `resource` is rewritten only if it names this very upstream and does not name the route's address already (a gateway
   that sits on the upstream's own name changes nothing). Anything else stays, so that a client sees the mismatch as it
   would see it without the gateway. A signed copy of what was rewritten is dropped: it would contradict.
4. Nothing is kept: an authorization server may be exchanged for another between two calls.
It must never show a document that is not a strict JSON object with a resource, nor one above its bound.
"""

from __future__ import annotations

import asyncio
import json
import re
from urllib.parse import urlsplit

from gateway.core.canonical import Json, parse
from gateway.core.exchange import Exchange, Header
from gateway.core.ports import UpstreamTargets
from gateway.core.reasons import Malformed, Reason, Refusal, UpstreamFailed, upstream_refusal
from gateway.core.snapshot import Route, Snapshot, Upstream

WELL_KNOWN = "/.well-known/oauth-protected-resource"
LIMIT_BYTES = 64 * 1024
FETCH_SECONDS = 5.0
ANNOUNCED_LIMIT = 1024  # bytes of a target: more is no place of a document

_PSEUDONYM = "tollgate"
_QUOTED = rb'"(?:[^"\\]|\\.)*"'
# The parameter, or any other quoted text, so that what only looks like the parameter within one is passed over.
_PARAMETER = re.compile(rb"(?i)((?<![\w-])resource_metadata\s*=\s*)(" + _QUOTED + rb'|[^\s,"]+)|' + _QUOTED)
_TARGET = re.compile(r"/[A-Za-z0-9._~!$&'()*+,;=:@/%-]*(?:\?[A-Za-z0-9._~!$&'()*+,;=:@/?%-]*)?")


class ProtectedResources:
    """What was announced is remembered by upstream and forgotten with the process: the next challenge says it again."""

    __slots__ = ("_announced", "_asked", "_targets")

    def __init__(self, targets: UpstreamTargets) -> None:
        self._targets = targets
        self._announced: dict[str, str] = {}
        self._asked: dict[str, asyncio.Task[bytes | Refusal]] = {}

    def challenge(self, value: bytes, exchange: Exchange) -> bytes:
        """A WWW-Authenticate of a transparent upstream as its callers see it (1)."""
        route, upstream = exchange.route, exchange.upstream

        def place(found: re.Match[bytes]) -> bytes:
            if found[1] is None:
                return found[0]
            target = _own_target(_unquoted(found[2]), upstream)
            if target is None:
                return found[0]
            self._announced[upstream.name] = target
            return found[1] + b'"' + route.metadata.encode() + b'"'

        return _PARAMETER.sub(place, value)

    async def document(self, snapshot: Snapshot, route: Route) -> bytes | Refusal:
        """The metadata of this route's resource."""
        task = self._asked.get(route.name)
        if task is None:
            upstream = snapshot.upstreams[route.upstream]
            task = asyncio.get_running_loop().create_task(self._get(upstream, route), name=f"metadata of {route.name}")
            self._asked[route.name] = task
            task.add_done_callback(lambda _: self._asked.pop(route.name, None))
        return await asyncio.shield(task)  # whoever goes away takes nobody's document with it

    async def aclose(self) -> None:
        tasks = tuple(self._asked.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _get(self, upstream: Upstream, route: Route) -> bytes | Refusal:
        places = [self._announced.get(upstream.name, ""), WELL_KNOWN + upstream.path, WELL_KNOWN]
        try:
            async with asyncio.timeout(FETCH_SECONDS):
                for place in dict.fromkeys(place for place in places if place):  # 2
                    found = await self._ask(upstream, place)
                    if found is not None:
                        return _rewritten(found, upstream, route)
        except TimeoutError:
            return _failed(upstream, UpstreamFailed("no metadata in time", error="http_response_timeout", sent=True))
        except UpstreamFailed as error:
            return _failed(upstream, error)
        except Malformed as error:
            why = f"its metadata cannot be shown: {error}"
            return _failed(upstream, UpstreamFailed(why, error="http_protocol_error", sent=True))
        return Refusal(Reason.ROUTE_UNKNOWN, f"Upstream {upstream.name} publishes no metadata", rule="metadata")

    async def _ask(self, upstream: Upstream, target: str) -> bytes | None:
        """None where there is nothing. Raises UpstreamFailed, Malformed."""
        headers: list[Header] = [(b"host", upstream.authority.encode()), (b"accept", b"application/json")]
        headers += [(b"accept-encoding", b"identity"), (b"via", b"1.1 tollgate")]
        answer = await self._targets.client(upstream).send("GET", target, headers, None, idempotent=True)
        try:
            if answer.status != 200:
                if answer.status in (401, 403, 404, 405, 410):
                    return None
                raise UpstreamFailed(f"it answered {answer.status}", error="http_protocol_error", sent=True)
            body = b""
            while chunk := await answer.chunk():
                body += chunk
                if len(body) > LIMIT_BYTES:
                    raise Malformed(f"more than {LIMIT_BYTES} bytes")
            return body
        finally:
            await answer.aclose()


def _rewritten(body: bytes, upstream: Upstream, route: Route) -> bytes:
    found = parse(body)
    if not isinstance(found, dict) or not isinstance(found.get("resource"), str):
        raise Malformed("not an object with a resource")
    resource: Json = found["resource"]
    if (
        isinstance(resource, str) and _covers(resource, upstream.resource) and not _covers(resource, route.resource)
    ):  # 3
        found = {name: value for name, value in found.items() if name != "signed_metadata"}
        found["resource"] = route.resource
    return json.dumps(found).encode()


def _covers(resource: str, address: str) -> bool:
    """Whether a resource of this name is at this address: the same, or what it lies below, on segment borders."""
    claimed, at = urlsplit(resource).path.rstrip("/"), _origin(resource)
    path = urlsplit(address).path
    return at is not None and at == _origin(address) and (path == claimed or path.startswith(claimed + "/"))


def _own_target(url: str, upstream: Upstream) -> str | None:
    """Path and query of an address at this upstream, by its configured name or its own; None for any other."""
    at = _origin(url)
    if at is None or at not in (_origin(upstream.resource), _origin(upstream.origin)):
        return None
    parts = urlsplit(url)
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    plain = len(target) <= ANNOUNCED_LIMIT and _TARGET.fullmatch(target) is not None
    return target if plain and not any(segment in (".", "..") for segment in parts.path.split("/")) else None


def _origin(url: str) -> tuple[str, str, int | None] | None:
    """Scheme, host, port; None for what is no plain http URL."""
    try:
        parts = urlsplit(url)
        port = parts.port or {"https": 443, "http": 80}.get(parts.scheme)
    except ValueError:
        return None
    if parts.scheme not in ("http", "https") or not parts.hostname or "@" in parts.netloc or "#" in url:
        return None
    return parts.scheme, parts.hostname, port


def _unquoted(value: bytes) -> str:
    text = value.decode("latin-1")
    return re.sub(r"\\(.)", r"\1", text[1:-1]) if text.startswith('"') else text


def _failed(upstream: Upstream, error: UpstreamFailed) -> Refusal:
    return upstream_refusal(upstream.name, error, _PSEUDONYM)
