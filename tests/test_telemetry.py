"""Metrics count what happened, log lines are one line of ASCII without secrets, spans reach a real collector."""

from __future__ import annotations

import io
import json
import logging
import subprocess
import sys
import threading
import timeit
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import SimpleNamespace
from typing import Any

import pytest
import structlog
from prometheus_client.parser import text_string_to_metric_families

from gateway.core.counts import Observers
from gateway.core.exchange import Call, Decision, Exchange, Head
from gateway.core.reasons import Reason, Refusal
from gateway.core.snapshot import Route, Upstream
from gateway.telemetry import Gauge, Metrics, log_to
from gateway.telemetry_traces import QUEUE, Traces, otlp_exporter

TRACE = "0af7651916cd43dd8448eb211c80319c"


class MovedClock:
    def __init__(self) -> None:
        self.now = 1000.0

    def time(self) -> float:
        return self.now

    def monotonic(self) -> float:
        return self.now


def ended(clock: MovedClock, **members: Any) -> Exchange:
    """An exchange of 40 ms, 30 of them the upstream's."""
    protocol: Any = SimpleNamespace(name="mcp")
    snapshot: Any = None
    exchange = Exchange(
        id="01990000-0000-7000-8000-000000000001",
        time=1_800_000_000.0,
        started=clock.now - 0.040,
        head=Head("POST", "/weather", "/weather", "", "gw", "http", (), "127.0.0.1"),
        snapshot=snapshot,
        route=Route("weather", "/weather", "", "weather", "required", "json"),
        upstream=Upstream("weather", "mcp", "http", "127.0.0.1", 1, "127.0.0.1:1", ""),
        protocol=protocol,
    )
    exchange.asked = Call("mcp.tools/call", "tool", "weather/get_forecast", {"city": "canary-argument"}, message_id=7)
    exchange.decision = Decision(True, "fine", "tools", "embedded", "r1", ms=0.05)
    exchange.intent_seq, exchange.status, exchange.upstream_ms, exchange.first_byte_ms = 5, 200, 30.0, 31.0
    exchange.trace_id, exchange.span_id = TRACE, "b7ad6b7169203331"
    exchange.upstream_address = "127.0.0.1:9001"
    for key, value in members.items():
        setattr(exchange, key, value)
    return exchange


def samples(metrics: Metrics) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    text, content_type = metrics.expose("text/plain")
    assert content_type.startswith("text/plain")
    families = text_string_to_metric_families(text.decode())
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in families
        for sample in family.samples
    }


def test_an_exchange_is_counted_by_route_protocol_outcome_and_reason() -> None:
    clock = MovedClock()
    metrics = Metrics(clock)
    metrics.counts.finished(ended(clock))
    metrics.counts.finished(ended(clock))
    metrics.counts.finished(ended(clock, intent_seq=None, refusal=Refusal(Reason.DENIED, "no")))
    metrics.counts.finished(ended(clock, result="timeout", refusal=Refusal(Reason.UPSTREAM_TIMEOUT, "late")))
    found = samples(metrics)

    def requests(outcome: str, reason: str) -> float:
        labels = (("outcome", outcome), ("protocol", "mcp"), ("reason", reason), ("route", "weather"))
        return found["tollgate_requests_total", labels]

    assert requests("ok", "") == 2
    assert requests("refused", "denied") == 1
    assert requests("timeout", "upstream_timeout") == 1


def test_durations_overhead_and_decisions_land_in_their_buckets() -> None:
    clock = MovedClock()
    metrics = Metrics(clock)
    metrics.counts.finished(ended(clock))
    metrics.counts.appended(0.003)
    found = samples(metrics)
    route = (("protocol", "mcp"), ("route", "weather"))
    assert found["tollgate_request_duration_seconds_sum", route] == pytest.approx(0.040)
    assert found["tollgate_overhead_seconds_sum", route] == pytest.approx(0.001)
    assert found["tollgate_overhead_seconds_bucket", (("le", "0.0005"), *route)] == 0
    assert found["tollgate_overhead_seconds_bucket", (("le", "0.002"), *route)] == 1
    assert found["tollgate_overhead_seconds_bucket", (("le", "+Inf"), *route)] == 1
    assert found["tollgate_decision_duration_seconds_sum", (("engine", "embedded"),)] == pytest.approx(0.00005)
    assert found["tollgate_log_append_seconds_count", ()] == 1


def test_an_upstreams_failure_is_not_our_overhead() -> None:
    clock = MovedClock()
    metrics = Metrics(clock)
    metrics.counts.finished(ended(clock, upstream_ms=None, refusal=Refusal(Reason.UPSTREAM_FAILED, "gone")))
    assert samples(metrics)["tollgate_overhead_seconds_count", (("protocol", "mcp"), ("route", "weather"))] == 0


