"""Questions that other programs ask the gateway's policy: read strictly, decided like a caller's, recorded.

1. A question has a subject with type and id, an action with a name, a resource with type and id (AuthZEN 1.0, section
5); the context may be left out. What the gateway tells policy about each of its own calls is filled in where the asker
says nothing: `context.listing` and `context.time`. 2. Only these four parts reach the policy. 3. A question leaves an
`admin` record before it is answered: who was asked about, what, and the decision, without arguments; it is not waited
for, and the answer is refused where it cannot be written. 4. Questions are decided one by one, others in between.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Final

from starlette.requests import Request

from gateway.control.acts import Acts
from gateway.core.access import AccessRequest
from gateway.core.canonical import Json
from gateway.core.exchange import Decision
from gateway.core.ports import Clock
from gateway.core.reasons import Malformed
from gateway.core.records import decision_of
from gateway.core.snapshot import Snapshot

NAME_CHARACTERS: Final = 1024  # of a type, an id, an action; records repeat them
NESTING: Final = 32
_NEEDS: Final = (("subject", ("type", "id")), ("action", ("name",)), ("resource", ("type", "id")))


class Questions:
    def __init__(self, snapshot: Callable[[], Snapshot], acts: Acts, clock: Clock) -> None:
        self._snapshot = snapshot
        self._acts = acts
        self._clock = clock

    def question(self, given: Mapping[str, Json], where: str = "") -> dict[str, Json]:
        """The document that policy gets. Raises Malformed; `where` is put before what is wrong."""
        found: dict[str, Json] = {}
        for part, needed in _NEEDS:
            value = given.get(part)
            if not isinstance(value, dict):
                raise Malformed(f"{where}{part} must be an object")
            for name in needed:
                text = value.get(name)
                if not isinstance(text, str) or not text or len(text) > NAME_CHARACTERS:
                    raise Malformed(f"{where}{part}.{name} must be a text of 1 to {NAME_CHARACTERS} characters")
            if not isinstance(value.get("properties", {}), dict):
                raise Malformed(f"{where}{part}.properties must be an object")
            found[part] = value
        context = given.get("context", {})
        if not isinstance(context, dict):
            raise Malformed(f"{where}context must be an object")
        now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(self._clock.time()))
        found["context"] = {"listing": False, "time": now, **context}  # 1
        if _deeper(found, NESTING):
            raise Malformed(f"{where}it nests deeper than {NESTING} levels")
        return found

    async def decide(self, document: Mapping[str, Json]) -> Decision:
        """By the policy in force now."""
        await asyncio.sleep(0)  # 4
        answer = self._snapshot().engine.decide(AccessRequest(document))
        return await answer if isinstance(answer, Awaitable) else answer

    def record(self, request: Request, action: str, about: Mapping[str, Json]) -> None:
        """Raises LogUnavailable (3)."""
        self._acts.submit(request, action, about)


def about(document: Mapping[str, Json], decision: Decision) -> dict[str, Json]:
    """What a record says of one question."""
    subject, action, resource = (document[name] for name in ("subject", "action", "resource"))
    asked: dict[str, Json] = {}
    if isinstance(subject, dict) and isinstance(action, dict) and isinstance(resource, dict):
        asked = {
            "subject": {"type": subject["type"], "id": subject["id"]},
            "action": action["name"],
            "resource": {"type": resource["type"], "id": resource["id"]},
        }
    return {"asked": asked, "decision": decision_of(decision)}


def context_of(decision: Decision) -> dict[str, Json]:
    """What the asker may need to carry the decision out."""
    found: dict[str, Json] = {"reason": decision.reason, "rule": decision.rule}
    found["obligations"] = [{"type": item.type, **item.values} for item in decision.obligations]
    return {name: value for name, value in found.items() if value}


def _deeper(value: Json, levels: int) -> bool:
    if isinstance(value, dict | list):
        below = value.values() if isinstance(value, dict) else value
        return levels == 0 or any(_deeper(item, levels - 1) for item in below)
    return False
