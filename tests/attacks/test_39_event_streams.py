"""An upstream that never ends a line, drips bytes or floods fields costs bounded memory and time, and shows nothing
that was not judged."""

from __future__ import annotations

import time
import tracemalloc

import pytest

from gateway.core.reasons import Malformed
from gateway.core.sse import EVENT_LIMIT_BYTES, Scanner
from tests.protocols.mcp_rig import Policy, as_events, call, dump, legacy, shown

ROW = 39

SAMPLING = dump(call("sampling/createMessage", {}, 7))


def fed_until_refused(piece: bytes, times: int) -> int:
    """How many bytes a scanner takes before it refuses."""
    scanner = Scanner()
    for number in range(times):
        try:
            scanner.feed(piece)
        except Malformed:
            return number * len(piece)
    return times * len(piece)


def test_a_line_without_end_is_cut_at_the_limit_in_bounded_memory() -> None:
    tracemalloc.start()
    try:
        taken = fed_until_refused(b"x" * 65536, 160)  # ten megabytes
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert taken == EVENT_LIMIT_BYTES
    assert peak < 3 * EVENT_LIMIT_BYTES


def test_a_drip_of_single_bytes_costs_time_that_grows_with_its_length() -> None:
    def spent(size: int) -> float:
        best = 1e9
        for _ in range(3):
            scanner = Scanner()
            started = time.process_time()
            for _ in range(size):
                scanner.feed(b"x")
            best = min(best, time.process_time() - started)
        return best

    assert spent(80_000) < 32 * spent(10_000)


@pytest.mark.parametrize("field", [b"id: %d\n", b"event: %d\n", b"retry: %d\n", b": %d\n", b"data: %d\n", b"x%d\n"])
def test_ten_thousand_fields_are_one_event(field: bytes) -> None:
    raw = b"".join(field % number for number in range(10_000)) + b"data: {}\n\n"
    [event] = Scanner().feed(raw)
    assert event.raw == raw
    assert shown(legacy(call("ping")), as_events(raw)).body == raw


@pytest.mark.parametrize(
    "raw",
    [
        b"data: " + SAMPLING + b"\n\n",
        b"data:" + SAMPLING + b"\r\r",
        b"event: message\r\nid: 1\r\ndata: " + SAMPLING + b"\r\n\r\n",
        b"data: " + SAMPLING.replace(b",", b",\ndata: ") + b"\n\n",
        b"event: other\ndata: " + SAMPLING + b"\n\n",
        b": x\ndata: " + SAMPLING + b"\n: y\n\n",
        b"data\ndata: " + SAMPLING + b"\n\n",
        b"\xef\xbb\xbfdata: " + SAMPLING + b"\n\n",
        b"data: " + SAMPLING,
        b"data: {}\r\r\ndata: " + SAMPLING + b"\r\r\n",
    ],
)
def test_no_framing_of_an_event_hides_a_request_from_judgement(raw: bytes) -> None:
    policy = Policy(lambda asked: False)
    seen = shown(legacy(call("ping")), as_events(raw), policy=policy, cuts=tuple(range(1, len(raw))))
    assert b"sampling" not in seen.body
    assert len(seen.outbox) == 1
