"""The admin plane as a running gateway serves it: over the real front, with the real log, index and metrics."""

from __future__ import annotations

import ssl
from pathlib import Path

import httpx2
import pytest
from rig import gateway, routes_to

from tests.wire.certificates import Authority

NAMES = [
    "tollgate_requests_total", "tollgate_request_duration_seconds_bucket", "tollgate_overhead_seconds_bucket",
    "tollgate_decision_duration_seconds_bucket", "tollgate_log_append_seconds_bucket",
    "tollgate_log_unsequenced_records",
    "tollgate_fail_open_total", "tollgate_bundle_info", "tollgate_upstream_inflight",
]  # fmt: skip


def test_a_person_logs_in_looks_around_and_logs_out(tmp_path: Path, bases: dict[str, str]) -> None:
    with gateway(tmp_path, **routes_to(bases)) as running:
        httpx2.get(f"{running.url}/<script>alert(1)</script>")
        httpx2.get(f"{running.url}/nowhere", headers={"user-agent": "<img src=x onerror=alert(1)>"})
        origin = {"origin": running.admin_url}
        with httpx2.Client(base_url=running.admin_url, follow_redirects=False, timeout=30) as browser:
            first = browser.get("/")
            assert (first.status_code, first.headers["location"]) == (303, "/login")
            assert "Admin token" in browser.get("/login").text
            wrong = browser.post("/login", data={"token": "wrong"}, headers=origin)
            assert wrong.status_code == 401
            opened = browser.post("/login", data={"token": running.admin_token}, headers=origin)
            assert opened.status_code == 303, opened.text
            page = browser.get("/")
            assert page.status_code == 200
            assert "weather" in page.text
            assert "route_unknown" in page.text
            assert "<img" not in page.text
            assert browser.get("/api/v1/status").json()["ready"] is True
            assert browser.post("/logout", headers={"origin": "http://evil.example"}).status_code == 403
            assert browser.post("/logout", headers=origin).status_code == 303
            assert browser.get("/api/v1/status").status_code == 401
        assert running.last("admin")["action"] == "admin.login"


def test_a_link_with_a_one_time_token_logs_in_once(tmp_path: Path, bases: dict[str, str]) -> None:
    with gateway(tmp_path, **routes_to(bases)) as running:
        link = f"{running.admin_url}/login?token={running.app.access.one_time()}"
        with httpx2.Client(follow_redirects=True, timeout=30) as browser:
            page = browser.get(link)
            assert page.status_code == 200
            assert "Latest records" in page.text
        assert httpx2.get(link).status_code == 401


def test_metrics_have_the_contracts_names_and_count_what_was_asked(tmp_path: Path, bases: dict[str, str]) -> None:
    with gateway(tmp_path, **routes_to(bases)) as running:
        headers = {"authorization": f"Bearer {running.issuer.token()}"}
        assert httpx2.get(f"{running.url}/echo/get", headers=headers).status_code < 600
        httpx2.get(f"{running.url}/nowhere")
        admin = {"authorization": f"Bearer {running.admin_token}"}
        text = httpx2.get(f"{running.admin_url}/metrics", headers=admin).text
        for name in NAMES:
            assert f"\n{name}" in text, name
        assert 'tollgate_requests_total{outcome="refused",protocol="http",reason="route_unknown",route=""} 1.0' in text
        assert httpx2.get(f"{running.admin_url}/metrics").status_code == 401


def test_the_probes_tell_a_stranger_nothing_but_yes(tmp_path: Path, bases: dict[str, str]) -> None:
    with gateway(tmp_path, **routes_to(bases)) as running:
        assert httpx2.get(f"{running.admin_url}/healthz").text == "ok\n"
        assert httpx2.get(f"{running.admin_url}/readyz").text == "ready\n"
        foreign = httpx2.get(f"{running.admin_url}/readyz", headers={"host": "evil.example"})
        assert foreign.status_code == 403


def test_the_log_is_read_over_http_as_it_lies_on_disk(tmp_path: Path, bases: dict[str, str]) -> None:
    with gateway(tmp_path, **routes_to(bases)) as running:
        for _ in range(3):
            httpx2.get(f"{running.url}/nowhere")
        count = len(running.records())
        admin = {"authorization": f"Bearer {running.admin_token}"}
        note = httpx2.get(f"{running.admin_url}/log/checkpoint", headers=admin).text
        assert int(note.split("\n")[1]) == count
        tile = httpx2.get(f"{running.admin_url}/log/tile/entries/000.p/{count}", headers=admin)
        assert tile.content == (tmp_path / f"var/log/tile/entries/000.p/{count}").read_bytes()
        assert httpx2.get(f"{running.admin_url}/log/checkpoint").status_code == 401
        for way in (
            "/log/../admin.token",
            "/log/%2e%2e/admin.token",
            "/log//etc/passwd",
            "/log/tile/..%2f..%2fadmin.token",
        ):
            found = httpx2.get(running.admin_url + way, headers=admin)
            assert found.status_code in (400, 404)
            assert running.admin_token not in found.text


def test_records_and_decisions_are_there_right_after_the_answer(tmp_path: Path, bases: dict[str, str]) -> None:
    with gateway(tmp_path, **routes_to(bases)) as running:
        admin = {"authorization": f"Bearer {running.admin_token}"}
        headers = {"authorization": f"Bearer {running.issuer.token()}"}
        body = {"model": "small-1", "messages": [{"role": "user", "content": "Oslo?"}]}
        answer = httpx2.post(f"{running.url}/openai/v1/chat/completions", headers=headers, json=body)
        ident = answer.headers["x-request-id"]
        found = httpx2.get(f"{running.admin_url}/api/v1/decisions/{ident}", headers=admin).json()
        assert found["state"] == "ended", found
        assert found["decision"]["effect"] == "allow"
        assert found["usage"]["input_tokens"] == 9
        records = httpx2.get(f"{running.admin_url}/api/v1/records?exchange={ident}", headers=admin).json()
        assert [record["kind"] for record in records["records"]] == ["outcome", "intent"]


def test_beyond_loopback_both_planes_speak_tls_and_nothing_else(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    cert, key = authority.issue("gw.example", "localhost")
    clients = Authority(tmp_path, "clients")
    sections = {
        "listen": "0.0.0.0:0",
        "public_url": "https://gw.example",
        "tls": {"cert": str(cert), "key": str(key), "client_ca": str(clients.ca)},
        "admin": {
            "listen": "0.0.0.0:0",
            "public_url": "https://localhost",
            "token": {"file": str(tmp_path / "admin.token")},
        },
    }
    with gateway(tmp_path, **sections) as running:
        trust = ssl.create_default_context(cafile=str(authority.ca))
        admin = f"https://localhost:{running.app.admin_port}"
        assert httpx2.get(f"{admin}/readyz", verify=trust).text == "ready\n", "no client certificate is asked for here"
        with pytest.raises(httpx2.TransportError):
            httpx2.get(f"http://localhost:{running.app.admin_port}/readyz")
        with pytest.raises(httpx2.TransportError):
            httpx2.get(f"https://localhost:{running.app.port}/", verify=trust)
