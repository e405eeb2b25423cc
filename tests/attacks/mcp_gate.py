"""A gate for MCP attacks: the real protocol, stages, policy engine and handles; a caller, an upstream and a log that
keep what they saw."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from gateway.core.access import ask
from gateway.core.drawing import Drawing
from gateway.core.exchange import Call, Decision, Exchange, Handle, Head, Principal
from gateway.core.ids import Ids
from gateway.core.pipeline import Pipeline
from gateway.core.reasons import Malformed, Reason, Refusal
from gateway.core.snapshot import Route, RouteTable, Snapshot, Upstream
from gateway.pdp.embedded import EmbeddedEngine
from gateway.pdp.sources import source_of
from gateway.protocols.mcp import Mcp
from gateway.stages.attempts import Attempts
from gateway.stages.decide import Decide
from gateway.stages.forward import Forward
from gateway.stages.identify import Identify
from gateway.stages.record import RecordIntent, RecordTerminal
from gateway.stores.memory import MemoryHandles
from tests.protocols.mcp_rig import Answer, as_json, call, dump, modern_headers, result

ALL = "package tollgate\n\ndecision := true\n"
NOBODY: Any = None


class Clock:
    def time(self) -> float:
        return 1_000_000.0

    def monotonic(self) -> float:
        return 1_000.0


class Callers:
    """The caller is who the bearer token says: the credential is not what is attacked here."""

    def authenticate(self, head: Head, route: Route) -> Principal | Refusal:
        name = (head.first(b"authorization") or b"").removeprefix(b"Bearer ").decode()
        if not name:
            return Refusal(Reason.UNAUTHENTICATED, "A credential is needed")
        return Principal(f"user:idp/{name}", "user", "idp", roles=(name,))

    def alive(self, principal: Principal) -> bool:
        return True


@dataclass
class Upstreams:
    """Answers with `answer` and keeps every request."""

    answer: Answer = field(default_factory=lambda: as_json(result({"content": []})))
    sent: list[tuple[str, list[tuple[bytes, bytes]], Any]] = field(default_factory=list)

    def client(self, upstream: Upstream) -> Any:
        return self

    async def send(self, method: str, target: str, headers: Any, body: Any, **rest: Any) -> Answer:
        self.sent.append((method, list(headers), body))
        return self.answer


@dataclass
class Records:
    kept: list[dict[str, Any]] = field(default_factory=list)

    def submit(self, record: Any, *, plain: bool = False) -> int:
        self.kept.append(record if isinstance(record, dict) else record.record())
        return len(self.kept) - 1

    async def sequenced(self, seq: int) -> None:
        assert seq < len(self.kept)


@dataclass
class Reply:
    """What the caller got. `reason` is the refusal's, "" where there was none."""

    status: int
    body: bytes
    reason: str

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def code(self) -> int:
        return int(self.json["error"]["code"])


