"""Targets that are not origin form: absolute only for the very authority in Host, all others refused."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.wire.front_rig import Listener, listening, request

ROW = 19


@pytest.fixture(scope="module")
def front() -> Iterator[Listener]:
    with listening() as found:
        yield found


@pytest.mark.parametrize(
    "target",
    [
        b"http://evil/admin", b"http://evil@gw.example/", b"http://gw.example@evil/", b"http://gw.example:81/",
        b"https://gw.example/", b"http://gw.example.evil/", b"http://GW.EXAMPLE:80/", b"http:///admin",
        b"http:/admin", b"http:admin", b"http://", b"//evil/admin", b"//gw.example/admin", b"///admin", b"*",
        b"gw.example:80", b"admin", b"mailto:a@b", b"urn:x:y", b"ftp://gw.example/", b"file:///etc/passwd",
        b"ws://gw.example/", b"javascript:alert(1)", b"http://gw.example?x", b"http://gw.example#x",
        b"http://gw.example\\@evil/", b"?x", b".", b"http://gw.example/../admin", b"http://gw.example/%2e%2e/admin",
        b"http://gw.example//admin", b"http://[::1]/", b"%2f",
    ],
)  # fmt: skip
def test_every_other_form_is_refused(front: Listener, target: bytes) -> None:
    for method in (b"GET", b"POST", b"OPTIONS"):
        assert front.refused(request(method, target)).status == 400


@pytest.mark.parametrize("target", [b"gw.example:443", b"evil:443", b"/", b"http://gw.example/", b"*"])
def test_a_tunnel_is_never_opened_and_a_trace_never_echoed(front: Listener, target: bytes) -> None:
    for method in (b"CONNECT", b"TRACE"):
        answer = front.refused(request(method, target, b"Authorization: Bearer canary"))
        assert answer.status == 405
        assert answer.values(b"allow")
        assert b"canary" not in answer.body


def test_an_absolute_target_of_our_own_is_its_origin_form(front: Listener) -> None:
    for target in (b"http://gw.example/admin?x", b"HTTP://GW.example/admin?x"):
        front.ask(request(b"GET", target, b"Connection: close"))
        head = front.seen[-1].head
        assert (head.target, head.path, head.query, head.authority) == ("/admin?x", "/admin", "x", "gw.example")


@pytest.mark.parametrize("method", [b"get", b"Get", b"FOO", b"GET_", b"JEFE", b"UNKNOWN", b"PRI"])
def test_an_unknown_method_is_a_501(front: Listener, method: bytes) -> None:
    assert front.refused(request(method, b"/")).status == 501
