"""The secret of captured shapes: one for all that begin at once, whole, and nobody else's to read."""

from __future__ import annotations

from pathlib import Path

import pytest

from gateway.assembly_capture import KEY_BYTES, _secret
from gateway.trust.keyfiles import KeyRingError
from tests.starts import ROUNDS, started_together


def test_workers_that_begin_at_once_have_the_same_whole_secret(tmp_path: Path) -> None:
    for number, got in enumerate(started_together(_secret, tmp_path, ".key")):
        kept = (tmp_path / f"{number}.key").read_bytes()
        assert len(kept) == KEY_BYTES
        assert got == {kept}
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(f"{n}.key" for n in range(ROUNDS))


def test_a_secret_cut_short_or_open_to_others_is_refused_with_what_to_do(tmp_path: Path) -> None:
    path = tmp_path / "capture.key"
    first = _secret(path)
    assert _secret(path) == first
    assert path.stat().st_mode & 0o777 == 0o600
    path.chmod(0o640)
    with pytest.raises(KeyRingError, match="chmod 600"):
        _secret(path)
    path.chmod(0o600)
    path.write_bytes(first[:7])
    with pytest.raises(KeyRingError, match="take it away"):
        _secret(path)