def test_a_call_that_left_although_the_engine_failed_is_counted() -> None:
    clock = MovedClock()
    metrics = Metrics(clock)
    metrics.counts.finished(ended(clock))
    assert samples(metrics)["tollgate_fail_open_total", (("route", "weather"),)] == 0
    metrics.counts.finished(ended(clock, decision=Decision(True, "down", "", "opa", "r1", fault=True)))
    metrics.counts.finished(
        ended(clock, intent_seq=None, decision=Decision(False, "down", "", "opa", "r1", fault=True))
    )
    assert samples(metrics)["tollgate_fail_open_total", (("route", "weather"),)] == 1
    metrics.counts.finished(ended(clock, failed_open=3))
    assert samples(metrics)["tollgate_fail_open_total", (("route", "weather"),)] == 4


def test_gauges_are_read_at_the_scrape() -> None:
    waiting = [3.0]
    gauges = [
        Gauge("tollgate_log_unsequenced_records", "queued", (), lambda: [((), waiting[0])]),
        Gauge("tollgate_bundle_info", "the active policy", ("revision",), lambda: [(('sha256:"a"',), 1.0)]),
    ]
    metrics = Metrics(MovedClock(), gauges)
    waiting[0] = 4.0
    found = samples(metrics)
    assert found["tollgate_log_unsequenced_records", ()] == 4
    assert found["tollgate_bundle_info", (("revision", 'sha256:"a"'),)] == 1
    assert all(name.startswith("tollgate_") for name, _ in found)


def test_telling_the_metrics_costs_a_few_microseconds() -> None:
    """Beside an empty call in the same run: no absolute time decides."""
    clock = MovedClock()
    metrics, exchange = Metrics(clock), ended(clock)
    metrics.counts.finished(exchange)
    told = min(timeit.repeat(lambda: metrics.counts.finished(exchange), number=2000, repeat=5))
    encoded = min(timeit.repeat(lambda: json.dumps({"a": [1, 2, 3], "b": "c" * 100}), number=2000, repeat=5))
    assert told < 4 * encoded


def test_all_observers_hear_of_it() -> None:
    clock = MovedClock()
    one, two = Metrics(clock), Metrics(clock)
    Observers(one.counts, two.counts).finished(ended(clock))
    assert samples(one).keys() == samples(two).keys()


@pytest.fixture
def lines() -> Iterator[io.StringIO]:
    """Log lines as they would stand on stderr; the process's logging is put back afterwards."""
    root, own = logging.getLogger(), logging.getLogger("tollgate")
    before = (list(root.handlers), root.level, own.level)
    stream = io.StringIO()
    log_to(stream, "info", lambda: ["canary-configured-secret"])
    yield stream
    root.handlers[:], level, own_level = before[0], before[1], before[2]
    root.setLevel(level)
    own.setLevel(own_level)
    logging.captureWarnings(False)
    structlog.reset_defaults()


def test_a_record_is_one_line_of_ascii_json_whatever_a_caller_wrote(lines: io.StringIO) -> None:
    evil = "a\nb\rc\x1b[31md\x9be\u2028f\x7fg\x00h\u202ei"
    logging.getLogger("tollgate.wire").warning("path %s", evil)
    structlog.get_logger("tollgate.app").info("started", path=evil)
    text = lines.getvalue()
    assert text.isascii()
    assert not any(ord(mark) < 32 or ord(mark) == 127 for mark in text.replace("\n", ""))
    first, second = (json.loads(line) for line in text.splitlines())
    assert (first["event"], first["level"], first["logger"]) == (f"path {evil}", "warning", "tollgate.wire")
    assert (second["event"], second["path"]) == ("started", evil)


def test_what_looks_like_a_credential_does_not_get_into_a_line(lines: io.StringIO) -> None:
    key = "tg_ci_" + "A" * 43
    token = "eyJhbGciOiJFZERTQSJ9.eyJzdWIiOiJjYW5hcnkifQ.c2lnbmF0dXJl"
    pem = "-----BEGIN PRIVATE KEY-----\nY2FuYXJ5\n-----END PRIVATE KEY-----"
    log = logging.getLogger("tollgate.x")
    for secret in (key, token, pem, "sk-abcdefghijklmnopqrstuvwx", "Bearer abcdefghijkl", "canary-configured-secret"):
        log.error("got %s here", secret)
        try:
            raise ValueError(secret)
        except ValueError:
            log.exception("failed")
    text = lines.getvalue()
    assert text.count("[secret]") >= 12
    for part in (key, token, "Y2FuYXJ5", "abcdefghijkl", "canary-configured-secret"):
        assert part not in text


def test_a_stack_trace_is_one_line_and_an_endless_line_is_cut(lines: io.StringIO) -> None:
    try:
        raise ValueError("broke")
    except ValueError:
        logging.getLogger("tollgate.x").exception("failed")
    logging.getLogger("tollgate.x").error("x" * 1_000_000)
    first, second = lines.getvalue().splitlines()
    assert "ValueError: broke" in json.loads(first)["exception"]
    assert len(second) < 20_000
    assert json.loads(second)["event"] == "cut"


def test_other_libraries_speak_from_warning_on(lines: io.StringIO) -> None:
    logging.getLogger("httpx").info("GET https://secret.example/?token=1")
    logging.getLogger("tollgate.x").debug("quiet")
    logging.getLogger("tollgate.x").info("heard")
    assert [json.loads(line)["event"] for line in lines.getvalue().splitlines()] == ["heard"]


