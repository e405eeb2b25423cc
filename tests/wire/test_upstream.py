"""One client per upstream, across reloads: kept when nothing changed, retired when anything did."""

from __future__ import annotations

import asyncio
import ssl
from dataclasses import replace
from pathlib import Path

import pytest

from gateway.core.snapshot import Timeouts, UpstreamTls
from gateway.wire.http1 import Http1Client, PoolLimits
from gateway.wire.http2 import Http2Client
from gateway.wire.upstream import Clients
from tests.wire.certificates import Authority
from tests.wire.faulty import HOST, Peer, Server, answer, echo, run, until, upstream


def test_an_equal_upstream_keeps_its_client_and_its_connections() -> None:
    async def story() -> None:
        async with Server(echo) as server:
            clients = Clients()
            clients.adopt([server.upstream()])
            first = clients.client(server.upstream())
            assert (await first.send("POST", "/", HOST, b"a")).complete == b"a"
            again = server.upstream()
            clients.adopt([again])
            assert clients.client(again) is first
            assert (await first.send("POST", "/", HOST, b"b")).complete == b"b"
            assert server.connections == 1
            await clients.aclose()

    run(story)


def test_a_changed_upstream_gets_a_new_client_and_the_old_one_finishes_what_it_has() -> None:
    async def story() -> None:
        go = asyncio.Event()

        async def play(peer: Peer) -> None:
            while True:
                _, body = await peer.request()
                if body == b"slow":
                    await go.wait()
                await peer.send(answer(body))

        async with Server(play) as server:
            old = server.upstream()
            clients = Clients(PoolLimits(keepalive=60.0))
            clients.adopt([old])
            before = clients.client(old)
            slow = asyncio.create_task(before.send("POST", "/", HOST, b"slow"))
            idle = await before.send("POST", "/", HOST, b"x")
            assert idle.complete == b"x"
            new = replace(old, timeouts=Timeouts(response=9.0))
            clients.adopt([new])
            assert clients.client(new) is not before
            await until(lambda: server.open == 1)  # the idle one is gone, the slow one lives
            assert clients.client(old) is before  # an exchange that pinned the old snapshot
            go.set()
            assert (await slow).complete == b"slow"
            await until(lambda: server.open == 0)
            assert (await clients.client(old).send("POST", "/", HOST, b"late")).complete == b"late"
            await until(lambda: server.open == 0)  # nothing is kept for it any more
            await clients.aclose()

    run(story)


def test_an_upstream_that_was_removed_still_serves_who_pinned_it() -> None:
    async def story() -> None:
        async with Server(echo) as server:
            gone = server.upstream()
            clients = Clients(PoolLimits(keepalive=60.0))
            clients.adopt([gone])
            clients.adopt([])
            clients.adopt([])
            assert (await clients.client(gone).send("POST", "/", HOST, b"x")).complete == b"x"
            await until(lambda: server.open == 0)
            assert clients.in_flight() == {}
            await clients.aclose()

    run(story)


def test_a_bad_tls_file_refuses_the_whole_reload_and_touches_nothing(tmp_path: Path) -> None:
    junk = tmp_path / "junk.pem"
    junk.write_text("not a certificate")

    async def story() -> None:
        async with Server(echo) as server:
            good = server.upstream()
            clients = Clients()
            clients.adopt([good])
            before = clients.client(good)
            for ca, error in ((str(junk), ssl.SSLError), (str(tmp_path / "absent"), OSError)):
                other = replace(upstream(1), name="other", scheme="https", tls=UpstreamTls(ca=ca))
                with pytest.raises(error):
                    clients.adopt([replace(good, path="/changed"), other])
                assert clients.client(good) is before
            assert (await before.send("POST", "/", HOST, b"x")).complete == b"x"
            assert server.open == 1
            await clients.aclose()

    run(story)


def test_a_host_that_is_none_refuses_the_reload_too() -> None:
    clients = Clients()
    with pytest.raises(ValueError, match="upstream u"):
        clients.adopt([upstream(80, host="é" * 70, http="2")])


def test_each_upstream_has_one_context_and_speaks_what_it_asks_for(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    secure = upstream(443, scheme="https", tls=UpstreamTls(ca=str(authority.ca)))
    second = replace(secure, name="second", http="2")
    plain = replace(upstream(80), name="plain")

    async def story() -> None:
        clients = Clients()
        clients.adopt([secure, second, plain])
        assert isinstance(clients.client(secure), Http1Client)
        assert isinstance(clients.client(second), Http2Client)
        context = clients.tls(secure)
        assert isinstance(context, ssl.SSLContext)
        assert context.minimum_version is ssl.TLSVersion.TLSv1_2
        assert context.verify_mode is ssl.CERT_REQUIRED
        assert context.check_hostname
        clients.adopt([secure, second, plain])
        assert clients.tls(secure) is context
        assert clients.tls(plain) is None
        await clients.aclose()

    run(story)
