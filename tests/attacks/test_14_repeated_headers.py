"""A header that comes twice is a list of two, in the order it came; it is never joined, and never only the first."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.wire.front_rig import Listener, listening, request

ROW = 14


@pytest.fixture(scope="module")
def front() -> Iterator[Listener]:
    with listening() as found:
        yield found


@pytest.mark.parametrize(
    "values", [[b"user", b"admin"], [b"admin", b"user"], [b"user", b"user", b"admin"], [b"a,b", b"admin"]]
)
@pytest.mark.parametrize("spellings", [[b"x-role"], [b"x-role", b"X-Role"], [b"X-ROLE", b"x-role", b"X-rOLE"]])
def test_every_value_is_seen_by_itself(front: Listener, values: list[bytes], spellings: list[bytes]) -> None:
    lines = [spellings[number % len(spellings)] + b": " + value for number, value in enumerate(values)]
    between = [line for pair in zip(lines, [b"X-Between: 1"] * len(lines), strict=True) for line in pair]
    front.ask(request(b"GET", b"/", *between, b"Connection: close"))
    head = front.seen[-1].head
    assert head.values(b"x-role") == values
    assert any(value == b"admin" for value in head.values(b"x-role"))


@pytest.mark.parametrize("name", [b"Host", b"Content-Length", b"Transfer-Encoding", b"Content-Type", b"Expect"])
def test_what_has_one_meaning_may_not_come_twice(front: Listener, name: bytes) -> None:
    value = {b"Content-Length": b"0", b"Transfer-Encoding": b"chunked", b"Expect": b"100-continue"}.get(name, b"a")
    line = name + b": " + value
    lines = [line] if name == b"Host" else [line, line.lower()]
    assert front.refused(request(b"POST", b"/", *lines)).status == 400
