"""What cannot be read is not passed on: another media type, a content coding, a body where none belongs."""

from __future__ import annotations

import gzip

import pytest

from tests.attacks.mcp_gate import Gate
from tests.protocols.mcp_rig import Answer, as_json, call, dump, result

ROW = 29

BODY = dump(call("tools/call", {"name": "a"}))


@pytest.mark.parametrize(
    ("headers", "body"),
    [
        ([], BODY),
        ([("content-type", "text/plain")], BODY),
        ([("content-type", "text/plain; application/json")], BODY),
        ([("content-type", "application/jsonp")], BODY),
        ([("content-type", "application/x-www-form-urlencoded")], BODY),
        ([("content-type", "multipart/form-data; boundary=a")], b"--a\r\n\r\n" + BODY + b"\r\n--a--"),
        ([("content-type", "application/json; charset=utf-7")], BODY),
        ([("content-type", "application/json; charset=utf-16")], BODY.decode().encode("utf-16")),
        ([("content-type", "application/json"), ("content-type", "application/json")], BODY),
        ([("content-type", "application/json"), ("content-encoding", "gzip")], gzip.compress(BODY, mtime=0)),
        ([("content-type", "application/json"), ("content-encoding", "identity, gzip")], gzip.compress(BODY, mtime=0)),
        ([("content-type", "application/json"), ("content-encoding", "br")], BODY),
    ],
)
def test_a_body_that_policy_cannot_see_is_unsupported(headers: list[tuple[str, str]], body: bytes) -> None:
    gate = Gate()
    reply = gate.raw(body, headers)
    assert (reply.status, reply.reason) == (415, "unsupported_media")
    assert gate.upstream.sent == []
    assert gate.kinds == ["refusal"]


@pytest.mark.parametrize(
    "body", [b"", gzip.compress(BODY, mtime=0), b"method=tools/call", b"<x/>", b"null", b'"tools/call"']
)
def test_a_body_that_is_no_message_is_malformed(body: bytes) -> None:
    gate = Gate()
    assert gate.legacy(body).status == 400
    assert gate.upstream.sent == []


@pytest.mark.parametrize("method", ["PUT", "PATCH", "HEAD", "OPTIONS", "TRACE", "LINK"])
def test_no_other_method_carries_a_call(method: str) -> None:
    gate = Gate()
    reply = gate.legacy(BODY, method=method)
    assert (reply.status, reply.reason) == (405, "method_not_allowed")
    assert gate.upstream.sent == []


def test_an_answer_that_cannot_be_judged_is_not_shown() -> None:
    secret = dump(result({"tools": [{"name": "secret"}]}))
    for answer in (
        Answer(secret, 200, [(b"content-type", b"text/plain")]),
        Answer(gzip.compress(secret), 200, [(b"content-type", b"application/json"), (b"content-encoding", b"gzip")]),
        as_json(b"\xef\xbb\xbf" + secret),
        as_json(secret.decode().encode("utf-16")),
        as_json(secret[:-1]),
    ):
        gate = Gate()
        gate.upstream.answer = answer
        reply = gate.legacy(call("tools/list"))
        assert (reply.status, reply.reason) == (502, "upstream_failed")
        assert b"secret" not in reply.body
        assert gate.kinds == ["intent", "outcome"]
