"""Traces on their way to a collector: real protobuf over real HTTP, and no secret among it."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest
from rig import gateway, until

from gateway.assembly_life import SystemClock
from gateway.telemetry_traces import Traces, otlp_exporter
from tests.flows.canned import Canned, answer, canned, open_policy, say
from tests.stages.exchanges import exchange

TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"


def plain(body: bytes) -> bytes:
    return gzip.decompress(body) if body.startswith(b"\x1f\x8b") else body


def spans_of(collector: Canned) -> list[Any]:
    service = pytest.importorskip("opentelemetry.proto.collector.trace.v1.trace_service_pb2")
    found = []
    for head, body in zip(list(collector.heads), list(collector.bodies), strict=False):
        assert head.startswith(b"POST /v1/traces ")
        sent = service.ExportTraceServiceRequest()
        sent.ParseFromString(plain(body))
        for resource in sent.resource_spans:
            for scope in resource.scope_spans:
                found += scope.spans
    return found


def values(span: Any) -> dict[str, Any]:
    return {item.key: item.value.string_value or item.value.int_value for item in span.attributes}


def test_spans_reach_a_collector_with_the_callers_trace_and_without_its_secrets(tmp_path: Path) -> None:
    with canned() as upstream, canned() as collector:
        collector.says["/v1/traces"] = answer(b"", "application/x-protobuf")
        upstream.says["/mcp"] = answer(b'{"jsonrpc":"2.0","id":7,"result":{"content":[]}}')
        whole = {
            "policy": open_policy(tmp_path),
            "telemetry": {"otlp": {"endpoint": collector.url, "sample": "100%"}},
            "upstreams": {"tools": {"url": upstream.url + "/mcp", "protocol": "mcp"}},
            "routes": [{"name": "tools", "match": {"path": "/tools"}, "upstream": "tools"}],
        }
        with gateway(tmp_path, **whole) as running:
            token = running.issuer.token()
            for name in ("forecast", "forbidden"):
                params = {"name": name, "arguments": {"city": "canary-argument"}}
                body = json.dumps({"jsonrpc": "2.0", "id": 7, "method": "tools/call", "params": params}).encode()
                headers = (f"Authorization: Bearer {token}", f"traceparent: 00-{TRACE}-{SPAN}-01")
                say(running.app.port, "POST /tools", "Content-Type: application/json", *headers, body=body)
            ids = {record["exchange"]: record["kind"] for record in running.records() if "exchange" in record}
            until(lambda: len(spans_of(collector)) == 2, what="the spans' arrival")
    spans = spans_of(collector)
    assert {span.trace_id.hex() for span in spans} == {TRACE}
    assert {span.parent_span_id.hex() for span in spans} == {SPAN}
    assert {span.name for span in spans} == {"tools/call forecast", "tools/call forbidden"}
    by_tool = {values(span)["gen_ai.tool.name"]: values(span) for span in spans}
    assert by_tool["forecast"]["tollgate.result"] == "ok"
    assert (by_tool["forbidden"]["error.type"], by_tool["forbidden"]["tollgate.decision"]) == ("denied", "deny")
    assert ids[by_tool["forecast"]["tollgate.exchange.id"]] == "outcome"
    assert ids[by_tool["forbidden"]["tollgate.exchange.id"]] == "refusal"
    sent = b"".join(map(plain, collector.bodies))
    assert token.encode() not in sent
    assert b"canary-argument" not in sent
    forwarded = next(line for line in upstream.heads[0].split(b"\r\n") if line.lower().startswith(b"traceparent"))
    mine = next(span for span in spans if span.name == "tools/call forecast").span_id.hex()
    assert forwarded.decode().partition(": ")[2] == f"00-{TRACE}-{mine}-01"


def test_a_collector_that_is_away_costs_no_call(tmp_path: Path) -> None:
    with canned() as collector:
        nobody = collector.url
    with canned() as upstream:
        whole = {
            "policy": open_policy(tmp_path),
            "telemetry": {"otlp": {"endpoint": nobody, "sample": "100%"}},
            "upstreams": {"files": {"url": upstream.url, "protocol": "http"}},
            "routes": [{"name": "files", "match": {"path": "/files"}, "upstream": "files", "auth": "anonymous"}],
        }
        with gateway(tmp_path, **whole) as running:
            assert say(running.app.port, "GET /files/x").status == 200
            assert running.last("outcome")["result"] == "ok"


def test_a_collector_leads_the_exporter_nowhere_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with canned() as elsewhere, canned() as collector:
        monkeypatch.setenv("http_proxy", elsewhere.url)
        monkeypatch.setenv("no_proxy", "")
        moved = f"Location: {elsewhere.url}/v1/traces"
        collector.says["/v1/traces"] = answer(b"", "text/plain", "307 Temporary Redirect", moved)
        exporter = otlp_exporter(collector.url)
        traces = Traces(SystemClock(), exporter, "gw-1", 1.0)
        ended = exchange()
        ended.trace_id, ended.span_id = TRACE, SPAN
        traces.finished(ended)
        traces.close()
        assert traces.dropped == 1
        assert len(collector.heads) == 1
        assert elsewhere.heads == []
