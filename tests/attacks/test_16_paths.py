"""A path is judged and forwarded in one spelling: byte for byte the one that came, or refused."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from urllib.parse import unquote

import pytest

from tests.wire.front_rig import Listener, listening, request

ROW = 16
TRICKS = [
    b"//", b"/./", b"/../", b"/.", b"/..", b"/%2e/", b"/%2e%2e/", b"/%2E./", b"/.%2e/", b"/%2f", b"%2f", b"%2F..%2f",
    b"%5c", b"%5C..%5c", b"\\", b"\\..\\", b"/..\\", b";", b"/;/", b"/..;/", b"/.;x/", b"%3b", b"/..%3b/", b"%00",
    b"%00.html", b"%2500", b"%252e", b"/%252e%252e/", b"%252f", b"%255c", b"/%25252e/", b"%", b"%2", b"%zz",
    b"%u002f", b"%c0%ae", b"/%c0%ae%c0%ae/", b"%c0%af", b"%e0%80%af", b"%ff", b"%ef%bc%8f", b"/%ef%bc%8e%ef%bc%8e/",
    b"%0a", b"%0d%0a", b"%09", b"%20", b"%7f", b"%23", b"%3f", b"#", b"?", b"?/../", b"&", b"=", b":", b"@", b"~",
    b"*", b"'", b'"', b"<", b"{", b"|", b"^", b"`", b"[", b"\x01", b"\xe2\x88\x95",
]  # fmt: skip
FORMS = [b"/public%badmin", b"/public/%b", b"%b/admin", b"/a%b", b"/%b/x", b"/public%b/../admin", b"/x/y%b%%2e"]
TARGETS = sorted({form % trick for form, trick in itertools.product(FORMS, TRICKS)})


@pytest.fixture(scope="module")
def front() -> Iterator[Listener]:
    with listening() as found:
        yield found


@pytest.mark.parametrize("target", TARGETS)
def test_a_path_is_the_same_bytes_or_refused(front: Listener, target: bytes) -> None:
    before = len(front.seen)
    [answer] = front.ask(request(b"GET", target, b"Connection: close"))
    if answer.status != 200:
        assert answer.status == 400
        assert len(front.seen) == before
        return
    head = front.seen[-1].head
    assert head.target.encode() == target
    assert head.path.encode() == target.partition(b"?")[0]
    assert front.seen[-1].scope["raw_path"] == head.path.encode()
    read = head.path
    for _ in range(4):  # whoever decodes it, and however often, finds the same segments and no way up
        assert read.count("/") == head.path.count("/")
        assert not {"\\", "\0", "\r", "\n"} & set(read)
        assert not {".", ".."} & {part.partition(";")[0] for part in read.split("/")}
        read = unquote(read)


@pytest.mark.parametrize(
    "trick", [b"/../", b"/./", b"%2f", b"%5c", b"\\", b"%00", b"#", b"/..;/", b"/%2e%2e/", b"/.%2e/"]
)
@pytest.mark.parametrize("form", [b"/public%badmin", b"/a/b%bc", b"%bx", b"/x%b", b"/x%b?y"])
def test_what_other_servers_read_as_another_path_is_refused_everywhere(
    front: Listener, trick: bytes, form: bytes
) -> None:
    assert front.refused(request(b"GET", form % trick)).status == 400
