"""An upstream that answers what can be read in two ways, or not at all, shows nothing of what policy hides."""

from __future__ import annotations

import gzip
import json
import socket
import threading
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from rig import Running, gateway

from tests.flows.canned import Canned, Said, answer, canned, open_policy, say

ROW = 29

SECRET = "010203-12345"
POLICY = """package tollgate

hidden := {"type": "redact", "paths": ["/ssn", "/*/ssn", "/*/*/ssn"]}

decision := {"decision": true, "context": {"obligations": [hidden]}}
"""
PROTOCOLS = ("http", "openai", "a2a", "mcp")


@dataclass(frozen=True)
class House:
    running: Running
    upstream: Canned
    token: str

    def ask(self, protocol: str, said: bytes | Callable[[socket.socket], None]) -> Said:
        for path in ("/mcp", "/plain/x", "/chat/completions", "/"):
            self.upstream.says[path] = said
        headers = [f"Authorization: Bearer {self.token}", "Accept: application/json, text/event-stream"]
        if protocol == "http":
            return say(self.running.app.port, "GET /http/x", *headers)
        headers.append("Content-Type: application/json")
        body: dict[str, Any] = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": "person"}}
        path = "/mcp"
        if protocol == "a2a":
            path, body = "/a2a/", {**body, "method": "GetTask", "params": {"id": "t-1"}}
            headers.append("A2A-Version: 1.0")
        if protocol == "openai":
            path, body = "/openai/chat/completions", {"model": "m", "messages": [], "stream": True}
        return say(self.running.app.port, f"POST {path}", *headers, body=json.dumps(body).encode())


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    folder: Path = tmp_path_factory.mktemp("redacted")
    with canned() as upstream:
        settings: dict[str, Any] = {
            "policy": open_policy(folder, POLICY),
            "front": {"body_bytes": "256KiB", "judged_body_bytes": "128KiB"},
            "upstreams": {
                "http": {"url": upstream.url + "/plain", "protocol": "http"},
                "openai": {"url": upstream.url, "protocol": "openai"},
                "a2a": {"url": upstream.url, "protocol": "a2a"},
                "mcp": {"url": upstream.url + "/mcp", "protocol": "mcp"},
            },
            "routes": [{"name": name, "match": {"path": f"/{name}"}, "upstream": name} for name in PROTOCOLS],
        }
        with gateway(folder, **settings) as running:
            found = House(running, upstream, running.issuer.token())
            task = {"jsonrpc": "2.0", "id": 1, "result": {"task": {"id": "t-1", "contextId": "c", "status": {}}}}
            upstream.says["/"] = answer(json.dumps(task).encode())
            message = {"messageId": "m", "role": "ROLE_USER", "parts": [{"text": "x"}]}
            body = {"jsonrpc": "2.0", "id": 1, "method": "SendMessage", "params": {"message": message}}
            headers = ("Content-Type: application/json", f"Authorization: Bearer {found.token}", "A2A-Version: 1.0")
            assert say(running.app.port, "POST /a2a/", *headers, body=json.dumps(body).encode()).status == 200
            yield found


def document(protocol: str, inside: str = f'"name":"Ann","ssn":"{SECRET}"') -> bytes:
    if protocol in ("http", "openai"):
        return ("{" + inside + "}").encode()
    return ('{"jsonrpc":"2.0","id":1,"result":{' + inside + "}}").encode()


def readings(data: bytes) -> Iterator[bytes]:
    """The bytes, and what some reader could make of them."""
    yield data
    for width in ("utf-16-le", "utf-16-be"):
        yield data.decode(width, "ignore").encode()
    for begin in (data, data[data.find(b"\x1f\x8b") :], data.partition(b"\r\n")[2]):
        for window in (31, 15, -15):
            try:
                yield zlib.decompressobj(window).decompress(begin)
            except zlib.error:
                continue


def shows(said: Said) -> bool:
    return any(SECRET.encode() in reading for reading in readings(said.rest))


