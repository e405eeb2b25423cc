"""Messages that policy reads, both ways: their bytes go on as they are, whatever the reader made of them."""

from __future__ import annotations

import gzip
from collections.abc import Iterator

import pytest
from rig import run

from tests.flows.lanes import Lanes, compared, lanes, sent
from tests.flows.recording import bare, chunked, says, whole


@pytest.fixture(scope="module")
def lane(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lanes]:
    with lanes(tmp_path_factory.mktemp("judged")) as found:
        yield found


JSON = ("Content-Type", "application/json")
# Bodies that policy reads: the very bytes go on, whatever a reader would have made of them.
CHAT = rb"""{ "model" : "m",
 "messages":[{"role":"user","content":"\u00e9 \ud83d\ude00 \u2603"}], "temperature": 1.50, "x": 1e2 }
"""
MESSAGES = CHAT.replace(b'"x"', b'"max_tokens": 5, "x"')
BOTH = ("Accept", "application/json, text/event-stream")
PLAINLY = ("Accept-Encoding", "identity")  # which is what the gateway asks for where it reads the answer (ruling 7)
LEGACY = [("MCP-Protocol-Version", "2025-11-25"), BOTH, PLAINLY]
MODERN = [("MCP-Protocol-Version", "2026-07-28"), ("Mcp-Method", "tools/call"), ("Mcp-Name", "t"), BOTH, PLAINLY]
CALL = (
    rb' {"jsonrpc":"2.0", "id": "a\/b", "method":"tools/call","params":{"name":"t","arguments":{"n":1.0,"s":"\u2603"}}}'
)
META = (
    b'"_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientCapabilities":{}}'
)
MODERN_CALL = (
    b'{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"t","arguments":{"n":1.0},' + META + b"}} "
)
SEND = b'{"jsonrpc":"2.0","id":"1","method":"SendMessage","params":{ "message":{"messageId":"m","parts":[]}}}'
REST_SEND = b' {"message":{"messageId":"m","parts":[{"text":"\\/"}]}}'
A2A = [("A2A-Version", "1.0"), ("A2A-Extensions", "https://a.example/x"), PLAINLY]
VENDOR = [("anthropic-version", "2023-06-01"), ("Accept-Encoding", "gzip")]
JUDGED: dict[str, tuple[str, str, list[tuple[str, str]], bytes]] = {
    "openai chat": ("openai", "/v1/chat/completions", [("OpenAI-Organization", "o")], CHAT),
    "openai responses": ("openai", "/v1/responses", [("X-Stainless-Lang", "python"), PLAINLY], CHAT),
    "openai embeddings": ("openai", "/v1/embeddings", [("Accept-Encoding", "gzip, br")], CHAT),
    "anthropic messages": ("anthropic", "/v1/messages", VENDOR, MESSAGES),
    "anthropic tokens": ("anthropic", "/v1/messages/count_tokens", VENDOR, MESSAGES),
    "mcp, old era": ("mcp", "", LEGACY, CALL),
    "mcp, new era": ("mcp", "", MODERN, MODERN_CALL),
    "a2a jsonrpc": ("a2a", "/rpc", A2A, SEND),
    "a2a rest": ("a2a", "/message:send", A2A, REST_SEND),
}


@pytest.mark.parametrize("name", JUDGED)
def test_a_judged_body_reaches_the_upstream_as_it_was_sent(lane: Lanes, name: str) -> None:
    route, rest, headers, body = JUDGED[name]
    sent(lane, "POST", route, rest, [*headers, JSON], body)


RESULT = (
    b'{"result": {"content":[{"type":"text","text":"\\u2603 1.50"}], "isError":false} ,"id":"a/b","jsonrpc":"2.0"}\n'
)
FAILED = b'{"jsonrpc":"2.0","id":1,"error":{"code":-32602,"message":"no \\u2603","data":{"a":1.50}}} '
TASK = b'{ "jsonrpc":"2.0","id":"1","result":{"task":{"id":"T1","status":{"state":"TASK_STATE_COMPLETED"}}}}'
REST_TASK = b'{"task":{"id":"T2","contextId":"c","status":{"state":"TASK_STATE_COMPLETED"}} }'
STREAM = b": hello\n\nid: 1\r\nevent: message\r\ndata: " + RESULT.strip() + b"\r\n\r\nretry: 5\n\n"
USED = b'{"id":"c","choices":[{"index":0}], "usage":{"prompt_tokens":9,"completion_tokens":6,"total_tokens":15}}'
MODEL_STREAM = b'data: {"choices":[{"delta":{"content":"\\u2603"}}]}\n\ndata: ' + USED + b"\n\ndata: [DONE]\n\n"
EVENTS_TYPE = "Content-Type: text/event-stream"
JSON_TYPE = "Content-Type: application/json"

