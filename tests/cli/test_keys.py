"""`tollgate keys`: signing keys made, rotated, listed and published; API keys shown once."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
import yaml

from gateway.config import read_plain
from gateway.identity.apikey import ApiKeys
from gateway.log.note import VerifierKey
from gateway.trust.keys import KeyRing
from tests.cli.rig_cli import RealClock, Shell, write_log


def test_a_key_is_made_announced_and_rotated_in(shell: Shell, folder: Path) -> None:
    assert shell("keys", "rotate", "log").code == 1
    first = shell("keys", "new", "log", "--json")
    assert first.code == 0
    second = shell("keys", "new", "log", "--json")
    assert second.code == 0
    assert "does not sign yet" in second.err
    assert shell("keys", "new", "log").code == 1
    assert states(shell) == {first.json["kid"]: "current", second.json["kid"]: "next"}
    rotated = shell("keys", "rotate", "log", "--json")
    assert (rotated.code, rotated.json["kid"]) == (0, second.json["kid"])
    assert "the next start" in rotated.err
    assert states(shell) == {first.json["kid"]: "retired", second.json["kid"]: "current"}
    for path in (folder / "var/keys").iterdir():
        assert path.stat().st_mode & 0o777 == 0o600


def states(shell: Shell) -> dict[str, str]:
    return {key["kid"]: key["state"] for key in shell("keys", "list", "--json").json["keys"]}


def test_a_rotation_without_a_next_key_says_what_that_means(shell: Shell, folder: Path) -> None:
    shell("keys", "new", "cards")
    found = shell("keys", "rotate", "cards", "--overlap", "12h", "--json")
    assert found.code == 0
    assert "do not know this one yet" in found.err
    [retired] = [key for key in shell("keys", "list", "--json").json["keys"] if key["state"] == "retired"]
    assert retired["published_until"] > retired["retired"] >= retired["made"]


@pytest.mark.parametrize("overlap", ["7", "week", "-1d", ""])
def test_an_overlap_is_a_duration(shell: Shell, folder: Path, overlap: str) -> None:
    shell("keys", "new", "cards")
    assert shell("keys", "rotate", "cards", "--overlap", overlap).code == 2


def test_a_revoked_key_is_out_of_the_published_set(shell: Shell, folder: Path) -> None:
    first = shell("keys", "new", "cards", "--json").json["kid"]
    found = shell("keys", "revoke", "cards", first, "--json")
    assert found.code == 0
    assert found.json["kid"] != first
    assert [key["kid"] for key in shell("keys", "jwks").json["keys"]] == [found.json["kid"]]
    assert states(shell)[first] == "revoked"
    assert shell("keys", "revoke", "cards", first).code == 1
    assert shell("keys", "revoke", "cards", "AAAAAAAAAAAAAAAA").code == 1


def test_under_a_passphrase_listing_needs_none_and_changing_needs_the_right_one(shell: Shell, folder: Path) -> None:
    secret, wrong, empty = Path("passphrase"), Path("wrong"), Path("empty")
    secret.write_text("correct horse\n")
    wrong.write_text("wrong horse\n")
    empty.write_text("\n")
    shell("keys", "new", "cards")
    assert shell("keys", "encrypt").code == 2
    assert shell("keys", "encrypt", "--passphrase-file", empty).code == 2
    done = shell("keys", "encrypt", "--passphrase-file", secret, "--json")
    assert len(done.json["encrypted"]) == 1
    assert shell("keys", "encrypt", "--passphrase-file", secret, "--json").json["encrypted"] == []
    assert (shell("keys", "list").code, shell("keys", "jwks").code) == (0, 0)
    for words in ((), ("--passphrase-file", wrong)):
        found = shell("keys", "rotate", "cards", *words)
        assert found.code == 1
        assert "horse" not in found.err + found.out
    assert shell("keys", "rotate", "cards", "--passphrase-file", secret).code == 0
    assert all(b"ENCRYPTED" in path.read_bytes() for path in (folder / "var/keys").glob("*.pem"))


def test_the_list_shows_the_vkey_that_verifiers_need(shell: Shell, folder: Path) -> None:
    assert shell("keys", "new", "log").code == 0
    ring = KeyRing(folder / "var/keys")
    current = ring.current("log")
    assert current is not None
    vkey = write_log(folder / "var", current, 1)
    found = shell("keys", "list")
    assert vkey in found.out
    assert vkey == str(VerifierKey.of("gw-1", current))
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
    assert shell("keys", "jwks").code == 1
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
    keys = ApiKeys(Path("keys.yaml"), read_plain, RealClock())
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
