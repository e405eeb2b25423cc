"""Every count of the vendors' usage, from documents and streams as they send them (tests/vectors/llm_usage.json)."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.core.exchange import Usage
from gateway.protocols.llm_seen import Seen
from gateway.protocols.llm_usage import DOCUMENT_BYTES, EVENT_BYTES, reader
from tests.thorough import examples

VECTORS = json.loads((Path(__file__).resolve().parents[1] / "vectors" / "llm_usage.json").read_text())["cases"]
ASKED = 50


def answer_of(case: dict[str, Any]) -> bytes:
    if "document" in case:
        return json.dumps(case["document"]).encode()
    parts = []
    for event in case["events"]:
        name = f"event: {event['type']}\n" if isinstance(event, dict) and "type" in event else ""
        parts.append(f"{name}data: {event if isinstance(event, str) else json.dumps(event)}\n\n")
    return "".join(parts).encode()


def read(chunks: list[bytes], kind: bytes, api: str) -> tuple[dict[str, Any], int]:
    found = reader(kind, "", ASKED, api)
    for chunk in chunks:
        found.feed(chunk)
    seen = found.seen()
    usage = Usage()
    found.finish(usage)
    said = usage.record()
    for name in ("bytes_in", "bytes_out", "calls"):
        said.pop(name)
    return said, seen


@pytest.mark.parametrize("case", VECTORS, ids=lambda case: case["name"])
def test_each_vendors_usage_is_read_as_it_is_said(case: dict[str, Any]) -> None:
    kind = b"application/json" if "document" in case else b"text/event-stream"
    said, seen = read([answer_of(case)], kind, case["api"])
    assert said == case["usage"]
    if "seen" in case:
        assert seen == case["seen"]


@pytest.mark.parametrize("case", VECTORS, ids=lambda case: case["name"])
def test_it_does_not_matter_how_the_answer_was_cut(case: dict[str, Any]) -> None:
    kind = b"application/json" if "document" in case else b"text/event-stream"
    whole = answer_of(case)
    wanted = read([whole], kind, case["api"])
    for place in range(len(whole) + 1):
        assert read([whole[:place], whole[place:]], kind, case["api"]) == wanted, place
    assert read([whole[at : at + 1] for at in range(len(whole))], kind, case["api"]) == wanted


_PIECE = st.sampled_from(
    [
        b'data: {"object":"chat.completion.chunk","choices":[{"index":0,"delta":{"content":"Snow \\u00e9\\n"}}]}',
        b'data: {"object":"chat.completion.chunk","choices":[],"usage":{"prompt_tokens":9,"completion_tokens":4}}',
        b'data: {"choices":[{"delta":{"tool_calls":[{"function":{"arguments":"{\\"a\\": 1}"}}]}}],"usage":null}',
        b'data: {"type":"response.output_text.delta","delta":"in Oslo"}',
        b'event: content_block_delta\ndata: {"type":"content_block_delta","delta":{"type":"text_delta","text":"deep"}}',
        b'data: {"type":"message_start","message":{"usage":{"input_tokens":3,"output_tokens":1}}}',
        b": a comment", b"data: [DONE]", b"", b"\n", b"\r", b'data: {"delta": "' + b"x" * 2000 + b'"}',
        b'data: {"delta": {"new": "' + b"y" * 2000 + b'"}}', b'data: "usage": {', b"\xff\x00",
    ]
)  # fmt: skip
_END = st.sampled_from([b"\n\n", b"\r\n\r\n", b"\r\r", b"\n\r\n", b"\n", b"\r\n"])


@settings(max_examples=examples(1000))
@given(
    pieces=st.lists(st.tuples(_PIECE, _END), max_size=12),
    cuts=st.lists(st.integers(0, 10_000), max_size=10),
    api=st.sampled_from(["chat.completions", "responses", "messages", ""]),
    small=st.booleans(),
)
def test_metering_never_depends_on_how_a_stream_was_cut(
    pieces: list[tuple[bytes, bytes]], cuts: list[int], api: str, small: bool
) -> None:
    stream = b"".join(piece + end for piece, end in pieces)
    places = sorted({0, *(cut % (len(stream) + 1) for cut in cuts), len(stream)})
    chunks = [stream[a:b] for a, b in itertools.pairwise(places)]
    with pytest.MonkeyPatch.context() as patch:
        if small:  # so that events are too large to keep
            patch.setattr("gateway.protocols.llm_usage.EVENT_BYTES", 120)
            patch.setattr("gateway.protocols.llm_usage._KEPT_BYTES", 108)
            patch.setattr("gateway.protocols.llm_counts.TAIL_BYTES", 100)
        at_once, _ = read([stream], b"text/event-stream", api)
        in_pieces, _ = read(chunks, b"text/event-stream", api)
    assert in_pieces == at_once


def test_what_was_seen_grows_as_it_is_seen_and_never_shrinks() -> None:
    found = reader(b"text/event-stream", "", ASKED, "chat.completions")
    event = b'data: {"choices":[{"delta":{"content":" snow"}}]}\n\n'
    counts = []
    for _ in range(5):
        found.feed(event)
        counts.append(found.seen())
    assert counts == [2, 4, 6, 8, 10]


@pytest.mark.parametrize(
    "text", ["Snow in Oslo", "Schnee für Zürich", "雪が降る", "снег идёт", "😀😀", "a", "\n\n", '"']
)
def test_what_is_seen_is_at_least_a_token_for_three_bytes_however_it_is_escaped(text: str) -> None:
    for ascii_only in (True, False):
        event = "data: " + json.dumps({"choices": [{"delta": {"content": text}}]}, ensure_ascii=ascii_only) + "\n\n"
        seen = Seen("chat.completions")
        seen.event(event.encode())
        assert seen.tokens * 3 >= len(text.encode()) - 2, ascii_only
        assert seen.tokens <= max(1, len(text.encode()))


def test_what_responses_say_again_at_the_end_is_counted_once() -> None:
    deltas = [b'data: {"type":"response.output_text.delta","delta":"Snow "}\n\n'] * 10
    again = [
        b'data: {"type":"response.output_text.done","text":"' + b"Snow " * 10 + b'"}\n\n',
        b'data: {"type":"response.output_item.done","item":{"content":[{"text":"' + b"Snow " * 10 + b'"}]}}\n\n',
    ]
    found = reader(b"text/event-stream", "", ASKED, "responses")
    for chunk in deltas:
        found.feed(chunk)
    before = found.seen()
    for chunk in again:
        found.feed(chunk)
    assert found.seen() == before == 20


def test_an_event_too_large_to_keep_is_counted_by_its_bytes_unless_it_says_its_usage() -> None:
    large = b'data: {"choices":[{"delta":{"content":"' + b"x" * EVENT_BYTES + b'"}}]}\n\n'
    usage, seen = read([large], b"text/event-stream", "chat.completions")
    assert (usage["output_tokens"], usage["estimated"]) == (seen, True)
    assert seen * 3 >= EVENT_BYTES
    picture = b'data: {"type":"response.image_generation_call.partial_image","b64":"' + b"x" * EVENT_BYTES + b'"}\n\n'
    assert read([picture], b"text/event-stream", "responses")[1] == 0


def test_a_document_of_any_size_is_read_the_same() -> None:
    document = {
        "object": "list",
        "data": ["x" * (2 * DOCUMENT_BYTES)],
        "usage": {"prompt_tokens": 7, "total_tokens": 7},
    }
    body = json.dumps(document).encode()
    wanted = ({"input_tokens": 7}, 0)
    assert read([body], b"application/json", "embeddings") == wanted
    chunks = [body[at : at + 10_007] for at in range(0, len(body), 10_007)]
    assert read(chunks, b"application/json", "embeddings") == wanted


def test_at_the_border_of_what_is_kept_the_cut_does_not_matter_either(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.protocols.llm_usage.EVENT_BYTES", 120)
    for length in range(116, 125):
        begins, ends = b'data: {"choices":[{"delta":{"content":"', b'"}}]}'
        event = begins + b"x" * (length - len(begins) - len(ends)) + ends
        for end in (b"\n\n", b"\r\n\r\n", b"\r\r"):
            stream = b"data: {}" + end + event + end
            wanted = read([stream], b"text/event-stream", "chat.completions")
            for place in range(len(stream)):
                cut = read([stream[:place], stream[place:]], b"text/event-stream", "chat.completions")
                assert cut == wanted, (length, end, place)
