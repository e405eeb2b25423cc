"""`tollgate bundle`: on files, and on a gateway that runs."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from rig import Running, gateway

from gateway.trust.pem import jwks_of
from tests.cli.rig_cli import Shell
from tests.flows.pushing import bundle_settings
from tests.trust.bundle_rig import POLICY, TESTS, files, packed


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A policy, and a key pair beside it."""
    made = tmp_path / "policy"
    made.mkdir()
    (made / "policy.rego").write_text(POLICY)
    (made / "policy_test.rego").write_text(TESTS)
    (made / "data.yaml").write_text("friends: [a]\n")
    key = generate_private_key(SECP256R1())
    (tmp_path / "signing.pem").write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    (tmp_path / "signing.pem").chmod(0o600)
    public = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    (tmp_path / "public.pem").write_bytes(public)
    return made


def built(shell: Shell, folder: Path, revision: str = "7", *more: str) -> Path:
    file = folder.parent / f"{revision}.tar.gz"
    key = folder.parent / "signing.pem"
    done = shell("bundle", "build", folder, "--revision", revision, "-o", file, "--key", key, "--kid", "a-1", *more)
    assert done.code == 0, done.err
    return file


def test_what_is_built_verifies_with_the_public_key(shell: Shell, folder: Path) -> None:
    file = built(shell, folder)
    again = file.read_bytes()
    found = shell("bundle", "verify", file, "--key", folder.parent / "public.pem", "--json")
    assert found.code == 0, found.err
    assert found.json["number"] == 7
    assert found.json["verified"] is True
    built(shell, folder)
    unsigned = folder.parent / "unsigned.tar.gz"
    for _ in range(2):
        assert shell("bundle", "build", folder, "--revision", "7", "-o", unsigned).code == 0
    first = unsigned.read_bytes()
    assert shell("bundle", "build", folder, "--revision", "7", "-o", unsigned).code == 0
    assert unsigned.read_bytes() == first != again


@pytest.mark.parametrize(
    ("options", "rule"),
    [
        (("--scope", "production"), 6),
        (("--root", "friends"), 11),
        (("--after", "7"), 12),
    ],
)
def test_what_does_not_keep_a_rule_is_exit_code_4_with_its_number(
    shell: Shell, folder: Path, options: tuple[str, ...], rule: int
) -> None:
    file = built(shell, folder)
    found = shell("bundle", "verify", file, "--key", folder.parent / "public.pem", "--json", *options)
    assert found.code == 4
    assert found.json["rule"] == rule
    assert found.json["verified"] is False


def test_a_bundle_that_nobody_signed_or_somebody_else_is_exit_code_4(shell: Shell, folder: Path) -> None:
    unsigned = folder.parent / "unsigned.tar.gz"
    assert shell("bundle", "build", folder, "--revision", "7", "-o", unsigned).code == 0
    public = folder.parent / "public.pem"
    found = shell("bundle", "verify", unsigned, "--key", public)
    assert (found.code, "rule 4" in found.err) == (4, True)
    key = generate_private_key(SECP256R1()).private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    (folder.parent / "other.pem").write_bytes(key)
    (folder.parent / "other.pem").chmod(0o600)
    assert shell("bundle", "sign", unsigned, "--key", folder.parent / "other.pem").code == 0
    found = shell("bundle", "verify", unsigned, "--key", public)
    assert (found.code, "rule 5" in found.err) == (4, True)
    assert shell("bundle", "verify", unsigned).code == 2


def test_the_gateways_own_key_signs_where_its_folder_is_named(shell: Shell, folder: Path) -> None:
    data_dir = folder.parent / "var"
    file = folder.parent / "own.tar.gz"
    command = ("bundle", "build", folder, "--revision", "v1", "--number", "3", "-o", file, "--data-dir", data_dir)
    assert shell(*command).code == 1
    assert shell("keys", "new", "bundles", "--data-dir", data_dir).code == 0
    assert shell(*command).code == 0
    jwks = folder.parent / "own.jwks.json"
    jwks.write_text(shell("keys", "jwks", "--data-dir", data_dir).out)
    assert shell("bundle", "verify", file, "--key", jwks).code == 0


