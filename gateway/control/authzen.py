"""The gateway as an AuthZEN 1.0 policy decision point: evaluation, evaluations, and its configuration.

1. A deny is 200 with `decision: false`; what is no question, or asked without the token, is 4xx; an engine that cannot
answer is 500 for one question and an `error` beside `decision: false` among several: whoever asks must take both for a
no. 2. Several questions are decided in their order; `deny_on_first_deny` and `permit_on_first_permit` answer no further
than the first such one. All are read before the first is decided. 3. What is not known among the members of a request
is passed over, as the specification wants it; of the options only the semantic counts, and must be one of the three.
4. Addresses come from the configuration, never from the request. 5. X-Request-ID comes back as it was sent.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import orjson
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route as Way

from gateway.control.acts import document
from gateway.control.problem import answer
from gateway.control.questions import Questions, about, context_of
from gateway.core.canonical import Json
from gateway.core.exchange import Decision
from gateway.core.reasons import Malformed

EVALUATIONS: Final = 100
REQUEST_ID_CHARACTERS: Final = 256
_SEMANTICS: Final = ("execute_all", "deny_on_first_deny", "permit_on_first_permit")
_PARTS: Final = ("subject", "action", "resource", "context")


class AuthZen:
    """`public_url` is the admin plane's own address."""

    def __init__(self, questions: Questions, public_url: str) -> None:
        self._questions = questions
        self._configuration: dict[str, Json] = {
            "policy_decision_point": public_url,
            "access_evaluation_endpoint": f"{public_url}/access/v1/evaluation",
            "access_evaluations_endpoint": f"{public_url}/access/v1/evaluations",
        }  # 4

    def ways(self) -> list[Way]:
        return [
            Way("/.well-known/authzen-configuration", self.configuration),
            Way("/access/v1/evaluation", self.evaluation, methods=["POST"]),
            Way("/access/v1/evaluations", self.evaluations, methods=["POST"]),
        ]

    async def configuration(self, request: Request) -> Response:
        return answer(request, self._configuration)

    async def evaluation(self, request: Request) -> Response:
        try:
            _check_ident(request)
            asked = self._questions.question(await document(request))
        except Malformed as error:
            return _refused(400, f"{error}")
        return await self._one(request, asked)

    async def evaluations(self, request: Request) -> Response:
        try:
            _check_ident(request)
            given = await document(request)
            listed = given.get("evaluations", [])
            if listed == []:  # then it is a single one
                return await self._one(request, self._questions.question(given))
            semantic = _semantic(given.get("options", {}))
            questions = self._listed(given, listed)
        except Malformed as error:
            return _refused(400, f"{error}")
        decided: list[Decision] = []
        for asked in questions:
            decision = await self._questions.decide(asked)
            decided.append(decision)
            if semantic == "deny_on_first_deny" and not decision.allow:
                break
            if semantic == "permit_on_first_permit" and decision.allow:
                break
        allowed = sum(decision.allow for decision in decided)
        told: dict[str, Json] = {"asked": len(questions), "allowed": allowed, "denied": len(decided) - allowed}
        self._questions.record(request, "policy.evaluations", {"evaluations": told})
        return _answer({"evaluations": [_told(decision) for decision in decided]})

    async def _one(self, request: Request, asked: Mapping[str, Json]) -> Response:
        decision = await self._questions.decide(asked)
        self._questions.record(request, "policy.evaluation", about(asked, decision))
        if decision.fault:
            return _refused(500, decision.reason)  # 1
        return _answer(_told(decision))

    def _listed(self, given: Mapping[str, Json], listed: Json) -> list[dict[str, Json]]:
        """Raises Malformed for the first that is none (2)."""
        if not isinstance(listed, list) or len(listed) > EVALUATIONS:
            raise Malformed(f"evaluations must be a list of at most {EVALUATIONS} objects")
        defaults = {name: given[name] for name in _PARTS if name in given}
        found = []
        for at, item in enumerate(listed):
            if not isinstance(item, dict):
                raise Malformed(f"evaluations[{at}] must be an object")
            found.append(self._questions.question({**defaults, **item}, f"evaluations[{at}]: "))
        return found


def _semantic(options: Json) -> str:
    if not isinstance(options, dict):
        raise Malformed("options must be an object")
    found = options.get("evaluations_semantic", _SEMANTICS[0])
    if found not in _SEMANTICS:
        raise Malformed(f"options.evaluations_semantic must be one of {', '.join(_SEMANTICS)}")
    return str(found)


def _told(decision: Decision) -> dict[str, Json]:
    context = context_of(decision)
    if decision.fault:
        context = {"error": {"status": 500, "message": decision.reason}}  # 1
    return {"decision": decision.allow, "context": context} if context else {"decision": decision.allow}


def _check_ident(request: Request) -> None:
    """Raises Malformed: an id that could not come back as it is. guard.py has every answer carry it."""
    given = request.headers.getlist("x-request-id")
    if not given:
        return
    if len(given) != 1 or len(given[0]) > REQUEST_ID_CHARACTERS or not given[0].isascii() or not given[0].isprintable():
        raise Malformed(f"X-Request-ID must be one text of at most {REQUEST_ID_CHARACTERS} visible ASCII characters")


def _answer(found: Json) -> Response:
    return Response(orjson.dumps(found), media_type="application/json")


def _refused(status: int, text: str) -> Response:
    """An error message as a plain text, as the specification has it."""
    return Response(text + "\n", status, media_type="text/plain")
