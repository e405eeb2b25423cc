"""Open Policy Agent over its Data API: `POST /v1/data/<query>` with the question as `input`.

The rules:
1. The query is the configuration's; nothing of a request gets into the path.
2. No `result` in the answer is undefined: a deny that says so, not a fault.
3. `decision_id` and the bundles' revisions go into the record, so that OPA's own decision log can be found from it.
4. OPA has no batch: the items of a list are asked side by side, a bounded number at a time.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from gateway.core.access import AccessRequest
from gateway.core.canonical import Json
from gateway.core.reasons import EngineFault
from gateway.pdp.over_http import Failed, Site
from gateway.pdp.remote import Answer, Ask, Found, Unanswered

AT_ONCE = 16  # questions of one list on their way: more only wait in OPA
_ID_CHARACTERS = 200


class OpaAsker:
    """`query` is the path below `data`, like tollgate/decision."""

    name = "opa"

    def __init__(self, site: Site, query: str) -> None:
        self._site = site
        self._target = f"/v1/data/{query}?provenance=true"  # 1, 3

    def prepare(self, requests: Sequence[AccessRequest], documents: Sequence[bytes]) -> Ask:
        bodies = [b'{"input":' + document + b"}" for document in documents]

        async def ask(found: Found) -> None:
            if len(bodies) == 1:
                found[0] = await self._asked(bodies[0])
                return
            waiting = iter(range(len(bodies)))

            async def worker() -> None:
                for index in waiting:
                    found[index] = await self._asked(bodies[index])

            async with asyncio.TaskGroup() as group:  # 4
                for _ in range(min(AT_ONCE, len(bodies))):
                    group.create_task(worker())

        return ask

    async def check(self) -> None:
        """OPA has read its bundles and its plugins are well. Raises EngineFault."""
        try:
            await self._site.get("/health?bundles&plugins")
        except Failed as error:
            raise EngineFault(f"opa does not answer: {error.unanswered.why}") from None

    async def aclose(self) -> None:
        await self._site.aclose()

    async def _asked(self, body: bytes) -> Answer | Unanswered:
        try:
            answer = await self._site.post(self._target, body)
        except Failed as error:
            return error.unanswered
        ident, revision = _text(answer.get("decision_id")), _revision(answer.get("provenance"))
        return Answer(answer.get("result"), "result" not in answer, ident, revision)  # 2


def _revision(provenance: Json) -> str:
    """The one bundle's revision, or each with its bundle's name; "" where OPA runs without bundles."""
    bundles = provenance.get("bundles") if isinstance(provenance, dict) else None
    if not isinstance(bundles, dict):
        return ""
    found = {name: _text(said.get("revision")) for name, said in bundles.items() if isinstance(said, dict)}
    if len(found) == 1:
        return next(iter(found.values()))
    return ",".join(f"{name}={revision}" for name, revision in sorted(found.items()))[:_ID_CHARACTERS]


def _text(value: Json) -> str:
    return value[:_ID_CHARACTERS] if isinstance(value, str) else ""
