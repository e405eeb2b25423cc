"""Engines beside the one in force that are asked over a network: a real OPA, a real Cerbos, and what never answers."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from changing import Caller
from rig import ROOT

from tests.flows.test_candidates import bundle, counted, serving, shown, status
from tests.pdp.engine_servers import cerbos_server, opa_server

ROLES = """\
package tollgate

default decision := {"decision": false, "context": {"rule": "no_role", "reason": "No role of yours may"}}

decision := {"decision": true, "context": {"rule": "readers", "reason": "Readers may"}} if {
    "reader" in input.subject.properties.roles
    input.resource.id == "weather/forecast"
}

decision := {"decision": true, "context": {"rule": "listing", "reason": "All may look"}} if {
    input.action.name == "mcp.tools/list"
}
"""


@contextmanager
def silent() -> Iterator[str]:
    """Takes connections and says nothing."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"


def test_opa_beside_the_embedded_engine_says_the_same_of_the_same_policy(tmp_path: Path) -> None:
    folder = bundle(tmp_path, "same", ROLES)
    with opa_server(tmp_path, folder) as opa:
        shadow = {"engine": "opa", "url": opa.url, "timeout": "10s"}
        with serving(tmp_path, ROLES, shadow=shadow) as (running, _):
            caller = Caller(running, running.issuer.token(roles=("reader",)))
            assert [caller.call("forecast"), caller.call("warning")] == ["ok", "denied"]
            assert caller.names() == ["forecast"]
            assert counted(running, 5) == {"same": 5, "different": 0, "fault": 0, "dropped": 0, "skipped": 0}
            assert shown(running)["shadow"]["engine"] == "opa"


def test_cerbos_beside_rego_is_listed_where_it_says_something_else(tmp_path: Path) -> None:
    with cerbos_server(ROOT / "policies" / "cerbos" / "roles", tmp_path) as cerbos:
        shadow = {"engine": "cerbos", "url": cerbos.grpc, "timeout": "10s"}
        with serving(tmp_path, shadow=shadow) as (running, _):
            caller = Caller(running, running.issuer.token(roles=("nobody",)))
            assert caller.call("forecast") == "ok"
            counted(running, 1)
            (item,) = shown(running)["differences"]
            assert (item["enforced"]["engine"], item["shadow"]["engine"]) == ("embedded", "cerbos")
            assert item["kinds"][0] == "allow_to_deny"


def test_cerbos_decides_for_its_share_and_the_record_names_it(tmp_path: Path) -> None:
    with cerbos_server(ROOT / "policies" / "cerbos" / "roles", tmp_path) as cerbos:
        rollout = {"percent": "100%", "engine": "cerbos", "url": cerbos.grpc, "timeout": "10s"}
        with serving(tmp_path, rollout=rollout) as (running, server):
            caller = Caller(running, running.issuer.token(roles=("nobody",)))
            assert caller.call("forecast") == "denied"
            assert server.called == []
            assert running.last("refusal")["decision"]["engine"] == "cerbos"
            assert status(running)["policy"]["rollout"]["engine"] == "cerbos"


@pytest.mark.parametrize("engine", ["opa", "authzen", "cerbos"])
def test_an_engine_beside_that_never_answers_delays_nobody(tmp_path: Path, engine: str) -> None:
    with silent() as url:
        shadow = {"engine": engine, "url": url, "timeout": "1s", "queue": 1}
        with serving(tmp_path, shadow=shadow) as (running, _):
            caller = Caller(running)
            caller.call("forecast")
            started = time.monotonic()
            assert [caller.call("forecast") for _ in range(10)] == ["ok"] * 10
            assert time.monotonic() - started < 10 * 1.0, "less than if each had waited for it"
            found = counted(running, 11)
            assert (found["same"], found["different"]) == (0, 0)
            assert found["fault"] >= 1
            assert status(running)["ready"] is True


def test_a_candidate_elsewhere_that_is_down_is_a_refusal_for_its_subjects_alone(tmp_path: Path) -> None:
    with silent() as url:
        rollout = {"percent": "50%", "engine": "opa", "url": url, "timeout": "50ms"}
        with serving(tmp_path, rollout=rollout) as (running, _):
            found = {Caller(running, running.issuer.token(f"caller{n}")).call("forecast") for n in range(12)}
            assert found == {"ok", "policy_unavailable"}