JUDGED_ANSWERS: dict[str, tuple[str, bytes]] = {
    "a result": ("mcp, old era", whole("200 OK", RESULT, JSON_TYPE, "X-Own: 1")),
    "a result in chunks": (
        "mcp, new era",
        chunked("200 OK", [RESULT[:9], RESULT[9:]], "Content-Type: application/json; charset=utf-8"),
    ),
    "a result in events": (
        "mcp, old era",
        chunked("200 OK", [STREAM[:60], STREAM[60:]], EVENTS_TYPE, "Cache-Control: no-cache"),
    ),
    "a result in events, new era": ("mcp, new era", chunked("200 OK", [STREAM], EVENTS_TYPE, "X-Accel-Buffering: no")),
    "an error": ("mcp, old era", whole("200 OK", FAILED, JSON_TYPE)),
    "an error of the transport": ("mcp, new era", whole("400 Bad Request", FAILED, JSON_TYPE)),
    "an unknown method": ("mcp, new era", whole("404 Not Found", FAILED, JSON_TYPE)),
    "a failure that is no JSON": ("mcp, old era", whole("502 Bad Gateway", b"<html>\xff", "Content-Type: text/html")),
    "a task": ("a2a jsonrpc", whole("200 OK", TASK, JSON_TYPE, 'ETag: "1"')),
    "a task in events": ("a2a jsonrpc", chunked("200 OK", [b": hi\n\n", b"data: " + TASK + b"\r\n\r\n"], EVENTS_TYPE)),
    "a task over HTTP+JSON": ("a2a rest", whole("200 OK", REST_TASK, "Content-Type: application/a2a+json")),
    "an agent's error": ("a2a jsonrpc", whole("200 OK", FAILED, JSON_TYPE)),
    "an agent's failure": ("a2a rest", whole("503 Out", b"<html>", "Content-Type: text/html", "Retry-After: 1")),
    "a completion": ("openai chat", whole("200 OK", USED, JSON_TYPE, "openai-processing-ms: 3", "x-request-id: req_1")),
    "a completion, compressed": (
        "openai embeddings",
        whole("200 OK", gzip.compress(USED, mtime=0), JSON_TYPE, "Content-Encoding: gzip"),
    ),
    "a stream of words": ("openai chat", chunked("200 OK", [MODEL_STREAM[:70], MODEL_STREAM[70:]], EVENTS_TYPE)),
    "a compressed stream": (
        "anthropic messages",
        chunked("200 OK", [gzip.compress(MODEL_STREAM, mtime=0)], EVENTS_TYPE, "Content-Encoding: gzip"),
    ),
    "a vendor's limit": (
        "anthropic messages",
        whole(
            "429 Slow",
            FAILED,
            JSON_TYPE,
            "retry-after: 2",
            "request-id: req_2",
            "anthropic-ratelimit-requests-remaining: 0",
        ),
    ),
    "a vendor's failure": (
        "openai responses",
        whole("500 Oh", b"not json", "Content-Type: application/json", "x-should-retry: true"),
    ),
    "a count": ("anthropic tokens", whole("200 OK", b'{"input_tokens": 9}', JSON_TYPE)),
}


@pytest.mark.parametrize("name", JUDGED_ANSWERS)
def test_an_answer_that_is_read_is_the_upstreams_own(lane: Lanes, name: str) -> None:
    asked, data = JUDGED_ANSWERS[name]
    route, rest, headers, body = JUDGED[asked]
    run(compared(lane, "POST", route, rest, says(data), *headers, JSON, body=body))


def test_a_notification_and_the_end_of_a_session_are_answered_as_the_server_answers_them(lane: Lanes) -> None:
    note = b'{"jsonrpc":"2.0","method":"notifications/initialized"}'
    run(compared(lane, "POST", "mcp", "", says(whole("202 Accepted", b"")), *LEGACY, JSON, body=note))
    run(compared(lane, "POST", "mcp", "", says(bare("202 Accepted", "Content-Length: 0")), *LEGACY, JSON, body=note))
    run(compared(lane, "GET", "mcp", "", says(whole("405 No", FAILED, JSON_TYPE, "Allow: POST")), *LEGACY))
    run(compared(lane, "DELETE", "mcp", "", says(whole("405 No", FAILED, JSON_TYPE, "Allow: POST")), *LEGACY))
