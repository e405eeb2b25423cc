"""A fleet of OPAs: they fetch their bundles here, and say how they are and what they decided.

`GET /bundles/{name}.tar.gz` is OPA's bundle service: the active bundle of that name, its ETag, 304, and a long poll
(`Prefer: modes=snapshot;wait=N`). `POST /status` and `POST /logs` take what OPA's plugins send (JSON, gzip or not).
1. Only what is active is given out. 2. What comes in is bounded, packed and unpacked, before it is read; it changes no
decision. 3. What an OPA runs, and what went wrong with it, is a record when it changes; every batch of decisions is
one, with its digest and counts. The newest decisions are kept in memory, for looking. 4. At most so many OPAs, polls
and decisions are remembered: the oldest go.
"""

from __future__ import annotations

import asyncio
import re
import zlib
from collections import OrderedDict, deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route as Way

from gateway.control.acts import received
from gateway.control.problem import answer, problem
from gateway.core.bundles import BundleDesk, BundleState
from gateway.core.canonical import MAX_INTEGER, Json, digest, parse_answer
from gateway.core.ports import Clock
from gateway.core.reasons import Malformed
from gateway.core.records import timestamp

Record = Callable[[Request, str, dict[str, Json]], Awaitable[None]]

PACKED_BYTES = 1024 * 1024  # OPA's own upload limit is 32 KiB a batch
UNPACKED_BYTES = 16 * 1024 * 1024
OPAS = 1000
DECISIONS = 1000
POLLS = 256  # that wait at the same time; one more is answered at once
WAIT_SECONDS = 300
_BUNDLES = "application/vnd.openpolicyagent.bundles"  # tells OPA that it may wait
_WAIT = re.compile(r"(?:^|[;,\s])wait=([0-9]{1,6})(?:$|[;,\s])")
_TEXT_CHARACTERS = 200


@dataclass(slots=True)
class Opa:
    """What one instance said of itself. `bundles` are its words: active revision, errors."""

    id: str
    version: str = ""
    seen: float = 0.0
    bundles: dict[str, Json] = field(default_factory=dict)
    decisions: int = 0
    denied: int = 0
    batches: int = 0


class Fleet:
    def __init__(self, desk: BundleDesk, record: Record, clock: Clock) -> None:
        self._desk = desk
        self._record = record
        self._clock = clock
        self._opas: OrderedDict[str, Opa] = OrderedDict()
        self._decisions: deque[Json] = deque(maxlen=DECISIONS)
        self._polls = 0

    def ways(self) -> list[Way]:
        return [
            Way("/bundles/{name}.tar.gz", self.bundle, methods=["GET"]),
            Way("/status", self.status, methods=["POST"]),
            Way("/status/{partition}", self.status, methods=["POST"]),
            Way("/logs", self.logs, methods=["POST"]),
            Way("/logs/{partition}", self.logs, methods=["POST"]),
            Way("/api/v1/fleet", self.fleet),
            Way("/api/v1/fleet/decisions", self.decisions),
        ]

    async def bundle(self, request: Request) -> Response:
        name = str(request.path_params["name"])
        state = await run_in_threadpool(self._desk.store.state, name)
        known = {tag.strip().removeprefix("W/") for tag in request.headers.get("if-none-match", "").split(",")}
        wait = _wait(request.headers.get("prefer", ""))
        if _tag(state) in known and state.active and wait and self._polls < POLLS:
            self._polls += 1
            try:
                state = await self._desk.changed(name, state.active, wait)
            finally:
                self._polls -= 1
        if not state.active:  # 1
            return problem(404, f"No bundle is active under the name {name[:64]}")
        kind = _BUNDLES if wait else "application/gzip"
        headers = {"etag": _tag(state), "content-type": kind, "cache-control": "no-cache"}
        if _tag(state) in known:
            return Response(status_code=304, headers=headers)
        tarball = await run_in_threadpool(self._desk.store.tarball, state.active)
        return Response(tarball, headers=headers) if tarball is not None else problem(404, "That bundle is not here")

    async def status(self, request: Request) -> Response:
        try:
            said = await _received(request)
            if not isinstance(said, dict):
                raise Malformed("A status is an object")
            opa = self._opa(said)
        except Malformed as error:
            return problem(400, str(error))
        bundles = _bundles(said)
        if bundles != opa.bundles:
            opa.bundles = bundles
            about: dict[str, Json] = {"id": opa.id, "bundles": bundles}
            await self._record(request, "fleet.status", {"fleet": about})  # 3
        return Response(status_code=204)

    async def logs(self, request: Request) -> Response:
        try:
            said = await _received(request)
            if not isinstance(said, list) or not all(isinstance(item, dict) for item in said):
                raise Malformed("Decision logs are a list of objects")
            events = [item for item in said if isinstance(item, dict)]
            if not events:
                return Response(status_code=204)
            opa = self._opa(events[-1])
        except Malformed as error:
            return problem(400, str(error))
        denied = sum(1 for item in events if _denies(item.get("result")))
        about: dict[str, Json] = {
            "id": opa.id,
            "decisions": len(events),
            "denied": denied,
            "digest": str(request.state.digest),
            "first": _text(events[0].get("decision_id")),
            "last": _text(events[-1].get("decision_id")),
        }
        await self._record(request, "fleet.decisions", {"fleet": about})  # 3
        opa.decisions += len(events)
        opa.denied += denied
        opa.batches += 1
        self._decisions.extend(_plain(item) for item in events[-DECISIONS:])
        return Response(status_code=204)

    async def fleet(self, request: Request) -> Response:
        return answer(request, {"opas": [_shown(opa) for opa in self._opas.values()]})

    async def decisions(self, request: Request) -> Response:
        """The newest first."""
        return answer(request, {"decisions": list(reversed(self._decisions))})

    def _opa(self, said: dict[str, Json]) -> Opa:
        """The one that speaks, by its labels. Raises Malformed."""
        labels = said.get("labels")
        ident = labels.get("id") if isinstance(labels, dict) else None
        if not isinstance(labels, dict) or not isinstance(ident, str) or not ident or ident != _text(ident):
            raise Malformed("labels.id is missing: it says which OPA this is")
        opa = self._opas.setdefault(ident, Opa(ident))
        self._opas.move_to_end(ident)
        while len(self._opas) > OPAS:  # 4
            self._opas.popitem(last=False)
        opa.version, opa.seen = _text(labels.get("version")), self._clock.time()
        return opa


