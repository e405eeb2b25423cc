"""What a caller asks over MCP, method by method and era by era: action, object, arguments, handles."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from mcp_types import methods as official

from gateway.core.exchange import Call, Handle
from gateway.core.reasons import Reason, Refusal
from gateway.protocols.mcp import Mcp
from gateway.protocols.mcp_methods import LEGACY, MODERN, NOTIFICATIONS, REQUESTS, SERVER_REQUESTS
from tests.protocols.mcp_rig import (
    META,
    VERSION_META,
    as_events,
    asked,
    call,
    dump,
    exchange,
    legacy,
    modern,
    modern_headers,
    refused,
    shown,
    stream,
    told,
)
from tests.protocols.mcp_rig import MODERN as MODERN_VERSION

TASK = "786512e2"

# method, params, resource type, resource id, arguments (None: policy sees none)
BOTH: list[tuple[str, dict[str, Any] | None, str, str, Any]] = [
    ("tools/list", None, "endpoint", "up", None),
    ("tools/list", {"cursor": "c"}, "endpoint", "up", {"cursor": "c"}),
    ("tools/call", {"name": "add", "arguments": {"a": 1}}, "tool", "up/add", {"a": 1}),
    ("tools/call", {"name": "add"}, "tool", "up/add", None),
    ("tools/call", {"name": "ns/Ünï cöde"}, "tool", "up/ns/Ünï cöde", None),
    ("prompts/list", None, "endpoint", "up", None),
    ("prompts/get", {"name": "greet", "arguments": {"who": "x"}}, "prompt", "up/greet", {"who": "x"}),
    ("resources/list", None, "endpoint", "up", None),
    ("resources/templates/list", None, "endpoint", "up", None),
    ("resources/read", {"uri": "file:///a"}, "resource", "file:///a", {"uri": "file:///a"}),
]
LEGACY_ONLY: list[tuple[str, dict[str, Any] | None, str, str, Any]] = [
    ("initialize", {"protocolVersion": "2025-11-25"}, "endpoint", "up", {"protocolVersion": "2025-11-25"}),
    ("ping", None, "endpoint", "up", None),
    ("logging/setLevel", {"level": "debug"}, "endpoint", "up", {"level": "debug"}),
    ("resources/subscribe", {"uri": "file:///a"}, "resource", "file:///a", {"uri": "file:///a"}),
    ("resources/unsubscribe", {"uri": "file:///a"}, "resource", "file:///a", {"uri": "file:///a"}),
    ("tasks/list", None, "endpoint", "up", None),
    ("tasks/result", {"taskId": TASK}, "endpoint", "up", {"taskId": TASK}),
]
MODERN_ONLY: list[tuple[str, dict[str, Any] | None, str, str, Any]] = [
    ("server/discover", None, "endpoint", "up", None),
    (
        "subscriptions/listen",
        {"notifications": {"toolsListChanged": True}},
        "endpoint",
        "up",
        {"notifications": {"toolsListChanged": True}},
    ),
    (
        "tasks/update",
        {"taskId": TASK, "inputResponses": {}},
        "endpoint",
        "up",
        {"taskId": TASK, "inputResponses": {}},
    ),
]
COMPLETION = {"argument": {"name": "a", "value": "b"}}


@pytest.mark.parametrize(("method", "params", "kind", "ident", "arguments"), BOTH + LEGACY_ONLY)
def test_a_legacy_request_becomes_a_call(
    method: str, params: dict[str, Any] | None, kind: str, ident: str, arguments: Any
) -> None:
    found = asked(legacy(call(method, params, "id-1")))
    assert (found.action, found.resource_type, found.resource_id) == (f"mcp.{method}", kind, ident)
    assert (found.arguments, found.has_arguments) == (arguments, arguments is not None)
    assert (found.message_id, found.reply, found.era, found.judged) == ("id-1", True, "legacy", True)
    assert found.context == {"session": "s1"}
    assert found.handles[0] == Handle("mcp-session", "s1")
    assert (found.headers, found.drop_headers, found.body) == ((), frozenset(), None)


@pytest.mark.parametrize(("method", "params", "kind", "ident", "arguments"), BOTH + MODERN_ONLY)
def test_a_modern_request_becomes_a_call_without_session_and_with_headers_of_its_body(
    method: str, params: dict[str, Any] | None, kind: str, ident: str, arguments: Any
) -> None:
    found = asked(modern(call(method, params)))
    assert (found.action, found.resource_type, found.resource_id) == (f"mcp.{method}", kind, ident)
    assert (found.arguments, found.has_arguments) == (arguments, arguments is not None)
    assert (found.message_id, found.reply, found.era, found.judged) == (1, True, "modern", True)
    assert not any(handle.kind == "mcp-session" for handle in found.handles)
    assert found.headers[:2] == ((b"mcp-protocol-version", MODERN_VERSION.encode()), (b"mcp-method", method.encode()))
    assert {b"mcp-session-id", b"last-event-id"} <= found.drop_headers
    assert (b"mcp-name" in found.drop_headers) == (len(found.headers) == 2)


def test_the_tables_are_those_of_the_published_schemas() -> None:
    for era, versions in ((LEGACY, ["2024-11-05", "2025-03-26", "2025-06-18", "2025-11-25"]), (MODERN, ["2026-07-28"])):
        extension = {name for name in REQUESTS[era] if name.startswith("tasks/")}
        assert set(REQUESTS[era]) - extension == {name for name, at in official.CLIENT_REQUESTS if at in versions}
        told_ = {name for name, at in official.CLIENT_NOTIFICATIONS if at in versions}
        assert set(NOTIFICATIONS[era]) - {"notifications/tasks/status"} == told_
    legacy_server = {name for name, _ in official.SERVER_REQUESTS}
    assert SERVER_REQUESTS[LEGACY] - {"tasks/get", "tasks/list", "tasks/result", "tasks/cancel"} == legacy_server
    assert SERVER_REQUESTS[MODERN] == legacy_server - {"ping"}


@pytest.mark.parametrize("era", [legacy, modern])
def test_a_completion_is_about_the_prompt_or_resource_it_completes(era: Any) -> None:
    prompt = asked(era(call("completion/complete", {"ref": {"type": "ref/prompt", "name": "greet"}, **COMPLETION})))
    assert (prompt.resource_type, prompt.resource_id) == ("prompt", "up/greet")
    template = {"type": "ref/resource", "uri": "file:///{path}"}
    resource = asked(era(call("completion/complete", {"ref": template, **COMPLETION})))
    assert (resource.resource_type, resource.resource_id) == ("resource", "file:///{path}")
    for ref in ({"type": "ref/tool", "name": "add"}, {"name": "greet"}, "greet", None, {"type": "ref/prompt"}):
        assert refused(era(call("completion/complete", {"ref": ref, **COMPLETION}))).code == -32602


@pytest.mark.parametrize(
    ("era", "method"), [(legacy, name) for name in REQUESTS[LEGACY]] + [(modern, name) for name in REQUESTS[MODERN]]
)
def test_only_what_may_be_repeated_is_idempotent_and_only_endless_answers_are_streams(era: Any, method: str) -> None:
    params = {"name": "n", "uri": "u", "taskId": "t", "ref": {"type": "ref/prompt", "name": "p"}, "notifications": {}}
    found = asked(era(call(method, params)))
    repeatable = method.endswith("/list") or method in (
        "ping", "resources/read", "completion/complete", "server/discover", "tasks/get",
    )  # fmt: skip
    assert found.idempotent == repeatable
    assert found.stream == (method in ("tasks/result", "subscriptions/listen"))
    assert found.metered is (method in ("tools/call", "prompts/get", "resources/read"))
    listings = {"resources/templates/list": "templates"}
    wanted = listings.get(method, method.removesuffix("/list") if method.endswith("/list") else "")
    assert found.listing == wanted


def test_policy_sees_what_a_caller_was_asked_for_and_answers_inside_a_modern_request() -> None:
    answers = {"who": {"action": "accept", "content": {"name": "Ann"}}}
    params = {"name": "add", "arguments": {}, "inputResponses": answers, "requestState": "opaque"}
    found = asked(modern(call("tools/call", params)))
    assert found.context == {"input_responses": answers}
    assert found.arguments == {}


def test_a_task_is_a_handle_of_its_own() -> None:
    assert asked(legacy(call("tasks/cancel", {"taskId": TASK}))).handles == (
        Handle("mcp-session", "s1"),
        Handle("mcp-task", TASK),
    )
    assert asked(modern(call("tasks/get", {"taskId": TASK}))).handles == (Handle("mcp-task", TASK),)
    watched = {"notifications": {"taskIds": ["t1", "t2"]}}
    assert asked(modern(call("subscriptions/listen", watched))).handles == (
        Handle("mcp-task", "t1"),
        Handle("mcp-task", "t2"),
    )


@pytest.mark.parametrize(
    "topics",
    [
        None,
        [],
        {"taskIds": "t1"},
        {"taskIds": [1]},
        {"taskIds": ["t"] * 101},
        {"resourceSubscriptions": [None]},
        {"TaskIds": []},
    ],
)
def test_a_subscription_whose_topics_cannot_be_read_is_refused(topics: Any) -> None:
    assert refused(modern(call("subscriptions/listen", {"notifications": topics}))).code == -32602


@pytest.mark.parametrize(
    "uri",
    [
        "file:///ok/../etc/passwd",
        "file:///ok/..",
        "file:///ok/./x",
        "file:///ok/%2e%2e/etc",
        "file:///ok/.%2E/etc",
        "file:///ok/..%2fetc",
        "file:///ok%2f..%2fetc",
        "file:///ok\\..\\etc",
        "file:///ok%5C..%5Cetc",
        "x:/..?q",
        "x:/..#f",
    ],
)
def test_a_resource_is_not_named_by_walking_upwards(uri: str) -> None:
    for message in (
        call("resources/read", {"uri": uri}),
        call("resources/subscribe", {"uri": uri}),
        call("completion/complete", {"ref": {"type": "ref/resource", "uri": uri}, **COMPLETION}),
    ):
        assert refused(legacy(message)).code == -32602
    assert refused(modern(call("resources/read", {"uri": uri}))).code == -32602


@pytest.mark.parametrize(
    "uri", ["a:b..c", "file:///...", "file:///..a/b..", "x:y/.hidden", "x://h/a?to=/../b", "u/{..}"]
)
def test_dots_that_are_no_segment_are_part_of_a_name(uri: str) -> None:
    assert asked(legacy(call("resources/read", {"uri": uri}))).resource_id == uri


@pytest.mark.parametrize("era", [legacy, modern])
@pytest.mark.parametrize("method", ["tools/call", "prompts/get"])
@pytest.mark.parametrize(
    "params",
    [
        {},
        {"name": None},
        {"name": ""},
        {"name": 7},
        {"name": ["add"]},
        {"name": "add", "arguments": []},
        {"name": "add", "arguments": "x"},
        {"name": "add", "Arguments": {"a": 1}},
        {"name": "add", "ARGUMENT\u017f": {"a": 1}},
        {"Name": "add"},
        {"name": "add", "_Meta": {}},
    ],
)
def test_params_that_do_not_say_what_is_called_are_refused(era: Any, method: str, params: dict[str, Any]) -> None:
    status, body = told(era(call(method, params)))
    assert status == 400
    # The modern era may see first that no header repeats such a name; two spellings of a member are no envelope.
    assert body["error"]["code"] in (-32602, -32020, -32600)


def test_arguments_that_are_null_are_none() -> None:
    found = asked(legacy(call("tools/call", {"name": "add", "arguments": None})))
    assert (found.arguments, found.has_arguments) == (None, False)


@pytest.mark.parametrize("name", sorted(NOTIFICATIONS[LEGACY]))
def test_a_legacy_notification_is_judged_and_waits_for_nothing(name: str) -> None:
    found = asked(legacy({"jsonrpc": "2.0", "method": name, "params": {"requestId": 1, "_meta": {}}}))
    assert (found.action, found.reply, found.message_id) == (f"mcp.{name}", False, None)
    assert found.arguments == {"requestId": 1}
    assert found.handles == (Handle("mcp-session", "s1"),)


def test_a_modern_notification_needs_the_version_header_only() -> None:
    message = {"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": 1}}
    opened = exchange(Mcp(), dump(message), [("mcp-protocol-version", MODERN_VERSION)])
    found = Mcp().classify(opened)
    assert isinstance(found, Call)
    assert (found.action, found.reply, found.era) == ("mcp.notifications/cancelled", False, "modern")
    wrong = exchange(
        Mcp(), dump(message), [("mcp-protocol-version", MODERN_VERSION), ("mcp-method", "notifications/initialized")]
    )
    refusal = Mcp().classify(wrong)
    assert isinstance(refusal, Refusal)
    assert refusal.code == -32020


@pytest.mark.parametrize(
    ("era", "name"),
    [
        (legacy, "tools/delete"),
        (legacy, "server/discover"),
        (legacy, "subscriptions/listen"),
        (legacy, "tasks/update"),
        (legacy, "TOOLS/CALL"),
        (legacy, "tools/call "),
        (legacy, "rpc.discover"),
        (legacy, "sampling/createMessage"),
        (modern, "initialize"),
        (modern, "ping"),
        (modern, "logging/setLevel"),
        (modern, "resources/subscribe"),
        (modern, "resources/unsubscribe"),
        (modern, "tasks/list"),
        (modern, "tasks/result"),
        (modern, "unknown/method"),
    ],
)
def test_an_unknown_method_is_the_eras_own_not_found(era: Any, name: str) -> None:
    opened = era(call(name, {"uri": "u", "taskId": "t"}, 9))
    refusal = refused(opened)
    assert (refusal.reason, refusal.rule) == (Reason.DENIED, "unknown_method")
    status, body = told(opened)
    assert status == (404 if era is modern else 200)
    assert (body["id"], body["error"]["code"]) == (9, -32601)


@pytest.mark.parametrize("era", [legacy, modern])
def test_an_unknown_notification_is_accepted_and_goes_nowhere(era: Any) -> None:
    message = {"jsonrpc": "2.0", "method": "notifications/evil", "params": {}}
    opened = era(message)
    assert (refused(opened).reason, refused(opened).rule) == (Reason.DENIED, "unknown_method")
    assert told(opened) == (202, None)


def test_trace_context_is_read_from_meta_where_it_is_well_formed() -> None:
    trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    assert asked(legacy(call("ping", {"_meta": {"traceparent": trace}}))).traceparent == trace
    assert asked(modern(call("tools/list", {"_meta": {"traceparent": trace}}))).traceparent == trace
    for odd in ("x", trace + "\r\nx: y", trace.upper(), 7, None, [trace]):
        assert asked(legacy(call("ping", {"_meta": {"traceparent": odd}}))).traceparent == ""


def test_a_request_without_version_header_is_of_the_oldest_era() -> None:
    opened = exchange(Mcp(), dump(call("tools/list")), [("content-type", "application/json")])
    found = Mcp().classify(opened)
    assert isinstance(found, Call)
    assert (found.era, found.handles, found.context) == ("legacy", (), {})


def test_get_opens_the_stream_and_delete_ends_the_session() -> None:
    opened = asked(stream())
    assert (opened.action, opened.resource_type, opened.resource_id) == ("mcp.stream.open", "endpoint", "up")
    assert (opened.judged, opened.stream, opened.ends, opened.handles) == (
        True,
        True,
        False,
        (Handle("mcp-session", "s1"),),
    )
    ended = asked(stream(method="DELETE"))
    assert (ended.action, ended.judged, ended.stream, ended.ends) == ("mcp.session.end", False, False, True)
    assert asked(stream(session="")).handles == ()


@pytest.mark.parametrize("method", ["GET", "DELETE"])
def test_the_modern_era_has_no_stream_and_no_session(method: str) -> None:
    opened = stream(method=method, mcp_protocol_version=MODERN_VERSION)
    assert refused(opened).headers == ((b"allow", b"POST"),)
    status, body = told(opened)
    assert (status, body["error"]["data"]["reason"]) == (405, "method_not_allowed")


@pytest.mark.parametrize("method", ["PUT", "PATCH", "HEAD", "OPTIONS", "TRACE", "QUERY"])
def test_other_methods_are_not_allowed(method: str) -> None:
    mcp = Mcp()
    opened = exchange(mcp, None, [], method)
    refusal = mcp.reads_body(opened.head, opened.route)
    assert isinstance(refusal, Refusal)
    assert (refusal.http_status, refusal.headers) == (405, ((b"allow", b"GET, POST, DELETE"),))
    assert isinstance(mcp.classify(opened), Refusal)


def test_a_stream_with_a_body_is_refused() -> None:
    opened = exchange(Mcp(), None, [], "GET")

    async def chunks() -> Any:
        yield b"x"

    opened.body_stream = chunks()
    refusal = Mcp().classify(opened)
    assert isinstance(refusal, Refusal)
    assert refusal.reason is Reason.MALFORMED


def test_an_upgrade_is_refused() -> None:
    opened = exchange(Mcp(), None, [], "GET")
    opened.head = replace(opened.head, websocket=True)
    refusal = Mcp().classify(opened)
    assert isinstance(refusal, Refusal)
    assert refusal.reason is Reason.METHOD_NOT_ALLOWED


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ([("content-type", "application/json")], None),
        ([("content-type", "application/json; charset=utf-8")], None),
        ([("content-type", "APPLICATION/JSON")], None),
        ([], 415),
        ([("content-type", "text/plain")], 415),
        ([("content-type", "text/event-stream")], 415),
        ([("content-type", "multipart/form-data; boundary=x")], 415),
        ([("content-type", "application/json; charset=utf-16")], 415),
        ([("content-type", "application/json"), ("content-type", "text/plain")], 415),
        ([("content-type", "application/json"), ("content-encoding", "gzip")], 415),
    ],
)
def test_only_plain_json_bodies_are_read(headers: list[tuple[str, str]], status: int | None) -> None:
    mcp = Mcp()
    opened = exchange(mcp, None, headers)
    reads = mcp.reads_body(opened.head, opened.route)
    if status is None:
        assert reads is True
    else:
        assert isinstance(reads, Refusal)
        opened.asked = reads
        code, body = told(opened)
        assert (code, body["error"]["data"]["reason"]) == (status, "unsupported_media")


# --- versions


def with_version(header: str | None, meta: object, method: str = "tools/list") -> tuple[int, Any] | Call:
    params: dict[str, Any] = {"_meta": {**META, VERSION_META: meta}}
    if meta is None:
        params = {}
    headers = [("content-type", "application/json"), ("mcp-method", method)]
    if header is not None:
        headers.append(("mcp-protocol-version", header))
    opened = exchange(Mcp(), dump(call(method, params, 5)), headers)
    opened.asked = opened.protocol.classify(opened)
    return opened.asked if isinstance(opened.asked, Call) else told(opened)


@pytest.mark.parametrize("header", [None, "2024-11-05", "2025-03-26", "2025-06-18", "2025-11-25"])
def test_every_legacy_version_is_known(header: str | None) -> None:
    found = with_version(header, None)
    assert isinstance(found, Call)
    assert found.era == "legacy"


@pytest.mark.parametrize(
    ("header", "meta", "code"),
    [
        (None, MODERN_VERSION, -32020),  # the required header is missing
        ("2025-11-25", MODERN_VERSION, -32020),
        (MODERN_VERSION, "2025-11-25", -32020),
        (MODERN_VERSION, "v999.0.0", -32020),
        (MODERN_VERSION, None, -32602),
        (MODERN_VERSION, 20260728, -32602),
        ("v999.0.0", "v999.0.0", -32022),
        ("2025-11-25", "2025-11-25", -32022),  # `_meta` belongs to the modern era, which has no such version
        ("1999-01-01", None, -32602),
        ("2026-07-28 ", MODERN_VERSION, -32020),
    ],
)
def test_a_version_that_does_not_fit_is_told_what_is_wrong(header: str | None, meta: object, code: int) -> None:
    found = with_version(header, meta)
    assert not isinstance(found, Call)
    assert (found[0], found[1]["error"]["code"], found[1]["id"]) == (400, code, 5)


def test_an_unsupported_version_is_told_the_supported_ones_and_its_own() -> None:
    found = with_version("v999.0.0", "v999.0.0")
    assert not isinstance(found, Call)
    data = found[1]["error"]["data"]
    assert (data["supported"], data["requested"]) == ([MODERN_VERSION], "v999.0.0")


def test_a_stream_of_an_unknown_version_is_a_bad_request() -> None:
    status, body = told(stream(mcp_protocol_version="1999-01-01"))
    assert (status, body["error"]["code"]) == (400, -32022)


@pytest.mark.parametrize("missing", [VERSION_META, "io.modelcontextprotocol/clientCapabilities"])
def test_a_modern_request_says_its_version_and_capabilities(missing: str) -> None:
    meta = {name: value for name, value in META.items() if name != missing}
    message = call("tools/list", {"_meta": meta}, 3)
    opened = exchange(Mcp(), dump(message), list(modern_headers(message).items()))
    opened.asked = opened.protocol.classify(opened)
    status, body = told(opened)
    assert (status, body["error"]["code"], body["id"]) == (400, -32602, 3)
    assert missing in body["error"]["message"]


# --- responses


def ask_client(mcp: Mcp, ident: object = 7, session: str = "s1") -> None:
    """The upstream asks the caller for a completion, on the session's stream, and policy lets it."""
    opened = stream(mcp, session)
    shown(opened, as_events(call("sampling/createMessage", {"messages": []}, ident)))


