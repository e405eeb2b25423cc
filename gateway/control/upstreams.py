"""`/api/v1/upstreams`: where calls go and how that does; breakers that somebody opens or closes.

1. Upstreams are shown without their credentials. 2. Opening or closing a breaker is a record before it counts, and
stays until it is undone, over reloads and restarts. 3. An upstream that is not configured is a 404, one without a
breaker a 409: nothing is made up.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route as Way

from gateway.control.acts import Acts, document
from gateway.control.problem import answer, problem
from gateway.core.attempts import AddressStanding, UpstreamDesk
from gateway.core.breaking import Hold, Standing
from gateway.core.canonical import Json
from gateway.core.reasons import Malformed
from gateway.core.snapshot import Snapshot, Upstream

_WHY_CHARACTERS = 1000
_HOLDS = {str(hold): hold for hold in Hold}


class Upstreams:
    def __init__(self, desk: UpstreamDesk, snapshot: Callable[[], Snapshot], acts: Acts) -> None:
        self._desk = desk
        self._snapshot = snapshot
        self._acts = acts

    def ways(self) -> list[Way]:
        return [
            Way("/api/v1/upstreams", self.upstreams),
            Way("/api/v1/upstreams/{name}/breaker", self.hold, methods=["POST"]),
        ]

    async def upstreams(self, request: Request) -> Response:
        if request.query_params:
            return problem(400, "There are no parameters")
        breakers, addresses = self._desk.breakers(), self._desk.addresses()
        found: list[Json] = [_upstream(item, breakers, addresses) for item in self._snapshot().upstreams.values()]
        return answer(request, {"upstreams": found})

    async def hold(self, request: Request) -> Response:
        """`state` open or close: whatever happens, until it is auto again."""
        name = str(request.path_params["name"])
        try:
            wanted, why = _wanted(await document(request))
        except Malformed as error:
            return problem(400, f"{error}")
        upstream = self._snapshot().upstreams.get(name)
        if upstream is None:
            return problem(404, f"There is no upstream {name[:100]!r}; /api/v1/upstreams lists them")
        if upstream.breaker is None:
            return problem(409, f"Upstream {name} has no breaker: configure upstreams.{name}.breaker")
        about: dict[str, Json] = {"upstream": name, "state": str(wanted)}
        if why:
            about["why"] = why
        await self._acts.record(request, "breaker.hold", {"hold": about})  # 2
        await self._desk.hold(name, wanted)
        return answer(request, {"upstream": _upstream(upstream, self._desk.breakers(), self._desk.addresses())})


def _wanted(said: dict[str, Json]) -> tuple[Hold, str]:
    """Raises Malformed."""
    unknown = set(said) - {"state", "why"}
    if unknown:
        raise Malformed(f"The member {min(unknown)[:100]!r} is not known; there are state and why")
    state, why = said.get("state"), said.get("why", "")
    if not isinstance(state, str) or state not in _HOLDS:
        raise Malformed(f"state is one of {', '.join(_HOLDS)}")
    if not isinstance(why, str) or len(why) > _WHY_CHARACTERS:
        raise Malformed(f"why is a text of at most {_WHY_CHARACTERS} characters")
    return _HOLDS[state], why


def _upstream(
    upstream: Upstream, breakers: Sequence[Standing], addresses: Sequence[AddressStanding]
) -> dict[str, Json]:
    timeouts = upstream.timeouts
    found: dict[str, Json] = {
        "name": upstream.name,
        "url": f"{upstream.origin}{upstream.path}",
        "protocol": upstream.protocol,
        "http": upstream.http,
        "timeouts": {
            "connect": timeouts.connect, "response": timeouts.response, "idle": timeouts.idle,
            "stream_idle": timeouts.stream_idle,
        },
        "credentials": bool(upstream.credentials),
    }  # fmt: skip
    own = [item for item in breakers if item.upstream == upstream.name]
    if own:
        found["breaker"] = next(_standing(item) for item in own if not item.tool)
        tools: list[Json] = [{"tool": item.tool, **_standing(item)} for item in own if item.tool]
        if tools:
            found["tools"] = tools
    several: list[Json] = [_address(item) for item in addresses if item.upstream == upstream.name]
    if several:
        found["addresses"] = several
    return found


def _standing(item: Standing) -> dict[str, Json]:
    found: dict[str, Json] = {"state": str(item.state), "hold": str(item.held)}
    if item.why:
        found["why"] = item.why
    if item.wait:
        found["wait_ms"] = int(item.wait * 1000)
    return found


def _address(item: AddressStanding) -> dict[str, Json]:
    found: dict[str, Json] = {"address": item.address, "state": item.state, "in_flight": item.in_flight}
    if item.why:
        found["why"] = item.why
    if item.wait:
        found["wait_ms"] = int(item.wait * 1000)
    return found
