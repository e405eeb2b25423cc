"""Usage that the route asks for: what goes out, what is taken out of the answer, and that all else keeps its bytes."""

from __future__ import annotations

import json
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.exchange import Call, Usage
from gateway.core.reasons import Malformed
from gateway.protocols.llm import ANTHROPIC, OPENAI, Llm

EVENTS = b"text/event-stream; charset=utf-8"
USAGE = {"prompt_tokens": 9, "completion_tokens": 4, "total_tokens": 13}
LAST = b"data: " + json.dumps({"choices": [], "usage": USAGE}).encode() + b"\n\n"
KEPT = [
    b'data: {"choices":[{"index":0,"delta":{"content":"Snow"}}],"usage":null}\n\n',
    b": a comment\n\n",
    b'data: {"choices":[],"prompt_filter_results":[]}\n\n',  # without usage, as Azure begins its streams
    b'data: {"choices":[],"usage":null}\r\n\r\n',
    b'data: {"choices":[{"index":0,"delta":{}}],"usage":{"prompt_tokens":9,"completion_tokens":4}}\n\n',
    b'id: 7\ndata: {"choices": "[]", "usage": {}}\n\n',
    b'data: {"choices":[],"usage": {"prompt_tokens": \n\n',
    b"data: [DONE]\n\n",
]


def streamed(wire: Any, body: dict[str, Any] | None = None, include_usage: str = "inject", **members: Any) -> Any:
    asked = {"model": "m", "messages": [], "stream": True, **(body or {})}
    return wire.classified(
        Llm(OPENAI), "POST", "/r/chat/completions", json.dumps(asked).encode(), include_usage=include_usage, **members
    )


def shown(wire: Any, exchange: Any, chunks: list[bytes]) -> tuple[bytes, Usage]:
    answer = wire.Answer(200, [(b"content-type", EVENTS), (b"content-length", b"1")])
    exchange.reader = wire.reader(exchange, answer)
    found = b"".join(wire.filtered(exchange, answer, chunks))
    exchange.reader.feed(found)
    usage = Usage()
    exchange.reader.finish(usage)
    assert (b"content-length", b"1") not in answer.headers
    return found, usage


def test_the_request_goes_on_with_the_option_and_all_else_as_it_was_written(wire: Any) -> None:
    body = b'{ "model":"m", "stream":true, "seed": 123456789012345678901, "messages":[{"content":"\\ud800"}] }'
    found = wire.classified(Llm(OPENAI), "POST", "/r/v1/chat/completions", body, include_usage="inject").call
    for member in (b'"model":"m"', b'"seed": 123456789012345678901', b'"messages":[{"content":"\\ud800"}]'):
        assert found.body.count(member) == 1
    assert json.loads(found.body)["stream_options"] == {"include_usage": True}
    assert "stream_options" not in found.arguments  # policy sees what the caller asked
    assert found.judged


@pytest.mark.parametrize(
    "options", [None, {}, {"include_usage": False}, {"include_usage": None}, {"include_obfuscation": False}]
)
def test_other_options_of_the_stream_are_kept(wire: Any, options: Any) -> None:
    found = streamed(wire, {"stream_options": options}).call
    assert json.loads(found.body)["stream_options"] == {**(options or {}), "include_usage": True}


@pytest.mark.parametrize(
    ("protocol", "path", "body", "option"),
    [
        (OPENAI, "/r/chat/completions", {"stream": True, "stream_options": {"include_usage": True}}, "inject"),
        (OPENAI, "/r/chat/completions", {"stream": False}, "inject"),
        (OPENAI, "/r/chat/completions", {"stream": "true"}, "inject"),
        (OPENAI, "/r/chat/completions", {"stream": True}, "as_asked"),
        (OPENAI, "/r/responses", {"stream": True, "input": "x", "store": False}, "inject"),
        (OPENAI, "/r/embeddings", {"input": "x", "stream": True}, "inject"),
        (ANTHROPIC, "/r/messages", {"stream": True, "max_tokens": 5}, "inject"),
    ],
)
def test_nothing_else_is_changed(wire: Any, protocol: Any, path: str, body: dict[str, Any], option: str) -> None:
    asked = json.dumps({"model": "m", "messages": [], **body}).encode()
    found = wire.classified(Llm(protocol), "POST", path, asked, include_usage=option).asked
    assert isinstance(found, Call)
    assert found.body is None
    assert not found.judged


def test_the_chunk_with_usage_alone_is_taken_out_and_read(wire: Any) -> None:
    found, usage = shown(wire, streamed(wire), [*KEPT[:-1], LAST, KEPT[-1]])
    assert found == b"".join(KEPT)
    assert (usage.input_tokens, usage.output_tokens, usage.estimated) == (9, 4, False)


@pytest.mark.parametrize("behind", [b"", KEPT[-1], b"\n" + KEPT[-1]])
def test_a_line_end_that_is_cut_in_two_goes_with_what_is_taken_out(wire: Any, behind: bytes) -> None:
    last = LAST.replace(b"\n", b"\r\n")
    found, _ = shown(wire, streamed(wire), [KEPT[0], last[:-1], b"", last[-1:] + behind])
    assert found == KEPT[0] + behind


@pytest.mark.parametrize("behind", [b"", KEPT[-1], b"\n" + KEPT[-1]])
def test_a_line_end_that_is_cut_in_two_stays_with_what_is_shown(wire: Any, behind: bytes) -> None:
    before = KEPT[3]
    assert before.endswith(b"\r\n")
    found, _ = shown(wire, streamed(wire), [before[:-1], b"", before[-1:] + LAST + behind])
    assert found == before + behind


@given(
    order=st.lists(st.sampled_from([*KEPT, LAST, LAST.replace(b"\n", b"\r\n")]), max_size=10),
    cuts=st.lists(st.integers(0, 2000), max_size=8),
    end=st.sampled_from([b"", LAST.rstrip(b"\n"), b'data: {"choices":[{}]', b"data"]),
)
def test_however_the_stream_was_cut_all_other_bytes_pass(
    wire: Any, order: list[bytes], cuts: list[int], end: bytes
) -> None:
    stream = b"".join(order) + end
    places = sorted({0, *(cut % (len(stream) + 1) for cut in cuts), len(stream)})
    found, usage = shown(wire, streamed(wire), [stream[start:stop] for start, stop in pairwise(places)])
    taken = b'"choices": [], "usage": {"prompt'
    wanted = b"".join(event for event in order if taken not in event) + (b"" if taken in end else end)
    assert found == wanted
    if any(taken in event for event in (*order, end)):
        assert (usage.input_tokens, usage.output_tokens) == (9, 4)


def test_an_answer_in_a_coding_is_not_shown(wire: Any) -> None:
    answer = wire.Answer(200, [(b"content-type", EVENTS), (b"content-encoding", b"gzip")])
    with pytest.raises(Malformed):
        wire.filtered(streamed(wire), answer, [b"x"])


@pytest.mark.parametrize(("status", "kind"), [(200, b"application/json"), (400, EVENTS)])
def test_what_is_no_stream_passes(wire: Any, status: int, kind: bytes) -> None:
    assert wire.filtered(streamed(wire), wire.Answer(status, [(b"content-type", kind)]), [LAST]) == [LAST]
