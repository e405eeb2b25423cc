"""`tollgate serve`: starts, announces itself, reloads, drains; and says what is wrong when it cannot."""

from __future__ import annotations

import signal
import socket
from pathlib import Path
from typing import Any

import pytest

from gateway.cli.serve import fingerprint
from tests.cli.rig_cli import Shell
from tests.cli.served import failed, serving

pytestmark = pytest.mark.slow  # each starts a gateway in a process of its own


def test_it_announces_itself_serves_and_ends_on_sigterm(folder: Path, shell: Shell) -> None:
    with serving() as served:
        assert served.announced["node"] == "gw-1"
        assert served.get("/nowhere").status_code == 404
        second = failed()
        assert second.returncode == 1
        assert f"pid {served.process.pid}" in second.stderr
        served.process.send_signal(signal.SIGTERM)
        assert served.process.wait(30) == 0
        served.said("draining")
        served.said("ended")
    assert shell("audit", "verify", "var", "--key", served.announced["vkey"]).code == 0


def test_it_reloads_on_sighup_and_a_bad_file_changes_nothing_and_says_why(folder: Path) -> None:
    with serving() as served:
        assert served.get("/more").status_code == 404
        text = Path("gateway.yaml").read_text()
        more = "  - {name: more, match: {path: /more}, upstream: files, auth: required}\n"
        Path("gateway.yaml").write_text(text + more)
        served.process.send_signal(signal.SIGHUP)
        served.said("the configuration is in force")
        assert served.get("/more").status_code == 401
        Path("gateway.yaml").write_text(text + more + "sso: {}\n")
        served.process.send_signal(signal.SIGHUP)
        assert "gateway.yaml:9: sso" in served.said("not in force")["event"]
        assert served.get("/more").status_code == 401
        Path("gateway.yaml").write_text(text.replace("node: gw-1", "node: gw-2"))
        served.process.send_signal(signal.SIGHUP)
        assert "needs a restart" in served.said("not in force")["event"]
        assert served.get("/more").status_code == 401
        effects = [record["activation"]["effect"] for record in served.records("activation")]
        assert effects == ["refused", "refused", "accepted", "accepted"]


def test_it_reloads_when_a_file_changed(folder: Path) -> None:
    with serving() as served:
        before = served.records("activation")[0]["activation"]["policy"]
        with Path("policies/decision.rego").open("a") as policy:
            policy.write("\n# changed\n")
        served.said("changed on disk")
        served.said("the configuration is in force")
        assert served.records("activation")[0]["activation"]["policy"] != before
        Path("policies/decision.rego").write_text("package tollgate\n\ndecision := nonsense(\n")
        served.said("changed on disk")
        assert "decision.rego" in served.said("not in force")["event"]


def test_a_second_signal_ends_it_at_once(folder: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        text = Path("gateway.yaml").read_text()
        Path("gateway.yaml").write_text(
            text.replace("http://127.0.0.1:9", f"http://127.0.0.1:{silent.getsockname()[1]}")
        )
        with Path("policies/decision.rego").open("a") as policy:
            policy.write('\ndecision := {"decision": true} if input.subject.id == "anonymous"\n')
        Path("policies/decision.rego").write_text("package tollgate\n\ndecision := true\n")
        with serving() as served:
            host, _, port = served.announced["listen"].rpartition(":")
            with socket.create_connection((host, int(port))) as caller:
                caller.sendall(b"GET /files HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n")
                forwarded, _ = silent.accept()
                with forwarded:
                    assert forwarded.recv(100).startswith(b"GET /")
                    served.process.send_signal(signal.SIGTERM)
                    served.said("draining")
                    served.process.send_signal(signal.SIGTERM)
                    assert served.process.wait(10) == 1


def test_a_taken_port_says_what_to_do(folder: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        for key in ("TOLLGATE__listen", "TOLLGATE__admin__listen"):
            found = failed(**{key: f"127.0.0.1:{port}"})
            assert found.returncode == 1, found.stderr
            assert f"127.0.0.1:{port} is taken" in found.stderr
            assert "Traceback" not in found.stderr


@pytest.mark.parametrize(
    ("break_it", "code", "said"),
    [
        (lambda: Path("gateway.yaml").unlink(), 2, "check --example"),
        (lambda: Path("gateway.yaml").write_text("listen: 1\n"), 2, "gateway.yaml:1: listen"),
        (lambda: Path("policies/decision.rego").write_text("package"), 2, "decision.rego"),
        (lambda: Path("var").write_text(""), 1, "var"),
    ],
)
def test_what_is_wrong_at_the_start_is_one_message(folder: Path, break_it: Any, code: int, said: str) -> None:
    break_it()
    found = failed()
    assert found.returncode == code, found.stderr
    assert said in found.stderr
    assert "Traceback" not in found.stderr


def test_a_token_that_others_can_read_refuses_the_start(folder: Path) -> None:
    (folder / "var").mkdir(0o700)
    Path("var/admin.token").write_text("t0ken-of-the-tests-4f1c9a0be77d2c55\n")
    Path("var/admin.token").chmod(0o644)
    found = failed()
    assert (found.returncode, "can be read by others" in found.stderr) == (2, True)
    assert "t0ken-of" not in found.stderr


def test_another_node_on_the_same_log_refuses_the_start(folder: Path, vkey: str, shell: Shell) -> None:
    found = failed(TOLLGATE__node="gw-2")
    assert found.returncode == 2
    assert "gw-1" in found.stderr


def test_a_rotated_log_key_serves_on_the_same_log(folder: Path, shell: Shell) -> None:
    with serving() as served:
        first = served.announced["vkey"]
        served.process.send_signal(signal.SIGTERM)
        assert served.process.wait(30) == 0
    assert shell("keys", "rotate", "log").code == 0
    with serving() as served:
        second = served.announced["vkey"]
        assert second != first
        served.process.send_signal(signal.SIGTERM)
        assert served.process.wait(30) == 0
    assert shell("audit", "verify", "var", "--key", second).code == 0


def test_a_fingerprint_tells_every_change(tmp_path: Path) -> None:
    file, bundle = tmp_path / "gateway.yaml", tmp_path / "policies"
    bundle.mkdir()
    file.write_text("a")
    (bundle / "a.rego").write_text("a")
    seen = {fingerprint(file, bundle)}
    (bundle / "b.rego").write_text("a")
    seen.add(fingerprint(file, bundle))
    (bundle / "data.yaml").write_text("a")
    seen.add(fingerprint(file, bundle))
    (bundle / "b.rego").unlink()
    seen.add(fingerprint(file, bundle))
    file.write_text("ab")
    seen.add(fingerprint(file, bundle))
    fresh = tmp_path / "fresh"
    fresh.write_text("ab")
    fresh.rename(file)
    seen.add(fingerprint(file, bundle))
    assert len(seen) == 6
    assert fingerprint(file, bundle) in seen
    file.unlink()
    assert fingerprint(file, bundle) not in seen
