"""`tollgate keys`: signing keys made, rotated, listed and published; API keys shown once."""

from __future__ import annotations

import hashlib
from pathlib import Path

import yaml

from gateway.identity.apikey import ApiKeys
from gateway.log.note import VerifierKey
from gateway.pdp.yamldata import parse_yaml
from gateway.trust.keys import KeyRing
from tests.cli.rig_cli import RealClock, Shell, write_log


def test_a_key_is_made_once_and_rotated_from_then_on(shell: Shell, folder: Path) -> None:
    assert shell("keys", "rotate", "log").code == 1
    made = shell("keys", "new", "log", "--json")
    assert made.code == 0
    assert shell("keys", "new", "log").code == 1
    rotated = shell("keys", "rotate", "log", "--json")
    assert rotated.code == 0
    assert "the next start" in rotated.err
    listed = shell("keys", "list", "--json").json["keys"]
    assert {(key["kid"], key["current"]) for key in listed} == {(made.json["kid"], False), (rotated.json["kid"], True)}
    for path in (folder / "var/keys").glob("*.pem"):
        assert path.stat().st_mode & 0o777 == 0o600


def test_the_list_shows_the_vkey_that_verifiers_need(shell: Shell, folder: Path) -> None:
    assert shell("keys", "new", "log").code == 0
    ring = KeyRing(folder / "var/keys")
    current = ring.current("log")
    assert current is not None
    vkey = write_log(folder / "var", current.private, 1)
    found = shell("keys", "list")
    assert vkey in found.out
    assert vkey == str(VerifierKey.of("gw-1", current.private))
    assert shell("audit", "verify", "var", "--key", vkey).code == 0


def test_the_jwks_has_public_members_only(shell: Shell, folder: Path) -> None:
    shell("keys", "new", "cards")
    [key] = shell("keys", "jwks").json["keys"]
    assert key["kty"] == "OKP"
    assert "d" not in key


def test_a_key_that_others_can_read_is_refused_with_what_to_do(shell: Shell, folder: Path) -> None:
    shell("keys", "new", "log")
    [path] = (folder / "var/keys").glob("*.pem")
    path.chmod(0o644)
    found = shell("keys", "list")
    assert found.code == 1
    assert "chmod 600" in found.err


def test_where_there_are_no_keys_none_are_made_by_looking(shell: Shell, folder: Path) -> None:
    assert shell("keys", "list").code == 1
    assert not (folder / "var").exists()


def test_an_api_key_is_shown_once_and_its_entry_is_what_the_gateway_reads(shell: Shell, folder: Path) -> None:
    words = ["--id", "ci", "--role", "reader", "--role", "writer", "--org", "acme", "--expires", "2030-01-01T00:00:00Z"]
    found = shell("keys", "new", "api", *words)
    assert found.code == 0
    key, _, entries = found.out.partition("\n")
    assert key.startswith("tg_ci_")
    [entry] = yaml.safe_load(entries)
    assert entry["sha256"] == hashlib.sha256(key.encode()).hexdigest()
    Path("keys.yaml").write_text(entries)
    keys = ApiKeys(Path("keys.yaml"), lambda data: parse_yaml(data.decode()), RealClock())
    principal = keys.judge(key.encode(), hashlib.sha256(key.encode()).digest())
    assert principal is not None
    assert (principal.id, principal.roles, principal.org) == ("key:ci", ("reader", "writer"), "acme")
    document = shell("keys", "new", "api", "--id", "ci", "--json").json
    assert document["key"] != key


def test_an_api_key_needs_a_right_id_and_its_options_are_its_own(shell: Shell, folder: Path) -> None:
    assert shell("keys", "new", "api").code == 2
    assert shell("keys", "new", "api", "--id", "Not OK").code == 2
    assert shell("keys", "new", "log", "--role", "reader").code == 2
    assert shell("keys", "new", "nothing").code == 2
