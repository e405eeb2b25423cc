"""Plain HTTP: what policy is told of a request, and how a no looks."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.exchange import Call
from gateway.core.reasons import TABLE, Reason, Refusal
from gateway.protocols.http import Http, canonical_path

HTTP = Http()


def call(found: Call | Refusal | None) -> Call:
    assert isinstance(found, Call), found
    return found


def refusal(found: Call | Refusal | None) -> Refusal:
    assert isinstance(found, Refusal), found
    return found


@pytest.mark.parametrize("method", ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "PROPFIND"])
def test_any_method_is_an_action_on_its_path(wire: Any, method: str) -> None:
    found = call(wire.asked(HTTP, method, "/r/files/a?b=c", reads="opaque"))
    assert (found.action, found.resource_type, found.resource_id) == ("http." + method, "endpoint", "/r/files/a")
    assert found.idempotent is (method in ("GET", "HEAD", "PUT", "DELETE", "OPTIONS"))
    assert not found.judged
    assert not found.metered
    assert not found.has_arguments


def test_trace_is_refused_because_it_would_show_the_upstreams_credentials(wire: Any) -> None:
    no = refusal(wire.asked(HTTP, "TRACE", "/r", reads="opaque"))
    assert no.reason is Reason.METHOD_NOT_ALLOWED
    assert no.headers[0][0] == b"allow"


def test_an_opaque_body_is_named_as_such_and_not_read(wire: Any) -> None:
    exchange = wire.classified(HTTP, "PUT", "/r/x", b"\x00\x01", [("Content-Type", "image/png")], reads="opaque")
    assert exchange.body is None
    assert call(exchange.asked).context["body"] == {"type": "image/png", "bytes": 2, "opaque": True}
    assert not call(exchange.asked).has_arguments


def test_a_request_without_a_body_has_no_word_about_one(wire: Any) -> None:
    assert "body" not in call(wire.asked(HTTP, "GET", "/r", reads="opaque")).context


def test_a_route_that_judges_json_gives_policy_the_body(wire: Any) -> None:
    found = call(wire.asked(HTTP, "POST", "/r/pay", b'{"amount": 5}'))
    assert found.has_arguments
    assert found.arguments == {"amount": 5}
    assert "body" not in found.context


def test_an_empty_body_on_a_judged_route_has_no_arguments(wire: Any) -> None:
    assert not call(wire.asked(HTTP, "GET", "/r")).has_arguments


@pytest.mark.parametrize(
    ("content_type", "body"),
    [
        ("text/plain", b'{"amount": 5}'),
        ("multipart/form-data; boundary=x", b"--x--"),
        ("application/json; charset=utf-16", b"{}"),
        ("application/x-www-form-urlencoded", b"a=b"),
        ("application/jsonp", b"{}"),
    ],
)
def test_a_judged_route_refuses_a_body_it_cannot_read(wire: Any, content_type: str, body: bytes) -> None:
    no = refusal(wire.asked(HTTP, "POST", "/r", body, [("Content-Type", content_type)]))
    assert no.reason is Reason.UNSUPPORTED_MEDIA


@pytest.mark.parametrize("content_type", ["application/json", "APPLICATION/JSON;charset=UTF-8", "application/ld+json"])
def test_every_spelling_of_a_json_type_is_read(wire: Any, content_type: str) -> None:
    assert call(wire.asked(HTTP, "POST", "/r", b"[1]", [("Content-Type", content_type)])).arguments == [1]


def test_an_encoded_body_is_refused_where_it_is_judged(wire: Any) -> None:
    headers = [("Content-Type", "application/json"), ("Content-Encoding", "gzip")]
    assert refusal(wire.asked(HTTP, "POST", "/r", b"\x1f\x8b", headers)).reason is Reason.UNSUPPORTED_MEDIA
    plain = [("Content-Type", "application/json"), ("Content-Encoding", "identity")]
    assert call(wire.asked(HTTP, "POST", "/r", b"{}", plain)).has_arguments


def test_two_content_types_are_refused_where_a_body_is_judged(wire: Any) -> None:
    headers = [("Content-Type", "application/json"), ("Content-Type", "text/plain")]
    for both in (headers, headers[::-1], [headers[0]] * 2):
        assert refusal(wire.asked(HTTP, "POST", "/r", b"{}", both)).reason is Reason.UNSUPPORTED_MEDIA


def test_a_body_without_a_type_is_refused_where_it_is_judged(wire: Any) -> None:
    exchange = wire.exchange(HTTP, "POST", "/r")
    assert HTTP.reads_body(exchange.head, exchange.route) is True
    exchange.body = b"{}"
    assert refusal(HTTP.classify(exchange)).reason is Reason.UNSUPPORTED_MEDIA


@pytest.mark.parametrize("body", [b"{", b'{"a":1,"a":2}', b'{"a":NaN}', b"\xef\xbb\xbf{}", b'{"a":9007199254740993}'])
def test_a_judged_body_that_is_not_strict_json_is_refused(wire: Any, body: bytes) -> None:
    assert refusal(wire.asked(HTTP, "POST", "/r", body)).reason is Reason.MALFORMED


def test_a_caller_that_waits_for_events_gets_the_stream_deadlines(wire: Any) -> None:
    assert call(wire.asked(HTTP, "GET", "/r", None, [("Accept", "text/event-stream")])).stream
    assert not call(wire.asked(HTTP, "GET", "/r", None, [("Accept", "*/*")])).stream


@pytest.mark.parametrize(
    ("path", "canonical"),
    [
        ("/r/plain", "/r/plain"),
        ("/r/%61dmin", "/r/admin"),
        ("/r/%41%2d%5F%7e", "/r/A-_~"),
        ("/r/a%3ab%c3%a5", "/r/a%3Ab%C3%A5"),
        ("/r/100%25", "/r/100%25"),
        ("/r/%2561", "/r/%2561"),
    ],
)
def test_policy_sees_one_spelling_of_a_path(wire: Any, path: str, canonical: str) -> None:
    assert call(wire.asked(HTTP, "GET", path)).resource_id == canonical


@given(st.lists(st.sampled_from(["/", "a", "%61", "%2F", "%2f", "%c3", "%7e", "%25", ":"]), max_size=12))
def test_a_path_has_one_canonical_form(parts: list[str]) -> None:
    once = canonical_path("".join(parts))
    assert canonical_path(once) == once
    assert "%61" not in once
    assert "%2f" not in once


@pytest.mark.parametrize("reason", list(Reason))
def test_every_reason_becomes_a_problem_document(wire: Any, reason: Reason) -> None:
    exchange = wire.exchange(HTTP)
    status, headers, body = HTTP.refuse(exchange, Refusal(reason, "not today", rule="secret_rule", retry_after=3))
    document = json.loads(body)
    assert status == document["status"] == TABLE[reason].status
    assert document["detail"] == "not today"
    assert document["reason"] == reason
    assert document["exchange_id"] == wire.exchange_id
    assert document["retry_after"] == 3
    assert "secret_rule" not in body.decode()
    assert dict(headers)[b"content-type"] == b"application/problem+json"
    assert dict(headers)[b"retry-after"] == b"3"
    assert dict(headers)[b"cache-control"] == b"no-store"


def test_a_refusals_own_status_headers_and_facts_are_in_the_problem(wire: Any) -> None:
    no = Refusal(
        Reason.TOO_LARGE, "long", status=431, headers=((b"retry-after", b"7"),), retry_after=9, data={"limit": 5}
    )
    status, headers, body = HTTP.refuse(wire.exchange(HTTP), no)
    assert status == 431
    assert [value for name, value in headers if name == b"retry-after"] == [b"7"]
    assert json.loads(body)["limit"] == 5


def test_a_rate_limit_has_the_registered_problem_type(wire: Any) -> None:
    document = json.loads(HTTP.refuse(wire.exchange(HTTP), Refusal(Reason.RATE_LIMITED, "slow"))[2])
    assert document["type"].endswith("#quota-exceeded")


def test_answers_pass_untouched_and_unmetered(wire: Any) -> None:
    exchange = wire.classified(HTTP, "GET", "/r")
    assert wire.filtered(exchange, wire.Answer(), [b"a", b"b"]) == [b"a", b"b"]
    assert wire.reader(exchange, wire.Answer()) is None


@given(
    body=st.binary(max_size=200),
    content_type=st.sampled_from(
        ["application/json", "", "text/plain", "application/json;charset=x", "\xff;;=", "a+json"]
    ),
)
def test_no_request_raises(wire: Any, body: bytes, content_type: str) -> None:
    found = wire.asked(HTTP, "POST", "/r/x", body, [("Content-Type", content_type)])
    assert isinstance(found, Call | Refusal)
    exchange = wire.exchange(HTTP)
    exchange.asked = found
    if isinstance(found, Refusal):
        json.loads(HTTP.refuse(exchange, found)[2])
