"""The part of a question that an engine reads, as JSON bytes, made without making the rest of it.

1. An excerpt of a question is byte for byte the projection of its document on the same paths: what is absent stays
   absent, and a value where an object was expected is copied as it is, because a policy can tell the two apart.
2. So two questions with the same excerpt differ in nothing that is read, types included: JSON says 1, true, 1.0 and "1"
   differently. It may be the key under which a decision is kept, and it is the very input the decision is made of.
3. What does not depend on the call (subject, route, request) is written once for a head, and used again only with the
   very caller, route and list of headers it was written for.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final, TypeAlias

import orjson

from gateway.core.access import (
    AccessRequest,
    add_context,
    context_of,
    request_of,
    resource_of,
    subject_of,
)
from gateway.core.canonical import Json
from gateway.core.exchange import Call, Exchange

Path: TypeAlias = "tuple[str, ...]"
Tree: TypeAlias = "tuple[tuple[str, Tree | None], ...]"
"""Nested (name, rest) pairs in the order of their names; None where everything below is read."""

_written: Final = orjson.dumps
_Fragment: Final = orjson.Fragment


class Excerpts:
    """Makes the excerpts of questions for one engine."""

    __slots__ = ("_context", "_digest", "_fact", "_tree")

    def __init__(self, reads: Iterable[Path], fact: str = "excerpt") -> None:
        """`reads`: the paths of the document that count, `()` among them for all of it. `fact` is where a head keeps
        what is written once: engines that are asked about the same questions have a place each."""
        self._tree: Final = tree_of(reads)
        self._fact: Final = fact
        self._context: Final = _rest(self._tree, "context")
        below = _rest(self._tree, "resource", "properties")
        self._digest: Final = below is None or any(name == "digest" for name, _ in below)

    def of(self, request: AccessRequest) -> bytes:
        """Raises TypeError for what is no JSON."""
        exchange, call, tree = request.exchange, request.call, self._tree
        if tree is None:
            return _written(request.document)
        if exchange is None or call is None:
            return _written(project(request.document, tree))
        standing: _Standing | None = exchange.head.facts.get(self._fact)
        if standing is None or not standing.fits(tree, exchange):
            standing = exchange.head.facts[self._fact] = _Standing(tree, exchange)
        if not call.resource and not (self._digest and exchange.item_digest and call is exchange.asked):
            frame = standing.frame(exchange, call)
            if len(frame) == 3:
                context = _context(exchange, call, self._context, standing)
                return b"".join((frame[0], _written(context), frame[1], _written(call.resource_id), frame[2]))
        return _written(_question(tree, exchange, call, standing))


class _Standing:
    """What the questions from one head have in common, written once (3). `request` is None where it is not the same for
    all of them, or not read."""

    __slots__ = (
        "_action",
        "_allowed",
        "_frame",
        "_principal",
        "_route",
        "_tree",
        "_type",
        "_vouched",
        "request",
        "subject",
    )

    def __init__(self, tree: Tree, exchange: Exchange) -> None:
        self._tree: Final = tree
        self._principal: Final = exchange.principal
        self._vouched: Final = exchange.vouched
        self._route: Final = exchange.route
        self._allowed: Final = exchange.snapshot.policy_headers
        self._action, self._type, self._frame = "", "", list[bytes]()
        self.subject: Final = _Fragment(_written(_part(subject_of(exchange), _rest(tree, "subject"))))
        below = _rest(tree, "context", "request")
        own = below is None or any(name == "id" for name, _ in below)
        self.request: Final = None if own else _Fragment(_written(_part(request_of(exchange), below)))

    def fits(self, tree: Tree, exchange: Exchange) -> bool:
        """The same objects, not only equal ones: among equal values are 1 and true."""
        return (
            self._principal is exchange.principal
            and self._route is exchange.route
            and self._vouched is exchange.vouched
            and self._tree is tree
            and self._allowed == exchange.snapshot.policy_headers
        )

    def frame(self, exchange: Exchange, call: Call) -> list[bytes]:
        """The excerpt of a question about something of which no properties but the route's are read, cut where the
        context and the resource's id stand: three pieces where both are read. No piece of JSON has a NUL in it."""
        if call.action != self._action or call.resource_type != self._type or not self._frame:
            gap = _Fragment(b"\0")
            self._frame = _written(_question(self._tree, exchange, call, self, gap, gap)).split(b"\0")
            self._action, self._type = call.action, call.resource_type
        return self._frame


def _question(
    tree: Tree, exchange: Exchange, call: Call, standing: _Standing, context: object = None, ident: object = None
) -> dict[str, Any]:
    """All that is read of a question; with another context and another id of the resource where they are given."""
    found: dict[str, Any] = {}
    for name, rest in tree:
        if name == "action":
            found[name] = _part({"name": call.action}, rest)
        elif name == "context":
            found[name] = context or _context(exchange, call, rest, standing)
        elif name == "resource":
            found[name] = _part(resource_of(exchange, call), rest)
            if ident is not None and "id" in found[name]:
                found[name]["id"] = ident
        elif name == "subject":
            found[name] = standing.subject
    return found


def _context(exchange: Exchange, call: Call, rest: Tree | None, standing: _Standing) -> dict[str, Any]:
    if rest is None:
        return context_of(exchange, call)
    own, found = call.context, dict[str, Any]()
    for name, below in rest:
        if own and name in own:
            found[name] = own[name]
        elif name == "request" and standing.request is not None:
            found[name] = standing.request
            continue
        else:
            add_context(found, name, exchange, call)
        if below is not None and name in found:
            found[name] = _part(found[name], below)
    return found


def _rest(tree: Tree | None, *names: str) -> Tree | None:
    """What is read below a place; None where all of it is or nothing."""
    for name in names:
        tree = dict(tree).get(name) if tree is not None else None
    return tree


def tree_of(reads: Iterable[Path]) -> Tree | None:
    """None where everything is read."""
    below: dict[str, set[Path]] = {}
    for path in reads:
        if not path:
            return None
        below.setdefault(path[0], set()).add(path[1:])
    return tuple((name, tree_of(paths)) for name, paths in sorted(below.items()))


def project(document: Mapping[str, Json], tree: Tree) -> dict[str, Json]:
    """What of a document is read (1)."""
    found: dict[str, Json] = {}
    for name, rest in tree:
        if name in document:
            found[name] = _part(document[name], rest)
    return found


def _part(value: Json, rest: Tree | None) -> Json:
    return project(value, rest) if rest is not None and type(value) is dict else value
