"""`/api/v1/keys`: the gateway's own signing keys, what each is for, how it is with them; and their rotation.

1. Public halves and dates only. 2. A rotation names the key that it replaces: where that signs no more, 412, so that
two people who rotate at once do it once. 3. It is in force when it is answered. A key is revoked, and the first one of
a purpose made, by whoever may use the machine (`tollgate keys`), not from here.
"""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route as Way

from gateway.control.acts import ADMIN, document
from gateway.control.problem import answer, problem
from gateway.core.canonical import Json
from gateway.core.own_keys import OwnKeys, Unrotatable
from gateway.core.reasons import Malformed


class Keys:
    def __init__(self, own: OwnKeys) -> None:
        self._own = own

    def ways(self) -> list[Way]:
        return [
            Way("/api/v1/keys", self.keys),
            Way("/api/v1/keys/rotate", self.rotate, methods=["POST"]),
        ]

    async def keys(self, request: Request) -> Response:
        given = [name for name, _ in request.query_params.multi_items()]
        if given not in ([], ["purpose"]):
            return problem(400, "There is one parameter, purpose, and it stands there once")
        found = self._own.shown()
        purpose = request.query_params.get("purpose")
        if purpose is not None:
            found = [key for key in found if key["purpose"] == purpose]
        return answer(request, {"overlap_seconds": self._own.overlap, "keys": list(found)})

    async def rotate(self, request: Request) -> Response:
        try:
            wanted = await document(request)
        except Malformed as error:
            return problem(400, str(error))
        purpose, kid = wanted.get("purpose"), wanted.get("kid")
        if set(wanted) != {"purpose", "kid"} or not isinstance(purpose, str) or not isinstance(kid, str):
            return problem(400, "It needs purpose and kid, the key of that purpose that signs now")
        try:
            await self._own.rotate(purpose, kid, ADMIN)
        except Unrotatable as error:
            return problem(412 if error.stale else 409, f"{error}")
        found = [key for key in self._own.shown() if key["purpose"] == purpose]
        signing: Json = next((key for key in found if key["state"] == "current"), None)
        return answer(request, {"current": signing, "former": next((key for key in found if key["kid"] == kid), None)})
