"""Administration that changes something, as records: who did what to what, durable before it is answered."""

from __future__ import annotations

from collections.abc import Mapping

from starlette.requests import Request

from gateway.core.canonical import Json, parse_object
from gateway.core.ids import Ids
from gateway.core.ports import Clock, RecordLog
from gateway.core.reasons import Malformed
from gateway.core.records import timestamp

ADMIN = "admin"  # whoever holds the admin token or a session
BODY_BYTES = 256 * 1024


class Acts:
    def __init__(self, log: RecordLog, ids: Ids, clock: Clock) -> None:
        self._log = log
        self._ids = ids
        self._clock = clock

    async def record(self, request: Request, action: str, about: Mapping[str, Json]) -> None:
        """Returns when the record is durable. Raises LogUnavailable."""
        await self._log.sequenced(self.submit(request, action, about))

    def submit(self, request: Request, action: str, about: Mapping[str, Json]) -> int:
        """The same without waiting. Returns the record's seq. Raises LogUnavailable."""
        peer = request.client.host if request.client is not None else ""
        return self._log.submit(
            {
                "kind": "admin",
                "id": self._ids.new(),
                "time": timestamp(self._clock.time()),
                "action": action,
                "subject": {"id": ADMIN, "type": "admin"},
                "request": {"method": request.method, "path": request.scope["path"], "peer": peer},
                **about,
            }
        )


async def document(request: Request) -> dict[str, Json]:
    """The JSON object in a request's body. Raises Malformed."""
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
        raise Malformed("The body is a JSON object: content-type application/json")
    body = await received(request, BODY_BYTES)
    if len(body) > BODY_BYTES:
        raise Malformed(f"The body has at most {BODY_BYTES} bytes")
    return parse_object(body)


async def received(request: Request, most: int) -> bytes:
    """The body; of a longer one `most` bytes and one more, and the rest is not waited for."""
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > most:
            break
    return bytes(body[: most + 1])
