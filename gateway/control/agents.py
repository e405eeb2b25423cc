"""`/api/v1/agents` and `/api/v1/tools`: what upstreams are and describe, what is thought of it, approvals and blocks.

1. What is approved is what was seen: an approval names the digest, and where it is no longer that, 412. 2. An approval
or the lifting of a block counts when its record is durable; a block counts at once, and is recorded then. 3. Names are
the upstreams' own and may be anything, so they stand in the query or the body, never in a path. 4. What is not known
is 404, a parameter that is not known 400.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route as Way

from gateway.control.acts import ADMIN, Acts, document
from gateway.control.described import ITEM_KINDS, counts, etag, standing, summary, whole
from gateway.control.problem import answer, problem
from gateway.core.canonical import Json
from gateway.core.descriptors import Approvals, Blocks, Described, Registry, Unapprovable
from gateway.core.reasons import Malformed
from gateway.core.snapshot import Snapshot

_APPROVED_AT_ONCE = 5000
_WHY_CHARACTERS = 1000


class Agents:
    """`registry` and `blocks` are the same store; `approvals` knows the pins."""

    def __init__(
        self, registry: Registry, blocks: Blocks, approvals: Approvals, snapshot: Callable[[], Snapshot], acts: Acts
    ) -> None:
        self._registry = registry
        self._blocks = blocks
        self._approvals = approvals
        self._snapshot = snapshot
        self._acts = acts

    def ways(self) -> list[Way]:
        return [
            Way("/api/v1/agents", self.agents),
            Way("/api/v1/agents/item", self.agent),
            Way("/api/v1/agents/block", self.block_agent, methods=["POST"]),
            Way("/api/v1/agents/unblock", self.unblock_agent, methods=["POST"]),
            Way("/api/v1/tools", self.tools),
            Way("/api/v1/tools/item", self.tool),
            Way("/api/v1/tools/approve", self.approve, methods=["POST"]),
            Way("/api/v1/tools/block", self.block_tool, methods=["POST"]),
            Way("/api/v1/tools/unblock", self.unblock_tool, methods=["POST"]),
        ]

    async def agents(self, request: Request) -> Response:
        if (wrong := _unknown(request, ())) is not None:
            return wrong
        names = {item.upstream for item in self._registry.items() if item.upstream} | {*self._snapshot().upstreams}
        callers = [summary(item) for item in self._registry.items("caller")]
        return answer(request, {"agents": [self._agent(name) for name in sorted(names)], "callers": list(callers)})

    async def agent(self, request: Request) -> Response:
        if (wrong := _unknown(request, ("name",))) is not None:
            return wrong
        name = request.query_params.get("name", "")
        kind = self._kind(name)
        if kind == "caller":
            item = self._registry.find("caller", "", name)
            return answer(request, summary(item)) if item is not None else problem(404, "That caller is not blocked")
        if not kind:
            return problem(404, "No upstream has that name; /api/v1/agents lists them")
        items = [summary(item) for item in self._registry.items(upstream=name) if item.kind in ITEM_KINDS]
        return answer(request, {**self._agent(name), "items": list(items)})

    async def tools(self, request: Request) -> Response:
        if (wrong := _unknown(request, ("upstream", "kind", "standing"))) is not None:
            return wrong
        wanted = request.query_params
        found = [
            summary(item)
            for item in self._registry.items(wanted.get("kind"), wanted.get("upstream"))
            if item.kind in ITEM_KINDS and wanted.get("standing") in (None, item.standing)
        ]
        return answer(request, {"tools": list(found)})

    async def tool(self, request: Request) -> Response:
        if (wrong := _unknown(request, ("upstream", "kind", "name"))) is not None:
            return wrong
        item = self._find(request.query_params)
        if item is None:
            return problem(404, "Nothing of that kind and name was ever seen there; /api/v1/tools lists what was")
        found = answer(request, whole(item, self._approvals.pin(item.upstream)))
        found.headers["etag"] = etag(item)  # the one that If-Match is held against
        return found

    async def approve(self, request: Request) -> Response:
        """`items`, or one item's members at the top."""
        try:
            wanted = _wanted(await document(request))
        except Malformed as error:
            return problem(400, str(error))
        if "if-match" in request.headers and len(wanted) != 1:
            return problem(400, "If-Match is for one item; of several each names its digest")
        if (stale := self._stale(request, wanted[0][:3])) is not None:
            return stale

        async def recorded(made: Sequence[Described]) -> None:
            for item in made:
                await self._acts.record(request, "descriptor.approve", _about(item))

        try:
            made = await self._approvals.approve(wanted, ADMIN, recorded)
        except Unapprovable as error:
            return problem(412 if error.stale else 404, f"{error}; look at it again")
        return answer(request, {"approved": [summary(item) for item in made]})

    async def block_tool(self, request: Request) -> Response:
        return await self._switch_tool(request, blocking=True)

    async def unblock_tool(self, request: Request) -> Response:
        return await self._switch_tool(request, blocking=False)

    async def block_agent(self, request: Request) -> Response:
        return await self._switch_agent(request, blocking=True)

    async def unblock_agent(self, request: Request) -> Response:
        return await self._switch_agent(request, blocking=False)

    async def _switch_tool(self, request: Request, *, blocking: bool) -> Response:
        try:
            found = await document(request)
            why = _members(found, ("upstream", "kind", "name"), ("why",))
        except Malformed as error:
            return problem(400, str(error))
        item = self._find({name: str(found[name]) for name in ("upstream", "kind", "name")})
        if item is None:
            return problem(404, "Nothing of that kind and name was ever seen there; /api/v1/tools lists what was")
        return await self._switch(request, (item.kind, item.upstream, item.name), why, blocking)

    async def _switch_agent(self, request: Request, *, blocking: bool) -> Response:
        try:
            found = await document(request)
            why = _members(found, ("agent",), ("why",))
        except Malformed as error:
            return problem(400, str(error))
        name = str(found["agent"])
        kind = self._kind(name)
        if not kind:
            return problem(404, "No upstream has that name, and a caller's is its subject.id, as records have it")
        return await self._switch(request, (kind, "" if kind == "caller" else name, name), why, blocking)

    async def _switch(self, request: Request, key: tuple[str, str, str], why: str, blocking: bool) -> Response:
        if (stale := self._stale(request, key)) is not None:
            return stale
        about = _subject(*key)
        if why:
            about["reason"] = why
        if blocking:  # 2
            await self._blocks.block(*key, why, ADMIN)
            await self._acts.record(request, "descriptor.block", about)
        else:
            await self._acts.record(request, "descriptor.unblock", about)
            await self._blocks.unblock(*key)
        item = self._registry.find(*key)
        left: Json = summary(item) if item is not None else {"kind": key[0], "name": key[2]}
        return answer(request, {"blocked": blocking, "item": left})

    def _stale(self, request: Request, key: tuple[str, str, str]) -> Response | None:
        given = request.headers.get("if-match")
        if given is None or given.strip() == "*":
            return None
        item = self._registry.find(*key)
        if item is not None and etag(item) in [tag.strip() for tag in given.split(",")]:
            return None
        return problem(412, "It is not what If-Match says any more; look at it again")

    def _kind(self, name: str) -> str:
        """agent, caller, or "" for a name that nothing has."""
        if name in self._snapshot().upstreams or (name and self._registry.items(upstream=name)):
            return "agent"
        return "caller" if ":" in name or name == "anonymous" else ""

    def _find(self, wanted: Mapping[str, str]) -> Described | None:
        kind = wanted.get("kind", "tool")
        if kind not in ITEM_KINDS:
            return None
        return self._registry.find(kind, wanted.get("upstream", ""), wanted.get("name", ""))

    def _agent(self, name: str) -> dict[str, Json]:
        items = self._registry.items(upstream=name)
        own = self._registry.find("agent", name, name)
        upstream = self._snapshot().upstreams.get(name)
        found: dict[str, Json] = {"name": name, "configured": upstream is not None}
        if upstream is not None:
            found |= {"protocol": upstream.protocol, "url": f"{upstream.origin}{upstream.path}"}
        found |= {"standing": str(standing(own, items)), "items": counts(items)}
        if pin := self._approvals.pin(name):
            found["pin"] = pin
        if failed := self._approvals.failure(name):
            found["problem"] = failed
        if own is not None:
            shown = summary(own)
            found |= {key: shown[key] for key in ("digest", "approved", "by", "why", "seen", "changed") if key in shown}
        return found


