"""Model endpoints: which model is asked with what, which models are listed, and how vendors' libraries read a no."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import anthropic
import httpx2
import openai
import pytest
from hypothesis import given
from hypothesis import strategies as st
from openai.types import Model

from gateway.core.exchange import Call, Obligation
from gateway.core.reasons import TABLE, Malformed, Reason, Refusal
from gateway.protocols.llm import ANTHROPIC, OPENAI, Llm

OPEN = Llm(OPENAI)
ANTH = Llm(ANTHROPIC)
ASK = b'{"model": "large-1", "messages": [{"role": "user", "content": "hi"}], "max_tokens": 5}'


def call(found: Call | Refusal | None) -> Call:
    assert isinstance(found, Call), found
    return found


def refusal(found: Call | Refusal | None) -> Refusal:
    assert isinstance(found, Refusal), found
    return found


@pytest.mark.parametrize("version", ["", "/v1"])
@pytest.mark.parametrize(
    ("protocol", "path", "action", "api", "metered"),
    [
        (OPEN, "/chat/completions", "llm.chat", "chat.completions", True),
        (OPEN, "/responses", "llm.chat", "responses", True),
        (OPEN, "/embeddings", "llm.embeddings", "embeddings", True),
        (OPEN, "/responses/input_tokens", "llm.count_tokens", "input_tokens", False),
        (ANTH, "/messages", "llm.chat", "messages", True),
        (ANTH, "/messages/count_tokens", "llm.count_tokens", "count_tokens", False),
    ],
)
def test_each_endpoint_asks_for_its_model(
    wire: Any, protocol: Llm, path: str, action: str, api: str, metered: bool, version: str
) -> None:
    found = call(wire.asked(protocol, "POST", f"/r{version}{path}", ASK))
    assert (found.action, found.resource_type, found.resource_id) == (action, "model", "large-1")
    assert found.context == {"api": api}
    assert found.arguments == {"messages": [{"role": "user", "content": "hi"}], "max_tokens": 5}
    assert found.metered is metered
    assert found.judged is (api == "responses")  # its answer mints what later calls name
    assert not found.idempotent
    assert not found.stream


def test_an_escaped_letter_in_the_path_is_the_same_endpoint(wire: Any) -> None:
    assert call(wire.asked(OPEN, "POST", "/r/v1/ch%61t/completions", ASK)).action == "llm.chat"


def test_a_streamed_call_has_the_stream_deadlines(wire: Any) -> None:
    assert call(wire.asked(OPEN, "POST", "/r/responses", b'{"model": "m", "stream": true}')).stream


@pytest.mark.parametrize(
    ("method", "path", "action"),
    [
        ("GET", "/r/v1/responses/resp_1", "http.GET"),
        ("DELETE", "/r/v1/responses/resp_1", "http.DELETE"),
        ("POST", "/r/v1/responses/resp_1/cancel", "http.POST"),
        ("POST", "/r/v1/completions", "http.POST"),
        ("POST", "/r/v1/messages", "http.POST"),
        ("POST", "/r/v1/chat/completions/", "http.POST"),
        ("POST", "/r/v1/v1/chat/completions", "http.POST"),
        ("GET", "/r/v1/chat/completions", "http.GET"),
        ("DELETE", "/r/v1/models/ft:x", "http.DELETE"),
        ("HEAD", "/r/v1/models", "http.HEAD"),
    ],
)
def test_every_other_path_is_governed_as_plain_http(wire: Any, method: str, path: str, action: str) -> None:
    found = call(wire.asked(OPEN, method, path, b'{"model": "large-1"}' if method == "POST" else None))
    assert (found.action, found.resource_type, found.resource_id) == (action, "endpoint", path)
    assert not found.metered


def test_beside_the_models_other_bodies_pass_opaque_and_policy_is_told(wire: Any) -> None:
    headers = [("Content-Type", "multipart/form-data; boundary=x"), ("Content-Encoding", "gzip")]
    found = call(wire.asked(OPEN, "POST", "/r/v1/files", b"--x--", headers))
    assert found.action == "http.POST"
    assert found.context["body"] == {"type": "multipart/form-data; boundary=x", "bytes": 5, "opaque": True}


def test_a_websocket_of_a_model_route_is_judged_like_any_other(wire: Any) -> None:
    found = call(wire.asked(OPEN, "GET", "/r/v1/realtime?model=x", websocket=True))
    assert (found.action, found.resource_id) == ("ws.open", "/r/v1/realtime")
    exchange = wire.exchange(OPEN, "GET", "/r/v1/realtime")
    exchange.asked = OPEN.classify_message(exchange, '{"type": "response.create"}')
    assert call(exchange.asked).action == "ws.message"
    assert OPEN.refuse_message(exchange, Refusal(Reason.DENIED, "no")) is None
    assert OPEN.close_code(Refusal(Reason.DENIED, "no")) == 1008


@pytest.mark.parametrize("content_type", ["text/plain", "application/x-ndjson", "application/json; charset=utf-16"])
def test_a_model_is_asked_in_json_only(wire: Any, content_type: str) -> None:
    found = wire.asked(OPEN, "POST", "/r/v1/chat/completions", ASK, [("Content-Type", content_type)])
    assert refusal(found).reason is Reason.UNSUPPORTED_MEDIA


def test_an_encoded_question_is_refused(wire: Any) -> None:
    headers = [("Content-Type", "application/json"), ("Content-Encoding", "gzip")]
    found = wire.asked(OPEN, "POST", "/r/v1/chat/completions", b"\x1f\x8b", headers)
    assert refusal(found).reason is Reason.UNSUPPORTED_MEDIA


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b'{"messages": []}',
        b'{"model": null}',
        b'{"model": ""}',
        b'{"model": ["large-1"]}',
        b'{"model": "small-1", "model": "large-1"}',
        b'{"model": "small-1", "mod\\u0065l": "large-1"}',
        b'{"model": "small-1", "Model": "large-1"}',
        b'{"model": "small-1", "max_tokens": 1, "MAX_TOKENS": 9}',
        b'{"model": "small-1", "max_tokens": NaN}',
        b'{"model": "small-1", "max_tokens": 99999999999999999999}',
        b'{"model": "small-1\\ud800"}',
    ],
)
def test_a_body_in_which_another_reader_finds_another_model_or_limit_is_refused(wire: Any, body: bytes) -> None:
    exchange = wire.exchange(OPEN, "POST", "/r/v1/chat/completions", b"")
    exchange.body = body
    assert refusal(OPEN.classify(exchange)).reason is Reason.MALFORMED


def test_free_text_that_policy_cannot_hold_is_seen_as_a_safe_copy(wire: Any) -> None:
    body = b'{"model": "m", "seed": 99999999999999999999, "messages": [{"content": "a\\ud800b"}]}'
    exchange = wire.classified(OPEN, "POST", "/r/v1/chat/completions", body)
    assert call(exchange.asked).arguments == {
        "seed": "99999999999999999999",
        "messages": [{"content": "a�b"}],
    }
    assert exchange.body == body
    assert call(exchange.asked).body is None


def test_one_model_is_a_resource(wire: Any) -> None:
    for target, name in (("/r/v1/models/large-1", "large-1"), ("/r/models/ft%3Alarge/x", "ft:large/x")):
        found = call(wire.asked(OPEN, "GET", target))
        assert (found.action, found.resource_type, found.resource_id) == ("llm.models", "model", name)
        assert found.idempotent
        assert not found.judged


@pytest.mark.parametrize("target", ["/r/v1/models", "/r/models?limit=5", "/r/v1/models/"])
@pytest.mark.parametrize("protocol", [OPEN, ANTH])
def test_the_list_of_models_is_judged(wire: Any, protocol: Llm, target: str) -> None:
    found = call(wire.asked(protocol, "GET", target))
    assert (found.action, found.resource_type, found.resource_id) == ("llm.models", "endpoint", "up")
    assert (found.listing, found.judged) == ("models", True)
    assert b"if-none-match" in found.drop_headers


def test_a_list_request_with_a_body_is_refused(wire: Any) -> None:
    for content_type in ("application/json", "text/plain"):
        found = wire.asked(OPEN, "GET", "/r/models", b"{}", [("Content-Type", content_type)])
        assert refusal(found).reason is Reason.MALFORMED


def openai_list(*names: str) -> bytes:
    data = [Model(id=name, created=1, object="model", owned_by="x").model_dump() for name in names]
    return json.dumps({"object": "list", "data": data}).encode()


def anthropic_list(*names: str, has_more: bool = False) -> bytes:
    data = [{"type": "model", "id": name, "display_name": name, "created_at": "2026-01-01T00:00:00Z"} for name in names]
    page = {"data": data, "has_more": has_more, "first_id": names[0], "last_id": names[-1]}
    return json.dumps(page).encode()


def split_everywhere(body: bytes) -> list[list[bytes]]:
    return [[body[:place], body[place:]] for place in range(len(body) + 1)]


def listed(wire: Any, protocol: Llm, body: bytes, policy: Any, answer: Any = None) -> tuple[Any, Any]:
    exchange = wire.classified(protocol, "GET", "/r/v1/models")
    shown = wire.filtered(exchange, answer or wire.Answer(), [body], policy=policy)
    return exchange, b"".join(shown)


def test_a_list_shows_the_models_that_may_be_used_and_asks_as_a_call_would(wire: Any) -> None:
    policy = wire.Policy(
        lambda item: (item.action, item.resource_id) in {("llm.chat", "small-1"), ("llm.embeddings", "embed-1")}
    )
    exchange, shown = listed(wire, OPEN, openai_list("small-1", "large-1", "embed-1"), policy)
    assert [Model.model_validate(item).id for item in json.loads(shown)["data"]] == ["small-1", "embed-1"]
    assert exchange.filtered == (2, 1)
    assert all(item.context["listing"] is True and item.resource_type == "model" for item in policy.asked)


def test_a_model_that_may_be_used_under_an_obligation_only_is_not_listed(wire: Any) -> None:
    policy = wire.Policy(obligations=(Obligation("redact"),))
    assert json.loads(listed(wire, OPEN, openai_list("a"), policy)[1])["data"] == []


def test_a_list_of_which_nothing_is_hidden_keeps_its_bytes_however_it_arrives(wire: Any) -> None:
    body = openai_list("small-1").replace(b" ", b"  ")
    exchange = wire.classified(OPEN, "GET", "/r/models")
    for chunks in split_everywhere(body):
        assert b"".join(wire.filtered(exchange, wire.Answer(), chunks)) == body
    assert exchange.filtered == (1, 0)


def test_a_list_is_filtered_alike_at_every_split(wire: Any) -> None:
    exchange = wire.classified(OPEN, "GET", "/r/models")
    wanted = b"".join(
        wire.filtered(
            exchange, wire.Answer(), [openai_list("a", "b")], policy=wire.Policy(lambda item: item.resource_id == "a")
        )
    )
    for chunks in split_everywhere(openai_list("a", "b")):
        policy = wire.Policy(lambda item: item.resource_id == "a")
        assert b"".join(wire.filtered(exchange, wire.Answer(), chunks, policy=policy)) == wanted
    assert b'"b"' not in wanted


def test_page_bounds_follow_the_items_but_for_a_cursor_that_is_needed(wire: Any) -> None:
    policy = wire.Policy(lambda item: item.resource_id == "b")
    _, shown = listed(wire, ANTH, anthropic_list("a", "b", "c"), policy)
    page = json.loads(shown)
    assert (page["first_id"], page["last_id"]) == ("b", "b")
    assert [item["id"] for item in page["data"]] == ["b"]
    _, shown = listed(wire, ANTH, anthropic_list("a", "b", "c", has_more=True), wire.Policy(lambda item: False))
    page = json.loads(shown)
    assert (page["first_id"], page["last_id"], page["data"]) == (None, "c", [])


def test_a_filtered_list_is_private_and_has_none_of_the_upstreams_validators(wire: Any) -> None:
    headers = [
        (b"content-type", b"application/json"),
        (b"etag", b'"x"'),
        (b"last-modified", b"then"),
        (b"content-digest", b"sha-256=:x:"),
        (b"cache-control", b"public, max-age=60, s-maxage=9"),
    ]
    answer = wire.Answer(200, headers)
    listed(wire, OPEN, openai_list("a"), wire.Policy(), answer)
    assert answer.headers == [(b"content-type", b"application/json"), (b"cache-control", b"private, max-age=60")]


@pytest.mark.parametrize(
    "body",
    [b"", b"[]", b"{}", b'{"data": {}}', b'{"data": [1]}', b'{"data": [{"id": 5}]}', b'{"data": [], "data": []}'],
)
def test_what_is_no_list_of_models_is_not_shown(wire: Any, body: bytes) -> None:
    with pytest.raises(Malformed):
        listed(wire, OPEN, body, wire.Policy())


def test_a_list_in_a_content_coding_is_not_shown(wire: Any) -> None:
    with pytest.raises(Malformed):
        listed(wire, OPEN, openai_list("a"), wire.Policy(), wire.Answer(200, [(b"content-encoding", b"gzip")]))


def test_an_upstreams_error_passes_as_it_is(wire: Any) -> None:
    _, shown = listed(wire, OPEN, b"<html>", wire.Policy(), wire.Answer(503))
    assert shown == b"<html>"


# How the official libraries see a no: each reason, sent through the library's own transport.

EXPECTED: dict[Reason, str] = {
    Reason.MALFORMED: "BadRequestError",
    Reason.UNAUTHENTICATED: "AuthenticationError",
    Reason.SCOPE_INSUFFICIENT: "PermissionDeniedError",
    Reason.DENIED: "PermissionDeniedError",
    Reason.ROUTE_UNKNOWN: "NotFoundError",
    Reason.RATE_LIMITED: "RateLimitError",
}
PASSING = {
    Reason.RATE_LIMITED, Reason.OVERLOADED, Reason.POLICY_UNAVAILABLE, Reason.AUDIT_UNAVAILABLE,
    Reason.IDENTITY_UNAVAILABLE, Reason.CLIENT_TIMEOUT, Reason.UPSTREAM_FAILED, Reason.UPSTREAM_TIMEOUT, Reason.FAULT,
    Reason.BREAKER_OPEN,
}  # fmt: skip


def refusing(wire: Any, protocol: Llm, no: Refusal) -> tuple[Callable[[httpx2.Request], httpx2.Response], list[int]]:
    tries: list[int] = []

    def answer(request: httpx2.Request) -> httpx2.Response:
        tries.append(1)
        status, headers, body = protocol.refuse(wire.exchange(protocol, "POST", "/r"), no)
        return httpx2.Response(status, headers=headers, content=body)

    return answer, tries


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("reason", list(Reason))
def test_the_openai_library_raises_its_own_error_and_tries_again_only_what_may_pass(
    wire: Any, reason: Reason, stream: bool
) -> None:
    answer, tries = refusing(wire, OPEN, Refusal(reason, "not today", retry_after=None))
    with httpx2.Client(transport=httpx2.MockTransport(answer)) as transport:
        client = openai.OpenAI(api_key="x", base_url="http://gw.example/v1", http_client=transport, max_retries=0)
        with pytest.raises(openai.APIStatusError) as caught:
            client.chat.completions.create(model="m", messages=[{"role": "user", "content": "hi"}], stream=stream)
    error = caught.value
    assert type(error).__name__ == EXPECTED.get(reason, type(error).__name__)
    assert error.status_code == TABLE[reason].status
    assert error.code == reason
    assert isinstance(error.body, dict)
    assert error.body["message"] == "not today"
    assert error.body["exchange_id"] == wire.exchange_id
    assert (error.response.headers.get("x-should-retry") == "false") is (reason not in PASSING)
    assert len(tries) == 1


@pytest.mark.parametrize("reason", list(Reason))
def test_the_anthropic_library_raises_its_own_error_with_the_facts(wire: Any, reason: Reason) -> None:
    answer, _ = refusing(wire, ANTH, Refusal(reason, "not today", retry_after=4))
    with httpx2.Client(transport=httpx2.MockTransport(answer)) as transport:
        client = anthropic.Anthropic(api_key="x", base_url="http://gw.example", http_client=transport, max_retries=0)
        with pytest.raises(anthropic.APIStatusError) as caught:
            client.messages.create(model="m", max_tokens=5, messages=[{"role": "user", "content": "hi"}])
    error = caught.value
    assert type(error).__name__ == EXPECTED.get(reason, type(error).__name__)
    assert error.api_message == "not today"
    assert error.error_code == reason
    assert isinstance(error.body, dict)
    details = error.body["error"]["details"]
    assert (details["exchange_id"], details["retry_after"]) == (wire.exchange_id, 4)
    assert error.response.headers["retry-after"] == "4"


def test_a_policy_refusal_is_not_tried_again_even_with_a_status_that_would_be(wire: Any) -> None:
    answer, tries = refusing(wire, OPEN, Refusal(Reason.DENIED, "no", status=503))
    with httpx2.Client(transport=httpx2.MockTransport(answer)) as transport:
        client = openai.OpenAI(api_key="x", base_url="http://gw.example/v1", http_client=transport, max_retries=3)
        with pytest.raises(openai.InternalServerError):
            client.embeddings.create(model="m", input="x")
    assert len(tries) == 1


@given(
    body=st.binary(max_size=120)
    | st.builds(lambda item: json.dumps(item).encode(), st.dictionaries(st.text(), st.text())),
    path=st.sampled_from(["/r/v1/chat/completions", "/r/responses", "/r/models", "/r/models/%c3", "/r/x", "/r"]),
    method=st.sampled_from(["GET", "POST"]),
)
def test_no_request_raises(wire: Any, body: bytes, path: str, method: str) -> None:
    exchange = wire.classified(OPEN, method, path, body)
    assert isinstance(exchange.asked, Call | Refusal)
    if isinstance(exchange.asked, Refusal):
        json.loads(OPEN.refuse(exchange, exchange.asked)[2])