def test_spans_are_named_and_described_as_the_conventions_say() -> None:
    clock = MovedClock()
    kept: list[Any] = []
    exporter: Any = SimpleNamespace(export=kept.extend, shutdown=lambda: None)
    traces = Traces(clock, exporter, "gw-1", 1.0)
    traces.finished(ended(clock, parent_span_id="00f067aa0ba902b7"))
    chat = Call("llm.chat", "model", "gpt-5", {"messages": ["canary-argument"]})
    model = ended(clock, asked=chat, protocol=SimpleNamespace(name="openai"))
    model.usage.input_tokens, model.usage.output_tokens = 10, 20
    traces.finished(model)
    traces.finished(
        ended(clock, asked=None, intent_seq=None, refusal=Refusal(Reason.UNAUTHENTICATED, "who?"), status=401)
    )
    traces.close()
    tool, chatted, refused = kept
    assert [span.name for span in kept] == ["tools/call get_forecast", "chat gpt-5", "POST weather"]
    assert tool.attributes["mcp.method.name"] == "tools/call"
    assert tool.attributes["gen_ai.tool.name"] == "get_forecast"
    assert tool.attributes["gen_ai.operation.name"] == "execute_tool"
    assert tool.attributes["jsonrpc.request.id"] == "7"
    assert (tool.attributes["server.address"], tool.attributes["server.port"]) == ("127.0.0.1", 9001)
    assert format(tool.context.trace_id, "032x") == TRACE
    assert format(tool.parent.span_id, "016x") == "00f067aa0ba902b7"
    assert tool.end_time - tool.start_time == pytest.approx(40_000_000, abs=1000)
    assert chatted.attributes["gen_ai.usage.output_tokens"] == 20
    assert refused.attributes["error.type"] == "unauthenticated"
    assert "canary" not in repr([dict(span.attributes) for span in kept])


def test_sampling_goes_by_the_trace_id_alone() -> None:
    clock = MovedClock()
    kept: list[Any] = []
    exporter: Any = SimpleNamespace(export=kept.extend, shutdown=lambda: None)
    traces = Traces(clock, exporter, "gw-1", 0.5)
    for number in range(200):
        low = format((number * 0x9E3779B97F4A7C15) % (1 << 56), "014x")
        for repeat in range(2):
            traces.finished(ended(clock, trace_id=f"{number:018x}{low}", span_id=f"{repeat + 1:016x}"))
    traces.close()
    chosen = [span.context.trace_id for span in kept]
    assert 60 < len(set(chosen)) < 140
    assert all(chosen.count(trace) == 2 for trace in chosen)


def test_a_dead_collector_costs_memory_up_to_a_bound_and_is_counted() -> None:
    clock = MovedClock()
    hold = threading.Event()

    def export(spans: Any) -> None:
        hold.wait(30)
        raise OSError("refused")

    exporter: Any = SimpleNamespace(export=export, shutdown=lambda: None)
    traces = Traces(clock, exporter, "gw-1", 1.0)
    exchange = ended(clock)
    for _ in range(QUEUE + 2000):
        traces.finished(exchange)
    assert len(traces._queue) <= QUEUE
    assert traces.dropped > 0
    hold.set()
    traces.close()
    assert traces.dropped == QUEUE + 2000


class Collector(BaseHTTPRequestHandler):
    bodies: list[bytes]

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        type(self).bodies.append(self.path.encode() + b"\n" + body)
        self.send_response(200)
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        pass


def test_spans_arrive_at_a_collector_over_otlp() -> None:
    trace_service = pytest.importorskip("opentelemetry.proto.collector.trace.v1.trace_service_pb2")
    handler = type("Own", (Collector,), {"bodies": []})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        clock = MovedClock()
        traces = Traces(clock, otlp_exporter(f"http://127.0.0.1:{server.server_port}"), "gw-1", 1.0)
        traces.finished(ended(clock))
        traces.close()
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
    [body] = handler.bodies
    path, _, message = body.partition(b"\n")
    assert path == b"/v1/traces"
    request = trace_service.ExportTraceServiceRequest.FromString(message)
    [span] = request.resource_spans[0].scope_spans[0].spans
    assert (span.name, span.trace_id.hex()) == ("tools/call get_forecast", TRACE)


def test_opentelemetry_is_not_imported_by_the_gateway_itself() -> None:
    code = "import gateway.telemetry, gateway.telemetry_traces, sys; print('opentelemetry' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_plain_http_is_named_after_its_method_and_route() -> None:
    clock = MovedClock()
    kept: list[Any] = []
    exporter: Any = SimpleNamespace(export=kept.extend, shutdown=lambda: None)
    traces = Traces(clock, exporter, "gw-1", 1.0)
    traces.finished(ended(clock, asked=Call("http.GET", "endpoint", "/files/a")))
    traces.close()
    assert kept[0].name == "POST weather"
    assert kept[0].attributes["tollgate.action"] == "http.GET"
