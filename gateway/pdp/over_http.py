"""JSON over HTTP, asked of one engine: what OPA and AuthZEN have in common.

The rules:
1. One address, the configured one: no redirect is followed, and no part of a request ever becomes part of a path.
2. Only status 200 with `application/json`, no content coding, at most `ANSWER_BYTES` and strict JSON is an answer.
3. What failed is said in a word for the record; nothing of what the engine sent is repeated.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from gateway.core.canonical import Json, parse_object
from gateway.core.exchange import Header
from gateway.core.ports import HttpClient, UpstreamAnswer
from gateway.core.reasons import Malformed, UpstreamFailed
from gateway.pdp.remote import Unanswered

ANSWER_BYTES = 1024 * 1024  # a decision is some hundred bytes; obligations may carry a few KiB
_JSON = b"application/json"
_BUSY = frozenset({408, 429})  # among the 4xx these tell of the engine, not of the question


class Failed(Exception):
    """There is no answer; `args[0]` is the Unanswered that says why."""

    def __init__(self, why: str, *, sick: bool = True) -> None:
        super().__init__(Unanswered(why, sick))
        self.unanswered = Unanswered(why, sick)


@dataclass(frozen=True, slots=True)
class Site:
    """Where an engine is asked. `headers` carry its credential: they are never printed."""

    client: HttpClient
    authority: str
    path: str = ""  # before every path below it
    headers: tuple[Header, ...] = field(default=(), repr=False)

    async def post(self, path: str, body: bytes, request_id: str = "") -> dict[str, Json]:
        """The answer's JSON object. Raises Failed."""
        headers = self._headers()
        headers.append((b"content-type", _JSON))
        if request_id:
            headers.append((b"x-request-id", request_id.encode()))
        return await self._read("POST", path, headers, body)

    async def get(self, path: str) -> dict[str, Json]:
        """As `post`."""
        return await self._read("GET", path, self._headers(), None)

    async def aclose(self) -> None:
        await self.client.aclose()

    def _headers(self) -> list[Header]:
        own = [(b"host", self.authority.encode()), (b"user-agent", b"tollgate"), (b"accept", _JSON)]
        return [*own, (b"accept-encoding", b"identity"), *self.headers]

    async def _read(self, method: str, path: str, headers: list[Header], body: bytes | None) -> dict[str, Json]:
        try:
            answer = await self.client.send(method, self.path + path, headers, body, idempotent=True)
            try:
                _acceptable(answer)
                whole = answer.complete
                if whole is None:
                    whole = await _body(answer)
            finally:
                await answer.aclose()
        except UpstreamFailed as error:
            raise Failed("late" if error.timeout else f"unreachable: {error.error}") from None
        if len(whole) > ANSWER_BYTES:
            raise Failed("answer_too_large")
        try:
            return parse_object(whole)
        except Malformed as error:
            raise Failed(f"answer_unreadable: {error}") from None


def _acceptable(answer: UpstreamAnswer) -> None:  # 2
    if answer.status != 200:
        refused = 400 <= answer.status < 500 and answer.status not in _BUSY
        raise Failed(f"status {answer.status}", sick=not refused)
    kinds = [value for name, value in answer.headers if name == b"content-type"]
    if len(kinds) != 1 or kinds[0].partition(b";")[0].strip().lower() != _JSON:
        raise Failed("content_type")
    if any(name == b"content-encoding" and value.lower() != b"identity" for name, value in answer.headers):
        raise Failed("content_encoding")


async def _body(answer: UpstreamAnswer) -> bytes:
    body = bytearray()
    while chunk := await answer.chunk():
        body += chunk
        if len(body) > ANSWER_BYTES:
            raise Failed("answer_too_large")
    return bytes(body)
