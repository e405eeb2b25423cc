"""Token usage read beside the answers of the official libraries' own types, however the bytes arrive."""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Iterable
from itertools import pairwise
from typing import Any

import pytest
from anthropic.types import Message, MessageDeltaUsage, RawMessageDeltaEvent, RawMessageStartEvent
from anthropic.types import Usage as AnthropicUsage
from anthropic.types.raw_message_delta_event import Delta
from hypothesis import given, settings
from hypothesis import strategies as st
from openai.types import CompletionUsage, CreateEmbeddingResponse, Embedding
from openai.types.chat import ChatCompletion, ChatCompletionChunk, ChatCompletionMessage
from openai.types.chat.chat_completion import Choice
from openai.types.chat.chat_completion_chunk import Choice as Piece
from openai.types.chat.chat_completion_chunk import ChoiceDelta
from openai.types.completion_usage import PromptTokensDetails
from openai.types.create_embedding_response import Usage as EmbeddingUsage
from openai.types.responses import Response, ResponseCompletedEvent, ResponseCreatedEvent, ResponseUsage
from openai.types.responses.response_usage import InputTokensDetails, OutputTokensDetails

from gateway.core.exchange import Usage
from gateway.protocols import llm_usage
from gateway.protocols.llm import ANTHROPIC, OPENAI, Llm
from gateway.protocols.llm_usage import DOCUMENT_BYTES, EVENT_BYTES, reader
from tests.thorough import examples

EVENTS = b"text/event-stream; charset=utf-8"
PLAIN = b"application/json"
ASKED = 100


def usage_of(chunks: Iterable[bytes], kind: bytes = EVENTS, coding: str = "", api: str = "") -> Usage:
    found = reader(kind, coding, ASKED, api)
    for chunk in chunks:
        found.feed(chunk)
    usage = Usage()
    found.finish(usage)
    return usage


def counts(usage: Usage) -> tuple[int | None, int | None, int | None, bool]:
    return usage.input_tokens, usage.output_tokens, usage.cached_tokens, usage.estimated


def event(document: str, name: str = "", end: str = "\n") -> bytes:
    return ((f"event: {name}{end}" if name else "") + f"data: {document}{end}{end}").encode()


COMPLETION_USAGE = CompletionUsage(
    prompt_tokens=90, completion_tokens=7, total_tokens=97, prompt_tokens_details=PromptTokensDetails(cached_tokens=64)
)
RESPONSE_USAGE = ResponseUsage(
    input_tokens=90,
    input_tokens_details=InputTokensDetails(cached_tokens=64, cache_write_tokens=0),
    output_tokens=7,
    output_tokens_details=OutputTokensDetails(reasoning_tokens=3),
    total_tokens=97,
)


def piece(text: str) -> str:
    choice = Piece(index=0, delta=ChoiceDelta(content=text), finish_reason=None)
    return ChatCompletionChunk(
        id="c", choices=[choice], created=1, model="m", object="chat.completion.chunk"
    ).model_dump_json()


def chat_stream(end: str = "\n", *, tell: bool = True) -> bytes:
    pieces = [piece("Sn\n\now"), piece('in "usage": {"prompt_tokens": 1} Oslo')]
    last = ChatCompletionChunk(
        id="c", choices=[], created=1, model="m", object="chat.completion.chunk", usage=COMPLETION_USAGE
    )
    if tell:
        pieces.append(last.model_dump_json())
    return b"".join(event(item, end=end) for item in [*pieces, "[DONE]"])


def response(usage: ResponseUsage | None) -> Response:
    return Response.model_construct(id="r", object="response", created_at=1, model="m", output=[], usage=usage)


def response_stream(end: str = "\n") -> bytes:
    created = ResponseCreatedEvent.model_construct(type="response.created", sequence_number=0, response=response(None))
    done = ResponseCompletedEvent.model_construct(
        type="response.completed", sequence_number=1, response=response(RESPONSE_USAGE)
    )
    return event(created.model_dump_json(), "response.created", end) + event(
        done.model_dump_json(), "response.completed", end
    )


def message(usage: AnthropicUsage) -> Message:
    return Message.model_construct(id="m", type="message", role="assistant", model="m", content=[], usage=usage)


