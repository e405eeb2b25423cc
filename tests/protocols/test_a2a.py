"""A2A requests: what each is, which tasks it names, and how a no looks in the caller's own binding."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.exchange import Call, Handle
from gateway.core.reasons import TABLE, Reason, Refusal
from gateway.protocols.a2a import A2a

A2A = A2a()
ERROR_INFO = "type.googleapis.com/google.rpc.ErrorInfo"


def call(found: Call | Refusal | None) -> Call:
    assert isinstance(found, Call), found
    return found


def refusal(found: Call | Refusal | None) -> Refusal:
    assert isinstance(found, Refusal), found
    return found


def rpc(method: str, params: object = None, ident: object = 1) -> bytes:
    message: dict[str, object] = {"jsonrpc": "2.0", "id": ident, "method": method}
    if params is not None:
        message["params"] = params
    return json.dumps(message).encode()


def tasks(found: Call) -> list[str]:
    assert {handle.kind for handle in found.handles} <= {"a2a-task", "a2a-context"}
    return [handle.id for handle in found.handles if handle.kind == "a2a-task"]


MESSAGE = {"messageId": "m", "role": "ROLE_USER", "parts": [{"text": "hi"}]}
SENT = {"message": MESSAGE}

# method, params, operation, tasks it names, stream, answer judged
RPC_TABLE: list[tuple[str, dict[str, Any], str, list[str], bool, bool]] = [
    ("SendMessage", SENT, "SendMessage", [], False, True),
    ("SendStreamingMessage", SENT, "SendStreamingMessage", [], True, True),
    ("GetTask", {"id": "t"}, "GetTask", ["t"], False, False),
    ("ListTasks", {}, "ListTasks", [], False, True),
    ("CancelTask", {"id": "t"}, "CancelTask", ["t"], False, False),
    ("SubscribeToTask", {"id": "t"}, "SubscribeToTask", ["t"], True, False),
    (
        "CreateTaskPushNotificationConfig",
        {"taskId": "t", "id": "c", "url": "https://x"},
        "CreateTaskPushNotificationConfig",
        ["t"],
        False,
        False,
    ),
    ("GetTaskPushNotificationConfig", {"taskId": "t", "id": "c"}, "GetTaskPushNotificationConfig", ["t"], False, False),
    ("ListTaskPushNotificationConfigs", {"taskId": "t"}, "ListTaskPushNotificationConfigs", ["t"], False, False),
    (
        "DeleteTaskPushNotificationConfig",
        {"taskId": "t", "id": "c"},
        "DeleteTaskPushNotificationConfig",
        ["t"],
        False,
        False,
    ),
    ("GetExtendedAgentCard", {}, "GetExtendedAgentCard", [], False, True),
    ("message/send", SENT, "SendMessage", [], False, True),
    ("message/stream", SENT, "SendStreamingMessage", [], True, True),
    ("tasks/get", {"id": "t"}, "GetTask", ["t"], False, False),
    ("tasks/cancel", {"id": "t"}, "CancelTask", ["t"], False, False),
    ("tasks/resubscribe", {"id": "t"}, "SubscribeToTask", ["t"], True, False),
    (
        "tasks/pushNotificationConfig/set",
        {"taskId": "t", "pushNotificationConfig": {"url": "https://x"}},
        "CreateTaskPushNotificationConfig",
        ["t"],
        False,
        False,
    ),
    (
        "tasks/pushNotificationConfig/get",
        {"id": "t", "pushNotificationConfigId": "c"},
        "GetTaskPushNotificationConfig",
        ["t"],
        False,
        False,
    ),
    ("tasks/pushNotificationConfig/list", {"id": "t"}, "ListTaskPushNotificationConfigs", ["t"], False, False),
    (
        "tasks/pushNotificationConfig/delete",
        {"id": "t", "pushNotificationConfigId": "c"},
        "DeleteTaskPushNotificationConfig",
        ["t"],
        False,
        False,
    ),
    ("agent/getAuthenticatedExtendedCard", {}, "GetExtendedAgentCard", [], False, True),
]


@pytest.mark.parametrize("target", ["/r", "/r/", "/r/a2a/jsonrpc"])
@pytest.mark.parametrize(("method", "params", "operation", "named", "stream", "judged"), RPC_TABLE)
def test_each_method_of_both_versions_is_its_operation(
    wire: Any,
    method: str,
    params: dict[str, Any],
    operation: str,
    named: list[str],
    stream: bool,
    judged: bool,
    target: str,
) -> None:
    found = call(wire.asked(A2A, "POST", target, rpc(method, params, "id-7")))
    assert (found.action, found.resource_type, found.resource_id) == ("a2a." + operation, "agent", "up")
    assert found.arguments == params
    assert found.message_id == "id-7"
    assert tasks(found) == named
    assert (found.stream, found.judged) == (stream, judged)
    assert found.metered is operation.endswith("Message")
    assert found.context["binding"] == "JSONRPC"
    assert found.idempotent is operation.startswith(("Get", "List"))


# HTTP method, path, body, operation, arguments, tasks
REST_TABLE: list[tuple[str, str, dict[str, Any] | None, str, dict[str, Any], list[str]]] = [
    ("POST", "/message:send", SENT, "SendMessage", SENT, []),
    ("POST", "/message:stream", SENT, "SendStreamingMessage", SENT, []),
    ("GET", "/tasks/t?historyLength=3", None, "GetTask", {"id": "t", "historyLength": "3"}, ["t"]),
    ("GET", "/tasks/urn%3Ax:y", None, "GetTask", {"id": "urn:x:y"}, ["urn:x:y"]),
    (
        "GET",
        "/tasks?contextId=c&status=a&status=b",
        None,
        "ListTasks",
        {"contextId": "c", "status": ["a", "b"]},
        [],
    ),
    ("POST", "/tasks/t:cancel", {}, "CancelTask", {"id": "t"}, ["t"]),
    ("POST", "/tasks/t:cancel", None, "CancelTask", {"id": "t"}, ["t"]),
    ("POST", "/tasks/a:b:cancel", {"id": "a:b", "metadata": {}}, "CancelTask", {"id": "a:b", "metadata": {}}, ["a:b"]),
    ("POST", "/tasks/t:subscribe", None, "SubscribeToTask", {"id": "t"}, ["t"]),
    ("GET", "/tasks/t:subscribe", None, "SubscribeToTask", {"id": "t"}, ["t"]),
    (
        "POST",
        "/tasks/t/pushNotificationConfigs",
        {"taskId": "t", "id": "c", "url": "https://x"},
        "CreateTaskPushNotificationConfig",
        {"taskId": "t", "id": "c", "url": "https://x"},
        ["t"],
    ),
    (
        "POST",
        "/tasks/t/pushNotificationConfigs",
        {"parent": "tasks/t", "config_id": "c", "config": {"name": "x"}},
        "CreateTaskPushNotificationConfig",
        {"parent": "tasks/t", "config_id": "c", "config": {"name": "x"}, "taskId": "t"},
        ["t"],
    ),
    (
        "GET",
        "/tasks/t/pushNotificationConfigs/c",
        None,
        "GetTaskPushNotificationConfig",
        {"taskId": "t", "id": "c"},
        ["t"],
    ),
    (
        "GET",
        "/tasks/t/pushNotificationConfigs?pageSize=1",
        None,
        "ListTaskPushNotificationConfigs",
        {"taskId": "t", "pageSize": "1"},
        ["t"],
    ),
    (
        "DELETE",
        "/tasks/t/pushNotificationConfigs/c",
        None,
        "DeleteTaskPushNotificationConfig",
        {"taskId": "t", "id": "c"},
        ["t"],
    ),
    ("GET", "/extendedAgentCard", None, "GetExtendedAgentCard", {}, []),
    ("GET", "/.well-known/agent-card.json", None, "GetAgentCard", {}, []),
    ("GET", "/.well-known/agent.json", None, "GetAgentCard", {}, []),
    ("HEAD", "/.well-known/agent-card.json", None, "GetAgentCard", {}, []),
]


@pytest.mark.parametrize(
    ("prefix", "tenant"), [("", None), ("/acme", "acme"), ("/v1", None), ("/a2a/rest/acme", "a2a/rest/acme")]
)
@pytest.mark.parametrize(("method", "path", "body", "operation", "arguments", "named"), REST_TABLE)
def test_each_path_of_http_json_is_its_operation_also_for_a_tenant(
    wire: Any,
    method: str,
    path: str,
    body: dict[str, Any] | None,
    operation: str,
    arguments: dict[str, Any],
    named: list[str],
    prefix: str,
    tenant: str | None,
) -> None:
    sent = json.dumps(body).encode() if body is not None else None
    found = call(wire.asked(A2A, method, "/r" + prefix + path, sent))
    assert (found.action, found.resource_type, found.resource_id) == ("a2a." + operation, "agent", "up")
    assert found.arguments == arguments
    assert tasks(found) == named
    assert found.context.get("tenant") == tenant
    assert found.context["binding"] == "HTTP+JSON"
    assert found.message_id is None


def test_the_extended_card_of_the_older_version_has_a_path_of_its_own(wire: Any) -> None:
    assert call(wire.asked(A2A, "GET", "/r/v1/card")).action == "a2a.GetExtendedAgentCard"
    assert refusal(wire.asked(A2A, "GET", "/r/card")).rule == "unknown_path"


@pytest.mark.parametrize(
    ("target", "headers", "version"),
    [
        ("/r", [("A2A-Version", "1.0")], "1.0"),
        ("/r", [], "0.3"),
        ("/r", [("A2A-Version", "")], "0.3"),
        ("/r?A2A-Version=1.0", [], "1.0"),
        ("/r?A2A-Version=0.3", [("A2A-Version", "1.0")], "1.0"),
    ],
)
def test_the_version_is_told_as_the_request_says_it(
    wire: Any, target: str, headers: list[tuple[str, str]], version: str
) -> None:
    body = [*headers, ("Content-Type", "application/json")]
    assert call(wire.asked(A2A, "POST", target, rpc("SendMessage", SENT), body)).context["version"] == version


def test_the_version_in_the_query_is_no_argument(wire: Any) -> None:
    found = call(wire.asked(A2A, "GET", "/r/tasks?A2A-Version=1.0&pageSize=2"))
    assert found.arguments == {"pageSize": "2"}
    assert found.context["version"] == "1.0"


def test_a_tenant_of_json_rpc_is_told(wire: Any) -> None:
    found = call(wire.asked(A2A, "POST", "/r", rpc("ListTasks", {"tenant": "acme"})))
    assert found.context["tenant"] == "acme"
    assert call(wire.asked(A2A, "POST", "/r", rpc("ListTasks", {"tenant": ""}))).context.get("tenant") is None


@pytest.mark.parametrize(
    ("params", "named"),
    [
        ({"message": MESSAGE | {"taskId": "t"}}, ["t"]),
        ({"message": MESSAGE | {"task_id": "t"}}, ["t"]),
        ({"message": MESSAGE | {"taskId": ""}}, []),
        ({"message": MESSAGE | {"taskId": None}}, []),
        ({"message": MESSAGE | {"taskId": "t", "referenceTaskIds": ["u", "t", "v"]}}, ["t", "u", "v"]),
        ({"message": MESSAGE | {"reference_task_ids": ["u"]}}, ["u"]),
        ({"message": MESSAGE, "configuration": {"taskPushNotificationConfig": {"taskId": "t"}}}, ["t"]),
        ({"message": MESSAGE, "configuration": {"task_push_notification_config": {"task_id": "t"}}}, ["t"]),
        ({"request": {"message_id": "m", "task_id": "t"}}, ["t"]),
        ({}, []),
    ],
)
def test_every_task_a_message_names_is_a_handle_in_any_spelling(
    wire: Any, params: dict[str, Any], named: list[str]
) -> None:
    assert tasks(call(wire.asked(A2A, "POST", "/r", rpc("SendMessage", params)))) == named
    assert tasks(call(wire.asked(A2A, "POST", "/r/message:send", json.dumps(params).encode()))) == named
    assert tasks(call(wire.asked(A2A, "POST", "/r/message:stream", json.dumps(params).encode()))) == named


@pytest.mark.parametrize(
    ("method", "params", "named"),
    [
        ("SendMessage", {"message": MESSAGE | {"contextId": "c"}}, "c"),
        ("SendMessage", {"message": MESSAGE | {"context_id": "c", "taskId": "t"}}, "c"),
        ("SendStreamingMessage", {"message": MESSAGE | {"contextId": "c"}}, "c"),
        ("SendMessage", {"message": MESSAGE | {"contextId": ""}}, ""),
        ("ListTasks", {"contextId": "c"}, "c"),
        ("GetTask", {"id": "t", "contextId": "c"}, ""),
    ],
)
def test_the_conversation_of_a_message_or_a_list_is_a_handle_that_callers_may_choose(
    wire: Any, method: str, params: dict[str, Any], named: str
) -> None:
    found = call(wire.asked(A2A, "POST", "/r", rpc(method, params)))
    contexts = [handle for handle in found.handles if handle.kind == "a2a-context"]
    assert contexts == ([Handle("a2a-context", named, chosen=True)] if named else [])


AMBIGUOUS: list[tuple[str, dict[str, Any]]] = [
    ("SendMessage", {"message": MESSAGE | {"taskId": "mine", "task_id": "theirs"}}),
    ("SendMessage", {"message": MESSAGE | {"TaskId": "theirs"}}),
    ("SendMessage", {"message": MESSAGE | {"taskid": "theirs"}}),
    ("SendMessage", {"Message": MESSAGE | {"taskId": "theirs"}}),
    ("SendMessage", {"message": MESSAGE, "request": MESSAGE | {"taskId": "theirs"}}),
    ("SendMessage", {"message": MESSAGE | {"taskId": 5}}),
    ("SendMessage", {"message": MESSAGE | {"contextId": 5}}),
    ("SendMessage", {"message": MESSAGE | {"contextid": "theirs"}}),
    ("SendMessage", {"message": MESSAGE | {"contextId": "mine", "context_id": "theirs"}}),
    ("ListTasks", {"contextId": ["theirs"]}),
    ("SendMessage", {"message": MESSAGE | {"referenceTaskIds": [["theirs"]]}}),
    ("SendMessage", {"message": [MESSAGE]}),
    ("SendMessage", {"message": MESSAGE | {"Parts": [{"text": "unseen"}]}}),
    ("GetTask", {}),
    ("GetTask", {"id": ""}),
    ("GetTask", {"id": ["theirs"]}),
    ("GetTask", {"ID": "theirs"}),
    ("GetTask", {"id": "mine", "taskId": "theirs"}),
    ("CancelTask", {"id": 7}),
    ("GetTaskPushNotificationConfig", {"id": "c"}),
    ("GetTaskPushNotificationConfig", {"taskId": "mine", "task_id": "theirs", "id": "c"}),
    ("tasks/pushNotificationConfig/get", {"taskId": "t"}),
    ("ListTasks", {"tenant": 5}),
]


@pytest.mark.parametrize(("method", "params"), AMBIGUOUS)
def test_a_task_that_two_readers_could_find_differently_is_refused(
    wire: Any, method: str, params: dict[str, Any]
) -> None:
    no = refusal(wire.asked(A2A, "POST", "/r", rpc(method, params)))
    assert (no.reason, no.rpc_code) == (Reason.MALFORMED, -32602)


@pytest.mark.parametrize(
    ("method", "target", "body"),
    [
        ("POST", "/r/tasks/mine:cancel", {"id": "theirs"}),
        ("POST", "/r/tasks/mine:cancel?id=theirs", None),
        ("GET", "/r/tasks/mine?id=theirs", None),
        ("GET", "/r/tasks/mine?id=mine&id=theirs", None),
        ("GET", "/r/tasks/mine?name=tasks/theirs", None),
        ("POST", "/r/tasks/mine:subscribe", {"taskId": "theirs"}),
        ("POST", "/r/tasks/mine/pushNotificationConfigs", {"taskId": "theirs"}),
        ("POST", "/r/tasks/mine/pushNotificationConfigs", {"task_id": "theirs"}),
        ("POST", "/r/tasks/mine/pushNotificationConfigs", {"parent": "tasks/theirs"}),
        ("POST", "/r/tasks/mine/pushNotificationConfigs", {"parent": "tasks/mine2"}),
        ("GET", "/r/tasks/mine/pushNotificationConfigs/c?taskId=theirs", None),
        ("DELETE", "/r/tasks/mine/pushNotificationConfigs/c?id=d", None),
        ("POST", "/r/acme/message:send", {"message": MESSAGE, "tenant": "other"}),
        ("POST", "/r/message:send?tenant=a", {"message": MESSAGE, "tenant": "b"}),
    ],
)
def test_path_query_and_body_that_disagree_are_refused(
    wire: Any, method: str, target: str, body: dict[str, Any] | None
) -> None:
    sent = json.dumps(body).encode() if body is not None else None
    assert refusal(wire.asked(A2A, method, target, sent)).reason is Reason.MALFORMED


@pytest.mark.parametrize("tenant", ["acme", "m/acme"])
def test_path_and_tenant_that_agree_are_one(wire: Any, tenant: str) -> None:
    body = json.dumps({"message": MESSAGE, "tenant": "acme"}).encode()
    assert call(wire.asked(A2A, "POST", f"/r/{tenant}/message:send", body)).context["tenant"] == tenant


@pytest.mark.parametrize(
    "method",
    ["tasks/list", "tasks/send", "sendMessage", "SENDMESSAGE", "GetAgentCard", "initialize", "tools/call", " "],
)
def test_an_unknown_method_is_denied_as_not_found(wire: Any, method: str) -> None:
    exchange = wire.classified(A2A, "POST", "/r", rpc(method, {}, "i"))
    no = refusal(exchange.asked)
    assert (no.reason, no.rule) == (Reason.DENIED, "unknown_method")
    status, _, body = A2A.refuse(exchange, no)
    assert status == 200
    assert json.loads(body)["error"]["code"] == -32601
    assert json.loads(body)["id"] == "i"


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/admin"),
        ("GET", "/tasks/"),
        ("GET", "//tasks"),
        ("GET", "/acme//tasks"),
        ("GET", "/TASKS"),
        ("GET", "/tasks/a/b"),
        ("GET", "/tasks/tasks"),
        ("GET", "/tasks/a/tasks"),
        ("GET", "/tasks/a/tasks/b"),
        ("GET", "/tasks/extendedAgentCard"),
        ("GET", "/tasks/a%3Asubscribe"),
        ("GET", "/tasks/a%3acancel"),
        ("GET", "/tasks/%ff"),
        ("GET", "/tasks/a/pushNotificationConfigs/"),
        ("GET", "/tasks/a/pushNotificationConfigs/b/c"),
        ("GET", "/agent-card.json"),
        ("GET", "/.well-known/jwks.json"),
        ("PUT", "/anything"),
    ],
)
def test_an_unknown_path_is_denied_as_not_found(wire: Any, method: str, path: str) -> None:
    exchange = wire.classified(A2A, method, "/r" + path)
    no = refusal(exchange.asked)
    assert (no.reason, no.rule) == (Reason.DENIED, "unknown_path")
    status, headers, body = A2A.refuse(exchange, no)
    assert status == 404
    error = json.loads(body)["error"]
    assert (error["code"], error["status"]) == (404, "NOT_FOUND")
    assert dict(headers)[b"content-type"] == b"application/json"


def test_a_post_beside_the_operations_is_json_rpc_or_nothing(wire: Any) -> None:
    assert refusal(wire.asked(A2A, "POST", "/r/rpc", json.dumps(SENT).encode())).reason is Reason.MALFORMED
    assert call(wire.asked(A2A, "POST", "/r/rpc", rpc("GetTask", {"id": "t"}))).handles == (Handle("a2a-task", "t"),)


@pytest.mark.parametrize(
    "path",
    [
        "/tasks/theirs%3Acancel",
        "/tasks/tasks/theirs:cancel",
        "/TASKS/theirs:cancel",
        "/Tasks/theirs/pushNotificationConfigs",
        "/message%3Asend",
        "/Message:Send",
        "/mess%61ge%3Asend",
        "/acme/tasks",
        "/tasks/theirs:CANCEL",
        "/rpc%2e",
        "/tasks;x/theirs/pushNotificationConfigs",
        "/message;x=1",
    ],
)
def test_a_body_of_json_rpc_does_not_cover_a_path_another_server_reads_as_an_operation(wire: Any, path: str) -> None:
    exchange = wire.classified(A2A, "POST", "/r" + path, rpc("GetTask", {"id": "mine"}))
    assert refusal(exchange.asked).rule in ("unknown_path", "method")


@pytest.mark.parametrize(
    ("method", "path", "allow"),
    [
        ("GET", "", b"POST"),
        ("DELETE", "/", b"POST"),
        ("GET", "/message:send", b"POST"),
        ("POST", "/tasks", b"GET"),
        ("DELETE", "/tasks/t", b"GET"),
        ("PUT", "/tasks/t:subscribe", b"POST, GET"),
        ("POST", "/extendedAgentCard", b"GET"),
        ("POST", "/.well-known/agent-card.json", b"GET, HEAD"),
        ("PATCH", "/tasks/t/pushNotificationConfigs/c", b"GET, DELETE"),
    ],
)
def test_a_known_path_with_another_method_says_which_are_allowed(
    wire: Any, method: str, path: str, allow: bytes
) -> None:
    exchange = wire.classified(A2A, method, "/r" + path, b"{}" if method == "POST" else None)
    status, headers, _ = A2A.refuse(exchange, refusal(exchange.asked))
    assert status == 405
    assert dict(headers)[b"allow"] == allow


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b"", -32700),
        (b"{", -32700),
        (b"[" + rpc("GetTask", {"id": "t"}) + b"]", -32600),
        (b"[]", -32600),
        (b" \n[[" + rpc("GetTask", {"id": "t"}) + b"]]", -32600),
        (b"\xef\xbb\xbf" + rpc("GetTask", {"id": "t"}), -32700),
        (b'{"jsonrpc":"2.0","id":1,"method":"GetTask","params":{"id":"a","id":"b"}}', -32700),
        (b'{"jsonrpc":"2.0","id":1,"method":"GetTask","params":{"id":"a","\\u0069d":"b"}}', -32700),
        (b'{"jsonrpc":"2.0","id":1,"method":"GetTask","params":{"id":"a","Id":"b"}}', -32600),
        (b'{"jsonrpc":"2.0","method":"GetTask","params":{"id":"a"}}', -32600),
        (b'{"jsonrpc":"2.0","id":1,"result":{}}', -32600),
        (b'{"jsonrpc":"2.0","id":1,"method":"GetTask","params":["a"]}', -32600),
        (b'{"jsonrpc":"2.0","id":1,"method":"ListTasks","params":{"pageSize":9007199254740993}}', -32700),
    ],
)
def test_what_is_no_single_request_is_refused_in_json_rpc(wire: Any, body: bytes, code: int) -> None:
    exchange = wire.exchange(A2A, "POST", "/r", b"")
    exchange.body = body
    exchange.asked = A2A.classify(exchange)
    status, _, answer = A2A.refuse(exchange, refusal(exchange.asked))
    assert status == 400
    assert json.loads(answer)["error"]["code"] == code
    assert json.loads(answer)["id"] is None


@pytest.mark.parametrize("body", [b"[]", b'{"message":{},"message":{}}', b"5", b"{", b'{"a":NaN}'])
def test_an_http_json_body_that_is_no_strict_object_is_refused(wire: Any, body: bytes) -> None:
    exchange = wire.classified(A2A, "POST", "/r/message:send", body)
    status, _, answer = A2A.refuse(exchange, refusal(exchange.asked))
    assert status == 400
    assert json.loads(answer)["error"]["status"] == "INVALID_ARGUMENT"


@pytest.mark.parametrize("target", ["/r", "/r/message:send"])
@pytest.mark.parametrize("content_type", ["text/plain", "multipart/form-data", "application/json; charset=utf-16"])
def test_another_type_of_body_is_refused(wire: Any, target: str, content_type: str) -> None:
    exchange = wire.classified(A2A, "POST", target, rpc("SendMessage", SENT), [("Content-Type", content_type)])
    assert A2A.refuse(exchange, refusal(exchange.asked))[0] == 415


def test_the_media_type_of_http_json_is_read(wire: Any) -> None:
    headers = [("Content-Type", "application/a2a+json")]
    body = json.dumps(SENT).encode()
    assert call(wire.asked(A2A, "POST", "/r/message:send", body, headers)).arguments == SENT


def test_a_get_with_a_body_is_refused(wire: Any) -> None:
    for body in (b'{"historyLength": 3}', b"x"):
        no = refusal(wire.asked(A2A, "GET", "/r/tasks/t", body))
        assert (no.reason, no.rule) == (Reason.MALFORMED, "body")


def test_there_is_no_websocket_in_a2a(wire: Any) -> None:
    for target in ("/r", "/r/tasks/t", "/r/tasks/t:subscribe"):
        exchange = wire.classified(A2A, "GET", target, websocket=True)
        assert refusal(exchange.asked).rule == "unknown_path"


@pytest.mark.parametrize("reason", list(Reason))
def test_every_reason_has_its_form_in_json_rpc(wire: Any, reason: Reason) -> None:
    exchange = wire.classified(A2A, "POST", "/r", rpc("SendMessage", SENT, 9))
    status, headers, body = A2A.refuse(exchange, Refusal(reason, "not today", rule="secret_rule", retry_after=4))
    found = json.loads(body)
    shown = TABLE[reason]
    unknown = reason is Reason.SESSION_UNKNOWN
    assert status == shown.rpc_status
    assert (found["jsonrpc"], found["id"]) == ("2.0", 9)
    assert found["error"]["code"] == (-32001 if unknown else shown.rpc_code)
    info = found["error"]["data"][0]
    assert info["@type"] == ERROR_INFO
    assert info["metadata"]["reason"] == reason
    assert info["metadata"]["exchange_id"] == wire.exchange_id
    if not unknown:
        assert info["metadata"]["retry_after"] == "4"
        assert found["error"]["data"][1]["retryDelay"] == "4s"
        assert dict(headers)[b"retry-after"] == b"4"
        assert found["error"]["message"] == "not today"
    assert all(isinstance(value, str) for value in info["metadata"].values())
    assert b"secret_rule" not in body


@pytest.mark.parametrize("reason", list(Reason))
@pytest.mark.parametrize(("method", "target"), [("POST", "/r/message:send"), ("GET", "/r/.well-known/agent-card.json")])
def test_every_reason_has_its_form_in_http_json(wire: Any, reason: Reason, method: str, target: str) -> None:
    exchange = wire.exchange(A2A, method, target, b"{}" if method == "POST" else None)
    status, headers, body = A2A.refuse(exchange, Refusal(reason, "not today", retry_after=4))
    error = json.loads(body)["error"]
    assert status == error["code"] == TABLE[reason].status
    assert error["details"][0]["metadata"]["reason"] == reason
    assert error["status"].isupper()
    assert dict(headers)[b"content-type"] == b"application/json"


@pytest.mark.parametrize("reason", [item for item in Reason if item is not Reason.SESSION_UNKNOWN])
def test_no_policy_denial_looks_like_an_unknown_task(wire: Any, reason: Reason) -> None:
    exchange = wire.classified(A2A, "POST", "/r", rpc("GetTask", {"id": "t"}))
    body = json.loads(A2A.refuse(exchange, Refusal(reason, "no"))[2])
    assert body["error"]["code"] != -32001
    assert body["error"]["data"][0]["reason"] != "TASK_NOT_FOUND"


def test_on_a_route_that_hides_anothers_task_looks_exactly_like_none(wire: Any) -> None:
    for target, body in (("/r", rpc("GetTask", {"id": "t"})), ("/r/tasks/t:cancel", None)):
        exchange = wire.classified(A2A, "POST", target, body, deny_as="hidden")
        foreign = Refusal(Reason.SESSION_FOREIGN, "This session or task belongs to another caller", rule="a2a-task")
        unknown = Refusal(Reason.SESSION_UNKNOWN, "This session or task is not known here", rule="a2a-task")
        assert A2A.refuse(exchange, foreign) == A2A.refuse(exchange, unknown)
        open_route = wire.classified(A2A, "POST", target, body)
        assert A2A.refuse(open_route, foreign)[0] == 403


@given(
    body=st.binary(max_size=80)
    | st.builds(
        lambda method, params: rpc(method, params),
        st.sampled_from(["SendMessage", "GetTask", "tasks/get", "ListTasks", "x"]),
        st.dictionaries(
            st.sampled_from(["id", "taskId", "message", "request", "tenant", "configuration", "ID"]),
            st.recursive(
                st.none() | st.text(max_size=3) | st.integers(),
                lambda inner: (
                    st.dictionaries(st.sampled_from(["taskId", "task_id", "referenceTaskIds"]), inner)
                    | st.lists(inner, max_size=2)
                ),
                max_leaves=5,
            ),
        ),
    ),
    target=st.lists(
        st.sampled_from(["/tasks", "/t", ":cancel", "/message:send", "/v1", "/%3A", "%", "?id=%ff", "&id=1", "/card"]),
        max_size=5,
    ).map(lambda parts: "/r" + "".join(parts)),
    method=st.sampled_from(["GET", "POST", "DELETE", "HEAD"]),
)
def test_no_request_raises(wire: Any, body: bytes, target: str, method: str) -> None:
    exchange = wire.classified(A2A, method, target, body if method == "POST" else None)
    assert isinstance(exchange.asked, Call | Refusal)
    if isinstance(exchange.asked, Refusal):
        json.loads(A2A.refuse(exchange, exchange.asked)[2])
