"""A body that turns out wrong while it arrives: the caller is told in its protocol's form, the record says why."""

from __future__ import annotations

import socket
from pathlib import Path

from rig import Running, gateway, routes_to, until


def talk(running: Running, begins: bytes, goes_on: bytes) -> bytes:
    """Sends the second part once the exchange is open: before that, the front would refuse without one."""
    with socket.create_connection(("127.0.0.1", running.app.port), timeout=10) as raw:
        raw.sendall(begins)
        until(lambda: running.app.status()["exchanges"] == 1, what="the exchange's beginning")
        raw.sendall(goes_on)
        found = b""
        while chunk := raw.recv(65536):
            found += chunk
    return found


def test_a_broken_chunk_of_a_judged_body_is_malformed_in_the_protocols_form(
    tmp_path: Path, bases: dict[str, str]
) -> None:
    with gateway(tmp_path, **routes_to(bases)) as running:
        head = f"POST /weather HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {running.issuer.token()}\r\n"
        head += "Content-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
        answer = talk(running, head.encode() + b'5\r\n{"a":\r\n', b"ZZ\r\n")
        assert answer.startswith(b"HTTP/1.1 400 "), answer
        assert b'"jsonrpc"' in answer
        record = running.last("refusal")
        assert record["refusal"]["reason"] == "malformed"
        assert record["subject"]["id"] == "agent:idp/planner"


def test_a_broken_chunk_of_a_streamed_body_ends_the_exchange_as_an_error(tmp_path: Path, bases: dict[str, str]) -> None:
    with gateway(tmp_path, **routes_to(bases)) as running:
        head = f"POST /echo/v1/models HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {running.issuer.token()}\r\n"
        head += "Transfer-Encoding: chunked\r\n\r\n"
        answer = talk(running, head.encode() + b"5\r\nhello\r\n", b"ZZ\r\n")
        assert answer.startswith(b"HTTP/1.1 400 "), answer
        record = running.last("outcome")
        assert record["refusal"]["reason"] == "malformed"
        assert record["result"] == "error"
