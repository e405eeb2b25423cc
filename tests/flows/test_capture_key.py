"""The secret of captured shapes: one for all that begin at once, whole, and nobody else's to read."""

from __future__ import annotations

import multiprocessing
from multiprocessing.synchronize import Barrier
from pathlib import Path

import pytest

from gateway.assembly_capture import KEY_BYTES, _secret
from gateway.trust.keyfiles import KeyRingError

BEGINNERS, ROUNDS = 6, 40


def begin(folder: str, start: Barrier, said: multiprocessing.Queue[list[bytes | str]]) -> None:
    got: list[bytes | str] = []
    for number in range(ROUNDS):
        start.wait(30)
        try:
            got.append(_secret(Path(folder, f"{number}.key")))
        except KeyRingError as error:
            got.append(str(error))
    said.put(got)


def test_workers_that_begin_at_once_have_the_same_whole_secret(tmp_path: Path) -> None:
    spawn = multiprocessing.get_context("spawn")
    start, said = spawn.Barrier(BEGINNERS), spawn.Queue()
    workers = [spawn.Process(target=begin, args=(str(tmp_path), start, said)) for _ in range(BEGINNERS)]
    for worker in workers:
        worker.start()
    found = [said.get(timeout=60) for _ in workers]
    for worker in workers:
        worker.join(30)
    for number in range(ROUNDS):
        kept = (tmp_path / f"{number}.key").read_bytes()
        assert len(kept) == KEY_BYTES
        assert {got[number] for got in found} == {kept}
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
