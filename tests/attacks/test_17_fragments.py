"""A target has no fragment: what stands behind `#` cannot be cut away by one reader and kept by the next."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.wire.front_rig import Listener, listening, request

ROW = 17


@pytest.fixture(scope="module")
def front() -> Iterator[Listener]:
    with listening() as found:
        yield found


@pytest.mark.parametrize(
    "target",
    [
        b"/public#/../admin", b"/#", b"#", b"/admin#/public", b"/a?b#c", b"/a?b=c#/d",
        b"http://gw.example/public#/admin", b"http://gw.example#@evil/", b"/a%23#", b"/##", b"*#",
    ],
)  # fmt: skip
def test_a_target_with_a_fragment_is_refused(front: Listener, target: bytes) -> None:
    assert front.refused(request(b"GET", target)).status == 400


def test_an_encoded_mark_is_data_and_stays_encoded(front: Listener) -> None:
    front.ask(request(b"GET", b"/public%23/x?c%23", b"Connection: close"))
    assert front.seen[-1].head.target == "/public%23/x?c%23"
