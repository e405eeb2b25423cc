"""Who the gateway is at its upstreams, wire to wire: a real token endpoint, a real upstream that sees what it is shown,
and a caller whose own token stays on this side."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx2
import pytest
from rig import Issuer, Running, gateway

from gateway.identity.apikey import mint
from tests.flows.canned import Canned, answer, canned, open_policy, say
from tests.flows.token_server import SECRET, TokenServer, token_server

KEY, DIGEST = mint("ci")
UPGRADE = (
    "Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 13",
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
)  # fmt: skip


@contextmanager
def between(
    folder: Path, monkeypatch: pytest.MonkeyPatch, credentials: dict[str, Any], protocol: str = "http", **more: Any
) -> Iterator[tuple[Running, Canned, TokenServer]]:
    """A gateway before an upstream with these credentials; `TOKEN_URL` in them is the token endpoint's address."""
    secret = folder / "client.secret"
    secret.write_text(SECRET)
    secret.chmod(0o600)
    with canned() as upstream, token_server() as server:
        for way in credentials.values():
            if isinstance(way, dict) and "token_url" in way:
                way |= {"token_url": server.token_url, "client_id": "tollgate", "client_secret": {"file": str(secret)}}
        settings = {
            "policy": open_policy(folder),
            "upstreams": {"files": {"url": upstream.url, "protocol": protocol, "credentials": credentials}},
            "routes": [{"name": "files", "match": {"path": "/files"}, "upstream": "files"}],
            **more,
        }
        with gateway(folder, **settings) as gate:
            server.subjects = gate.issuer.key
            yield gate, upstream, server


def sent(upstream: Canned, header: bytes = b"authorization") -> list[str]:
    """What the upstream was shown, request by request."""
    found = []
    for head in upstream.heads:
        values = re.findall(rb"(?im)^" + header + rb": (.*)\r$", head)
        assert len(values) <= 1, head
        found.append(values[0].decode().removeprefix("Bearer ") if values else "")
    return found


def get(gate: Running, token: str = "", path: str = "/files/x", **headers: str) -> httpx2.Response:
    bearer = {"authorization": f"Bearer {token or gate.issuer.token()}"}
    return httpx2.get(gate.url + path, headers=(headers or bearer))


def told_nothing(gate: Running, folder: Path, *secrets: str) -> None:
    records = json.dumps(gate.records())
    for secret in secrets:
        assert secret not in records


@pytest.mark.parametrize("client_auth", ["basic", "post"])
def test_the_gateway_has_a_token_of_its_own_for_all_callers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, client_auth: str
) -> None:
    way = {"token_url": "", "client_auth": client_auth, "scope": "files.read", "audience": "files"}
    with between(tmp_path, monkeypatch, {"client_credentials": way}) as (gate, upstream, server):
        for subject in ("ann", "bob", "ann"):
            assert get(gate, gate.issuer.token(subject)).status_code == 200
        assert len(server.forms) == 1
        assert sent(upstream) == server.tokens * 3
        claims = server.claims(server.tokens[0])
        assert (claims["sub"], claims["aud"], claims["scope"]) == ("tollgate", "files", "files.read")
        told_nothing(gate, tmp_path, SECRET, *server.tokens)


