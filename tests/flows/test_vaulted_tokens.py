"""Tokens that are kept for each caller in a vault, wire to wire: the server has the shape of the published API (see
tests/trust/vault_shape.py for what that proves), and a caller's id never leads beside its own place."""

from __future__ import annotations

import json
import re
from pathlib import Path

import httpx2
import pytest
from rig import Running, gateway

from tests.flows.canned import Canned, canned, open_policy

pytest.importorskip("hvac", reason="the extra `vault` is not installed")

from tests.trust.vault_shape import TOKEN, vault_shape

ANNS = "callers/agent_3aidp_2fann"


def get(gate: Running, subject: str) -> httpx2.Response:
    return httpx2.get(gate.url + "/files/x", headers={"authorization": f"Bearer {gate.issuer.token(subject)}"})


def sent(upstream: Canned) -> list[str]:
    return [re.findall(rb"(?im)^authorization: (.*)\r$", head)[0].decode() for head in upstream.heads]


def test_each_caller_has_the_token_that_the_vault_keeps_for_it(tmp_path: Path) -> None:
    token = tmp_path / "vault.token"
    token.write_text(TOKEN)
    token.chmod(0o600)
    with vault_shape(tmp_path) as vault, canned() as upstream:
        vault.secrets |= {ANNS: {"token": "canary-anns"}, "seal": {"token": "canary-seal"}}
        way = {"scheme": "Token", "per_caller": {"vault": "callers/{subject}#token"}}
        settings = {
            "policy": open_policy(tmp_path),
            "vault": {"url": vault.url, "token": {"file": str(token)}, "ca": str(vault.ca)},
            "upstreams": {"files": {"url": upstream.url, "protocol": "http", "credentials": way}},
            "routes": [{"name": "files", "match": {"path": "/files"}, "upstream": "files"}],
        }
        with gateway(tmp_path, **settings) as gate:
            for subject, status in (
                ("ann", 200),
                ("ann", 200),
                ("bob", 403),
                ("../../seal", 403),
                ("..%2f..%2fseal", 403),
            ):
                assert get(gate, subject).status_code == status
            assert gate.last("refusal")["refusal"]["rule"] == "no_kept_token"
            asked = [path for _, path, _, _ in vault.asked]
            assert asked.count(f"/v1/secret/data/{ANNS}") == 1
            assert {path.count("/") for path in asked} == {5}, "one segment below callers/, whatever it says"
            assert not any(mark in path for path in asked for mark in ("..", "%", "seal/"))

            gate.reload(hosts=["other.example"])
            assert get(gate, "ann").status_code == 200
            assert len(vault.asked) == len(asked), "what was read survives a reload"

            vault.instead = lambda method, path: (503, b'{"errors": ["Vault is sealed"]}', {})
            said = get(gate, "cyd")
            assert (said.status_code, said.json()["reason"]) == (502, "upstream_failed")
            assert "the vault cannot be asked" in said.text
            assert str(vault.port) not in said.text
            assert get(gate, "ann").status_code == 200
            assert sent(upstream) == ["Token canary-anns"] * 4
            assert "canary" not in json.dumps(gate.records())
            assert TOKEN not in json.dumps(gate.records())
