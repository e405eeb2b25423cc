"""Where a request head leads: all that follows from the head and the snapshot alone, worked out once for each pair.

A kept connection sends the same head many times, and the front gives the same Head for the same bytes; so what is
derived here is remembered on the Head, and used only with the very snapshot it was derived from. No decision about the
caller is ever made or kept here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from gateway.core.exchange import Head
from gateway.core.ports import Protocol
from gateway.core.reasons import Reason, Refusal
from gateway.core.snapshot import NO_ROUTE, NO_UPSTREAM, Route, Snapshot, Upstream
from gateway.wire.origins import foreign, is_preflight

CLIENT_ID_CHARACTERS = 128


@dataclass(frozen=True, slots=True)
class Way:
    """`refusal` is the door's: Host, Origin, route. `document` is what the gateway itself answers with, or the route
    whose upstream is asked for it. `length` is the body's declared length, `traced` the caller's trace and span id. It
    does not name the head that remembers it: in a circle head and snapshot would stay until the collector comes by."""

    snapshot: Snapshot
    route: Route
    upstream: Upstream
    protocol: Protocol
    refusal: Refusal | None
    document: bytes | Route | None
    preflight: bool
    length: int | None
    reads: bool | Refusal
    client_id: str
    traced: tuple[str, str] | None


class Ways:
    def __init__(self, protocols: Mapping[str, Protocol]) -> None:
        self._protocols = protocols

    def find(self, snapshot: Snapshot, head: Head) -> Way:
        way: Way | None = head.facts.get("way")
        if way is None or way.snapshot is not snapshot:
            way = head.facts["way"] = self._work_out(snapshot, head)
        return way

    def _work_out(self, snapshot: Snapshot, head: Head) -> Way:
        route = snapshot.routes.match(head.authority, head.path)
        upstream = snapshot.upstreams[route.upstream] if route is not None else NO_UPSTREAM
        protocol = self._protocols[upstream.protocol]
        refusal = foreign(snapshot, head)
        before = is_preflight(head)
        document = snapshot.document(head) if refusal is None and not head.websocket else None
        if document is not None and not before and head.method not in ("GET", "HEAD"):
            refusal = Refusal(
                Reason.METHOD_NOT_ALLOWED, "This document is only read", "document", headers=((b"allow", b"GET, HEAD"),)
            )
        if refusal is None and route is None and document is None:
            refusal = Refusal(Reason.ROUTE_UNKNOWN, "No route leads there; the configuration lists the routes")
        declared = head.first(b"content-length")
        return Way(
            snapshot=snapshot,
            route=route or NO_ROUTE,
            upstream=upstream,
            protocol=protocol,
            refusal=refusal,
            document=document if refusal is None else None,
            preflight=before,
            length=int(declared) if declared is not None else None,
            reads=protocol.reads_body(head, route) if route is not None and not head.websocket else False,
            client_id=(head.first(b"x-request-id") or b"")[:CLIENT_ID_CHARACTERS].decode("latin-1"),
            traced=traced(head.first(b"traceparent")),
        )


def traced(traceparent: bytes | None) -> tuple[str, str] | None:
    """Trace and span id of a W3C trace context, None where there is none that can be believed."""
    if traceparent is None or len(traceparent) != 55 or traceparent[:3] != b"00-" or not traceparent.isascii():
        return None
    parts = traceparent.decode("ascii").split("-")
    if len(parts) != 4 or len(parts[1]) != 32 or len(parts[2]) != 16 or not (_hex(parts[1]) and _hex(parts[2])):
        return None
    return parts[1], parts[2]


def _hex(text: str) -> bool:
    return all(mark in "0123456789abcdef" for mark in text) and text.strip("0") != ""