def _tag(state: BundleState) -> str:
    return f'"{state.active}"'


def _wait(prefer: str) -> float:
    """Seconds, 0 for none (RFC 7240; OPA's `modes=snapshot,delta;wait=N`)."""
    found = _WAIT.search(prefer)
    return float(min(int(found[1]), WAIT_SECONDS)) if found is not None and "snapshot" in prefer else 0.0


async def _received(request: Request) -> Json:
    """2. Raises Malformed."""
    packed = await received(request, PACKED_BYTES)
    if len(packed) > PACKED_BYTES:
        raise Malformed(f"The body has at most {PACKED_BYTES} bytes")
    coding = request.headers.get("content-encoding", "identity").strip().lower()
    if coding not in ("identity", "gzip"):
        raise Malformed("The content encoding is not gzip")
    request.state.digest = digest(packed)
    return await asyncio.to_thread(_read, packed, coding == "gzip")


def _read(packed: bytes, gzip: bool) -> Json:
    body = packed
    if gzip:
        unzip = zlib.decompressobj(wbits=31)
        try:
            body = unzip.decompress(packed, UNPACKED_BYTES + 1)
        except zlib.error:
            raise Malformed("The body is no gzip stream") from None
        if len(body) > UNPACKED_BYTES:
            raise Malformed(f"The body unpacks to more than {UNPACKED_BYTES} bytes")
        if not unzip.eof or unzip.unused_data:
            raise Malformed("The body is not one whole gzip stream")
    return parse_answer(body)


def _bundles(said: dict[str, Json]) -> dict[str, Json]:
    """What it runs and what went wrong, without times and counters: a record is made when this changes."""
    found: dict[str, Json] = {}
    listed = said.get("bundles")
    for name, bundle in listed.items() if isinstance(listed, dict) else ():
        if isinstance(bundle, dict) and len(found) < 100:
            shown = {key: _text(bundle.get(key)) for key in ("active_revision", "code", "message")}
            found[_text(name)] = {key: text for key, text in shown.items() if text}
    return found


def _denies(result: Json) -> bool:
    if isinstance(result, dict):
        return result.get("decision", result.get("allow")) is False
    return result is False


def _plain(value: Json) -> Json:
    """As it can be shown: an integer beyond 2^53-1 is its digits, half a character is a question mark."""
    if isinstance(value, dict):
        return {name.encode("utf-8", "replace").decode(): _plain(item) for name, item in value.items()}
    if isinstance(value, list):
        return [_plain(item) for item in value]
    if isinstance(value, str):
        return value.encode("utf-8", "replace").decode()
    big = isinstance(value, int) and not isinstance(value, bool) and abs(value) > MAX_INTEGER
    return str(value) if big else value


def _text(value: Json) -> str:
    """Short, and text that a record can hold."""
    text = value if isinstance(value, str) else ""
    return text[:_TEXT_CHARACTERS].encode("utf-8", "replace").decode()


def _shown(opa: Opa) -> dict[str, Json]:
    return {
        "id": opa.id,
        "version": opa.version,
        "seen": timestamp(opa.seen),
        "bundles": opa.bundles,
        "decisions": opa.decisions,
        "denied": opa.denied,
        "batches": opa.batches,
    }
