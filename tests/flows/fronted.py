"""Runs a client with a gateway between it and its server: `fronted.py FOLDER COMMAND... URL`.

The last argument is the server's address, as a suite gives it; the command gets the gateway's in its place. The gateway
keeps its data in a new folder below FOLDER and leaves its records there as `records.json`. Exits as the command does,
or with 1 when the gateway's books are not in order afterwards.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from urllib.parse import urlsplit

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from rig import gateway


def main(below: str, *command: str) -> int:
    folder = Path(tempfile.mkdtemp(dir=below))
    url = command[-1]
    path = urlsplit(url).path or "/"
    reference = {"name": "reference", "match": {"path": path}, "upstream": "reference", "auth": "anonymous"}
    with gateway(folder, upstreams={"reference": {"url": url, "protocol": "mcp"}}, routes=[reference]) as running:
        done = subprocess.run([*command[:-1], f"http://localhost:{running.app.port}{path}"])
        (folder / "records.json").write_text(json.dumps(running.records()))
    return done.returncode


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
