"""`tollgate audit`: verify, prove, tail, export and backup, on files alone."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from gateway.log.note import VerifierKey
from gateway.log.verify import verify_proof
from tests.cli.rig_cli import EXCHANGE, Shell, write_log

OTHER = str(VerifierKey.of("gw-1", Ed25519PrivateKey.generate()))


def test_a_log_that_is_what_was_signed_is_0(shell: Shell, folder: Path, vkey: str) -> None:
    Path("gw.vkey").write_text(vkey + "\n")
    for words in (["var"], ["var/log"]):
        found = shell("audit", "verify", *words, "--key", "@gw.vkey")
        assert found.code == 0, found
        assert found.out.startswith("ok\n")
        assert found.err == ""
    document = shell("audit", "verify", "var", "--key", OTHER, "--key", vkey, "--json").json
    assert (document["ok"], document["size"], document["key_source"]) == (True, 600, "--key")
    assert document["kinds"] == {"intent": 300, "outcome": 300}


def test_the_environments_key_counts_as_given(
    shell: Shell, folder: Path, vkey: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TOLLGATE_LOG_VKEY", vkey)
    found = shell("audit", "verify", "var", "--require-key", "--json")
    assert (found.code, found.json["key_source"]) == (0, "TOLLGATE_LOG_VKEY")
    monkeypatch.setenv("TOLLGATE_LOG_VKEY", OTHER)
    assert shell("audit", "verify", "var").code == 4


def test_the_directorys_own_key_proves_consistency_only_and_says_so(shell: Shell, folder: Path, vkey: str) -> None:
    found = shell("audit", "verify", "var")
    assert found.code == 0
    assert "key_source: log directory, proves consistency only" in found.err
    required = shell("audit", "verify", "var", "--require-key")
    assert required.code == 4
    (folder / "var/log/vkey").unlink()
    assert shell("audit", "verify", "var").code == 4


def test_one_changed_byte_is_4_and_named(shell: Shell, folder: Path, vkey: str) -> None:
    bundle = folder / "var/log/tile/entries/001"
    data = bytearray(bundle.read_bytes())
    at = data.index(b"weather/get_forecast", 5000)
    data[at] ^= 1
    bundle.write_bytes(bytes(data))
    found = shell("audit", "verify", "var", "--key", vkey)
    assert found.code == 4
    assert found.out.startswith("NOT VERIFIED\n")
    problems = shell("audit", "verify", "var", "--key", vkey, "--json").json["problems"]
    assert len(problems) == 1
    assert 256 <= problems[0]["first"] == problems[0]["last"] < 512


def test_a_foreign_key_is_4_and_a_key_that_is_none_is_2(shell: Shell, folder: Path, vkey: str) -> None:
    assert shell("audit", "verify", "var", "--key", OTHER).code == 4
    assert shell("audit", "verify", "var", "--key", "nonsense").code == 2
    assert shell("audit", "verify", "var", "--key", "@nowhere").code == 2
    assert shell("audit", "verify", "nowhere", "--key", vkey).code == 4


def test_growth_from_an_earlier_checkpoint_is_proved(shell: Shell, folder: Path, vkey: str) -> None:
    shutil.copy("var/log/checkpoint", "earlier")
    same = shell("audit", "verify", "var", "--key", vkey, "--since-checkpoint", "earlier", "--json")
    assert (same.code, same.json["since"]) == (0, 600)
    Path("earlier").write_bytes(Path("earlier").read_bytes().replace(b"\n600\n", b"\n700\n"))
    assert shell("audit", "verify", "var", "--key", vkey, "--since-checkpoint", "earlier").code == 4


def test_a_proof_stands_alone(shell: Shell, folder: Path, vkey: str) -> None:
    found = shell("audit", "prove", "var", 301)
    assert found.code == 0
    row = shell("audit", "prove", "var", 301, "--json").json
    assert row["tlog_proof"] == found.out
    entry = json.dumps(row["record"], sort_keys=True, separators=(",", ":")).encode()
    assert verify_proof(found.out, entry, [vkey]) == 301
    assert shell("audit", "prove", "var", 600).code == 2
    assert shell("audit", "prove", "var", -1).code == 2


def test_the_tail_shows_the_newest_records(shell: Shell, folder: Path, vkey: str) -> None:
    lines = shell("audit", "tail", "var", "-n", 3).out.splitlines()
    assert [line.split("  ")[0] for line in lines] == ["597", "598", "599"]
    assert "agent:idp/a1  mcp.tools/call  weather/get_forecast" in lines[-1]
    rows = [json.loads(line) for line in shell("audit", "tail", "var", "-n", 2, "--json").out.splitlines()]
    assert [row["seq"] for row in rows] == [598, 599]
    assert shell("audit", "tail", "var", "-n", 0).out == ""


def test_following_shows_what_comes(folder: Path, log_key: Ed25519PrivateKey, vkey: str) -> None:
    program = "from gateway.cli.main import main; main()"
    command = [sys.executable, "-c", program, "audit", "tail", "var", "-n", "1", "--follow", "--json"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, cwd=folder) as process:
        assert process.stdout is not None
        assert json.loads(process.stdout.readline())["seq"] == 599
        write_log(folder / "var", log_key, 1)
        assert json.loads(process.stdout.readline())["seq"] == 600
        assert json.loads(process.stdout.readline())["seq"] == 601
        process.terminate()
        process.wait(10)


def test_an_export_is_judged_alone_and_an_edited_row_is_named(shell: Shell, folder: Path, vkey: str) -> None:
    found = shell("audit", "export", "var", "--from", 10, "--to", 20, "-o", "rows.jsonl", "--json")
    assert found.json == {"output": "rows.jsonl", "records": 10}
    assert shell("audit", "verify", "rows.jsonl", "--key", vkey).code == 0
    assert shell("audit", "verify", "rows.jsonl").code == 4, "an export brings no key of its own"
    lines = Path("rows.jsonl").read_bytes().splitlines(keepends=True)
    Path("edited.jsonl").write_bytes(b"".join(lines).replace(b"idp/a1", b"idp/a0", 1))
    edited = shell("audit", "verify", "edited.jsonl", "--key", vkey)
    assert edited.code == 4
    Path("shorter.jsonl").write_bytes(b"".join(lines[:5] + lines[6:]))
    assert shell("audit", "verify", "shorter.jsonl", "--key", vkey).code == 4
    assert shell("audit", "export", "var", "-o", "rows.jsonl").code == 1, "never over a file that is there"


def test_an_export_can_be_a_choice_of_rows(shell: Shell, folder: Path, vkey: str) -> None:
    out = shell("audit", "export", "var", "--subject", "agent:idp/a1", "--kind", "outcome", "--to", 40).out
    head, *rows = [json.loads(line) for line in out.splitlines()]
    assert head["complete"] is False
    assert [row["seq"] for row in rows] == [3, 7, 11, 15, 19, 23, 27, 31, 35, 39]
    one = shell("audit", "export", "var", "--exchange", EXCHANGE.format(2)).out.splitlines()[1:]
    assert [json.loads(line)["seq"] for line in one] == [4, 5]
    assert shell("audit", "export", "var", "--action", "mcp.tools/list").out.count("\n") == 1


def test_a_backup_verifies_by_itself_and_never_overwrites(shell: Shell, folder: Path, vkey: str) -> None:
    found = shell("audit", "backup", "var", "copy", "--json")
    assert (found.code, found.json["size"]) == (0, 600)
    shutil.rmtree(folder / "var")
    assert shell("audit", "verify", "copy", "--key", vkey).code == 0
    assert shell("audit", "backup", "copy", "copy").code == 2
