"""`/log/`: the static files of the log's directory, as C2SP tlog-tiles clients and `audit verify` read them.

Only names of the format pass: nothing else in the directory, no other spelling, no way up. A full tile never changes
and says so; the checkpoint and partial tiles are fetched again each time.
"""

from __future__ import annotations

import re
from pathlib import Path

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import FileResponse, Response

from gateway.control.problem import problem

_INDEX = r"(?:x[0-9]{3}/)*[0-9]{3}"
_TILE = re.compile(rf"tile/(?:[0-9]|[1-5][0-9]|6[0-3]|entries)/{_INDEX}(?P<partial>\.p/[1-9][0-9]{{0,2}})?")
_BLOB = re.compile(r"blob/[0-9a-f]{64}")
_TEXTS = frozenset({"checkpoint", "vkey", "vkeys", "origin"})
_FOREVER = "private, max-age=31536000, immutable"


class LogFiles:
    """Serves `folder` (`<data_dir>/log`)."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    async def __call__(self, request: Request) -> Response:
        name: str = request.path_params["name"]
        tile = _TILE.fullmatch(name)
        if tile is None and name not in _TEXTS and _BLOB.fullmatch(name) is None:
            return problem(404, "The log has checkpoint, vkey, vkeys, origin, tile/... and blob/... only")
        path = self._folder / name
        if not await run_in_threadpool(_plain, self._folder, path):
            return problem(404, "The log has no such file yet")
        media = "text/plain; charset=utf-8" if name in _TEXTS else "application/octet-stream"
        changes = name in _TEXTS or (tile is not None and tile["partial"] is not None)
        return FileResponse(path, media_type=media, headers={"cache-control": "no-cache" if changes else _FOREVER})


def _plain(folder: Path, path: Path) -> bool:
    """A regular file that really lies in the folder: a link out of it is not followed."""
    return path.is_file() and path.resolve().is_relative_to(folder.resolve())
