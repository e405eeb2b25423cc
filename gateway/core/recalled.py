"""What policy was asked about an exchange, put together again from the exchange's records.

The rule it keeps: these are proposals only. Records hold no arguments (unless they are captured) and not every
property, so a document may differ from what was asked; whoever uses one holds the digest of what an engine reads of it
against the digest in the record, and takes none that does not have it.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime

from gateway.core.canonical import Json
from gateway.core.records import asked_subject, item_digest


def proposals(records: Sequence[Mapping[str, Json]], upstreams: Mapping[str, str]) -> Iterator[dict[str, Json]]:
    """The likeliest first. `upstreams` are the upstreams of routes by the routes' names, as far as they are known."""
    joined: dict[str, Json] = {}
    for record in records:
        joined.update(record)
        request = record.get("request")
        capture = request.get("capture") if isinstance(request, dict) else None
        kept = capture.get("input") if isinstance(capture, dict) else None
        if isinstance(kept, dict):
            yield kept
    subject, resource, action = (joined.get(name) for name in ("subject", "resource", "action"))
    if not isinstance(subject, dict) or not isinstance(resource, dict) or not isinstance(action, str):
        return
    issuer = str(subject.get("id", "")).partition(":")[2].partition("/")[0]
    for direction, arguments, issued, named in itertools.product(
        ("", "response", "server"), (False, True), (True, False), _upstreams(joined, resource, upstreams)
    ):
        context: dict[str, Json] = {"listing": False, "request": _request(joined)}
        if moment := _moment(records):
            context["time"] = moment
        if "trace_id" in joined:
            context["trace_id"] = joined["trace_id"]
        if arguments:
            context["arguments"] = {}
        if direction:
            context["direction"] = direction
        yield {
            "subject": {
                "type": subject.get("type"),
                "id": subject.get("id"),
                "properties": asked_subject(subject, issuer if issued else ""),
            },
            "action": {"name": action},
            "resource": _resource(resource, str(joined.get("route", "")), named, item_digest(joined)),
            "context": context,
        }


def _resource(resource: Mapping[str, Json], route: str, upstream: str, item: str) -> Json:
    properties: dict[str, Json] = {"route": route, "upstream": upstream}
    if item:
        properties["digest"] = item
    return {"type": resource.get("type"), "id": resource.get("id"), "properties": properties}


def _request(joined: Mapping[str, Json]) -> Json:
    found: dict[str, Json] = {"id": joined.get("exchange"), "headers": {}}
    request = joined.get("request")
    if isinstance(request, dict):
        found.update({name: request[name] for name in ("method", "path", "peer") if name in request})
    return found


def _upstreams(joined: Mapping[str, Json], resource: Mapping[str, Json], upstreams: Mapping[str, str]) -> list[str]:
    upstream = joined.get("upstream")
    named = [str(upstream.get("name", ""))] if isinstance(upstream, dict) else []
    known = upstreams.get(str(joined.get("route", "")))
    if known is not None:
        named.append(known)
    return list(dict.fromkeys([*named, str(resource.get("id", "")).partition("/")[0]]))


def _moment(records: Sequence[Mapping[str, Json]]) -> str:
    """When the request's head was complete, as policy saw it: to the second."""
    for record in records:
        ended, took = record.get("time"), record.get("us")
        if isinstance(ended, str) and isinstance(took, int):
            try:
                began = datetime.fromisoformat(ended).timestamp() - took / 1_000_000
            except ValueError:
                return ""
            return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(int(began)))
    return ""
