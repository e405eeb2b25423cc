"""`tollgate doctor`: each check finds what it is there for."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from gateway.cli import doctor_checks
from gateway.cli.doctor_checks import Finding
from gateway.log.disk import lock_directory
from tests.cli.rig_cli import Shell


@pytest.fixture
def upstream() -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


@pytest.fixture
def healthy(folder: Path, upstream: int) -> Path:
    text = Path("gateway.yaml").read_text()
    Path("gateway.yaml").write_text(text.replace("http://127.0.0.1:9", f"http://127.0.0.1:{upstream}"))
    return folder


def states(shell: Shell) -> dict[str, Any]:
    found = shell("doctor", "--config", "gateway.yaml", "--json")
    document = found.json
    assert found.code == (0 if document["ok"] else 1)
    return {check["name"]: (check["state"], check["detail"]) for check in document["checks"]}


def test_a_healthy_machine_is_0_and_nothing_is_left_behind(shell: Shell, healthy: Path) -> None:
    before = sorted(healthy.rglob("*"))
    found = shell("doctor", "--config", "gateway.yaml")
    assert found.code == 0, found.out
    names = {line.split()[1] for line in found.out.splitlines()}
    assert {"configuration", "data", "sync", "disk", "keys", "policy", "listen", "upstream", "clock"} <= names
    assert sorted(healthy.rglob("*")) == before


def test_a_bad_configuration_is_told_and_nothing_else_is_looked_at(shell: Shell, folder: Path) -> None:
    Path("gateway.yaml").write_text("listen: 1\nnode: 2\n")
    found = shell("doctor", "--config", "gateway.yaml", "--json")
    assert found.code == 1
    assert [check["name"] for check in found.json["checks"]] == ["configuration", "configuration"]


def test_an_upstream_that_is_down_fails_by_name(shell: Shell, healthy: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        free = server.getsockname()[1]
    text = Path("gateway.yaml").read_text()
    Path("gateway.yaml").write_text(text + "audit: {}\n")
    Path("gateway.yaml").write_text(
        text.replace("upstreams:\n", f'upstreams:\n  down: {{url: "http://127.0.0.1:{free}", protocol: http}}\n')
    )
    found = states(shell)
    assert found["upstream down"][0] == "fail"
    assert "cannot be reached" in found["upstream down"][1]
    assert found["upstream files"][0] == "ok"


def test_a_taken_port_fails_and_says_what_to_do(shell: Shell, healthy: Path, upstream: int) -> None:
    text = Path("gateway.yaml").read_text()
    Path("gateway.yaml").write_text(text.replace("listen: 127.0.0.1:0\nadmin", f"listen: 127.0.0.1:{upstream}\nadmin"))
    state, detail = states(shell)["listen"]
    assert state == "fail"
    assert "choose another port" in detail
    (healthy / "var").mkdir()
    lock = lock_directory(healthy / "var")
    try:
        assert states(shell)["listen"][0] == "ok", "it is the running gateway's own"
    finally:
        os.close(lock)


def test_loose_keys_and_tokens_fail(shell: Shell, healthy: Path) -> None:
    shell("keys", "new", "log")
    [path] = (healthy / "var/keys").glob("*.pem")
    path.chmod(0o644)
    (healthy / "var/admin.token").write_text("x" * 10)
    found = states(shell)
    assert found["keys"][0] == "fail"
    assert "chmod 600" in found["keys"][1]
    assert found["admin token"][0] == "fail"


def test_a_policy_that_does_not_load_fails_and_one_that_can_loop_says_where_it_runs(
    shell: Shell, healthy: Path
) -> None:
    Path("policies/decision.rego").write_text("package tollgate\n\ndecision := unknown_builtin(1)\n")
    assert states(shell)["policy"][0] == "fail"
    Path("policies/decision.rego").write_text(
        "package tollgate\n\ndecision if count([n | n := numbers.range(0, input.context.arguments.n)[_]]) > 1\n"
    )
    found = states(shell)
    assert found["policy"][0] == "ok"
    assert found["policy evaluation"][0] == "warn"
    assert found["policy evaluation"][1].startswith("child process (")


def test_a_data_directory_below_a_file_fails(shell: Shell, healthy: Path) -> None:
    Path("var").write_text("")
    assert states(shell)["data directory"][0] == "fail"


def test_a_clock_that_went_back_and_a_small_disk_fail(healthy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = healthy / "var/log"
    log.mkdir(parents=True)
    (log / "checkpoint").write_text("x")
    assert doctor_checks.clock(healthy / "var")[0].state == "ok"
    os.utime(log / "checkpoint", (4_000_000_000, 4_000_000_000))
    assert doctor_checks.clock(healthy / "var")[0].state == "fail"
    monkeypatch.setattr(doctor_checks, "LEAST_BYTES", 2**62)
    assert doctor_checks.disk(healthy / "var")[0].state == "fail"
    monkeypatch.setattr(doctor_checks, "OLDEST_TIME", 4_000_000_000)
    assert doctor_checks.clock(healthy / "var")[0].state == "fail"


def test_a_slow_disk_and_few_files_are_warnings(healthy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor_checks, "SLOW_SYNC_MS", 0.0)
    found = {finding.name: finding.state for finding in doctor_checks.data_directory(healthy, False)}
    assert found == {"data directory": "ok", "sync": "warn"}
    [files] = doctor_checks.open_files(10_000_000)
    assert isinstance(files, Finding)
    assert files.state == "warn"
    assert "ulimit -n" in files.detail
