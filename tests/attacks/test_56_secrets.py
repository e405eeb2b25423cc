"""Row 56: secrets sent over every path are in no output: answers, records, log lines, metrics, spans, pages."""

from __future__ import annotations

import hashlib
import json
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx2
import pytest
from rig import ISSUER, Issuer

from gateway.identity.apikey import mint
from tests.cli.rig_cli import Shell
from tests.cli.served import Served, serving

ROW = 56
UPSTREAM_SECRET = "canary-upstream-5ad1c3f7"
BODY_SECRET = "canary-body-91f0e4ab"
QUERY_SECRET = "canary-query-77b2d9c1"
HEADER_SECRET = "canary-header-c4e8a012"

pytestmark = pytest.mark.slow

POLICY = """\
package tollgate

decision := {"decision": true, "context": {"reason": "fine", "rule": "get"}} if input.action.name != "http.DELETE"
"""


class Recorder(BaseHTTPRequestHandler):
    """An upstream and a collector: keeps the bytes it was sent, answers with none of them."""

    protocol_version = "HTTP/1.1"
    seen: list[bytes]

    def _answer(self) -> None:
        body = self.rfile.read(int(self.headers.get("content-length", 0)))
        self.seen.append(f"{self.command} {self.path}\n{self.headers}\n".encode() + body)
        status = 500 if self.path.endswith("/broken") else 200
        self.send_response(status)
        self.send_header("content-length", "2")
        self.end_headers()
        self.wfile.write(b"ok")

    do_GET = do_POST = do_PUT = do_DELETE = _answer

    def log_message(self, format: str, *args: object) -> None:
        pass


@contextmanager
def recording() -> Iterator[tuple[int, list[bytes]]]:
    handler = type("Own", (Recorder,), {"seen": []})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield server.server_port, handler.seen
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def configure(folder: Path, issuer: Issuer, upstream: int, collector: int) -> None:
    (folder / "policies").mkdir()
    (folder / "policies" / "decision.rego").write_text(POLICY)
    secret = {"header": "x-upstream-key", "value": {"env": "UPSTREAM_KEY"}}
    settings: dict[str, Any] = {
        "node": "gw-1",
        "listen": "127.0.0.1:0",
        "admin": {"listen": "127.0.0.1:0"},
        "telemetry": {"level": "debug", "otlp": {"endpoint": f"http://127.0.0.1:{collector}", "sample": "100%"}},
        "trust": {
            "issuers": [{"name": "idp", "issuer": ISSUER, "audience": "tollgate", "jwks": {"file": str(issuer.jwks)}}],
            "api_keys": {"file": "keys.yaml"},
        },
        "upstreams": {
            "files": {"url": f"http://127.0.0.1:{upstream}/api", "protocol": "http", "credentials": secret},
            "gone": {"url": "http://127.0.0.1:9", "protocol": "http", "credentials": secret},
        },
        "routes": [
            {"name": "files", "match": {"path": "/files"}, "upstream": "files", "body": "json"},
            {"name": "gone", "match": {"path": "/gone"}, "upstream": "gone"},
        ],
    }
    (folder / "gateway.yaml").write_text(json.dumps(settings))


def send_everything(served: Served, credentials: list[str], refused: list[str]) -> list[str]:
    """Every way a request can end, with every secret in it; returns all answers as text."""
    answers = []
    url = f"http://{served.announced['listen']}"
    with httpx2.Client(timeout=30) as client:
        for credential in [*credentials, *refused]:
            headers = {
                "authorization": f"Bearer {credential}", "x-token": HEADER_SECRET, "cookie": f"session={HEADER_SECRET}",
                "user-agent": "rows",
            }  # fmt: skip
            body = json.dumps({"password": BODY_SECRET})
            for method, path in (
                ("POST", "/files/a"), ("GET", f"/files/a?token={QUERY_SECRET}"), ("DELETE", "/files/a"),
                ("POST", "/files/broken"),
                ("POST", "/gone/a"), ("POST", "/nowhere"),
            ):  # fmt: skip
                content = None if method == "GET" else body
                found = client.request(
                    method, url + path, headers={**headers, "content-type": "application/json"}, content=content
                )
                answers.append(f"{found.status_code} {found.headers} {found.text}")
            for content in (f'{{"a": "{BODY_SECRET}", "a": 1}}', f'{{"a": {BODY_SECRET}', "[" * 500 + BODY_SECRET):
                found = client.post(
                    url + "/files/a", headers={**headers, "content-type": "application/json"}, content=content
                )
                answers.append(f"{found.status_code} {found.headers} {found.text}")
    return answers