BODIES: dict[str, Callable[[str], bytes]] = {
    "twice": lambda p: document(p, f'"ssn":"x","ssn":"{SECRET}"'),
    "twice, in another spelling": lambda p: document(p, f'"ssn":"x","\\u0073sn":"{SECRET}"'),
    "in another spelling": lambda p: document(p, f'"\\u0073s\\u006e":"{SECRET}"'),
    "in capitals": lambda p: document(p, f'"SSN":"{SECRET}","Ssn":"{SECRET}"'),
    "with a lookalike that folds": lambda p: document(p, f'"\u017fsn":"{SECRET}"'),
    "in a list": lambda p: document(p, f'"ssn":["{SECRET}"]'),
    "in an object": lambda p: document(p, f'"ssn":{{"{SECRET}":1}}'),
    "deep": lambda p: document(p, '"a":' + "[" * 70 + "]" * 70 + f',"ssn":"{SECRET}"'),
    "very deep": lambda p: document(p, '"a":' + "[" * 50_000 + "]" * 50_000 + f',"ssn":"{SECRET}"'),
    "with a number no reader agrees on": lambda p: document(p, f'"n":NaN,"ssn":"{SECRET}"'),
    "with a large number": lambda p: document(p, f'"n":1e999,"ssn":"{SECRET}"'),
    "with a lone surrogate": lambda p: document(p, f'"t":"\\ud800","ssn":"{SECRET}"'),
    "with a NUL": lambda p: document(p, f'"ssn":"{SECRET}"') + b"\0",
    "with a mark": lambda p: b"\xef\xbb\xbf" + document(p),
    "with a comment": lambda p: b"/**/" + document(p),
    "single quotes": lambda p: document(p).replace(b'"', b"'"),
    "two documents": lambda p: document(p, '"a":1') + document(p),
    "cut off": lambda p: document(p)[:-1],
    "a batch": lambda p: b"[" + document(p) + b"]",
    "a batch of batches": lambda p: b"[[" + document(p) + b"]]",
    "UTF-16": lambda p: document(p).decode().encode("utf-16"),
    "not UTF-8": lambda p: document(p).replace(b"Ann", b"\xff"),
    "gzip": lambda p: gzip.compress(document(p)),
    "too large": lambda p: document(p, f'"ssn":"{SECRET}","x":"{"x" * 300_000}"'),
}  # fmt: skip


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("kind", BODIES)
def test_a_body_is_read_as_strictly_as_it_takes(kind: str, protocol: str, house: House) -> None:
    said = house.ask(protocol, answer(BODIES[kind](protocol)))
    assert said.status
    assert not shows(said), said