class Gate:
    def __init__(self, policy: str = ALL, **route: Any) -> None:
        self.upstream = Upstreams()
        self.records = Records()
        self.mcp = Mcp()
        self.handles = MemoryHandles(Clock())
        wanted = {"name": "r", "path": "/r", "host": "", "upstream": "up", "auth": "required", "body": "json"}
        self._route = Route(**(wanted | route))
        self._to = Upstream("up", "mcp", "http", "127.0.0.1", 9001, "127.0.0.1:9001", "/mcp")
        self._snapshot = Snapshot(
            revision="1", routes=RouteTable((self._route,)), upstreams={"up": self._to}, authenticator=Callers(),
            engine=EmbeddedEngine(source_of({"policy.rego": policy})), ledger=NOBODY, prices=NOBODY, public_url="https://gw.example",
            hosts=frozenset(), origins=frozenset(), policy_headers=(), judged_body_bytes=1 << 22, body_bytes=1 << 26,
        )  # fmt: skip
        ids = Ids(Clock().time)
        forward = Forward(
            targets=self.upstream,
            connect=NOBODY,
            headers=lambda exchange: list(exchange.call.headers),
            attempts=Attempts(NOBODY, NOBODY, self.handles, Clock()),
            clock=Clock(),
            pseudonym="tollgate",
        )
        admit = (Identify(self.handles), Decide(), RecordIntent(self.records, Drawing(), ids, Clock()), forward)
        self._pipeline = Pipeline(admit=admit, settle=(RecordTerminal(self.records, Drawing(), ids, Clock()),))
        self._ids = ids

    def raw(
        self, body: bytes | None, headers: Sequence[tuple[str, str]] = (), *, method: str = "POST", by: str = "ann"
    ) -> Reply:
        """One request, from its head to its settled record."""
        found = tuple((name.lower().encode(), value.encode("latin-1")) for name, value in headers)
        found = (*found, (b"authorization", b"Bearer " + by.encode()))
        head = Head(method, "/r", "/r", "", "gw.example", "https", found, "127.0.0.1")
        exchange = Exchange(
            self._ids.new(), 1_000_000.0, 1_000.0, head, self._snapshot, self._route, self._to, self.mcp
        )
        return asyncio.run(self._run(exchange, body))

    def legacy(self, message: object, *, by: str = "ann", session: str = "", **rest: Any) -> Reply:
        headers = [("content-type", "application/json"), ("mcp-protocol-version", "2025-11-25")]
        if session:
            headers.append(("mcp-session-id", session))
        body = None if message is None else message if isinstance(message, bytes) else dump(message)
        return self.raw(body, headers, by=by, **rest)

    def modern(self, message: dict[str, Any], *, by: str = "ann") -> Reply:
        meta = {
            "io.modelcontextprotocol/protocolVersion": "2026-07-28",
            "io.modelcontextprotocol/clientCapabilities": {},
        }
        message = {**message, "params": {**message.get("params", {}), "_meta": meta}}
        return self.raw(dump(message), list(modern_headers(message).items()), by=by)

    def session(self, ident: str, *, by: str = "ann") -> None:
        """`by` initializes; the upstream mints the session."""
        before = self.upstream.answer
        self.upstream.answer = as_json(result({"protocolVersion": "2025-11-25"}))
        self.upstream.answer.headers.append((b"mcp-session-id", ident.encode()))
        assert self.legacy(call("initialize", {}), by=by).status == 200
        self.upstream.answer = before
        self.upstream.sent.clear()
        self.records.kept.clear()

    @property
    def kinds(self) -> list[str]:
        return [record["kind"] for record in self.records.kept]

    async def _run(self, exchange: Exchange, body: bytes | None) -> Reply:
        reads = self.mcp.reads_body(exchange.head, exchange.route)
        if isinstance(reads, Refusal):
            exchange.asked = reads
        else:
            exchange.body = (body or b"") if reads else None
            exchange.asked = self.mcp.classify(exchange)
        refusal = await self._pipeline.admit(exchange)
        try:
            if refusal is None:
                return Reply(200, await self._shown(exchange), "")
        except Malformed as error:
            refusal = exchange.refusal = Refusal(Reason.UPSTREAM_FAILED, str(error), rule="answer")
        finally:
            if refusal is not None:
                exchange.status, _, answered = self.mcp.refuse(exchange, refusal)
            self._pipeline.settle(exchange)
        return Reply(exchange.status, answered, str(refusal.reason))

    async def _shown(self, exchange: Exchange) -> bytes:
        answer = self.upstream.answer

        async def asked(calls: Sequence[Call]) -> list[Decision]:
            return await ask(exchange, calls)

        found = await self.mcp.filter(exchange, answer, asked, _Bind(self.handles, exchange))  # type: ignore[arg-type]
        exchange.status = answer.status
        if found is None:
            return answer.body
        if found.whole is True:
            return await found.rewrite(answer.body)
        return await found.feed(answer.body) + await found.finish()


class _Bind:
    def __init__(self, handles: MemoryHandles, exchange: Exchange) -> None:
        assert exchange.principal is not None
        self._handles = handles
        self._subject = exchange.principal.id

    async def __call__(self, handle: Handle) -> None:
        await self._handles.bind(handle, route="r", subject=self._subject, upstream="up")

    async def owner(self, handle: Handle) -> str | None:
        return await self._handles.owner(handle, route="r", upstream="up")