def message_stream(end: str = "\n", *, whole: bool = True) -> bytes:
    start = RawMessageStartEvent(
        type="message_start",
        message=message(
            AnthropicUsage(input_tokens=20, cache_read_input_tokens=64, cache_creation_input_tokens=6, output_tokens=1)
        ),
    )
    deltas = [
        RawMessageDeltaEvent(
            type="message_delta",
            delta=Delta.model_construct(stop_reason="end_turn", stop_sequence=None),
            usage=MessageDeltaUsage(output_tokens=count),
        )
        for count in (4, 7)
    ]
    found = event(start.model_dump_json(), "message_start", end) + event('{"type": "ping"}', "ping", end)
    if whole:
        found += b"".join(event(item.model_dump_json(), "message_delta", end) for item in deltas)
        found += event('{"type": "message_stop"}', "message_stop", end)
    return found


STREAMS = {"chat": chat_stream, "responses": response_stream, "messages": message_stream}


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("name", list(STREAMS))
def test_a_streams_last_word_is_read_at_every_split(name: str, end: str) -> None:
    stream = STREAMS[name](end)
    for place in range(len(stream) + 1):
        assert counts(usage_of([stream[:place], stream[place:]])) == (90, 7, 64, False), place
    assert counts(usage_of(stream[at : at + 1] for at in range(len(stream)))) == (90, 7, 64, False)


@settings(max_examples=60)
@given(cuts=st.lists(st.integers(0, 2000), max_size=8), name=st.sampled_from(list(STREAMS)))
def test_any_number_of_splits_reads_the_same(cuts: list[int], name: str) -> None:
    stream = STREAMS[name]()
    places = sorted({0, *(cut % len(stream) for cut in cuts), len(stream)})
    chunks = [stream[start:stop] for start, stop in pairwise(places)]
    assert counts(usage_of(chunks)) == (90, 7, 64, False)


def test_cumulative_counts_are_never_added_up() -> None:
    usage = usage_of([message_stream()])
    assert usage.output_tokens == 7  # 1, then 4, then 7


def test_a_stream_that_does_not_tell_is_estimated_and_marked() -> None:
    stream = chat_stream(tell=False)
    assert counts(usage_of([stream])) == (100, 3 + 14, None, True)  # of 8 and 41 bytes


def test_a_stream_cut_before_its_last_word_keeps_what_was_said_and_estimates_the_rest() -> None:
    stream = message_stream(whole=False)
    assert counts(usage_of([stream], api="messages")) == (90, 1, 64, True)


def test_a_last_event_without_its_blank_line_still_counts() -> None:
    assert counts(usage_of([chat_stream().replace(b"data: [DONE]\n\n", b"").rstrip(b"\n")])) == (90, 7, 64, False)


def test_usage_that_is_null_in_every_chunk_is_not_usage() -> None:
    chunk = json.dumps({"choices": [{"delta": {"content": "x"}}], "usage": None})
    assert usage_of([event(chunk)] * 50).estimated


@pytest.mark.parametrize("size", [EVENT_BYTES - 200, EVENT_BYTES + 50_000, 3 * EVENT_BYTES])
@pytest.mark.parametrize("chunk_bytes", [16_384, 65_536, 10_000_000])
def test_an_event_too_large_to_keep_still_tells_its_usage_from_its_tail(size: int, chunk_bytes: int) -> None:
    whole = response(RESPONSE_USAGE).model_dump()
    whole["output"] = ["x" * size]
    usage_last = {name: value for name, value in whole.items() if name != "usage"} | {"usage": whole["usage"]}
    stream = event('{"type": "response.in_progress"}') + event(
        json.dumps({"type": "response.completed", "response": usage_last}), "response.completed"
    )
    chunks = [stream[at : at + chunk_bytes] for at in range(0, len(stream), chunk_bytes)]
    assert counts(usage_of(chunks)) == (90, 7, 64, False)
    assert counts(usage_of([*chunks, event("{}")])) == (90, 7, 64, False)
    assert counts(usage_of([stream.rstrip(b"\n")])) == (90, 7, 64, False)


def test_a_stream_without_an_end_of_line_keeps_little_memory() -> None:
    found = llm_usage.EventUsage(0)
    for _ in range(200):
        found.feed(b"x" * 65_536)
        assert len(found._pending) <= EVENT_BYTES
    usage = Usage()
    found.finish(usage)
    assert usage.estimated


