"""What is held is a file that is replaced whole, and a damaged one is an error."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from gateway.core.breaking import Hold
from gateway.core.reasons import StoreFailed
from gateway.stores.held import HeldBreakers


def test_what_was_written_is_read_and_no_file_is_nothing(tmp_path: Path) -> None:
    held = HeldBreakers(tmp_path / "breakers.json")
    assert held.read() == {}
    held.write({"weather": Hold.OPEN, "files": Hold.CLOSE})
    assert held.read() == {"weather": Hold.OPEN, "files": Hold.CLOSE}
    assert (tmp_path / "breakers.json").stat().st_mode & 0o777 == 0o600
    held.write({})
    assert held.read() == {}


@pytest.mark.parametrize("said", [b"", b"{", b"[]", b'{"a": "ajar"}', b"\xff", b'"open"'])
def test_a_damaged_file_is_an_error_and_not_nothing(tmp_path: Path, said: bytes) -> None:
    (tmp_path / "breakers.json").write_bytes(said)
    with pytest.raises(StoreFailed, match="remove it to let go of all"):
        HeldBreakers(tmp_path / "breakers.json").read()


def test_what_cannot_be_written_leaves_what_was_there(tmp_path: Path) -> None:
    held = HeldBreakers(tmp_path / "breakers.json")
    held.write({"weather": Hold.OPEN})
    os.mkdir(tmp_path / "breakers.new")
    with pytest.raises(StoreFailed):
        held.write({})
    assert held.read() == {"weather": Hold.OPEN}
