"""Forwarding headers are claims: believed from nobody whom the configuration does not list, and never passed on."""

from __future__ import annotations

import ipaddress

import pytest

from tests.wire.front_rig import listening, request

ROW = 13
CLAIMS = [
    b"X-Forwarded-For: 203.0.113.9", b"X-Forwarded-Proto: https", b"X-Forwarded-Host: evil",
    b"X-Forwarded-Uri: /public", b"X-Forwarded-Prefix: /admin", b"X-Forwarded-Method: GET", b"X-Forwarded-User: root",
    b"X-Forwarded-Port: 443", b"X-Forwarded-Server: a", b"X-Forwarded: for=1.1.1.1",
    b"Forwarded: for=203.0.113.9;proto=https;host=evil", b"X-Real-IP: 203.0.113.9", b"X-Client-IP: 203.0.113.9",
    b"True-Client-IP: 203.0.113.9", b"CF-Connecting-IP: 1.1.1.1", b"X-Original-URL: /admin", b"X-Rewrite-URL: /admin",
    b"X-Original-Forwarded-For: 1.1.1.1",
]  # fmt: skip
LOOPBACK = (ipaddress.ip_network("127.0.0.0/8"),)


@pytest.mark.parametrize("trusted", [(), (ipaddress.ip_network("10.0.0.0/8"),)])
def test_an_unlisted_peers_claims_are_dropped_and_change_nothing(trusted: tuple[ipaddress.IPv4Network, ...]) -> None:
    with listening(trusted_proxies=trusted) as front:
        for claim in CLAIMS:
            front.ask(request(b"GET", b"/", claim, b"Connection: close"))
            seen = front.seen[-1]
            assert seen.head.headers == ((b"host", b"gw.example"),)
            assert (seen.head.peer, seen.head.scheme, seen.head.authority) == ("127.0.0.1", "http", "gw.example")
            assert (seen.scope["client"][0], seen.scope["scheme"]) == ("127.0.0.1", "http")


def test_nobody_is_trusted_by_default() -> None:
    with listening() as front:
        assert front.front.door.limits.trusted_proxies == ()


def test_a_listed_peer_tells_caller_and_scheme_and_nothing_else() -> None:
    with listening(trusted_proxies=LOOPBACK) as front:
        for claim in CLAIMS:
            front.ask(request(b"GET", b"/", claim, b"Connection: close"))
            head = front.seen[-1].head
            assert head.headers == ((b"host", b"gw.example"),)
            assert (head.authority, head.path) == ("gw.example", "/")
            believed = claim.startswith((b"X-Forwarded-For:", b"Forwarded:"))
            assert head.peer == ("203.0.113.9" if believed else "127.0.0.1")


def test_behind_a_listed_proxy_a_callers_own_claims_do_not_count() -> None:
    with listening(trusted_proxies=LOOPBACK) as front:
        for lines in (
            (b"X-Forwarded-For: 9.9.9.9, 203.0.113.9",),
            (b"X-Forwarded-For: 9.9.9.9", b"X-Forwarded-For: 203.0.113.9"),
            (b"X-Forwarded-For: 9.9.9.9, 203.0.113.9, 127.0.0.3",),
        ):
            front.ask(request(b"GET", b"/", *lines, b"Connection: close"))
            assert front.seen[-1].head.peer == "203.0.113.9"
        front.ask(
            request(b"GET", b"/", b"Forwarded: for=9.9.9.9", b"X-Forwarded-For: 203.0.113.9", b"Connection: close")
        )
        assert front.seen[-1].head.peer == "127.0.0.1"


def test_the_host_that_was_sent_counts_whatever_is_claimed() -> None:
    with listening(trusted_proxies=LOOPBACK) as front:
        lines = (b"X-Forwarded-Host: evil", b"Forwarded: host=evil", b"Connection: close")
        front.ask(request(b"GET", b"/", *lines, host=b"gw.example:8080"))
        assert front.seen[-1].head.authority == "gw.example:8080"
