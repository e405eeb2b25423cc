"""Bundles between this gateway and the real OPA, both ways; and a fleet of OPAs that gets its policy here.

`TOLLGATE_OPA` or `opa` on PATH names a binary; without one these tests are skipped, and say so.
"""

from __future__ import annotations

import json
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx2
import pytest
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from rig import Running, gateway, until

from gateway.trust.bundle_build import Plan, build, sign
from gateway.trust.jose import signer
from gateway.trust.pem import jwks_of
from tests.flows.pushing import bundle_settings, push
from tests.pdp import engine_servers
from tests.trust.bundle_rig import POLICY, TESTS

FLEET = "t0ken-of-the-fleet-77d2c554f1c9a0be"
INPUT = {"input": {"subject": {"id": "a"}}}


@pytest.fixture(scope="module")
def opa() -> str:
    return engine_servers.opa()


class Keys:
    """A P-256 key as OPA's users have it: two PEM files."""

    def __init__(self, folder: Path) -> None:
        self.key = generate_private_key(SECP256R1())
        self.private, self.public = folder / "signing.pem", folder / "public.pem"
        self.private.write_bytes(self.key.private_bytes(Encoding.PEM, PrivateFormat.TraditionalOpenSSL, NoEncryption()))
        self.private.chmod(0o600)
        self.pem = self.key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
        self.public.write_bytes(self.pem)


def trusting(tmp_path: Path, keys: Keys, **more: object) -> dict[str, object]:
    settings = bundle_settings(tmp_path, **more)
    (tmp_path / "authors.jwks.json").write_text(json.dumps(jwks_of([keys.pem], "authors-1")))
    return settings


def policy_folder(folder: Path, number: int, friends: str) -> Path:
    made = folder / f"policy-{number}"
    made.mkdir()
    (made / "policy.rego").write_text(POLICY)
    (made / "policy_test.rego").write_text(TESTS)
    (made / "data.json").write_text(json.dumps({"friends": [friends], "price": 1.50, "text": "<&> \u2028 é"}))
    roots = ["tollgate", "tollgate_test", "friends", "price", "text"]
    own = {"tollgate": {"number": number}, "ci": {"job": 7}}
    (made / ".manifest").write_text(json.dumps({"revision": f"v{number}", "roots": roots, "metadata": own}))
    return made


def built(opa: str, keys: Keys, folder: Path, output: Path) -> bytes:
    command = [opa, "build", "-b", str(folder), "--signing-key", str(keys.private), "--signing-alg", "ES256"]
    subprocess.run([*command, "-o", str(output)], check=True, capture_output=True, timeout=60)
    return output.read_bytes()


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


@contextmanager
def served(opa: str, *arguments: str) -> Iterator[str]:
    """An OPA server; its address."""
    address = f"127.0.0.1:{free_port()}"
    command = [opa, "run", "--server", "--addr", address, "--log-level", "error", *arguments]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    try:
        yield f"http://{address}"
    finally:
        process.terminate()
        process.communicate(timeout=20)


def decided(url: str) -> object:
    try:
        return httpx2.post(f"{url}/v1/data/tollgate/decision", json=INPUT).json().get("result")
    except httpx2.HTTPError:
        return None


