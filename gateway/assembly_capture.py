"""What records keep of what policy was asked, put together: the configured masks and the gateway's own secret.

The secret keys the digests of shapes, so that nobody who reads the log can try values out on them. It is made at the
first start, lies beside the log, never in it, and a file that others can read refuses the start like any other key.
"""

from __future__ import annotations

import os
from pathlib import Path

from gateway import config
from gateway.core.capture import Capture
from gateway.core.masking import Masker, Masking, parse_paths
from gateway.trust.keyfiles import KeyRingError, locked, replace_file

KEY_BYTES = 32


def make_capture(settings: config.Settings) -> Capture:
    """Raises KeyRingError, OSError."""
    mask = settings.audit.mask
    masker = Masker(Masking(parse_paths(mask.paths), mask.names, mask.emails))
    return Capture(masker, _secret(settings.data_dir / "capture.key"))


def _secret(path: Path) -> bytes:
    if not path.exists():
        with locked(path.parent):  # workers that begin at once come by one after the other, and all have one secret
            if not path.exists():
                replace_file(path, os.urandom(KEY_BYTES))
    if path.stat().st_mode & 0o077:
        raise KeyRingError(f"{path} can be read by others: chmod 600 {path}")
    found = path.read_bytes()
    if len(found) != KEY_BYTES:
        raise KeyRingError(f"{path} is not {KEY_BYTES} bytes: take it away, and a new one is made")
    return found
