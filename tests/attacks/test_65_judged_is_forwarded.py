"""Row 65: what was judged, what was recorded and what arrived upstream are the same bytes, at one address.

Between the decision and the wire nothing may change the call: no redirect is followed, a second attempt on another
connection sends the same bytes to the same place, an odd spelling is neither repaired nor judged as something else.
"""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, NamedTuple

import httpx2
import pytest
from rig import Running, gateway, until

ROW = 65

POLICY = """\
package tollgate

decision := {"decision": true, "context": {"reason": "fine", "rule": "oslo"}} if {
	input.action.name == "mcp.tools/call"
	input.resource.id == "weather/get_forecast"
	input.context.arguments == {"city": "Oslo"}
}
"""
ANSWER = b'{"jsonrpc":"2.0","id":1,"result":{"content":[]}}'
SPELLINGS = [
    b'{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"get_forecast","arguments":{"city":"Oslo"}}}',
    b'{ "id" : 1 ,\n "params":{"arguments":{"city":"O\\u0073lo"},"name":"get_forecast"},\t"method":"tools\\/call",'
    b'"jsonrpc":"2.0"}\n',
]


class Seen(NamedTuple):
    path: str
    body: bytes


class Upstream(BaseHTTPRequestHandler):
    """Keeps what arrived. `answers` says what to do next: `ok`, `redirect`, or `hang up` after the answer."""

    protocol_version = "HTTP/1.1"
    seen: list[Seen]
    answers: list[str]
    hung_up: threading.Event
    elsewhere: str

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("content-length", 0)))
        self.seen.append(Seen(self.path, body))
        what = self.answers.pop(0) if self.answers else "ok"
        self.send_response(307 if what == "redirect" else 200)
        if what == "redirect":
            self.send_header("location", self.elsewhere)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(ANSWER)))
        self.end_headers()
        self.wfile.write(ANSWER)
        if what == "hang up":
            self.close_connection = True

    def finish(self) -> None:
        super().finish()
        self.hung_up.set()

    def log_message(self, format: str, *args: object) -> None:
        pass


@contextmanager
def upstream(elsewhere: str = "") -> Iterator[tuple[str, type[Upstream]]]:
    made = {"seen": [], "answers": [], "hung_up": threading.Event(), "elsewhere": elsewhere}
    handler = type("Own", (Upstream,), made)
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", handler
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@contextmanager
def running(folder: Path, base: str) -> Iterator[Running]:
    (folder / "policies").mkdir()
    (folder / "policies" / "decision.rego").write_text(POLICY)
    settings: dict[str, Any] = {
        "policy": {"bundle": str(folder / "policies")},
        "upstreams": {"weather": {"url": f"{base}/mcp", "protocol": "mcp"}},
        "routes": [{"name": "weather", "match": {"path": "/weather"}, "upstream": "weather"}],
    }
    with gateway(folder, **settings) as found:
        yield found


def post(gate: Running, body: bytes) -> httpx2.Response:
    headers = {
        "authorization": f"Bearer {gate.issuer.token()}",
        "content-type": "application/json",
        "accept": "application/json, text/event-stream",
    }
    return httpx2.post(f"{gate.url}/weather", content=body, headers=headers, follow_redirects=False, timeout=30)


def digests(gate: Running) -> list[str]:
    return [record["request"]["digest"] for record in gate.records() if record["kind"] == "intent"]


def sha256(body: bytes) -> str:
    return f"sha256:{hashlib.sha256(body).hexdigest()}"


@pytest.mark.parametrize("body", SPELLINGS)
def test_the_bytes_that_arrive_are_the_bytes_that_were_judged_and_recorded(tmp_path: Path, body: bytes) -> None:
    with upstream() as (base, handler), running(tmp_path, base) as gate:
        assert post(gate, body).content == ANSWER
        assert handler.seen == [Seen("/mcp", body)]
        assert digests(gate) == [sha256(body)]


def test_a_call_that_differs_in_one_argument_never_arrives(tmp_path: Path) -> None:
    with upstream() as (base, handler), running(tmp_path, base) as gate:
        for body in SPELLINGS:
            assert json.loads(post(gate, body.replace(b"lo", b"l0")).content)["error"]["code"] == -31403
        assert handler.seen == []


def test_a_redirect_is_not_followed_to_where_nobody_judged(tmp_path: Path) -> None:
    with upstream() as (other, elsewhere), upstream(f"{other}/mcp") as (base, handler), running(tmp_path, base) as gate:
        handler.answers.append("redirect")
        post(gate, SPELLINGS[0])
        assert [seen.path for seen in handler.seen] == ["/mcp"]
        assert elsewhere.seen == []
        (intent,) = [record for record in gate.records() if record["kind"] == "intent"]
        assert intent["request"]["digest"] == sha256(SPELLINGS[0])


def test_an_attempt_after_a_dead_connection_sends_the_recorded_bytes_or_nothing(tmp_path: Path) -> None:
    with upstream() as (base, handler), running(tmp_path, base) as gate:
        handler.answers.append("hang up")
        assert post(gate, SPELLINGS[0]).status_code == 200
        until(handler.hung_up.is_set, what="the end of the pooled connection")
        for body in SPELLINGS:
            post(gate, body)
        recorded = digests(gate)
        assert recorded == [sha256(body) for body in (SPELLINGS[0], *SPELLINGS)]
        assert sha256(handler.seen[0].body) == recorded[0]
        assert {sha256(seen.body) for seen in handler.seen} <= set(recorded)
        assert len(handler.seen) <= len(recorded), "one recorded call arrived twice"
