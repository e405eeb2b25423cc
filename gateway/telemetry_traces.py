"""Traces: finished exchanges become OpenTelemetry spans, in a thread, only when a collector is configured.

The rule: the hot path tests one number and appends one tuple of facts to a bounded queue; spans are built and sent
behind it, and what does not fit is counted and let go. Attributes follow the GenAI, MCP and HTTP conventions;
arguments, results, session ids and credentials are not among them. opentelemetry is imported only when this is used.
"""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple
from typing import Protocol as Port

from gateway.core.exchange import Call, Decision, Exchange, Usage
from gateway.core.ports import Clock

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import ReadableSpan

QUEUE = 8192  # about 8 MB of facts
BATCH = 512
EVERY_SECONDS = 1.0
SEND_SECONDS = 5.0
_RANDOM_BITS = 56  # W3C trace context level 2: the right-most seven bytes of a trace id are random

_log = logging.getLogger("tollgate.telemetry")


class Facts(NamedTuple):
    """What a span is made of, taken from an exchange when it ended."""

    time: float
    seconds: float
    trace_id: str
    span_id: str
    parent_span_id: str
    exchange: str
    method: str
    path: str
    peer: str
    status: int
    route: str
    protocol: str
    upstream: str
    address: str
    call: Call | None
    decision: Decision | None
    reason: str
    result: str
    usage: Usage


class SpanExporter(Port):
    """As opentelemetry's own exporter."""

    def export(self, spans: Sequence[ReadableSpan]) -> Any: ...

    def shutdown(self) -> None: ...


class Traces:
    """The Observer of spans. `sample` is the share of traces kept, decided by the trace id, so that every service that
    decides by it keeps the same ones."""

    def __init__(self, clock: Clock, exporter: SpanExporter, node: str, sample: float) -> None:
        self._clock = clock
        self._exporter = exporter
        self._build = _builder(node)
        self._below = int(sample * (1 << _RANDOM_BITS))
        self._queue: deque[Facts] = deque()
        self._wake = threading.Event()
        self._stopping = False
        self.dropped = 0
        self._thread = threading.Thread(target=self._run, name="tollgate-traces", daemon=True)
        self._thread.start()

    def finished(self, exchange: Exchange) -> None:
        if int(exchange.trace_id[-14:] or "f", 16) >= self._below:
            return
        if len(self._queue) >= QUEUE:
            self.dropped += 1
            return
        self._queue.append(_facts(exchange, self._clock.monotonic() - exchange.started))
        if len(self._queue) >= BATCH:
            self._wake.set()

    def close(self) -> None:
        """Sends what is queued, within the exporter's own deadline, and stops."""
        self._stopping = True
        self._wake.set()
        self._thread.join(2 * SEND_SECONDS)
        self._exporter.shutdown()

    def _run(self) -> None:
        while True:
            self._wake.wait(EVERY_SECONDS)
            self._wake.clear()
            stopping = self._stopping
            while self._queue:
                self._send([self._queue.popleft() for _ in range(min(BATCH, len(self._queue)))])
            if stopping:
                return

    def _send(self, facts: list[Facts]) -> None:
        try:
            said = self._exporter.export([self._build(one) for one in facts])
            if getattr(said, "name", "") == "FAILURE":  # it has said why
                self.dropped += len(facts)
        except Exception as error:  # noqa: BLE001 (a background loop: a collector's failure is nobody else's)
            self.dropped += len(facts)
            _log.warning("%d spans could not be sent: %s", len(facts), error)


def otlp_exporter(endpoint: str) -> SpanExporter:
    """The OTLP/HTTP exporter for a collector's base URL. Raises ImportError where the extra `otlp` is missing.

    It dials by itself, from its thread, and not through the guarded fetcher: the one address is the operator's, nothing
    of what comes back is believed, and it is led nowhere else (no redirect, no proxy of the environment)."""
    import requests
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter

    session = requests.Session()
    session.max_redirects = 0  # the first one is an error
    session.trust_env = False
    return OTLPSpanExporter(endpoint=f"{endpoint}/v1/traces", timeout=SEND_SECONDS, session=session)


def _facts(exchange: Exchange, seconds: float) -> Facts:
    head, refusal = exchange.head, exchange.refusal
    return Facts(
        exchange.time,
        seconds,
        exchange.trace_id,
        exchange.span_id,
        exchange.parent_span_id,
        exchange.id,
        head.method,
        head.path,
        head.peer,
        exchange.status,
        exchange.route.name,
        exchange.protocol.name,
        exchange.upstream.name,
        exchange.upstream_address,
        exchange.asked if isinstance(exchange.asked, Call) else None,
        exchange.decision,
        str(refusal.reason) if refusal is not None else "",
        exchange.result if exchange.intent_seq is not None else "refused",
        exchange.usage,
    )


