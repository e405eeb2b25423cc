"""The event scanner: every cut of a stream gives the same events, and their bytes are the stream's own."""

from __future__ import annotations

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.core import sse
from gateway.core.reasons import Malformed
from gateway.core.sse import Event, Scanner
from tests.thorough import examples

STREAMS = [
    b"data: one\n\n",
    b"data: one\r\n\r\ndata: two\r\n\r\n",
    b"data: one\r\rdata: two\r\r",
    b"data: one\r\r\ndata: two\n\r\n",
    b"data: one\n\rdata: two\n\r",
    b"id: 7\nevent: message\nretry: 10\ndata: a\ndata: b\n\n: keep-alive\n\ndata\n\n",
    b"\xef\xbb\xbfdata: marked\n\n",
    b"\n\n\ndata:  two spaces\n\n",
    b"data: unfinished",
    b"data: {}\n\ndata: cut in the mid",
]


def dispatched(stream: bytes) -> list[tuple[bytes, str, bytes | None]]:
    """What a reader that follows the standard line by line makes of a stream: (data, name, id) of every event."""
    text = stream.removeprefix(b"\xef\xbb\xbf")
    lines: list[bytes] = []
    line = b""
    position = 0
    while position < len(text):
        mark = text[position : position + 1]
        if mark in (b"\r", b"\n"):
            lines.append(line)
            line = b""
            position += 2 if text[position : position + 2] == b"\r\n" else 1
        else:
            line += mark
            position += 1
    found: list[tuple[bytes, str, bytes | None]] = []
    data: list[bytes] = []
    name, ident = "", None
    for line in lines:
        if not line:
            if data:
                found.append((b"\n".join(data), name, ident))
            data, name, ident = [], "", None
            continue
        field, _, value = line.partition(b":")
        value = value.removeprefix(b" ")
        if field == b"data":
            data.append(value)
        elif field == b"event":
            name = value.decode("utf-8", "replace")
        elif field == b"id":
            ident = value
    return found


def fed(chunks: list[bytes]) -> tuple[list[Event], bytes]:
    scanner = Scanner()
    events = [event for chunk in chunks for event in scanner.feed(chunk)]
    return events, scanner.rest


def told(events: list[Event]) -> list[tuple[bytes, str, bytes | None]]:
    return [(event.data, event.name, event.id) for event in events if event.data is not None]


@pytest.mark.parametrize("stream", STREAMS)
def test_every_cut_of_a_stream_gives_the_events_of_the_standard(stream: bytes) -> None:
    wanted = dispatched(stream)
    for first in range(len(stream) + 1):
        for second in range(first, len(stream) + 1):
            events, rest = fed([stream[:first], stream[first:second], stream[second:]])
            assert told(events) == wanted, (first, second)
            assert b"".join(event.raw for event in events) + rest == stream


def test_a_stream_fed_byte_by_byte_gives_the_same_events() -> None:
    for stream in STREAMS:
        events, rest = fed([stream[index : index + 1] for index in range(len(stream))])
        assert told(events) == dispatched(stream)
        assert b"".join(event.raw for event in events) + rest == stream


PIECES = st.lists(
    st.sampled_from([b"data: a", b"data", b":c", b"id: 1", b"event: x", b"retry: 5", b"\n", b"\r", b"\r\n", b"\xff"]),
    max_size=20,
)


@given(PIECES, st.data())
@settings(max_examples=examples(400), deadline=None)
def test_any_stream_cut_anywhere_agrees_with_a_line_by_line_reader(pieces: list[bytes], data: st.DataObject) -> None:
    stream = b"".join(pieces)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=6)))
    chunks = [stream[start:end] for start, end in zip([0, *cuts], [*cuts, len(stream)], strict=True)]
    events, rest = fed(chunks)
    assert told(events) == dispatched(stream)
    assert b"".join(event.raw for event in events) + rest == stream


def test_an_event_is_given_as_soon_as_its_last_byte_is_there() -> None:
    scanner = Scanner()
    assert scanner.feed(b"data: one\n") == []
    assert [event.data for event in scanner.feed(b"\n")] == [b"one"]
    assert scanner.rest == b""


def test_a_line_without_end_is_refused_at_the_limit_and_not_kept() -> None:
    scanner = Scanner(limit=1000)
    scanner.feed(b"x" * 1000)
    with pytest.raises(Malformed, match="larger than 1000 bytes"):
        scanner.feed(b"x")


def test_many_events_in_one_chunk_may_be_larger_together_than_one_may_be() -> None:
    scanner = Scanner(limit=100)
    assert len(scanner.feed(b"data: 12345678\n\n" * 50)) == 50


def test_a_long_event_in_small_pieces_costs_its_length_and_not_its_square() -> None:
    def spent(size: int) -> float:
        scanner = Scanner()
        piece = b"x" * 64
        started = time.process_time()
        for _ in range(size // 64):
            scanner.feed(piece)
        return time.process_time() - started

    spent(64 * 1024)
    small = min(spent(256 * 1024) for _ in range(3))
    large = min(spent(2048 * 1024) for _ in range(3))
    assert large < small * 32, (small, large)  # eight times the bytes; a square would be 64 times


def test_what_is_encoded_is_read_back() -> None:
    raw = sse.encode(b'{"a":1}', name="message", ident=b"9")
    assert Scanner().feed(raw) == [Event(raw, b'{"a":1}', "message", b"9")]
