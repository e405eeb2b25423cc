"""Which breakers somebody holds open or closed, in one small file, so that a restart does not undo it.

The rule: the file is replaced whole, and is on disk before `write` returns. What cannot be read is an error at the
start: an upstream that was switched off must not be called again because a file was damaged.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path

from gateway.core.breaking import Hold
from gateway.core.reasons import StoreFailed


class HeldBreakers:
    def __init__(self, path: Path) -> None:
        self._path = path

    def read(self) -> dict[str, Hold]:
        """By upstream. Raises StoreFailed."""
        try:
            said = json.loads(self._path.read_bytes())
            return {str(name): Hold(wanted) for name, wanted in said.items()}
        except FileNotFoundError:
            return {}
        except (OSError, ValueError, AttributeError) as error:
            raise StoreFailed(
                f"{self._path} cannot be read: {error}; repair it, or remove it to let go of all"
            ) from error

    def write(self, held: Mapping[str, Hold]) -> None:
        """Raises StoreFailed: then what stood there stands."""
        beside = self._path.with_suffix(".new")
        try:
            with open(os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as stream:
                stream.write(json.dumps({name: str(wanted) for name, wanted in sorted(held.items())}).encode() + b"\n")
                stream.flush()
                os.fsync(stream.fileno())
            os.replace(beside, self._path)
            folder = os.open(self._path.parent, os.O_RDONLY)
            try:
                os.fsync(folder)
            finally:
                os.close(folder)
        except OSError as error:
            raise StoreFailed(f"{self._path} cannot be written: {error}") from error
