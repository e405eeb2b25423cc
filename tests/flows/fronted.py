"""Runs a client with a gateway between it and its server: `fronted.py FOLDER COMMAND... URL`.

The last argument is the server's address, as a suite gives it; the command gets the gateway's in its place. The gateway
keeps its data in a new folder below FOLDER and leaves its records there as `records.json`. In the suite's scenarios of
authorization the server has an authorization server of its own, so the gateway lets it ask its callers itself. With
`--named` first the gateway sits on the server's own name: the command gets the server's address, and a connection there
ends at the gateway. Exits as the command does, or with 1 when the gateway's books are not in order afterwards.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from rig import ROOT, gateway

ELSEWHERE = ROOT / "tests" / "clients" / "node" / "elsewhere.mjs"


def main(below: str, *command: str) -> int:
    named = command[0] == "--named"
    command = command[1:] if named else command
    folder = Path(tempfile.mkdtemp(dir=below))
    url = command[-1]
    path = urlsplit(url).path or "/"
    reference = {"name": "reference", "match": {"path": path}, "upstream": "reference", "auth": "anonymous"}
    asks = os.environ.get("MCP_CONFORMANCE_SCENARIO", "").startswith("auth/")
    upstream = {"url": url, "protocol": "mcp", "auth": "transparent" if asks else "gateway"}
    settings: dict[str, Any] = {"upstreams": {"reference": upstream}, "routes": [reference]}
    if named:
        settings["public_url"] = url.removesuffix(path)
    with gateway(folder, **settings) as running:
        if named:
            command = (command[0], "--import", str(ELSEWHERE), *command[1:])
        instead = {"CONNECT_INSTEAD": f"{urlsplit(url).port} {running.app.port}"}
        done = subprocess.run([*command[:-1], url if named else running.url + path], env=os.environ | instead)
        (folder / "records.json").write_text(json.dumps(running.records()))
    return done.returncode


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