TYPES = {
    "plain text": ["text/plain"],
    "HTML": ["text/html; charset=utf-8"],
    "unknown": ["application/octet-stream"],
    "another charset": ["application/json; charset=utf-16"],
    "UTF-7": ['application/json;charset="utf-7"'],
    "two": ["application/json", "text/plain"],
    "two of a list": ["application/json, text/event-stream"],
    "none": [],
    "empty": [""],
    "a list of lines": ["application/x-ndjson"],
    "JSON by its end": ["application/vnd.x+json"],
    "JSON in a parameter": ["text/plain; x=application/json"],
    "events": ["text/event-stream"],
    "events in a parameter": ["application/json; x=text/event-stream"],
    "events in capitals": ["TEXT/EVENT-STREAM"],
    "events with a space": ["text/event-stream ; charset=utf-8"],
    "parts": ["multipart/x-mixed-replace; boundary=x"],
}
PLAIN = ("JSON by its end", "events", "events in capitals", "events with a space")
SHAPES: dict[str, Callable[[bytes], bytes]] = {
    "document": lambda data: data,
    "event": lambda data: b"data: " + data + b"\n\n",
}


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("kind", TYPES)
def test_a_content_type_decides_nothing_that_a_client_could_see_otherwise(
    kind: str, shape: str, protocol: str, house: House
) -> None:
    body = SHAPES[shape](document(protocol))
    lines = ["HTTP/1.1 200 OK", *(f"Content-Type: {value}" for value in TYPES[kind]), f"Content-Length: {len(body)}"]
    said = house.ask(protocol, "\r\n".join([*lines, "", ""]).encode() + body)
    assert said.status
    assert not shows(said), said
    assert kind in PLAIN or b"Ann" not in said.rest, "what has two readings shows nothing at all"


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("coding", ["gzip", "x-gzip", "deflate", "br", "identity, gzip", "GZIP"])
def test_a_coding_that_was_not_asked_for_is_not_shown(coding: str, protocol: str, house: House) -> None:
    body = gzip.compress(document(protocol))
    said = house.ask(protocol, answer(body, "application/json", "200 OK", f"Content-Encoding: {coding}"))
    assert said.status in (200, 403, 502)  # 200: a JSON-RPC error
    assert not shows(said), said
    plain = house.ask(protocol, answer(document(protocol), "application/json", "200 OK", f"Content-Encoding: {coding}"))
    assert b"Ann" not in plain.rest, plain
    assert b"accept-encoding: identity" in house.upstream.heads[-1].lower()


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("status", ["201 Created", "203 X", "206 Partial Content", "400 X", "404 X", "500 X", "299 X"])
def test_no_status_lets_it_pass(status: str, protocol: str, house: House) -> None:
    assert not shows(house.ask(protocol, answer(document(protocol), "application/json", status)))
    assert b"Ann" not in house.ask(protocol, answer(document(protocol), "text/plain", status)).rest


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_part_of_an_answer_is_not_shown_though_it_is_a_document_of_its_own(protocol: str, house: House) -> None:
    said = house.ask(protocol, answer(f'"{SECRET}"'.encode(), "application/json", "206 Partial Content"))
    assert not shows(said)


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_what_is_not_shown_is_a_deny_in_the_callers_own_form(protocol: str, house: House) -> None:
    for body in (BODIES["too large"](protocol), BODIES["cut off"](protocol)):
        said = house.ask(protocol, answer(body))
        if protocol in ("mcp", "a2a"):
            assert (said.status, said.json()["error"]["code"]) == (200, -31403)
        else:
            assert said.status == 403
        assert b"denied" in said.rest


def test_an_error_and_a_notification_have_the_same_places_hidden(house: House) -> None:
    for text in (
        f'{{"jsonrpc":"2.0","id":1,"error":{{"code":1,"message":"x","data":{{"ssn":"{SECRET}"}}}}}}',
        f'{{"jsonrpc":"2.0","id":1,"Result":{{"ssn":"{SECRET}"}}}}',
    ):
        for protocol in ("mcp", "a2a"):
            assert not shows(house.ask(protocol, answer(text.encode())))
    note = f'data: {{"jsonrpc":"2.0","method":"notifications/message","params":{{"ssn":"{SECRET}"}}}}\n\n'
    said = house.ask("mcp", answer(note.encode(), "text/event-stream"))
    assert not shows(said)
    assert b"notifications/message" in said.rest