def _builder(node: str) -> Callable[[Facts], ReadableSpan]:
    """A function from facts to a finished span; the imports and the resource are done once."""
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import ReadableSpan
    from opentelemetry.sdk.util.instrumentation import InstrumentationScope
    from opentelemetry.trace import SpanContext, SpanKind, Status, StatusCode, TraceFlags

    resource = Resource.create({"service.name": "tollgate", "service.instance.id": node})
    scope = InstrumentationScope("tollgate")
    sampled = TraceFlags(TraceFlags.SAMPLED)

    def build(facts: Facts) -> ReadableSpan:
        trace_id = int(facts.trace_id, 16)
        parent = None
        if facts.parent_span_id:
            parent = SpanContext(trace_id, int(facts.parent_span_id, 16), is_remote=True, trace_flags=sampled)
        failed = facts.status >= 500 or facts.result in ("error", "upstream_gone", "timeout")
        start = int(facts.time * 1e9)
        return ReadableSpan(
            name(facts),
            SpanContext(trace_id, int(facts.span_id, 16), is_remote=False, trace_flags=sampled),
            parent=parent,
            resource=resource,
            attributes=attributes(facts),
            kind=SpanKind.SERVER,
            status=Status(StatusCode.ERROR if failed else StatusCode.UNSET),
            start_time=start,
            end_time=start + int(facts.seconds * 1e9),
            instrumentation_scope=scope,
        )

    return build


def name(facts: Facts) -> str:
    """`{mcp.method.name} {tool}`, `chat {model}`, `{METHOD} {route}`: of low cardinality."""
    call = facts.call
    if call is None:
        return f"{facts.method} {facts.route}".rstrip()
    space, _, verb = call.action.partition(".")
    if space in ("mcp", "a2a"):
        thing = _thing(call) if call.resource_type in ("tool", "prompt") else ""
        return f"{verb} {thing}".rstrip()
    if space == "llm" and call.resource_type == "model":
        return f"{verb} {call.resource_id}"
    return f"{facts.method} {facts.route}".rstrip()


def attributes(facts: Facts) -> dict[str, str | int]:
    found: dict[str, str | int] = {
        "http.request.method": facts.method,
        "url.path": facts.path,
        "client.address": facts.peer,
        "tollgate.route": facts.route,
        "network.transport": "tcp",
        "tollgate.exchange.id": facts.exchange,
        "tollgate.protocol": facts.protocol,
        "tollgate.result": facts.result,
    }
    if facts.status:
        found["http.response.status_code"] = facts.status
    if facts.upstream:
        found["tollgate.upstream"] = facts.upstream
    if facts.address:
        host, _, port = facts.address.rpartition(":")
        if host and port.isdigit():
            found["server.address"], found["server.port"] = host.strip("[]"), int(port)
    if facts.decision is not None:
        found["tollgate.decision"] = "allow" if facts.decision.allow else "deny"
        found["tollgate.policy.rule"] = facts.decision.rule
        found["tollgate.policy.revision"] = facts.decision.revision
    if facts.reason:
        found["error.type"] = facts.reason
    if facts.call is not None:
        found |= _of_call(facts.call, facts)
    return found


def _of_call(call: Call, facts: Facts) -> dict[str, str | int]:
    found: dict[str, str | int] = {"tollgate.action": call.action}
    space, _, verb = call.action.partition(".")
    if space == "mcp":
        found["mcp.method.name"] = verb
        if call.message_id is not None:
            found["jsonrpc.request.id"] = str(call.message_id)
        if call.resource_type == "tool":
            found["gen_ai.tool.name"], found["gen_ai.operation.name"] = _thing(call), "execute_tool"
        elif call.resource_type == "prompt":
            found["gen_ai.prompt.name"] = _thing(call)
        elif call.resource_type == "resource":
            found["mcp.resource.uri"] = call.resource_id
    elif space == "llm":
        found["gen_ai.operation.name"] = verb
        found["gen_ai.provider.name"] = facts.protocol
        if call.resource_type == "model":
            found["gen_ai.request.model"] = call.resource_id
        for attribute, count in (
            ("gen_ai.usage.input_tokens", facts.usage.input_tokens),
            ("gen_ai.usage.output_tokens", facts.usage.output_tokens),
            ("gen_ai.usage.cache_read.input_tokens", facts.usage.cached_tokens),
        ):
            if count is not None:
                found[attribute] = count
    return found


def _thing(call: Call) -> str:
    """A tool's or prompt's own name: `resource.id` is `<upstream>/<name>`."""
    return call.resource_id.partition("/")[2]