def test_tests_are_run_of_a_folder_and_of_a_bundle(shell: Shell, folder: Path) -> None:
    found = shell("bundle", "test", folder, "--json")
    assert (found.code, found.json["ran"], found.json["failed"]) == (0, 1, [])
    assert shell("bundle", "test", built(shell, folder), "--json").json["ran"] == 1
    (folder / "data.yaml").write_text("friends: [b]\n")
    (folder / "policy_test.rego").write_text(TESTS.replace('as ["a"]', 'as ["b"]'))
    found = shell("bundle", "test", folder, "--json")
    assert (found.code, len(found.json["failed"])) == (1, 1)


def test_what_no_gateway_would_take_is_not_built(shell: Shell, folder: Path) -> None:
    file = folder.parent / "x.tar.gz"
    assert "rule 12" in shell("bundle", "build", folder, "--revision", "v1", "-o", file).err
    assert "rule 11" in shell("bundle", "build", folder, "--revision", "1", "--root", "x", "-o", file).err
    (folder / "policy.rego").write_text(POLICY + "x := http.send({})\n")
    assert "rule 15" in shell("bundle", "build", folder, "--revision", "1", "-o", file).err
    assert not file.exists()


def test_a_public_key_in_pem_becomes_a_key_set(shell: Shell, folder: Path) -> None:
    public = folder.parent / "public.pem"
    found = shell("keys", "jwks", "--pem", public, "--kid", "authors-1").json
    assert found == jwks_of([public.read_bytes()], "authors-1")
    assert shell("keys", "jwks", "--pem", folder / "policy.rego").code == 2


def test_a_candidate_is_asked_what_it_would_decide_whoever_signed_it(shell: Shell, tmp_path: Path) -> None:
    file, request = tmp_path / "candidate.tar.gz", tmp_path / "request.json"
    file.write_bytes(packed(files()))
    question = {"subject": {"type": "agent", "id": "a"}, "action": {"name": "x"}, "resource": {"type": "t", "id": "i"}}
    request.write_text(json.dumps(question))
    assert shell("decide", "--bundle", file, "--input", request).code == 0
    request.write_text(json.dumps(question | {"subject": {"type": "agent", "id": "b"}}))
    assert shell("decide", "--bundle", file, "--input", request).code == 3


@pytest.fixture
def running(tmp_path: Path, folder: Path) -> Iterator[Running]:
    settings = bundle_settings(tmp_path)
    pem = (tmp_path / "public.pem").read_bytes()
    (tmp_path / "authors.jwks.json").write_text(json.dumps(jwks_of([pem], "a-1")))
    with gateway(tmp_path, **settings) as found:
        yield found


def test_a_bundle_is_pushed_put_in_force_and_taken_back(shell: Shell, folder: Path, running: Running) -> None:
    there = ("--admin", running.admin_url, "--token-file", running.folder / "admin.token")
    configured = running.app.snapshot.engine.revision
    seven, eight = built(shell, folder), built(shell, folder, "8")
    assert shell("bundle", "push", seven, "--activate", *there).code == 0
    assert running.app.snapshot.engine.revision != configured
    assert shell("bundle", "push", eight, *there).code == 0
    assert running.app.bundles.found("tollgate", running.app.bundles.state("tollgate").active).number == 7  # type: ignore[union-attr]
    assert shell("bundle", "activate", "8", *there).code == 0
    listed = shell("bundle", "list", "--name", "tollgate", *there)
    assert [line.split()[:2] for line in listed.out.splitlines()[1:3]] == [["active", "8"], ["before", "7"]]
    assert shell("bundle", "activate", "7", *there).code == 1
    assert shell("bundle", "activate", "9", *there).code == 2
    assert shell("bundle", "rollback", *there, "--json").json["state"]["highest"] == 8
    assert shell("bundle", "rollback", *there).code == 1
    assert shell("bundle", "rollback", "--to", "configured", *there).code == 0
    assert running.app.snapshot.engine.revision == configured
    refused = shell("bundle", "push", seven.with_name("8.tar.gz"), "--name", "other", *there)
    assert refused.code == 0  # another name has numbers of its own
    assert shell("bundle", "list", *there).out.count("\n") == 3


def test_a_push_that_breaks_a_rule_is_exit_code_4(shell: Shell, folder: Path, running: Running) -> None:
    there = ("--admin", running.admin_url, "--token-file", running.folder / "admin.token")
    unsigned = folder.parent / "unsigned.tar.gz"
    assert shell("bundle", "build", folder, "--revision", "7", "-o", unsigned).code == 0
    found = shell("bundle", "push", unsigned, *there)
    assert (found.code, "rule 4" in found.err) == (4, True)