def test_a_response_is_judged_as_the_request_it_answers() -> None:
    mcp = Mcp()
    ask_client(mcp)
    found = asked(legacy({"jsonrpc": "2.0", "id": 7, "result": {"role": "assistant"}}, mcp))
    assert (found.action, found.resource_type, found.resource_id) == ("mcp.sampling/createMessage", "endpoint", "up")
    assert found.context == {"direction": "response", "session": "s1"}
    assert (found.arguments, found.reply, found.handles) == (
        {"role": "assistant"},
        False,
        (Handle("mcp-session", "s1"),),
    )
    failed = asked(legacy({"jsonrpc": "2.0", "id": 7, "error": {"code": -1, "message": "no"}}, mcp))
    assert failed.context == {"direction": "response", "session": "s1", "failed": True}
    assert failed.arguments == {"code": -1, "message": "no"}


@pytest.mark.parametrize(
    ("ident", "session"), [("7", "s1"), (8, "s1"), (7, "s2"), (7, "")], ids=["type", "id", "session", "none"]
)
def test_a_response_to_nothing_that_was_asked_in_its_session_goes_nowhere(ident: object, session: str) -> None:
    mcp = Mcp()
    ask_client(mcp)
    opened = legacy({"jsonrpc": "2.0", "id": ident, "result": {}}, mcp, session)
    assert (refused(opened).reason, refused(opened).rule) == (Reason.DENIED, "unknown_request")
    assert told(opened) == (202, None)


