"""Meter: gives every permit back and closes the account, whatever breaks on the way."""

from __future__ import annotations

from typing import Any

import pytest

from gateway.core.exchange import Exchange, Usage
from gateway.core.pipeline import Pipeline
from gateway.stages.meter import Meter
from tests.stages.exchanges import exchange


class Watch:
    def __init__(self) -> None:
        self.seen: list[Exchange] = []

    def finished(self, given: Exchange) -> None:
        self.seen.append(given)


class Permit:
    def __init__(self, breaks: bool = False) -> None:
        self.breaks = breaks
        self.released = 0

    def release(self) -> None:
        self.released += 1
        if self.breaks:
            raise ValueError("broken")


class Reader:
    def __init__(self, breaks: bool = False) -> None:
        self.breaks = breaks

    def feed(self, chunk: bytes) -> None: ...

    def finish(self, usage: Usage) -> None:
        if self.breaks:
            raise ValueError("broken")
        usage.input_tokens = 3


def test_every_permit_is_given_back_once_and_usage_is_read() -> None:
    given, watch, permits = exchange(), Watch(), [Permit(), Permit()]
    given.permits, given.body, given.reader = [*permits], b"12345", Reader()
    settle = Pipeline((), (Meter(watch),)).settle
    settle(given)
    settle(given)
    assert [permit.released for permit in permits] == [1, 1]
    assert (given.usage.bytes_in, given.usage.input_tokens) == (5, 3)


@pytest.mark.parametrize(("permit", "reader"), [(True, False), (False, True)])
def test_what_breaks_keeps_nothing_else_open_and_is_counted(permit: bool, reader: bool) -> None:
    given, watch = exchange(), Watch()
    permits: list[Any] = [Permit(), Permit(breaks=permit), Permit()]
    given.permits, given.reader = [*permits], Reader(breaks=reader)
    Pipeline((), (Meter(watch),)).settle(given)
    assert [item.released for item in permits] == [1, 1, 1]
    assert watch.seen == [given]