def _unknown(request: Request, names: Sequence[str]) -> Response | None:
    given = [name for name, _ in request.query_params.multi_items()]
    for name in given:
        if name not in names or given.count(name) > 1:
            there = f"there are {', '.join(names)}" if names else "there is none"
            return problem(400, f"The parameter {name!r} is not known, or there twice; {there}")
    return None


def _wanted(found: dict[str, Json]) -> list[tuple[str, str, str, str]]:
    """(kind, upstream, name, digest) of each. Raises Malformed."""
    items = found["items"] if set(found) == {"items"} else [found]
    if not isinstance(items, list) or not 0 < len(items) <= _APPROVED_AT_ONCE:
        raise Malformed(f"items is a list of 1 to {_APPROVED_AT_ONCE}")
    wanted: list[tuple[str, str, str, str]] = []
    for item in items:
        if not isinstance(item, dict):
            raise Malformed("An item is an object of upstream, kind, name and digest")
        _members(item, ("upstream", "kind", "name", "digest"), ())
        wanted.append((str(item["kind"]), str(item["upstream"]), str(item["name"]), str(item["digest"])))
    if len(set(wanted)) != len(wanted):
        raise Malformed("An item is there twice")
    return wanted


def _members(found: Mapping[str, Json], needed: Sequence[str], more: Sequence[str]) -> str:
    """Checks that all of `needed` are there and nothing else but `more`, and gives `why`. Raises Malformed."""
    if not set(needed) <= set(found) <= {*needed, *more}:
        raise Malformed(f"It needs {', '.join(needed)}" + (f" and may have {', '.join(more)}" if more else ""))
    if not all(isinstance(value, str) for value in found.values()):
        raise Malformed("Each member is a text")
    return str(found.get("why", ""))[:_WHY_CHARACTERS]


def _about(item: Described) -> dict[str, Json]:
    about = _subject(item.kind, item.upstream, item.name)
    about["descriptor"] = {item.kind: {"digest": item.approved}}
    return about


def _subject(kind: str, upstream: str, name: str) -> dict[str, Json]:
    ident = f"{upstream}/{name}" if kind in ("tool", "prompt") else name
    about: dict[str, Json] = {"resource": {"type": kind, "id": ident}}
    if upstream:
        about["upstream"] = {"name": upstream}
    return about