def test_without_a_session_nothing_that_was_asked_can_be_answered() -> None:
    mcp = Mcp()
    ask_client(mcp, session="")
    assert refused(legacy({"jsonrpc": "2.0", "id": 7, "result": {}}, mcp, session="")).rule == "unknown_request"


def test_a_response_does_not_cross_routes() -> None:
    mcp = Mcp()
    ask_client(mcp)
    assert isinstance(legacy({"jsonrpc": "2.0", "id": 7, "result": {}}, mcp, name="other").asked, Refusal)


def test_the_modern_era_has_no_responses_from_callers() -> None:
    message = {"jsonrpc": "2.0", "id": 7, "result": {}}
    opened = exchange(Mcp(), dump(message), [("mcp-protocol-version", MODERN_VERSION)])
    opened.asked = opened.protocol.classify(opened)
    assert told(opened)[0] == 400
    assert refused(opened).code == -32600


def test_an_upstream_that_asks_without_end_pushes_out_its_own_oldest_requests() -> None:
    mcp = Mcp()
    ask_client(mcp, "first", "quiet")
    for ident in range(65):
        ask_client(mcp, ident)
    assert isinstance(legacy({"jsonrpc": "2.0", "id": 0, "result": {}}, mcp).asked, Refusal)
    assert isinstance(legacy({"jsonrpc": "2.0", "id": 64, "result": {}}, mcp).asked, Call)
    assert isinstance(legacy({"jsonrpc": "2.0", "id": "first", "result": {}}, mcp, "quiet").asked, Call)