def test_each_callers_token_is_exchanged_for_one_that_says_for_whom_and_by_whom(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    way = {"token_url": "", "resource": "https://files.example/mcp", "actor": "own"}
    with between(tmp_path, monkeypatch, {"token_exchange": way}) as (gate, upstream, server):
        tokens = {name: gate.issuer.token(name) for name in ("ann", "bob")}
        for name in ("ann", "bob", "bob", "ann"):
            assert get(gate, tokens[name]).status_code == 200
        shown = [server.claims(token) for token in sent(upstream)]
        assert [(claims["sub"], claims["act"]["sub"]) for claims in shown] == [
            ("ann", "tollgate"), ("bob", "tollgate"), ("bob", "tollgate"), ("ann", "tollgate")
        ]  # fmt: skip
        assert {claims["aud"] for claims in shown} == {"https://files.example/mcp"}
        assert [form["grant_type"].rpartition(":")[2] for form in server.forms] == [
            "client_credentials", "token-exchange", "token-exchange"
        ]  # fmt: skip
        for token in tokens.values():  # the caller's own went to the token endpoint alone
            assert not any(token.encode() in head for head in upstream.heads)
        told_nothing(gate, tmp_path, SECRET, *server.tokens, *tokens.values())


def test_a_caller_with_an_api_key_has_nothing_to_exchange_and_nothing_is_forwarded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys = tmp_path / "keys.yaml"
    keys.write_text(json.dumps([{"id": "ci", "sha256": DIGEST}]))
    with between(tmp_path, monkeypatch, {"token_exchange": {"token_url": ""}}) as (gate, upstream, server):
        gate.reload(trust=gate.settings["trust"] | {"api_keys": {"file": str(keys)}})
        said = get(gate, **{"x-api-key": KEY})
        assert (said.status_code, said.json()["reason"]) == (403, "denied")
        assert (upstream.heads, server.forms) == ([], [])
        refusal = gate.last("refusal")
        assert refusal["refusal"]["rule"] == "no_subject_token"
        assert refusal["subject"]["id"] == "key:ci"


def test_who_may_not_call_causes_no_exchange(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with between(tmp_path, monkeypatch, {"token_exchange": {"token_url": ""}}) as (gate, upstream, server):
        assert get(gate, path="/files/forbidden").status_code == 403
        assert (upstream.heads, server.forms) == ([], [])


@pytest.mark.parametrize("protocol", ["http", "mcp"])
def test_without_a_token_nothing_is_forwarded_and_the_caller_is_told_why(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, protocol: str
) -> None:
    way = {"client_credentials": {"token_url": ""}}
    with between(tmp_path, monkeypatch, way, protocol) as (gate, upstream, server):
        server.fails = 401, {"error": "invalid_client", "error_description": f"not {SECRET}"}
        headers = {"authorization": f"Bearer {gate.issuer.token()}", "accept": "application/json, text/event-stream"}
        body = {"jsonrpc": "2.0", "id": 1, "method": "tools/list"}
        said = httpx2.post(f"{gate.url}/files", headers=headers, json=body)
        assert said.status_code == 502
        found = said.json() if protocol == "http" else said.json()["error"]["data"]
        assert found["reason"] == "upstream_failed"
        assert "the authorization server answered 401 invalid_client" in said.text
        assert "error=proxy_internal_error" in said.headers["proxy-status"]
        assert SECRET not in said.text
        assert upstream.heads == []
        told_nothing(gate, tmp_path, SECRET)
        assert [record["kind"] for record in gate.records()] == ["activation", "refusal"]


def test_a_token_survives_a_reload_unless_the_way_to_it_changed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with between(tmp_path, monkeypatch, {"client_credentials": {"token_url": ""}}) as (gate, upstream, server):
        get(gate)
        gate.reload(hosts=["other.example"])
        get(gate)
        assert len(server.forms) == 1
        gate.settings["upstreams"]["files"]["credentials"]["client_credentials"]["scope"] = "more"
        gate.reload()
        get(gate)
        assert [form.get("scope") for form in server.forms] == [None, "more"]
        assert sent(upstream)[-1] == server.tokens[1]


def test_an_upstream_that_refuses_a_fresh_token_does_not_make_us_fetch_at_every_call(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with between(tmp_path, monkeypatch, {"client_credentials": {"token_url": ""}}) as (gate, upstream, server):
        upstream.says["/x"] = answer(b"{}", "application/json", "401 Unauthorized")
        assert [get(gate).status_code for _ in range(3)] == [401, 401, 401]
        assert len(server.forms) == 1


@pytest.mark.parametrize(("status", "fetched"), [("401 Unauthorized", 2), ("403 Forbidden", 1)])
def test_a_socket_that_is_refused_for_its_token_is_opened_with_another_next_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, status: str, fetched: int
) -> None:
    monkeypatch.setattr("gateway.identity.upstream_tokens.FRESH_SECONDS", 0.0)
    with between(tmp_path, monkeypatch, {"client_credentials": {"token_url": ""}}) as (gate, upstream, server):
        upstream.says["/ws"] = answer(b"no", "text/plain", status)
        for _ in range(2):
            bearer = f"Authorization: Bearer {gate.issuer.token()}"
            assert say(gate.app.port, "GET /files/ws", *UPGRADE, bearer).status == int(status[:3])
        assert sent(upstream) == [server.tokens[0], server.tokens[-1]]
        assert len(server.tokens) == fetched


def test_each_caller_has_the_token_that_is_kept_for_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kept = tmp_path / "tokens.yaml"
    kept.write_text("agent:idp/ann: canary-anns\nagent:idp/bob: canary-bobs\n")
    kept.chmod(0o600)
    way = {"header": "X-Token", "per_caller": {"file": str(kept)}}
    with between(tmp_path, monkeypatch, way) as (gate, upstream, _):
        for subject, status in (("ann", 200), ("bob", 200), ("cyd", 403)):
            assert get(gate, gate.issuer.token(subject)).status_code == status
        assert sent(upstream, b"x-token") == ["canary-anns", "canary-bobs"]
        assert gate.last("refusal")["refusal"]["rule"] == "no_kept_token"
        told_nothing(gate, tmp_path, "canary-anns", "canary-bobs")


def test_a_callers_own_header_of_that_name_is_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    way = {"header": "X-Upstream-Auth", "client_credentials": {"token_url": ""}}
    with between(tmp_path, monkeypatch, way) as (gate, upstream, server):
        get(gate, authorization=f"Bearer {gate.issuer.token()}", **{"x-upstream-auth": "Bearer forged"})
        assert sent(upstream, b"x-upstream-auth") == server.tokens
        assert sent(upstream) == [""]


def test_the_rigs_issuer_signs_with_the_key_the_server_believes(tmp_path: Path) -> None:
    """The exchange above proves something only if a token of another issuer would not be exchanged."""
    other = tmp_path / "other"
    other.mkdir()
    with token_server(Issuer(tmp_path).key) as server:
        form = {"grant_type": "urn:ietf:params:oauth:grant-type:token-exchange", "subject_token": Issuer(other).token()}
        form |= {"client_id": "tollgate", "client_secret": SECRET}
        assert httpx2.post(server.token_url, data=form).json()["error"] == "invalid_grant"
