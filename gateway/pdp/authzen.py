"""Any PDP that speaks AuthZEN 1.0 over HTTP: evaluation for one question, evaluations for the items of a list.

The rules:
1. The question goes as it is: it has AuthZEN's shape. A deny is status 200; any other status is no answer.
2. With discovery, the metadata must be about the configured PDP, and its endpoints must be there: nothing is asked of
   another origin, whatever a document says.
3. Without an endpoint for several, the items of a list are asked side by side, a bounded number at a time.
4. An answer to several has one decision for each question, or it is no answer.
5. Cerbos shows its policies neither roles nor context of such a question: with `cerbos`, they go where it looks
   (cerbos_terms.py), and its own account of the decision is asked for and read. Its evaluations are not used: it takes
   items about the same resource for one, whatever else differs.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import orjson

from gateway.core.access import AccessRequest
from gateway.core.canonical import Json
from gateway.core.reasons import EngineFault
from gateway.pdp.cerbos_terms import answer_of, resource_attr, roles_of
from gateway.pdp.free_form import meant
from gateway.pdp.over_http import Failed, Site
from gateway.pdp.remote import Answer, Ask, Found, Unanswered

BATCH = 50  # what PDPs take at once is not in the standard; Cerbos's API has this limit
AT_ONCE = 16
METADATA_SECONDS = 300.0
_METADATA = "/.well-known/authzen-configuration"


@dataclass(frozen=True, slots=True)
class AuthzenSettings:
    """`identifier` is the PDP's own, as its metadata must say it: the configured URL."""

    identifier: str
    discovery: bool = False
    cerbos: bool = False


@dataclass(frozen=True, slots=True)
class _Endpoints:
    """Paths. `several` is "" where there is none."""

    one: str
    several: str


class AuthzenAsker:
    name = "authzen"

    def __init__(self, site: Site, settings: AuthzenSettings, monotonic: Callable[[], float]) -> None:
        self._site = site
        self._settings = settings
        self._monotonic = monotonic
        standard = _Endpoints("/access/v1/evaluation", "/access/v1/evaluations")
        self._endpoints: _Endpoints | None = None if settings.discovery else standard
        self._known_at = 0.0

    def prepare(self, requests: Sequence[AccessRequest], documents: Sequence[bytes]) -> Ask:
        ident = _request_id(requests[0])
        if self._settings.cerbos:
            documents = [orjson.dumps(_for_cerbos(request.document)) for request in requests]

        async def ask(found: Found) -> None:
            try:
                endpoints = self._endpoints or await self._discover()
            except Failed as error:
                found[:] = [error.unanswered] * len(found)
                return
            if len(documents) == 1:
                found[0] = await self._one(endpoints, documents[0], ident)  # 1
            elif endpoints.several and not self._settings.cerbos:
                await self._several(endpoints, documents, ident, found)
            else:
                await self._side_by_side(endpoints, documents, ident, found)

        return ask

    async def check(self) -> None:
        """AuthZEN has no health of its own: the metadata is there, or something answers in HTTP at all."""
        if self._settings.discovery:
            fresh = self._endpoints is not None and self._monotonic() - self._known_at < METADATA_SECONDS
            try:
                if not fresh:
                    await self._discover()
                return
            except Failed as error:
                raise EngineFault(f"authzen: no metadata: {error.unanswered.why}") from None
        try:
            await self._site.get(_METADATA)
        except Failed as error:
            why = error.unanswered.why
            if why == "late" or why.startswith(("unreachable", "status 5")):
                raise EngineFault(f"authzen does not answer: {why}") from None

    async def aclose(self) -> None:
        await self._site.aclose()

    async def _one(self, endpoints: _Endpoints, body: bytes, ident: str) -> Answer | Unanswered:
        try:
            return self._answer(await self._site.post(endpoints.one, body, ident))
        except Failed as error:
            return error.unanswered

    async def _several(self, endpoints: _Endpoints, documents: Sequence[bytes], ident: str, found: Found) -> None:
        for first in range(0, len(documents), BATCH):
            part = documents[first : first + BATCH]
            body = b'{"evaluations":[%s],"options":{"evaluations_semantic":"execute_all"}}' % b",".join(part)
            try:
                answer = await self._site.post(endpoints.several, body, ident)
            except Failed as error:
                found[first : first + len(part)] = [error.unanswered] * len(part)
                continue
            given = answer.get("evaluations")
            if not isinstance(given, list) or len(given) != len(part):  # 4
                found[first : first + len(part)] = [Unanswered("answer_incomplete")] * len(part)
                continue
            found[first : first + len(part)] = [self._answer(item) for item in given]

    async def _side_by_side(self, endpoints: _Endpoints, documents: Sequence[bytes], ident: str, found: Found) -> None:
        waiting = iter(enumerate(documents))

        async def worker() -> None:
            for index, document in waiting:
                found[index] = await self._one(endpoints, document, ident)

        async with asyncio.TaskGroup() as group:  # 3
            for _ in range(min(AT_ONCE, len(documents))):
                group.create_task(worker())

    def _answer(self, said: Json) -> Answer:
        """As a policy answers; what is wrong in it is for the Reader to say."""
        if not isinstance(said, dict):
            return Answer(said)
        context = said.get("context")
        if self._settings.cerbos:
            return Answer(_of_cerbos(said.get("decision"), context))
        if context is None:
            return Answer({"decision": said.get("decision")})
        if not isinstance(context, dict):
            return Answer({"decision": said.get("decision"), "context": context})
        return Answer({"decision": said.get("decision"), "context": meant(context)})

    async def _discover(self) -> _Endpoints:
        found = await self._site.get(_METADATA)
        here = self._settings.identifier.rstrip("/")
        if str(found.get("policy_decision_point", "")).rstrip("/") != here:  # 2
            raise Failed("metadata_of_another_pdp")
        one = _path(found.get("access_evaluation_endpoint"), here, self._site.path)
        if not one:
            raise Failed("metadata_without_endpoint")
        several = _path(found.get("access_evaluations_endpoint"), here, self._site.path)
        self._endpoints, self._known_at = _Endpoints(one, several), self._monotonic()
        return self._endpoints


