"""`POST /api/v1/decide`: one access request, decided by the policy in force; with `?explain=true` also why.

The body is the request itself, as policies see it. The answer is what `tollgate decide` prints. A deny is 200: it is
an answer. So is a fault of the engine, which is a deny that says so (`fault: true`).
"""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route as Way

from gateway.control.acts import document
from gateway.control.problem import answer, problem
from gateway.control.questions import Questions, about, context_of
from gateway.core.canonical import Json
from gateway.core.reasons import Malformed
from gateway.core.why import Whys

_SWITCH = {"true": True, "false": False}


class Decide:
    def __init__(self, questions: Questions, whys: Whys) -> None:
        self._questions = questions
        self._whys = whys

    def ways(self) -> list[Way]:
        return [Way("/api/v1/decide", self.decide, methods=["POST"])]

    async def decide(self, request: Request) -> Response:
        given = request.query_params.multi_items()
        if [name for name, _ in given] not in ([], ["explain"]) or any(value not in _SWITCH for _, value in given):
            return problem(400, "There is one parameter, explain, which is true or false")
        try:
            asked = self._questions.question(await document(request))
        except Malformed as error:
            return problem(400, f"{error}")
        decision = await self._questions.decide(asked)
        self._questions.record(request, "policy.decide", about(asked, decision))
        found: dict[str, Json] = {
            "decision": decision.allow,
            "context": context_of(decision),
            "engine": decision.engine,
            "revision": decision.revision,
            "mode": decision.mode,
            "fault": decision.fault,
            "ms": round(decision.ms, 3),
        }
        if decision.input:
            found["input"] = decision.input
        if given and _SWITCH[given[0][1]]:
            found["why"] = await self._whys.asked(asked, decision)
        return answer(request, found)
