"""The keys of an engine that is asked over a network: read as written, and each mistake told where it stands."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from gateway import config
from gateway.assembly_candidates import of_side
from gateway.assembly_policy import make_engine

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("policies").mkdir()
    Path("candidate").mkdir()
    Path("ca.pem").write_text("")
    Path("token").write_text("s3cret")


def read(policy: dict[str, Any]) -> config.Policy:
    return config.read(json.dumps({"policy": policy}), "gateway.yaml", {}).policy


def refused(policy: dict[str, Any]) -> list[str]:
    with pytest.raises(config.ConfigError) as raised:
        read(policy)
    return [f"{problem.key}: {problem.what}" for problem in raised.value.problems]


def test_opa_has_the_query_that_its_own_policies_have() -> None:
    found = read({"engine": "opa", "url": "http://127.0.0.1:8181"})
    assert (found.engine, found.url, found.query) == ("opa", "http://127.0.0.1:8181", "tollgate/decision")
    assert (found.timeout, found.breaker.failures, found.breaker.open) == (0.25, 5, 1.0)


@pytest.mark.parametrize("text", ["unix:/run/opa.sock", "unix:///run/opa.sock"])
def test_a_socket_file_has_one_spelling(text: str) -> None:
    assert read({"engine": "opa", "url": text}).url == "unix:/run/opa.sock"


def test_all_keys_of_each_engine() -> None:
    tls = {"ca": "ca.pem", "cert": "ca.pem", "key": "ca.pem", "server_name": "pdp.internal"}
    opa = read(
        {"engine": "opa", "url": "https://opa.example", "query": "a/b_c", "token": {"file": "token"}, "tls": tls}
    )
    assert opa.token is not None
    assert opa.token.reveal() == "s3cret"
    assert opa.tls == config.EngineTls(
        ca=Path("ca.pem"), cert=Path("ca.pem"), key=Path("ca.pem"), server_name="pdp.internal"
    )
    own = {"policy_version": "v2", "scope": "acme.oslo", "jwt": {"key_set": "idp"}}
    cerbos = read({"engine": "cerbos", "url": "http://localhost:3593", "cerbos": own}).cerbos
    assert cerbos is not None
    assert (cerbos.policy_version, cerbos.scope) == ("v2", "acme.oslo")
    assert cerbos.jwt is not None
    assert cerbos.jwt.key_set == "idp"
    authzen = {"discovery": True, "dialect": "cerbos"}
    found = read({"engine": "authzen", "url": "https://pdp.example/tenant", "authzen": authzen})
    assert found.authzen == config.AuthzenKeys(discovery=True, dialect="cerbos")


@pytest.mark.parametrize(
    ("policy", "said"),
    [
        ({"engine": "opa"}, "policy.url: opa without a url"),
        ({"engine": "cerbos"}, "policy.url: cerbos without a url"),
        ({"url": "http://127.0.0.1:1"}, "policy.url: the embedded engine is not asked over a network"),
        ({"query": "a/b"}, "policy.query: belongs to opa, the engine is embedded"),
        ({"token": {"file": "token"}}, "policy.token: belongs to opa and authzen, the engine is embedded"),
        (
            {"engine": "cerbos", "url": "http://127.0.0.1:1", "token": {"file": "token"}},
            "policy.token: belongs to opa and authzen, the engine is cerbos",
        ),
        (
            {"engine": "opa", "url": "http://127.0.0.1:1", "cerbos": {"scope": "a"}},
            "policy.cerbos: belongs to cerbos, the engine is opa",
        ),
        (
            {"engine": "opa", "url": "http://127.0.0.1:1", "authzen": {"discovery": True}},
            "policy.authzen: belongs to authzen, the engine is opa",
        ),
        (
            {"engine": "opa", "url": "http://opa.example", "token": {"file": "token"}},
            "policy.url: a token over plain http",
        ),
        (
            {"engine": "cerbos", "url": "http://pdp.example:3593", "cerbos": {"jwt": {}}},
            "policy.url: a token over plain http",
        ),
        ({"engine": "opa", "url": "http://127.0.0.1:1", "tls": {}}, "policy.tls: the url is not https"),
        (
            {"engine": "opa", "url": "https://opa.example", "tls": {"cert": "ca.pem"}},
            "policy.tls: cert and key go together",
        ),
        (
            {"engine": "opa", "url": "https://opa.example", "tls": {"ca": "nowhere.pem"}},
            "policy.tls.ca: nowhere.pem: no such file",
        ),
        (
            {"engine": "authzen", "url": "unix:/run/pdp.sock", "authzen": {"discovery": True}},
            "policy.authzen.discovery: a socket file has no metadata of its own",
        ),
        ({"engine": "cerbos", "url": "http://127.0.0.1:3593/api"}, "policy.url: a path: Cerbos is asked over gRPC"),
        (
            {"shadow": {"engine": "opa"}},
            "policy.shadow.url: opa without a url",
        ),
        (
            {"rollout": {"engine": "opa", "url": "http://opa.example", "percent": "1%", "token": {"file": "token"}}},
            "policy.rollout.url: a token over plain http",
        ),
    ],
)
def test_each_mistake_is_told_by_its_key(policy: dict[str, Any], said: str) -> None:
    assert refused(policy) == [said]


@pytest.mark.parametrize(
    "query",
    [
        "",
        "/tollgate",
        "tollgate/",
        "a//b",
        "../v1/policies",
        "a/../b",
        "a?pretty",
        "a#b",
        "a b",
        "a%2fb",
        "a;b",
        "a\\b",
    ],
)
def test_a_query_leads_nowhere_but_below_data(query: str) -> None:
    """threats.md row 62."""
    assert [text.partition(":")[0] for text in refused({"engine": "opa", "url": "http://a", "query": query})] == [
        "policy.query"
    ]


@pytest.mark.parametrize(
    "url", ["ftp://a", "http://a/?q", "http://u@a", "http://a#f", "unix:relative", "unix:/a b", "unix:", "http://a/b/"]
)
def test_a_url_is_an_address_and_nothing_else(url: str) -> None:
    assert [text.partition(":")[0] for text in refused({"engine": "opa", "url": url})] == ["policy.url"]


def test_an_engine_beside_inherits_no_address_and_no_secret() -> None:
    found = read(
        {
            "engine": "opa",
            "url": "https://opa.example",
            "token": {"file": "token"},
            "query": "a/b",
            "tls": {"server_name": "opa.internal"},
            "shadow": {"engine": "opa", "url": "http://other.example"},
        }
    )
    assert found.shadow is not None
    side = of_side(found, found.shadow)
    assert (side.url, side.token, side.tls, side.query) == ("http://other.example", None, None, "tollgate/decision")
    assert side.timeout == found.timeout


def test_a_secret_is_in_no_text_of_the_engine() -> None:
    policy = read({"engine": "opa", "url": "http://127.0.0.1:1", "token": {"file": "token"}})
    engine = make_engine(policy)
    asker = engine._asker  # type: ignore[attr-defined]
    assert "s3cret" not in repr(policy) + repr(engine) + engine.revision + repr(asker._site)


def test_an_extra_that_is_not_installed_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "gateway.pdp.cerbos", None)
    with pytest.raises(RuntimeError, match=r"install tollgate\[cerbos\]"):
        make_engine(read({"engine": "cerbos", "url": "http://127.0.0.1:3593"}))


def test_nothing_heavy_is_imported_where_it_is_not_configured() -> None:
    code = "import sys, gateway.app; print([name for name in ('grpc', 'cerbos') if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