def _path(endpoint: Json, here: str, prefix: str) -> str:
    """The path of an endpoint of this very origin, below what the site puts before every path; "" for any other."""
    if not isinstance(endpoint, str):
        return ""
    parts, own = urlsplit(endpoint), urlsplit(here)
    path = parts.path
    plain = path.isascii() and path.isprintable() and " " not in path and not parts.query and not parts.fragment
    if (parts.scheme, parts.netloc) != (own.scheme, own.netloc) or not plain or not path.startswith(prefix + "/"):
        return ""
    return path[len(prefix) :]


def _for_cerbos(document: Mapping[str, Json]) -> dict[str, Any]:  # 5
    subject, resource = document.get("subject"), document.get("resource")
    if not isinstance(subject, dict) or not isinstance(resource, dict):
        raise ValueError("a question without a subject or a resource")
    properties = subject.get("properties")
    own = properties if isinstance(properties, dict) else {}
    shown = {**own, "type": subject.get("type"), "cerbos.roles": roles_of(subject)}
    return {
        "subject": {**subject, "properties": shown},
        "action": document.get("action"),
        "resource": {**resource, "properties": resource_attr(document)},
        "context": {"cerbos.includeMeta": True},
    }


def _of_cerbos(decision: Json, context: Json) -> Json:
    """Cerbos's own account of one decision. Without it an obligation could be missed: then it is no decision."""
    try:
        result: Any = context["cerbos.response"]["results"][0]  # type: ignore[index,call-overload]
        [(action, _)] = result["actions"].items()
        meta = result.get("meta", {}).get("actions", {}).get(action, {})
        outputs = [output.get("val") for output in result.get("outputs", []) if not output.get("error")]
        failed = any(output.get("error") for output in result.get("outputs", []))
    except (KeyError, IndexError, TypeError, ValueError, AttributeError):
        return {"decision": None} if decision is True else {"decision": decision}
    if not isinstance(decision, bool) or failed:
        return {"decision": None}
    return answer_of(decision, str(meta.get("matchedPolicy", "")), outputs, bool(result.get("validationErrors")))


def _request_id(request: AccessRequest) -> str:
    if request.exchange is not None:
        return request.exchange.id
    context = request.document.get("context")
    about = context.get("request") if isinstance(context, dict) else None
    ident = about.get("id") if isinstance(about, dict) else None
    return ident if isinstance(ident, str) and ident.isascii() and ident.isalnum() else ""
