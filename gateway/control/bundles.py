"""`/api/v1/bundles`: policy as bundles; push, look, activate, go back.

1. What is pushed is verified by the rules of trust/bundle.py before it is kept; a refusal is 422 with the rule's
number, and a record. A push decides nothing, unless `activate=true` asks for both. 2. What is activated takes the
place of what was looked at: If-Match has the ETag that looking gave, which names the bundle in force; without it 428,
where another one is in force by then 412. 3. When an activation is answered it is in force, kept over restarts, and
recorded. 4. An older bundle is never activated; `rollback` is the act that goes back, to the one before or to one that
is named.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable

import orjson
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route as Way

from gateway.control.acts import ADMIN, document, received
from gateway.control.problem import answer, problem
from gateway.core.bundles import (
    CONFIGURED,
    NAME,
    BundleBackwards,
    BundleDesk,
    BundleEvent,
    BundleMoved,
    BundleRefused,
    BundleState,
    BundleUnknown,
    KeptBundle,
)
from gateway.core.canonical import Json
from gateway.core.reasons import Malformed
from gateway.core.records import timestamp

TARBALL_BYTES = 8 * 1024 * 1024  # of a longer one a byte more is taken: rule 1 refuses it
KINDS = frozenset({"application/gzip", "application/octet-stream", "application/vnd.openpolicyagent.bundles"})
_CONFIGURED_TAG = "configured"


class Bundles:
    def __init__(self, desk: BundleDesk) -> None:
        self._desk = desk

    def ways(self) -> list[Way]:
        return [
            Way("/api/v1/bundles", self.names, methods=["GET"]),
            Way("/api/v1/bundles", self.push, methods=["POST"]),
            Way("/api/v1/bundles/{name}", self.show, methods=["GET"]),
            Way("/api/v1/bundles/{name}/activate", self.activate, methods=["POST"]),
            Way("/api/v1/bundles/{name}/rollback", self.rollback, methods=["POST"]),
        ]

    async def names(self, request: Request) -> Response:
        store = self._desk.store
        names = {*await run_in_threadpool(store.names), *([self._desk.own] if self._desk.own else [])}
        found: list[Json] = [await run_in_threadpool(self._summary, name) for name in sorted(names)]
        return answer(request, {"bundles": found})

    async def show(self, request: Request) -> Response:
        name = str(request.path_params["name"])
        if not await self._known(name):
            return problem(404, "No bundle has that name; /api/v1/bundles lists them")
        found, state = await run_in_threadpool(self._whole, name)
        made = answer(request, found)
        made.headers["etag"] = etag(state)  # the one that If-Match is held against
        return made

    async def push(self, request: Request) -> Response:
        given = dict(request.query_params.multi_items())
        if len(given) != len(request.query_params.multi_items()) or not {"name"} <= given.keys() <= {
            "name",
            "activate",
        }:
            return problem(400, "There are two parameters, name and activate, each at most once")
        name, activate = given["name"], given.get("activate", "false")
        if re.fullmatch(NAME, name) is None or activate not in ("true", "false"):
            return problem(400, "name is lower-case letters, digits and dashes; activate is true or false")
        if request.headers.get("content-type", "").partition(";")[0].strip().lower() not in KINDS:
            return problem(415, "The body is a bundle: content-type application/gzip")
        tags = _expected(request) if activate == "true" else None
        if isinstance(tags, Response):
            return tags
        try:
            kept = await self._desk.push(name, await received(request, TARBALL_BYTES), ADMIN)
        except BundleRefused as error:
            return refused(error)
        if tags is not None:
            return await self._moved(request, name, tags, lambda expected: self._activate(name, kept.digest, expected))
        state = await run_in_threadpool(self._desk.store.state, name)
        return answer(request, {"name": name, "pushed": kept_document(kept), "state": state_document(state)})

    async def activate(self, request: Request) -> Response:
        needs = "It needs digest, that of a bundle that was pushed"
        asked = await _asked(request, needs)
        if isinstance(asked, Response):
            return asked
        name, tags, digest = asked
        if digest is None:
            return problem(400, needs)
        return await self._moved(request, name, tags, lambda expected: self._activate(name, digest, expected))

    async def rollback(self, request: Request) -> Response:
        """To the bundle before, or to `digest`."""
        asked = await _asked(request, "It may have digest, that of a bundle that is kept, and nothing else")
        if isinstance(asked, Response):
            return asked
        name, tags, digest = asked
        wanted_digest = CONFIGURED if digest == _CONFIGURED_TAG else digest
        return await self._moved(
            request, name, tags, lambda expected: self._desk.rollback(name, wanted_digest, expected, ADMIN)
        )

    async def _activate(self, name: str, digest: str, expected: str) -> BundleState:
        return await self._desk.activate(name, digest, expected, ADMIN)

    async def _moved(
        self, request: Request, name: str, tags: list[str], move: Callable[[str], Awaitable[BundleState]]
    ) -> Response:
        """2 and 3. `*` stands for whatever is in force."""
        if not await self._known(name):
            return problem(404, "No bundle has that name; /api/v1/bundles lists them")
        state = await run_in_threadpool(self._desk.store.state, name)
        if "*" not in tags and etag(state) not in tags:
            return problem(412, f"{name}: {_shown(state.active)} is active, not what If-Match says; look at it again")
        try:
            state = await move(state.active)
        except BundleRefused as error:
            return refused(error)
        except BundleMoved as error:
            return problem(412, f"{name}: {_shown(str(error))} became active meanwhile; look at it again")
        except BundleUnknown as error:
            return problem(404, str(error))
        except BundleBackwards as error:
            return problem(409, str(error))
        made = answer(request, {"name": name, "state": state_document(state)})
        made.headers["etag"] = etag(state)
        return made

    async def _known(self, name: str) -> bool:
        return name == self._desk.own or name in await run_in_threadpool(self._desk.store.names)

    def _summary(self, name: str) -> dict[str, Json]:
        store = self._desk.store
        state = store.state(name)
        found: dict[str, Json] = {"name": name, "own": name == self._desk.own, "state": state_document(state)}
        active = store.found(name, state.active)
        found["active"] = kept_document(active) if active is not None else None
        found["etag"] = etag(state)
        return found

    def _whole(self, name: str) -> tuple[dict[str, Json], BundleState]:
        found = self._summary(name)
        found["kept"] = [kept_document(item) for item in self._desk.store.kept(name)]
        found["history"] = [_event(item) for item in self._desk.store.history(name)]
        return found, self._desk.store.state(name)


def etag(state: BundleState) -> str:
    """Names what is active."""
    return f'"{state.active or _CONFIGURED_TAG}"'


def refused(error: BundleRefused) -> Response:
    """422 with the number of the rule."""
    found: dict[str, Json] = {
        "type": "about:blank",
        "title": "Unprocessable Content",
        "status": 422,
        "detail": str(error),
        "rule": error.rule,
    }
    return Response(orjson.dumps(found), 422, media_type="application/problem+json")


def kept_document(found: KeptBundle) -> dict[str, Json]:
    document: dict[str, Json] = {
        "digest": found.digest,
        "revision": found.revision,
        "number": found.number,
        "signer": found.signer,
        "bytes": found.size_bytes,
        "pushed": timestamp(found.pushed),
        "by": found.by,
    }
    for name, moment in (("not_before", found.not_before), ("expires", found.expires)):
        if moment is not None:
            document[name] = timestamp(moment)
    return document


def state_document(state: BundleState) -> dict[str, Json]:
    """`active` and `previous` are digests, or `configured`; `highest` is the highest number ever accepted."""
    found: dict[str, Json] = {"active": state.active or _CONFIGURED_TAG, "highest": max(state.highest, 0)}
    if state.highest < 0:
        found["highest"] = None
    found["previous"] = None if state.previous is None else state.previous or _CONFIGURED_TAG
    if state.since:
        found["since"] = timestamp(state.since)
    return found


def _event(found: BundleEvent) -> dict[str, Json]:
    return {
        "act": found.act,
        "digest": found.digest or _CONFIGURED_TAG,
        "number": found.number if found.number >= 0 else None,
        "by": found.by,
        "time": timestamp(found.time),
    }


def _shown(digest: str) -> str:
    return digest or "the configured policy"


async def _asked(request: Request, needs: str) -> tuple[str, list[str], str | None] | Response:
    """Which name is meant, what is expected to be active, and the digest in the body, None for none. `needs` is what a
    body that says anything else is told."""
    tags = _expected(request)
    if isinstance(tags, Response):
        return tags
    try:
        wanted = await document(request)
    except Malformed as error:
        return problem(400, str(error))
    digest = wanted.get("digest")
    if not set(wanted) <= {"digest"} or not (digest is None or isinstance(digest, str)):
        return problem(400, needs)
    return str(request.path_params["name"]), tags, digest


def _expected(request: Request) -> list[str] | Response:
    given = request.headers.get("if-match")
    if given is None:
        return problem(428, "If-Match is needed: the ETag of the bundle as it was looked at, or * for whatever it is")
    return [tag.strip() for tag in given.split(",")]