DOCUMENTS: dict[str, tuple[str, tuple[int | None, int | None, int | None, bool]]] = {
    "chat": (
        ChatCompletion(
            id="c",
            choices=[
                Choice(
                    index=0,
                    finish_reason="stop",
                    message=ChatCompletionMessage(role="assistant", content='"usage": {"prompt_tokens": 1}'),
                )
            ],
            created=1,
            model="m",
            object="chat.completion",
            usage=COMPLETION_USAGE,
        ).model_dump_json(),
        (90, 7, 64, False),
    ),
    "response": (response(RESPONSE_USAGE).model_dump_json(), (90, 7, 64, False)),
    "message": (
        message(
            AnthropicUsage(input_tokens=20, cache_read_input_tokens=64, cache_creation_input_tokens=6, output_tokens=7)
        ).model_dump_json(),
        (90, 7, 64, False),
    ),
    "embedding": (
        CreateEmbeddingResponse(
            data=[Embedding(embedding=[0.5], index=0, object="embedding")],
            model="m",
            object="list",
            usage=EmbeddingUsage(prompt_tokens=3, total_tokens=3),
        ).model_dump_json(),
        (3, None, None, False),
    ),
}


@pytest.mark.parametrize("name", list(DOCUMENTS))
def test_a_document_is_read_at_every_split(name: str) -> None:
    text, wanted = DOCUMENTS[name]
    body = text.encode()
    for place in range(len(body) + 1):
        assert counts(usage_of([body[:place], body[place:]], PLAIN)) == wanted


def test_a_document_too_large_to_keep_tells_its_usage_from_its_tail() -> None:
    data = [{"embedding": [0.123456] * 2000, "index": place} for place in range(40)]
    body = json.dumps({"object": "list", "data": data, "usage": {"prompt_tokens": 3, "total_tokens": 3}}).encode()
    assert len(body) > 2 * DOCUMENT_BYTES
    chunks = [body[at : at + 16_384] for at in range(0, len(body), 16_384)]
    assert counts(usage_of(chunks, PLAIN)) == (3, None, None, False)


def test_a_tools_own_input_is_not_taken_for_usage_where_the_vendors_word_follows() -> None:
    body = json.dumps(
        {"content": [{"type": "tool_use", "input": {"usage": {"input_tokens": 1, "output_tokens": 1}}}]}
        | {"text": "y" * DOCUMENT_BYTES, "usage": {"input_tokens": 90, "output_tokens": 7}}
    ).encode()
    assert counts(usage_of([body], PLAIN)) == (90, 7, None, False)


