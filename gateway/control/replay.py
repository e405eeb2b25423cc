"""`/api/v1/replay`: what would a candidate policy have done with the decisions that this gateway's log recorded?

1. The candidate is a bundle in the body, or the name of one that was pushed. It is tried, never in force, so nobody
   need have signed it. 2. One replay at a time, in a process of its own with bounds on time and memory: the data plane
   does not notice. 3. Who asked for one is a record. 4. What is not known is an error, not ignored.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Final

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route as Way

from gateway.control.acts import Acts, received
from gateway.control.problem import answer, problem
from gateway.core.canonical import digest
from gateway.core.whatif import ReplayBusy, ReplayJobs

BUNDLE_BYTES: Final = 8 * 1024 * 1024  # as a push takes
# Options, each with what its text must look like; the command line behind it judges them once more.
PARAMETERS: Final[Mapping[str, str]] = {
    "since": r"[0-9TZ:.+-]{10,40}|[0-9]{1,9}(ms|s|m|h|d)",
    "until": r"[0-9TZ:.+-]{10,40}|[0-9]{1,9}(ms|s|m|h|d)",
    "sample": r"[0-9]{1,3}(\.[0-9]{1,6})?%",
    "examples": r"[0-9]{1,2}",
}
_NAME: Final = r"[a-z0-9][a-z0-9-]{0,62}"


class Replays:
    """`stored` gives the newest bundle that was pushed under a name, None where there is none; it blocks."""

    def __init__(self, jobs: ReplayJobs, stored: Callable[[str], bytes | None], acts: Acts) -> None:
        self._jobs = jobs
        self._stored = stored
        self._acts = acts

    def ways(self) -> list[Way]:
        return [
            Way("/api/v1/replay", self.begin, methods=["POST"]),
            Way("/api/v1/replay/{id}", self.shown, methods=["GET"]),
            Way("/api/v1/replay/{id}", self.stop, methods=["DELETE"]),
        ]

    async def begin(self, request: Request) -> Response:
        asked, wrong = _asked(request)
        if wrong:
            return problem(400, wrong)
        name = asked.pop("bundle", "")
        tarball = await received(request, BUNDLE_BYTES)
        if len(tarball) > BUNDLE_BYTES:
            return problem(413, f"A bundle has at most {BUNDLE_BYTES} bytes")
        if bool(tarball) == bool(name):
            return problem(400, "It needs a bundle in the body, or ?bundle= with the name of a pushed one, not both")
        if name:
            found = await run_in_threadpool(self._stored, name)
            if found is None:
                return problem(404, f"No bundle was pushed as {name}; /api/v1/bundles lists what was")
            tarball = found
        try:
            ident = await self._jobs.begin(tarball, asked)
        except ReplayBusy as busy:
            return problem(409, f"{busy}", {"retry-after": "5"})
        try:
            await self._acts.record(
                request, "admin.replay", {"replay": {"id": ident, "candidate": digest(tarball)}}
            )  # 3
        except BaseException:
            await self._jobs.stop(ident)
            raise
        response = answer(request, self._jobs.shown(ident))
        response.status_code = 202
        response.headers["location"] = f"/api/v1/replay/{ident}"
        return response

    async def shown(self, request: Request) -> Response:
        found = self._jobs.shown(str(request.path_params["id"]))
        return (
            problem(404, "No replay has that id; the last ones are remembered")
            if found is None
            else answer(request, found)
        )

    async def stop(self, request: Request) -> Response:
        ident = str(request.path_params["id"])
        if self._jobs.shown(ident) is None:
            return problem(404, "No replay has that id")
        await self._jobs.stop(ident)
        return answer(request, self._jobs.shown(ident))


def _asked(request: Request) -> tuple[dict[str, str], str]:
    """The parameters, and what is wrong with them."""
    known = {**PARAMETERS, "bundle": _NAME}
    asked: dict[str, str] = {}
    for name, value in request.query_params.multi_items():
        if name not in known:
            return {}, f"The parameter {name!r} is not known; there are {', '.join(known)}"
        if name in asked:
            return {}, f"The parameter {name} is there twice"
        if re.fullmatch(known[name], value) is None:
            return {}, f"The parameter {name} is not understood"
        asked[name] = value
    return asked, ""