def test_many_sessions_push_out_the_one_that_was_quiet_longest() -> None:
    mcp = Mcp()
    for number in range(4097):
        mcp._pending.add("weather", f"s{number}", 1, "ping")
    assert isinstance(legacy({"jsonrpc": "2.0", "id": 1, "result": {}}, mcp, "s0").asked, Refusal)
    assert isinstance(legacy({"jsonrpc": "2.0", "id": 1, "result": {}}, mcp, "s1").asked, Call)


@pytest.mark.parametrize("value", ["", "a b", "é", "x" * 1025])
def test_a_session_id_that_cannot_be_one_is_refused(value: str) -> None:
    opened = exchange(Mcp(), dump(call("ping")), [("mcp-session-id", value)])
    opened.asked = opened.protocol.classify(opened)
    assert told(opened)[0] == 400


@pytest.mark.parametrize("name", ["mcp-session-id", "mcp-protocol-version", "mcp-method", "mcp-name", "mcp-param-x"])
def test_a_header_of_the_protocol_that_is_there_twice_is_refused(name: str) -> None:
    opened = exchange(Mcp(), dump(call("ping")), [(name, "a"), ("accept", "x"), (name, "a")])
    opened.asked = opened.protocol.classify(opened)
    assert (told(opened)[0], refused(opened).code) == (400, -32020)
    twice = exchange(Mcp(), dump(call("ping")), [("accept", "a"), ("accept", "b")])
    assert isinstance(twice.protocol.classify(twice), Call)