@pytest.mark.parametrize(
    "body", [b"", b"null", b"[]", b'{"usage": 5}', b'{"usage": {"prompt_tokens": -4, "completion_tokens": true}}', b"{"]
)
def test_what_says_nothing_is_estimated(body: bytes) -> None:
    assert counts(usage_of([body], PLAIN)) == (100, -(-len(body) // 3), None, True)


@pytest.mark.parametrize("count", [10**12 + 1, 2**53, 2**64, 10**30, -1, 1.0, True, "9"])
def test_a_count_that_cannot_be_one_was_not_said(count: Any) -> None:
    usage = usage_of([json.dumps({"usage": {"prompt_tokens": count, "completion_tokens": 2}}).encode()], PLAIN)
    assert usage.input_tokens != count
    assert usage.estimated
    assert (usage.input_tokens or 0) < 2**53


def test_only_counts_that_are_read_are_kept() -> None:
    found = reader(EVENTS, "", ASKED)
    for number in range(100):
        found.feed(event(json.dumps({"usage": {f"x{number}": 1, "prompt_tokens": 3, "completion_tokens": 2}})))
    assert len(found._tally._counts) == 2  # type: ignore[attr-defined]


def test_a_lone_surrogate_elsewhere_does_not_hide_usage() -> None:
    body = b'{"text": "\\ud800", "usage": {"prompt_tokens": 90, "completion_tokens": 7}}'
    assert counts(usage_of([body], PLAIN)) == (90, 7, None, False)
    assert counts(usage_of([b"data: " + body + b"\n\n"])) == (90, 7, None, False)


def raw_deflate(data: bytes) -> bytes:
    packer = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    return packer.compress(data) + packer.flush()


CODINGS = [("gzip", gzip.compress), ("x-gzip", gzip.compress), ("deflate", zlib.compress), ("deflate", raw_deflate)]


@pytest.mark.parametrize(("coding", "pack"), CODINGS, ids=["gzip", "x-gzip", "zlib", "raw"])
def test_a_packed_stream_is_read_at_every_split(coding: str, pack: Any) -> None:
    packed = pack(chat_stream())
    for place in range(len(packed) + 1):
        assert counts(usage_of([packed[:place], packed[place:]], coding=coding)) == (90, 7, 64, False), place
    assert counts(usage_of((packed[at : at + 1] for at in range(len(packed))), coding=coding)) == (90, 7, 64, False)


@pytest.mark.parametrize("coding", ["br", "zstd", "gzip, br", "compress"])
def test_other_codings_are_estimated_from_the_bytes(coding: str) -> None:
    assert counts(usage_of([b"x" * 41], coding=coding)) == (100, 14, None, True)


@pytest.mark.parametrize("coding", ["gzip", "deflate"])
def test_what_does_not_decode_is_estimated_and_never_raises(coding: str) -> None:
    assert usage_of([b"\x00\xff" * 40, b"more"], coding=coding).estimated
    assert usage_of([gzip.compress(chat_stream())[:40] + b"garbage" * 9], coding=coding).estimated
    assert usage_of([b"\x1f"], coding=coding).estimated


def test_a_decompression_bomb_is_read_no_further_than_its_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(llm_usage, "DECODED_BYTES", 1 << 20)
    fed: list[int] = []

    class Counting:
        def feed(self, chunk: bytes) -> None:
            fed.append(len(chunk))

        def finish(self, usage: Usage) -> None:
            usage.calls = 0

    found = llm_usage.Decoded(Counting(), "gzip")
    for _ in range(3):
        found.feed(gzip.compress(b"\x00" * (20 << 20)))
    assert sum(fed) <= (1 << 20) + llm_usage._STEP_BYTES
    assert max(fed) <= llm_usage._STEP_BYTES


@settings(max_examples=examples(150))
@given(
    chunks=st.lists(st.binary(max_size=60) | st.sampled_from([b"\n\n", b'data: {"usage": {', b'"usage":{"x":1}}'])),
    kind=st.sampled_from([EVENTS, PLAIN]),
    coding=st.sampled_from(["", "gzip", "deflate", "br"]),
)
def test_no_answer_makes_a_reader_raise(chunks: list[bytes], kind: bytes, coding: str) -> None:
    usage = usage_of(chunks, kind, coding)
    assert usage.input_tokens is not None
    assert usage.output_tokens is None or usage.output_tokens >= 0


@pytest.mark.parametrize(
    ("protocol", "path", "counting"),
    [
        (Llm(OPENAI), "/r/chat/completions", "/r/responses/input_tokens"),
        (Llm(ANTHROPIC), "/r/messages", "/r/messages/count_tokens"),
    ],
)
def test_the_protocol_reads_metered_successes_only(wire: Any, protocol: Llm, path: str, counting: str) -> None:
    body = b'{"model": "m"}'
    exchange = wire.classified(protocol, "POST", path, body)
    found = wire.reader(exchange, wire.Answer(200, [(b"content-type", EVENTS), (b"content-encoding", b"gzip")]))
    found.feed(gzip.compress(chat_stream()))
    usage = Usage()
    found.finish(usage)
    assert counts(usage) == (90, 7, 64, False)
    assert wire.reader(exchange, wire.Answer(429, [(b"content-type", PLAIN)])) is None
    counted = wire.classified(protocol, "POST", counting, body)
    assert wire.reader(counted, wire.Answer(200, [(b"content-type", PLAIN)])) is None


@pytest.mark.parametrize("kind", [EVENTS, PLAIN])
def test_what_is_not_said_of_output_that_is_not_seen_counts_as_what_was_reserved(kind: bytes) -> None:
    """Else nobody would pay for reasoning who leaves early, or asks for no usage."""
    for chunks, wanted in (([], 4000), ([b"x" * 30], 4000)):
        found = reader(kind, "", ASKED, "chat.completions", 4000)
        for chunk in chunks:
            found.feed(chunk)
        usage = Usage()
        found.finish(usage)
        assert (usage.output_tokens, usage.estimated) == (wanted, True)
    told = reader(EVENTS, "", ASKED, "chat.completions", 4000)
    told.feed(chat_stream())
    usage = Usage()
    told.finish(usage)
    assert counts(usage) == (90, 7, 64, False)
