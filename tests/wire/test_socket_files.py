"""The HTTP/1.1 client over a socket file: the same exchanges, one connection for many, and a file that is missing."""

from __future__ import annotations

import asyncio
import os
import tempfile

import pytest

from gateway.core.reasons import UpstreamFailed
from gateway.wire.http1 import Http1Client
from tests.wire.faulty import HOST, Peer, echo, run, upstream


def test_exchanges_go_over_a_socket_file_and_reuse_its_connection() -> None:
    async def story() -> None:
        connections = 0

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            nonlocal connections
            connections += 1
            try:
                await echo(Peer(reader, writer, connections))
            except (asyncio.IncompleteReadError, ConnectionError):
                pass
            finally:
                writer.close()

        with tempfile.TemporaryDirectory(dir="/tmp") as folder:  # a socket's path has at most 107 characters
            path = os.path.join(folder, "s")
            async with await asyncio.start_unix_server(serve, path):
                client = Http1Client(upstream(1, socket=path), None)
                for body in (b"one", b"two"):
                    answer = await client.send("POST", "/x", HOST, body)
                    assert (answer.status, await answer.chunk(), await answer.chunk()) == (200, body, b"")
                    assert answer.address == f"unix:{path}"
                assert connections == 1
                await client.aclose()

    run(story)


def test_a_socket_file_that_is_not_there_is_a_failed_connection() -> None:
    async def story() -> None:
        client = Http1Client(upstream(1, socket="/tmp/no/such/socket"), None)
        with pytest.raises(UpstreamFailed) as raised:
            await client.send("GET", "/x", HOST, None)
        assert raised.value.sent is False
        assert "/tmp" not in str(raised.value)
        await client.aclose()

    run(story)