def test_what_opa_builds_and_signs_is_taken_here(opa: str, tmp_path: Path) -> None:
    keys = Keys(tmp_path)
    with gateway(tmp_path, **trusting(tmp_path, keys)) as running:
        tarball = built(opa, keys, policy_folder(tmp_path, 1, "a"), tmp_path / "opa.tar.gz")
        answer = push(running, tarball, activate=True)
        assert answer.status_code == 200, answer.text
        assert running.app.bundles.kept("tollgate")[0].revision == "v1"
        spoiled = bytearray(tarball)
        spoiled[len(spoiled) // 2] ^= 1
        assert push(running, bytes(spoiled)).status_code == 422


def test_what_opa_signs_beside_a_bundle_of_ours_is_taken_here(opa: str, tmp_path: Path) -> None:
    """`opa sign` on the folder of an unsigned bundle: its `.signatures.json` goes into the tarball."""
    keys = Keys(tmp_path)
    folder = policy_folder(tmp_path, 3, "a")
    command = [opa, "sign", "--bundle", ".", "--signing-key", str(keys.private), "--signing-alg", "ES256"]
    subprocess.run(command, check=True, capture_output=True, timeout=60, cwd=folder)
    tarball = tmp_path / "tarred.tar.gz"
    names = sorted(path.name for path in folder.iterdir())
    subprocess.run(["tar", "czf", str(tarball), "-C", str(folder), *names], check=True, timeout=60)
    with gateway(tmp_path, **trusting(tmp_path, keys)) as running:
        answer = push(running, tarball.read_bytes())
        assert answer.status_code == 200, answer.text


@pytest.mark.parametrize("named", [True, False], ids=["with the key's name", "without"])
def test_what_is_built_here_loads_in_opa(opa: str, tmp_path: Path, named: bool) -> None:
    keys = Keys(tmp_path)
    data = {"friends": ["a"], "price": 1.5, "text": "<&> \u2028 é \x7f", "deep": {"n": [1, 2.25, -3]}}
    plan = Plan({"d/policy.rego": POLICY, "d/policy_test.rego": TESTS}, data, "v1", 1, expires="2031-01-01T00:00:00Z")
    file = tmp_path / "ours.tar.gz"
    file.write_bytes(sign(build(plan), signer(keys.key, "authors-1"), scope="production", named=named))
    verification = ["--verification-key", str(keys.public), "--signing-alg", "ES256", "--scope", "production"]
    if named:
        verification += ["--verification-key-id", "authors-1"]
    with served(opa, "--bundle", str(file), *verification) as url:
        until(lambda: decided(url) is True, 20, "OPA's answer")
        assert httpx2.get(f"{url}/v1/data/deep").json()["result"] == data["deep"]


def test_a_bundle_of_ours_that_was_changed_does_not_load_in_opa(opa: str, tmp_path: Path) -> None:
    keys, other = Keys(tmp_path), signer(generate_private_key(SECP256R1()), "authors-1")
    file = tmp_path / "ours.tar.gz"
    file.write_bytes(sign(build(Plan({"policy.rego": POLICY}, {}, "v1", 1)), other))
    command = [opa, "run", "--server", "--addr", f"127.0.0.1:{free_port()}", "--bundle", str(file)]
    command += ["--verification-key", str(keys.public), "--signing-alg", "ES256", "--verification-key-id", "authors-1"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode != 0


def fleet_config(running: Running, folder: Path, keys: Keys) -> Path:
    """An OPA that gets its bundle from the gateway, waits for the next, and reports."""
    file = folder / "opa.json"
    config = {
        "labels": {"region": "north"},
        "services": {
            "gateway": {"url": running.admin_url, "credentials": {"bearer": {"token": FLEET}}},
        },
        "bundles": {
            "tollgate": {
                "service": "gateway",
                "resource": "/bundles/tollgate.tar.gz",
                "polling": {"long_polling_timeout_seconds": 20},
                "signing": {"keyid": "authors-1"},
            }
        },
        "keys": {"authors-1": {"algorithm": "ES256", "key": keys.pem.decode()}},
        "status": {"service": "gateway"},
        "decision_logs": {"service": "gateway", "reporting": {"min_delay_seconds": 1, "max_delay_seconds": 1}},
    }
    file.write_text(json.dumps(config))
    return file


def test_a_fleet_gets_its_policy_here_and_reports_what_it_runs_and_decides(opa: str, tmp_path: Path) -> None:
    keys = Keys(tmp_path)
    by = signer(keys.key, "authors-1")
    (tmp_path / "fleet.token").write_text(FLEET + "\n")
    (tmp_path / "fleet.token").chmod(0o600)
    settings = trusting(tmp_path, keys)
    admin = {
        "listen": "127.0.0.1:0",
        "token": {"file": str(tmp_path / "admin.token")},
        "fleet_token": {"file": str(tmp_path / "fleet.token")},
    }

    def numbered(number: int, friend: str) -> bytes:
        return sign(build(Plan({"policy.rego": POLICY}, {"friends": [friend]}, f"v{number}", number)), by)

    with gateway(tmp_path, **settings, admin=admin) as running:
        assert push(running, numbered(1, "nobody"), activate=True).status_code == 200
        with served(opa, "--config-file", str(fleet_config(running, tmp_path, keys))) as url:
            until(lambda: decided(url) is False, 20, "the first policy in OPA")
            assert push(running, numbered(2, "a"), activate=True).status_code == 200
            until(lambda: decided(url) is True, 20, "the second policy in OPA, by its long poll")
            headers = {"authorization": f"Bearer {running.admin_token}"}

            def opas() -> list[dict[str, object]]:
                found = httpx2.get(f"{running.admin_url}/api/v1/fleet", headers=headers).json()["opas"]
                assert isinstance(found, list)
                return found

            until(lambda: any(item["decisions"] for item in opas()), 20, "OPA's decision log")
            until(lambda: "v2" in json.dumps(opas()), 20, "OPA's status")
            logged = httpx2.get(f"{running.admin_url}/api/v1/fleet/decisions", headers=headers).json()["decisions"]
            assert {item["result"] for item in logged} <= {True, False}
            assert {item["path"] for item in logged} == {"tollgate/decision"}
        actions = [record.get("action") for record in running.records()]
        assert {"fleet.status", "fleet.decisions"} <= set(actions)
