"""TLS with several workers: each shakes hands on the sockets that it was given."""

from __future__ import annotations

import asyncio
import ssl
from pathlib import Path

import pytest
from rig import run

from tests.flows.crews import configure, crew
from tests.flows.ledgers import ledgers
from tests.wire.certificates import Authority


def test_every_worker_serves_tls_on_the_shared_port(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    authority = Authority(tmp_path)
    cert, key = authority.issue("localhost")
    trusting = ssl.create_default_context(cafile=str(authority.ca))

    async def one(port: int) -> bytes:
        reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=trusting, server_hostname="localhost")
        writer.write(f"GET /plain/x HTTP/1.1\r\nhost: localhost:{port}\r\nconnection: close\r\n\r\n".encode())
        first = await reader.readline()
        await reader.read()
        writer.close()
        return first

    async def story(port: int) -> set[bytes]:
        return set(await asyncio.gather(*(one(port) for _ in range(16))))

    with ledgers(0, 0) as (upstream, _):
        configure(tmp_path, upstream.port, tls={"cert": str(cert), "key": str(key)})
        with crew() as gateway:
            assert run(story(gateway.port)) == {b"HTTP/1.1 200 OK\r\n"}
