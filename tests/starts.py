"""The same beginning made by several processes at once, again and again: what each of them got."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable
from multiprocessing.synchronize import Barrier
from pathlib import Path
from typing import Any

BEGINNERS, ROUNDS = 6, 40


def started_together(make: Callable[[Path], Any], folder: Path, suffix: str) -> list[set[Any]]:
    """What `make` gave for the file `{round}{suffix}`, or the text of its error, in each round. It is a module's own
    function: other processes import it."""
    spawn = multiprocessing.get_context("spawn")
    start, said = spawn.Barrier(BEGINNERS), spawn.Queue()
    each = [spawn.Process(target=_begin, args=(make, str(folder), suffix, start, said)) for _ in range(BEGINNERS)]
    for process in each:
        process.start()
    found: list[list[Any]] = [said.get(timeout=60) for _ in each]
    for process in each:
        process.join(30)
    return [{got[number] for got in found} for number in range(ROUNDS)]


def _begin(
    make: Callable[[Path], Any], folder: str, suffix: str, start: Barrier, said: multiprocessing.Queue[list[Any]]
) -> None:
    got: list[Any] = []
    for number in range(ROUNDS):
        start.wait(30)
        try:
            got.append(make(Path(folder, f"{number}{suffix}")))
        except Exception as error:  # noqa: BLE001 (whatever it was, the test says)
            got.append(repr(error))
    said.put(got)
