"""Who is nobody here may cost little: no body of a stranger's is kept or asked for, nothing of it is forwarded."""

from __future__ import annotations

import contextlib
import socket
from pathlib import Path

import pytest
from rig import Running, gateway, routes_to

HEAD = "POST /{route} HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer nobody\r\nContent-Type: application/json\r\n"


def answered(running: Running, route: str, framing: str, body: bytes) -> bytes:
    """The head of the answer to a request whose body does not end."""
    with socket.create_connection(("127.0.0.1", running.app.port), timeout=5) as raw:
        raw.sendall((HEAD.format(route=route) + framing + "\r\n\r\n").encode() + body)
        found = b""
        with contextlib.suppress(TimeoutError):
            while b"\r\n\r\n" not in found and (chunk := raw.recv(65536)):
                found += chunk
    return found


@pytest.mark.parametrize("route", ["weather", "concierge", "openai", "echo"])
@pytest.mark.parametrize(
    ("framing", "body"),
    [
        ("Content-Length: 3000000", b'{"a":"' + b"x" * 100_000),
        ("Content-Length: 3000000\r\nExpect: 100-continue", b""),
        ("Transfer-Encoding: chunked", b"5\r\nhello\r\n"),
    ],
    ids=["long", "asking first", "chunked"],
)
def test_a_stranger_is_refused_before_its_body_is_read(
    tmp_path: Path, bases: dict[str, str], route: str, framing: str, body: bytes
) -> None:
    with gateway(tmp_path, **routes_to(bases)) as running:
        assert answered(running, route, framing, body).startswith(b"HTTP/1.1 401 ")
        record = running.last("refusal")
        assert record["refusal"]["reason"] == "unauthenticated"
        assert "subject" not in record
