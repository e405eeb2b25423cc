"""Where a log lies, and by which keys it is judged: what the commands over a log directory share."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from gateway.cli.output import UNVERIFIED, USAGE, Stop
from gateway.log.verify import directory_keys


def log_folder(given: Path) -> Path:
    """The log directory: the one named, or `log` in a data directory. Raises Stop."""
    for folder in (given, given / "log"):
        if (folder / "checkpoint").is_file():
            return folder
    raise Stop(f"{given} is no log: it has no checkpoint; name <data_dir> or <data_dir>/log", UNVERIFIED)


def trusted_keys(given: Sequence[str], folder: Path, *, required: bool) -> tuple[list[str], str]:
    """The vkeys to judge by, and where they came from: `--key`, TOLLGATE_LOG_VKEY, or the directory itself, which then
    proves consistency only (ruling 21). Raises Stop, Wrong."""
    if given:
        return [key for item in given for key in _keys(item)], "--key"
    found = os.environ.get("TOLLGATE_LOG_VKEY", "").strip()
    if found:
        return [found], "TOLLGATE_LOG_VKEY"
    if required:
        raise Stop("no key was given, and --require-key asks for one: --key VKEY, or TOLLGATE_LOG_VKEY", UNVERIFIED)
    return directory_keys(folder), "log directory"


def _keys(given: str) -> list[str]:
    """A vkey, or the lines of `@FILE`: one for each key that the log was signed by."""
    if not given.startswith("@"):
        return [given]
    try:
        return Path(given[1:]).read_text("utf-8").split() or [""]
    except (OSError, UnicodeDecodeError) as error:
        raise Stop(f"the key file {given[1:]} cannot be read: {error}", USAGE) from None
