"""TLS towards upstreams: who is believed, and what an end without a goodbye means."""

from __future__ import annotations

import asyncio
import socket
import ssl
import warnings
from pathlib import Path

import pytest

from gateway.core.reasons import UpstreamFailed
from gateway.core.snapshot import UpstreamTls
from gateway.wire.dial import tls_context
from gateway.wire.http1 import Http1Client
from tests.wire.certificates import Authority
from tests.wire.faulty import HOST, Peer, Server, answer, echo, run, until


def client_of(server: Server, tls: UpstreamTls, **times: float) -> Http1Client:
    found = server.upstream(scheme="https", tls=tls, **times)
    return Http1Client(found, tls_context(found, ["http/1.1"]))


def trusting(authority: Authority, **changes: str) -> UpstreamTls:
    return UpstreamTls(ca=str(authority.ca), server_name="upstream.test", **changes)


async def failing(client: Http1Client) -> UpstreamFailed:
    with pytest.raises(UpstreamFailed) as failure:
        await client.send("GET", "/", HOST, None)
    assert client.in_flight == 0
    assert not failure.value.sent
    return failure.value


def test_a_trusted_upstream_is_called_and_its_connection_reused(tmp_path: Path) -> None:
    authority = Authority(tmp_path)

    async def story() -> None:
        async with Server(echo, tls=authority.server("upstream.test")) as server:
            client = client_of(server, trusting(authority))
            for size in (3, 1_000_000):
                found = await client.send("POST", "/", HOST, b"x" * size)
                body = b""
                while chunk := await found.chunk():
                    body += chunk
                assert body == b"x" * size
            assert server.connections == 1
            await client.aclose()

    run(story)


def test_an_authority_of_somebody_else_is_not_believed(tmp_path: Path) -> None:
    authority, other = Authority(tmp_path), Authority(tmp_path, "other")

    async def story() -> None:
        async with Server(echo, tls=authority.server("upstream.test")) as server:
            assert (await failing(client_of(server, trusting(other)))).error == "tls_certificate_error"
            assert (await failing(client_of(server, UpstreamTls(server_name="upstream.test")))).error == (
                "tls_certificate_error"
            )

    run(story)


def test_a_certificate_for_another_name_is_not_believed(tmp_path: Path) -> None:
    authority = Authority(tmp_path)

    async def story() -> None:
        async with Server(echo, tls=authority.server("other.test")) as server:
            assert (await failing(client_of(server, trusting(authority)))).error == "tls_certificate_error"

    run(story)


def test_a_client_certificate_is_shown_where_one_is_configured(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    certificate, key = authority.issue("gateway.test")

    async def story() -> None:
        async with Server(echo, tls=authority.server("upstream.test", clients=True)) as server:
            client = client_of(server, trusting(authority, cert=str(certificate), key=str(key)))
            assert (await client.send("POST", "/", HOST, b"x")).complete == b"x"
            await client.aclose()
            bare = client_of(server, trusting(authority))
            with pytest.raises(UpstreamFailed):
                await bare.send("POST", "/", HOST, b"x")
            await until(lambda: bare.in_flight == 0)
            await bare.aclose()

    run(story)


def test_an_upstream_that_speaks_no_tls_is_told_and_never_sent_plain_text(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    seen: list[bytes] = []

    async def story() -> None:
        async def play(peer: Peer) -> None:
            seen.append(await peer.reader.read(1000))
            await peer.send(answer(b"plain"))

        async with Server(play) as server:
            failure = await failing(client_of(server, trusting(authority)))
            assert failure.error == "tls_protocol_error"
            assert b"HTTP" not in seen[-1]

    run(story)


def test_an_old_protocol_is_not_spoken(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    context = authority.server("upstream.test")
    context.set_ciphers("ALL:@SECLEVEL=0")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that it is old is the point
        context.minimum_version = ssl.TLSVersion.TLSv1
        context.maximum_version = ssl.TLSVersion.TLSv1_1

    async def story() -> None:
        async with Server(echo, tls=context) as server:
            failure = await failing(client_of(server, trusting(authority)))
            assert failure.error in ("tls_protocol_error", "connection_terminated")  # with its alert, or before it

    run(story)


def test_a_handshake_that_hangs_is_late(tmp_path: Path) -> None:
    authority = Authority(tmp_path)

    async def story() -> None:
        async def play(peer: Peer) -> None:
            await peer.gone()

        async with Server(play) as server:
            failure = await failing(client_of(server, trusting(authority), connect=0.1))
            assert (failure.error, failure.timeout) == ("connection_timeout", True)
            await until(lambda: server.open == 0)

    run(story)


def test_an_end_without_a_goodbye_is_never_the_end_of_a_body(tmp_path: Path) -> None:
    """Whoever can cut the wire could else shorten a body that only the end of the connection delimits."""
    authority = Authority(tmp_path)

    async def story() -> None:
        async def play(peer: Peer) -> None:
            await peer.request()
            await peer.send(b"HTTP/1.1 200 OK\r\n\r\nsome")
            found: socket.socket = peer.writer.get_extra_info("socket")
            with socket.fromfd(found.fileno(), found.family, found.type) as same:
                same.shutdown(socket.SHUT_RDWR)

        async with Server(play, tls=authority.server("upstream.test")) as server:
            client = client_of(server, trusting(authority))
            found = await client.send("GET", "/", HOST, None)
            assert await found.chunk() == b"some"
            with pytest.raises(UpstreamFailed) as failure:
                await found.chunk()
            assert failure.value.error == "http_response_incomplete"
            await client.aclose()

    run(story)


def test_a_body_that_ends_with_a_goodbye_is_whole(tmp_path: Path) -> None:
    authority = Authority(tmp_path)

    async def story() -> None:
        async def play(peer: Peer) -> None:
            await peer.request()
            await peer.send(b"HTTP/1.1 200 OK\r\n\r\nall")
            peer.writer.close()
            await asyncio.wait_for(peer.gone(), 5)

        async with Server(play, tls=authority.server("upstream.test")) as server:
            client = client_of(server, trusting(authority))
            found = await client.send("GET", "/", HOST, None)
            assert await found.chunk() == b"all"
            assert await found.chunk() == b""
            await client.aclose()

    run(story)
