"""Asks a running gateway for a replay: sends the candidate, follows how far it is, fetches what it found."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlencode

from gateway.assembly_replay import packed
from gateway.cli.output import UNVERIFIED, Stop, message
from gateway.cli.remote import get, send

_POLL_SECONDS: Final = 0.25
_SAY_SECONDS: Final = 2.0


def replay_there(admin: str, token_file: Path, bundle: Path, asked: dict[str, str]) -> dict[str, Any]:
    """The gateway's own result. Raises Stop."""
    query = urlencode({name: value for name, value in asked.items() if value})
    begun = send(admin, token_file, "POST", f"/api/v1/replay?{query}", packed(bundle), "application/gzip")
    pause, said = threading.Event(), time.monotonic()
    place = f"/api/v1/replay/{begun['id']}"
    try:
        while (found := get(admin, token_file, place))["state"] == "running":
            at = found.get("progress")
            if at and time.monotonic() - said >= _SAY_SECONDS:
                said = time.monotonic()
                message(f"{at['decisions']} decisions, {at['done']} of {at['entries']} entries")
            pause.wait(_POLL_SECONDS)
    except KeyboardInterrupt:
        send(admin, token_file, "DELETE", place, None, "")
        raise
    if found["state"] != "done":
        text = str(found.get("error") or "the replay was stopped")
        raise Stop(text, UNVERIFIED) if "not what was signed" in text else Stop(text)
    return dict(found["result"])
