"""An upstream in a thread of its own that says fixed bytes by path, and a client that sends exact bytes.

Each answer ends its connection, so that nothing is left over for the next.
"""

from __future__ import annotations

import contextlib
import json
import socket
import socketserver
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

OPEN = """\
package tollgate

default decision := {"decision": true, "context": {"rule": "all"}}

decision := {"decision": false, "context": {"rule": "forbidden", "reason": "nobody may"}} if {
    endswith(input.resource.id, "forbidden")
}
"""


@dataclass
class Canned:
    """`says[path]` is sent as it stands, or called with the connection. `heads` is what came, oldest first."""

    port: int
    says: dict[str, bytes | Callable[[socket.socket], None]] = field(default_factory=dict)
    heads: list[bytes] = field(default_factory=list)
    bodies: list[bytes] = field(default_factory=list)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"


def answer(body: bytes, content_type: str = "application/json", status: str = "200 OK", *headers: str) -> bytes:
    lines = [f"HTTP/1.1 {status}", f"Content-Type: {content_type}", f"Content-Length: {len(body)}", *headers]
    return "\r\n".join([*lines, "", ""]).encode() + body


@contextmanager
def canned() -> Iterator[Canned]:
    class Play(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            lines = [self.rfile.readline()]
            while (line := self.rfile.readline()) not in (b"\r\n", b""):
                lines.append(line)
            head = b"".join(lines)
            length = next((int(item[15:]) for item in lines if item.lower().startswith(b"content-length:")), 0)
            found.heads.append(head)
            found.bodies.append(self.rfile.read(length))
            said = found.says.get(head.split(b" ")[1].partition(b"?")[0].decode(), answer(b"{}"))
            with contextlib.suppress(OSError):
                if callable(said):
                    said(self.connection)
                else:
                    self.connection.sendall(said)

    class Listener(socketserver.ThreadingTCPServer):
        allow_reuse_address = True
        daemon_threads = True

    with Listener(("127.0.0.1", 0), Play) as listener:
        found = Canned(listener.server_address[1])
        thread = threading.Thread(target=listener.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield found
        finally:
            listener.shutdown()
            thread.join()


def open_policy(folder: Path, text: str = OPEN, name: str = "open") -> dict[str, str]:
    """A `policy` section that lets everybody do all but what is called forbidden."""
    (folder / name).mkdir(exist_ok=True)
    (folder / name / "decision.rego").write_text(text)
    return {"bundle": str(folder / name)}


@dataclass(frozen=True)
class Said:
    """An answer as it came; `rest` is what followed its head until the connection ended."""

    status: int
    headers: list[tuple[str, str]]
    rest: bytes

    def value(self, name: str) -> str | None:
        found = [value for key, value in self.headers if key == name]
        assert len(found) < 2, f"{name} came {len(found)} times"
        return found[0] if found else None

    def json(self) -> Any:
        return json.loads(self.rest)


def say(port: int, line: str, *headers: str, body: bytes = b"", host: str = "127.0.0.1") -> Said:
    """One request on a connection of its own, which it asks to be closed."""
    lines = [f"{line} HTTP/1.1", f"Host: {host}", "Connection: close", *headers]
    if body:
        lines.append(f"Content-Length: {len(body)}")
    return exactly(port, "\r\n".join([*lines, "", ""]).encode("latin-1") + body)


def exactly(port: int, data: bytes) -> Said:
    with socket.create_connection(("127.0.0.1", port), timeout=10) as raw:
        raw.sendall(data)
        found = b""
        with contextlib.suppress(ConnectionResetError):
            while chunk := raw.recv(65536):
                found += chunk
    head, _, rest = found.partition(b"\r\n\r\n")
    if not head:
        return Said(0, [], b"")
    first, *lines = head.decode("latin-1").split("\r\n")
    pairs = [(name.lower(), value.strip()) for name, _, value in (item.partition(":") for item in lines)]
    return Said(int(first.split(" ")[1]), pairs, rest)
