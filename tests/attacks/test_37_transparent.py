"""Row 37 where the upstream asks its callers itself: their token reaches that upstream alone, and no credential that is
for the gateway or for another of its routes reaches any."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx2
import pytest
from rig import ISSUER, Running, gateway

from gateway.identity.apikey import mint
from tests.flows.canned import Canned, canned, open_policy

ROW = 37
KEY, DIGEST = mint("ci")
THEIRS = "canary-token-of-the-upstreams-own-server-5d0c"


@contextmanager
def fronted(folder: Path) -> Iterator[tuple[Running, Canned, Canned]]:
    """Two upstreams: `own` has its own authorization server, `inner` is behind the gateway's."""
    with canned() as own, canned() as inner:
        settings = {
            "policy": open_policy(folder),
            "upstreams": {
                "own": {"url": own.url, "protocol": "http", "auth": "transparent"},
                "other": {"url": inner.url + "/other", "protocol": "http", "auth": "transparent"},
                "inner": {"url": inner.url, "protocol": "http"},
            },
            "routes": [
                {"name": "own", "match": {"path": "/own"}, "upstream": "own", "auth": "anonymous"},
                {"name": "other", "match": {"path": "/other"}, "upstream": "other", "auth": "anonymous"},
                {"name": "inner", "match": {"path": "/inner"}, "upstream": "inner"},
            ],
        }
        (folder / "keys.yaml").write_text(json.dumps([{"id": "ci", "sha256": DIGEST}]))
        with gateway(folder, **settings) as gate:
            gate.reload(trust=gate.settings["trust"] | {"api_keys": {"file": str(folder / "keys.yaml")}})
            yield gate, own, inner


def get(gate: Running, path: str, **headers: str) -> int:
    return httpx2.get(
        gate.url + path, headers={name.replace("_", "-"): value for name, value in headers.items()}
    ).status_code


def test_the_upstreams_token_reaches_it_as_it_stands_and_nobody_else(tmp_path: Path) -> None:
    with fronted(tmp_path) as (gate, own, inner):
        assert get(gate, "/own/x", authorization=f"Bearer {THEIRS}", cookie=f"a={THEIRS}", x_auth_token=THEIRS) == 200
        assert re.findall(rb"(?i)^authorization: (.*)\r$", own.heads[0], re.MULTILINE) == [f"Bearer {THEIRS}".encode()]
        assert own.heads[0].count(THEIRS.encode()) == 1
        assert get(gate, "/inner/x", authorization=f"Bearer {THEIRS}") == 401
        assert inner.heads == []
        assert THEIRS not in json.dumps(gate.records())
        [outcome] = [record for record in gate.records() if record["kind"] == "outcome"]
        assert outcome["subject"] == {"id": "anonymous", "type": "anonymous"}


def test_the_proof_of_such_a_token_goes_with_it_and_to_no_other_upstream(tmp_path: Path) -> None:
    with fronted(tmp_path) as (gate, own, inner):
        assert get(gate, "/own/x", authorization=f"DPoP {THEIRS}", dpop="a.proof.here") == 200
        assert b"\r\ndpop: a.proof.here\r\n" in own.heads[0].lower()
        assert get(gate, "/inner/x", authorization=f"Bearer {gate.issuer.token()}", dpop="a.proof.here") in (200, 401)
        assert not any(b"a.proof.here" in head for head in inner.heads)


def test_without_a_token_the_upstream_is_asked_and_says_no_itself(tmp_path: Path) -> None:
    with fronted(tmp_path) as (gate, own, _):
        assert get(gate, "/own/x") == 200
        assert b"authorization" not in own.heads[0].lower()


def test_a_credential_for_the_gateway_or_another_route_goes_to_no_upstream(tmp_path: Path) -> None:
    with fronted(tmp_path) as (gate, own, inner):
        ours = [
            f"Bearer {gate.issuer.token()}",
            f"Bearer {gate.issuer.token(aud=f'{gate.url}/inner')}",
            f"Bearer {gate.issuer.token(aud=f'{gate.url}/other')}",
            f"Bearer {gate.issuer.token(aud=[f'{gate.url}/own', 'tollgate'])}",
            f"Bearer {gate.issuer.token(aud='tollgate', iss='https://somebody.else')}",
            f"DPoP {gate.issuer.token()}",
            f"Token {gate.issuer.token()}",
            f"Bearer {KEY}",
            f"bearer  {KEY}",
        ]
        for value in ours:
            assert get(gate, "/own/x", authorization=value) == 401, value
        for name in ("x_api_key", "api_key"):
            assert get(gate, "/own/x", **{name: KEY}) == 401
            assert get(gate, "/own/x", **{name: THEIRS}) == 401
            assert get(gate, "/own/x", authorization=f"Bearer {THEIRS}", **{name: KEY}) == 400
        assert get(gate, f"/own/x?access_token={THEIRS}") == 400
        assert (own.heads, inner.heads) == ([], [])
        assert {record["refusal"]["rule"] for record in gate.records() if record["kind"] == "refusal"} == {
            "credential_astray", "credentials", "credential_in_query"
        }  # fmt: skip


def test_a_token_for_this_very_route_is_the_upstreams_affair(tmp_path: Path) -> None:
    with fronted(tmp_path) as (gate, own, _):
        token = gate.issuer.token(aud=f"{gate.url}/own", iss=ISSUER)
        assert get(gate, "/own/x", authorization=f"Bearer {token}") == 200
        assert token.encode() in own.heads[0]
        assert get(gate, "/inner/x", authorization=f"Bearer {token}") == 401


def test_a_route_that_becomes_transparent_or_ceases_to_is_judged_anew_on_a_kept_connection(tmp_path: Path) -> None:
    with fronted(tmp_path) as (gate, own, _), httpx2.Client(base_url=gate.url) as client:
        bearer = {"authorization": f"Bearer {THEIRS}"}
        assert client.get("/own/x", headers=bearer).status_code == 200
        gate.settings["upstreams"]["own"]["auth"] = "gateway"
        gate.reload()
        assert client.get("/own/x", headers=bearer).status_code == 401
        assert len(own.heads) == 1


@pytest.mark.parametrize("place", ["", "/x"])
def test_other_headers_that_carry_identity_are_dropped_as_ever(tmp_path: Path, place: str) -> None:
    with fronted(tmp_path) as (gate, own, _):
        get(
            gate,
            f"/own{place}",
            authorization=f"Bearer {THEIRS}",
            proxy_authorization="Basic x",
            x_forwarded_user="root",
        )
        assert b"proxy-authorization" not in own.heads[0].lower()
        assert b"x-forwarded-user" not in own.heads[0].lower()
