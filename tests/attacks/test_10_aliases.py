"""A name that frameworks fold into another is dropped, and refused where the other one counts."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.wire.front_rig import Listener, listening, request

ROW = 10
MARKS = b"_.!#$%&'*+^`|~"


@pytest.fixture(scope="module")
def front() -> Iterator[Listener]:
    with listening() as found:
        yield found


@pytest.mark.parametrize("mark", [bytes([mark]) for mark in MARKS])
@pytest.mark.parametrize("name", [b"X-Auth-User", b"x-role", b"X-Remote-User", b"Remote-User"])
def test_an_imitation_never_reaches_the_application(front: Listener, name: bytes, mark: bytes) -> None:
    for spelling in (name.replace(b"-", mark), name.replace(b"-", mark, 1), name.replace(b"-", mark).upper()):
        front.ask(request(b"GET", b"/", spelling + b": root", b"Connection: close"))
        assert front.seen[-1].head.headers == ((b"host", b"gw.example"),)


@pytest.mark.parametrize("mark", [bytes([mark]) for mark in MARKS])
@pytest.mark.parametrize(
    "name",
    [
        b"Content-Length",
        b"Transfer-Encoding",
        b"X-Api-Key",
        b"Mcp-Session-Id",
        b"X-Forwarded-For",
        b"Proxy-Authorization",
    ],
)
def test_an_imitation_of_what_counts_is_refused(front: Listener, name: bytes, mark: bytes) -> None:
    for spelling in (name.replace(b"-", mark), name.replace(b"-", mark).lower(), name.replace(b"-", mark).upper()):
        assert front.refused(request(b"POST", b"/", spelling + b": 0")).status == 400


def test_the_real_header_is_one_whatever_its_case_and_a_space_behind_its_name_is_refused(front: Listener) -> None:
    front.ask(request(b"GET", b"/", b"X-AUTH-user: a", b"x-auth-USER: b", b"X_Auth_User: c", b"Connection: close"))
    assert front.seen[-1].head.values(b"x-auth-user") == [b"a", b"b"]
    assert front.refused(request(b"GET", b"/", b"X-Auth-User : a")).status == 400