def admin_pages(served: Served) -> list[str]:
    token = Path("var/admin.token").read_text().strip()
    url = f"http://{served.announced['admin']}"
    paths = (
        "/",
        "/metrics",
        "/login",
        "/api/v1/status",
        "/api/v1/records?limit=500",
        "/api/v1/routes",
        "/api/v1/upstreams",
    )
    found = [httpx2.get(url + path, headers={"authorization": f"Bearer {token}"}) for path in paths]
    found.append(httpx2.get(url + "/api/v1/status", headers={"authorization": f"Bearer {token}x"}))
    found.append(httpx2.get(f"{url}/login?token={token}"))
    return [f"{answer.status_code} {answer.headers} {answer.text}" for answer in found]


def test_canary_secrets_are_in_no_output(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, shell: Shell) -> None:
    monkeypatch.chdir(tmp_path)
    issuer = Issuer(tmp_path)
    key, digest = mint("ci")
    stranger, _ = mint("stranger")
    Path("keys.yaml").write_text(f'- {{id: ci, sha256: "{digest}"}}\n')
    token, late = issuer.token(), issuer.token(exp=1)
    with recording() as (upstream, forwarded), recording() as (collector, spans):
        configure(tmp_path, issuer, upstream, collector)
        with serving(UPSTREAM_KEY=UPSTREAM_SECRET) as served:
            answers = send_everything(served, [token, key], [late, stranger, token[:-4] + "AAAA"])
            pages = admin_pages(served)
            admin_token = Path("var/admin.token").read_text().strip()
            Path("gateway.yaml").write_text(Path("gateway.yaml").read_text().replace('"node"', f'"{BODY_SECRET[:3]}"'))
            served.process.send_signal(signal.SIGHUP)
            served.said("not in force")
            served.process.send_signal(signal.SIGTERM)
            assert served.process.wait(30) == 0
            served.said("ended")
            lines = served.text
        files = [
            path
            for path in Path("var").rglob("*")
            if path.is_file() and path.suffix != ".pem" and path.name != "admin.token"
        ]
        outputs = {str(path): path.read_bytes() for path in files}
        outputs |= {"stderr": lines.encode(), "announced": json.dumps(served.announced).encode()}
        outputs |= {
            "answers": "\n".join(answers).encode(),
            "pages": "\n".join(pages).encode(),
            "spans": b"".join(spans),
        }
        shown = [
            shell("audit", "tail", "var", "-n", 500),
            shell("audit", "export", "var"),
            shell("doctor", "--config", "gateway.yaml"),
        ]
        outputs |= {f"command {number}": (ran.out + ran.err).encode() for number, ran in enumerate(shown)}
    assert len(answers) == 45
    assert any(answer.startswith("200 ") for answer in answers)
    assert spans, "the spans were looked at"
    assert forwarded, "something was forwarded"
    assert all(UPSTREAM_SECRET.encode() in request for request in forwarded), "the upstream got ours"
    for request in forwarded:
        assert not any(secret.encode() in request for secret in (token, key)), "and never the caller's"
    secrets = [
        UPSTREAM_SECRET,
        BODY_SECRET,
        HEADER_SECRET,
        QUERY_SECRET,
        token,
        key,
        late,
        stranger,
        admin_token,
        token.split(".")[2],
    ]
    found = [(name, secret[:12]) for name, data in outputs.items() for secret in secrets if secret.encode() in data]
    assert found == []
    stored = hashlib.sha256(key.encode()).hexdigest().encode()
    assert not any(stored in data for data in outputs.values())


@pytest.fixture
def shell(capsys: pytest.CaptureFixture[str]) -> Shell:
    return Shell(capsys)
