"""Host is exactly one name with an optional port, and nothing in it can move the path or the authority."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.wire.front_rig import Listener, listening, request

ROW = 18
HOSTS = [
    b"", b" ", b"gw.example/admin", b"gw.example?x", b"gw.example#x", b"user@gw.example", b"user:pw@gw.example", b"@",
    b"a,b", b"gw.example, evil", b"gw example", b"gw.example evil", b"gw.example\tevil", b"gw.example:",
    b"gw.example:0", b"gw.example:65536", b"gw.example:-1", b"gw.example:+80", b"gw.example:8o", b"gw.example:80:80",
    b"gw.example:80/x", b"gw.example:0x50", b"gw.example:999999", b":80", b":", b".", b"..", b".gw", b"gw..example",
    b"gw.example\\evil", b"http://gw.example", b"//evil", b"/", b"\\", b"*", b"[", b"]", b"[]", b"[::1", b"::1",
    b"[::1]x", b"[::1]:", b"[::1]:x", b"[1.2.3.4]", b"[zz::1]", b"[::1%25lo]", b"gw%2eexample", b"gw.example%00",
    b"gw.example;x", b"gw.example'", b'gw.example"', b"gw.example<", b"gw.example|x", b"gw.example^", b"gw.example`",
    b"gw.example{", b"gw.example~", b"gw.example!", b"gw.example$", b"gw.example&", b"gw.example(", b"gw.example=",
    b"\xe4\xbe\x8b.example", b"gw.example\xc2\xa0", b"a" * 64, b"a." * 140,
    b".".join([b"a" * 63] * 5), b"undefined:undefined",
]  # fmt: skip


@pytest.fixture(scope="module")
def front() -> Iterator[Listener]:
    with listening() as found:
        yield found


@pytest.mark.parametrize("host", HOSTS)
def test_what_is_no_authority_is_refused(front: Listener, host: bytes) -> None:
    assert front.refused(request(b"GET", b"/", host=host)).status == 400


@pytest.mark.parametrize(
    "line", [b"Host: gw.example", b"host: gw.example", b"HOST: evil", b"Host:", b"Host : evil", b" Host: evil"]
)
def test_a_second_host_is_refused_even_when_it_agrees(front: Listener, line: bytes) -> None:
    assert front.refused(request(b"GET", b"/", line)).status == 400
    assert front.refused(b"GET / HTTP/1.1\r\n" + line + b"\r\nHost: gw.example\r\n\r\n").status == 400


@pytest.mark.parametrize("version", [b"1.0", b"1.1"])
def test_no_host_is_refused_in_both_versions(front: Listener, version: bytes) -> None:
    assert front.refused(b"GET / HTTP/" + version + b"\r\nX: y\r\n\r\n").status == 400


@pytest.mark.parametrize("host", [b"gw.example", b"GW.EXAMPLE:8080", b"127.0.0.1:1", b"[::1]:65535", b"a_b", b"a-b.c"])
def test_the_authority_is_what_was_sent_in_lower_case(front: Listener, host: bytes) -> None:
    front.ask(request(b"GET", b"/x", b"Connection: close", host=host))
    assert front.seen[-1].head.authority == host.decode().lower()
    assert front.seen[-1].head.path == "/x"