EVENTS: dict[str, Callable[[bytes], bytes]] = {
    "LF": lambda d: b"data: " + d + b"\n\n",
    "CRLF": lambda d: b"event: message\r\nid: 4\r\ndata: " + d + b"\r\n\r\n",
    "CR": lambda d: b"data:" + d + b"\r\r",
    "mixed line ends": lambda d: b"data: " + d + b"\r\n\n",
    "a mark": lambda d: b"\xef\xbb\xbfdata: " + d + b"\n\n",
    "no space": lambda d: b"data:" + d + b"\n\n",
    "several lines": lambda d: (
        d.replace(b'"name"', b'\n"name"').join([b"data: ", b"\n\n"]).replace(b'\n"n', b'\ndata: "n')
    ),
    "no end": lambda d: b"data: " + d + b"\n",
    "no line end": lambda d: b"data: " + d,
    "two in one": lambda d: b"data: " + d + b"\ndata: " + d + b"\n\n",
    "a field in capitals": lambda d: b"Data: " + d + b"\ndata: {}\n\n",
    "a field with a space": lambda d: b" data: " + d + b"\ndata: {}\n\n",
    "a comment with a soft break": lambda d: b": x\xe2\x80\xa8data: " + d + b"\n\n",
    "a comment with a form feed": lambda d: b": x\x0cdata: " + d + b"\ndata: {}\n\n",
    "an id with a soft break": lambda d: b"id: 1\xc2\x85data: " + d + b"\ndata: {}\n\n",
    "an event's name with a soft break": lambda d: b"event: x\x1cdata: " + d + b"\ndata: {}\n\n",
    "text with a soft break": lambda d: b'data: {"t":"\xe2\x80\xa9data: ' + d.replace(b'"', b'\\"') + b'"}\n\n',
    "not JSON": lambda d: b"data: x" + d + b"\n\n",
    "after the end": lambda d: b"data: [DONE]\n\ndata: " + d + b"\n\n",
    "a batch": lambda d: b"data: [" + d + b"]\n\n",
    "twice the name": lambda d: b"data: " + d.replace(b'"name":"Ann"', b'"ssn":1') + b"\n\n",
}


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("pieces", [0, 1, 7])
@pytest.mark.parametrize("kind", EVENTS)
def test_no_writing_of_an_event_shows_it(kind: str, pieces: int, protocol: str, house: House) -> None:
    body = EVENTS[kind](document(protocol)) + b"data: " + document(protocol, '"last":1') + b"\n\n"
    said = house.ask(protocol, stream(body, pieces))
    assert said.status == 200
    soft = "soft break" in kind and kind.startswith("text")  # there it is text, escaped, for every reader
    assert soft or not shows(said), said.rest
    for line in said.rest.decode("utf-8", "replace").splitlines():  # also for a reader with more line ends
        assert not (line.lower().lstrip().startswith("data:") and f'"ssn":"{SECRET}' in line), line
    well = ("LF", "CRLF", "CR", "mixed line ends", "no space", "several lines", "after the end")
    if kind in well and (kind, protocol) != ("after the end", "mcp"):  # in MCP what begins with [ is a batch
        assert b"[redacted]" in said.rest
        assert b'"last":1' in said.rest


def stream(body: bytes, pieces: int) -> Callable[[socket.socket], None]:
    """The body in pieces of so many bytes, 0 for all at once, as chunks of an event stream."""

    def play(connection: socket.socket) -> None:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        head = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
        connection.sendall(head.encode())
        size = pieces or len(body)
        for at in range(0, len(body), size):
            part = body[at : at + size]
            connection.sendall(b"%x\r\n%b\r\n" % (len(part), part))
        connection.sendall(b"0\r\n\r\n")

    return play


def test_an_event_that_needs_no_change_is_not_held_back(house: House) -> None:
    """The upstream ends its stream only when the caller has the first event of it."""
    arrived = threading.Event()

    def play(connection: socket.socket) -> None:
        head = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
        event = b'data: {"n":1}\n\n'
        connection.sendall(head.encode() + b"%x\r\n%b\r\n" % (len(event), event))
        if arrived.wait(10):
            connection.sendall(b"0\r\n\r\n")

    house.upstream.says["/plain/x"] = play
    with socket.create_connection(("127.0.0.1", house.running.app.port), timeout=10) as raw:
        lines = ["GET /http/x HTTP/1.1", "Host: 127.0.0.1", f"Authorization: Bearer {house.token}", "", ""]
        raw.sendall("\r\n".join(lines).encode())
        seen = b""
        while b'{"n":1}' not in seen:
            seen += raw.recv(4096)
        arrived.set()
        while not seen.endswith(b"0\r\n\r\n"):
            seen += raw.recv(4096)
