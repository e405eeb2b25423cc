"""The log under a verifier that we did not write: Go's golang.org/x/mod/sumdb/{note,tlog}, the code of sum.golang.org.

Needs `go` and x/mod (Debian: golang-go golang-golang-x-mod-dev). TOLLGATE_NO_GO=1 says that they cannot be had here.
"""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from gateway.log import export
from gateway.log.note import VerifierKey
from tests.log.log_rig import KEY, NODE, written

VKEY = str(VerifierKey.of(NODE, KEY))

pytestmark = pytest.mark.slow


def ask(program: Path, *arguments: object) -> str:
    done = subprocess.run([str(program), *map(str, arguments)], capture_output=True, text=True, timeout=60)
    assert (done.returncode == 0) == done.stdout.startswith("ok"), done.stderr
    return done.stdout.strip()


@pytest.mark.parametrize("count", [0, 1, 127, 128, 129, 500])
def test_go_verifies_the_log(tmp_path: Path, program: Path, count: int) -> None:
    written(tmp_path, count)
    assert ask(program, "log", tmp_path / "log", VKEY) == f"ok {2 * count} entries, grown from 0"


def test_go_verifies_a_log_of_three_levels_and_its_growth(tmp_path: Path, program: Path) -> None:
    older = []
    for count in (3, 300, 32_000, 1000):
        written(tmp_path, count, segment_bytes=1 << 22)
        older.append(tmp_path / f"checkpoint-{len(older)}")
        shutil.copy(tmp_path / "log" / "checkpoint", older[-1])
    assert (tmp_path / "log" / "tile" / "2" / "000.p" / "1").exists()
    for path, size in zip(older, (6, 606, 64_606, 66_606), strict=True):
        assert ask(program, "log", tmp_path / "log", VKEY, path) == f"ok 66606 entries, grown from {size}"


def test_go_refuses_what_was_changed(tmp_path: Path, program: Path) -> None:
    written(tmp_path, 400)
    for name in ("tile/entries/001", "tile/0/002", "tile/1/000.p/3", "checkpoint"):
        path = tmp_path / "log" / name
        whole = path.read_bytes()
        path.write_bytes(whole[:40] + bytes([whole[40] ^ 1]) + whole[41:])
        assert ask(program, "log", tmp_path / "log", VKEY).startswith("failed"), name
        path.write_bytes(whole)
    assert ask(program, "log", tmp_path / "log", VKEY).startswith("ok")


def test_go_verifies_single_proofs(tmp_path: Path, program: Path) -> None:
    written(tmp_path, 400)
    proof, entry = tmp_path / "proof", tmp_path / "entry"
    for seq in (0, 255, 256, 511, 512, 799):
        proven = export.prove(tmp_path / "log", seq)
        proof.write_text(proven.text)
        entry.write_bytes(proven.entry)
        assert ask(program, "proof", VKEY, proof, entry) == f"ok entry {seq} of 800"
        entry.write_bytes(proven.entry + b" ")
        assert ask(program, "proof", VKEY, proof, entry).startswith("failed")


def test_go_verifies_a_backup(tmp_path: Path, program: Path) -> None:
    written(tmp_path, 400)
    export.backup(tmp_path / "log", tmp_path / "copy")
    assert ask(program, "log", tmp_path / "copy", VKEY) == "ok 800 entries, grown from 0"
