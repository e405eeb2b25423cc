"""What callers see of MCP answers: lists filtered, server requests judged, handles bound, everything else untouched."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from gateway.core.exchange import Call, Decision, Exchange, Handle, Obligation
from gateway.core.reasons import Malformed
from gateway.protocols.mcp import Mcp
from tests.protocols.mcp_rig import (
    ANN,
    ID,
    Answer,
    Bindings,
    Policy,
    as_events,
    as_json,
    call,
    dump,
    legacy,
    modern,
    result,
    shown,
    stream,
)

TOOL = call("tools/call", {"name": "add", "arguments": {}})
PLAIN = result({"content": [{"type": "text", "text": "2"}]})
SAMPLING = call("sampling/createMessage", {"messages": [], "_meta": {"x": 1}}, 7)
ELICIT = {"method": "elicitation/create", "params": {"mode": "form", "message": "Who?"}}

# method, the result's member, an item by its name, action and resource that an item is asked as
LISTS = [
    ("tools/list", "tools", "name", "mcp.tools/call", "tool", "up/"),
    ("prompts/list", "prompts", "name", "mcp.prompts/get", "prompt", "up/"),
    ("resources/list", "resources", "uri", "mcp.resources/read", "resource", ""),
    ("resources/templates/list", "resourceTemplates", "uriTemplate", "mcp.resources/read", "resource", ""),
]


def without(name: str) -> Policy:
    return Policy(lambda asked: not asked.resource_id.endswith(name))


def denying(*actions: str) -> Policy:
    return Policy(lambda asked: asked.action not in actions)


def cuts(body: bytes) -> list[tuple[int, ...]]:
    """Every way to cut a body in two, and one byte at a time."""
    return [(), *((at,) for at in range(1, len(body))), tuple(range(1, len(body)))]


# --- lists


@pytest.mark.parametrize("era", [legacy, modern])
@pytest.mark.parametrize(("method", "member", "key", "action", "kind", "prefix"), LISTS)
def test_a_list_shows_what_the_caller_may_use_in_its_order(
    era: Any, method: str, member: str, key: str, action: str, kind: str, prefix: str
) -> None:
    items = [{key: name, "description": f"does {name}", "x": [1.5, None]} for name in ("c", "a", "hidden", "b")]
    opened, policy = era(call(method)), without("hidden")
    seen = shown(opened, as_json(result({member: items, "nextCursor": "n"})), policy=policy)
    kept = [items[0], items[1], items[3]]
    extra = {"cacheScope": "private"} if era is modern else {}
    assert seen.json == result({member: kept, "nextCursor": "n", **extra})
    assert opened.filtered == (3, 1)
    session = {"session": "s1"} if era is legacy else {}
    assert policy.asked == [
        Call(action, kind, prefix + name, context={"listing": True, **session}) for name in ("c", "a", "hidden", "b")
    ]


@pytest.mark.parametrize(("method", "member", "key"), [item[:3] for item in LISTS])
def test_a_list_that_is_shown_whole_keeps_its_bytes(method: str, member: str, key: str) -> None:
    body = b' {"jsonrpc" : "2.0", "id":1,\n "result": {"%s": [{"%s":"a","n":1.50e0}] } }\n' % (
        member.encode(),
        key.encode(),
    )
    assert shown(legacy(call(method)), as_json(body)).body == body
    private = body.replace(b'"result": {', b'"result": {"cacheScope":"private","resultType":"complete",')
    assert shown(modern(call(method)), as_json(private)).body == private
    opened = legacy(call(method))
    shown(opened, as_json(body))
    assert opened.filtered == (1, 0)


def test_a_shared_cache_never_keeps_what_one_caller_was_shown() -> None:
    public = result({"tools": [{"name": "a"}], "cacheScope": "public", "ttlMs": 5})
    for era in (legacy, modern):
        assert shown(era(call("tools/list")), as_json(public)).json["result"]["cacheScope"] == "private"
    absent = result({"tools": [{"name": "a"}], "ttlMs": 5})
    assert shown(modern(call("tools/list")), as_json(absent)).json["result"]["cacheScope"] == "private"
    assert "cacheScope" not in shown(legacy(call("tools/list")), as_json(absent)).json["result"]


def test_numbers_and_text_of_a_filtered_list_say_the_same_as_before() -> None:
    body = (
        b'{"jsonrpc":"2.0","id":1,"result":{"tools":[{"name":"hidden"},{"name":"a","inputSchema":{"maximum":'
        b'18446744073709551615,"minimum":-9223372036854775808,"default":0.1,'
        b'"title":"caf\\u00e9 \xe2\x82\xac \\ud800"}}]}}'
    )
    seen = shown(legacy(call("tools/list")), as_json(body), policy=without("hidden"))
    assert json.loads(seen.body)["result"]["tools"] == json.loads(body)["result"]["tools"][1:]
    assert b"18446744073709551615" in seen.body


def test_an_error_instead_of_a_list_passes() -> None:
    error = {"jsonrpc": "2.0", "id": 1, "error": {"code": -32601, "message": "Method not found"}}
    assert shown(legacy(call("tools/list")), as_json(error, status=404)).body == dump(error)


def test_an_empty_list_asks_nobody() -> None:
    policy = Policy()
    assert shown(legacy(call("tools/list")), as_json(result({"tools": []})), policy=policy).json["result"] == {
        "tools": []
    }
    assert policy.asked == []


def test_an_item_whose_allow_asks_for_more_or_whose_engine_failed_is_hidden() -> None:
    async def ask(calls: Any) -> list[Decision]:
        made = [
            Decision(True, "", "", "e", "1", obligations=(Obligation("require_approval"),)),
            Decision(False, "", "", "e", "1", fault=True),
            Decision(True, "", "", "e", "1"),
        ]
        return made[: len(calls)]

    tools = {"tools": [{"name": "a"}, {"name": "b"}, {"name": "c"}]}
    seen = shown(legacy(call("tools/list")), as_json(result(tools)), policy=ask)  # type: ignore[arg-type]
    assert seen.json["result"] == {"tools": [{"name": "c"}]}


@pytest.mark.parametrize(
    "value",
    [
        b"",
        b"{",
        b"not json",
        b'{"jsonrpc":"2.0","id":1,"result":{"tools":[{"name":"a"}],"tools":[]}}',
        b'{"jsonrpc":"2.0","id":1,"result":{"tools":[]},"Result":{"tools":[{"name":"x"}]}}',
        dump([result({"tools": []})]),
        dump(result({"tools": {}})),
        dump(result({"tools": [None]})),
        dump(result({"tools": [{"title": "nameless"}]})),
        dump(result({"tools": [{"name": 7}]})),
        dump(result({"tools": [{"name": "a", "Name": "b"}]})),
        dump(result({"Tools": [{"name": "a"}]})),
        dump(result({"tool\u017f": [{"name": "a"}]})),
        b'{"jsonrpc":"2.0","id":1,"result":{"tools":[{"name":"\\ud800"}]}}',
        '{"jsonrpc":"2.0","id":1,"result":{"tools":[]}}'.encode("utf-16"),
        '{"jsonrpc":"2.0","id":1,"result":{"tools":[]}}'.encode("utf-16-le"),
        b"\xef\xbb\xbf" + dump(result({"tools": []})),
        dump(call("tools/list", {})),
        b'{"a":' * 70 + b"1" + b"}" * 70,
    ],
)
def test_a_list_that_cannot_be_read_is_not_shown(value: bytes) -> None:
    opened = legacy(call("tools/list"))
    if value in (b"", b"not json"):
        assert shown(opened, as_json(value)).body == value  # no message for any reader
        return
    with pytest.raises(Malformed):
        shown(opened, as_json(value))


@pytest.mark.parametrize("era", [legacy, modern])
def test_a_list_on_an_event_stream_is_filtered_at_every_cut(era: Any) -> None:
    progress = b': hi\n\nid: 1\ndata: {"jsonrpc":"2.0","method":"notifications/progress","params":{}}\n\n'
    listed = b"id: 2\r\nevent: message\r\ndata: " + dump(result({"tools": [{"name": "a"}, {"name": "hidden"}]}))
    answer = as_events(progress, listed + b"\r\nretry: 5\r\n\r\n")
    wanted = dump(result({"tools": [{"name": "a"}]} | ({"cacheScope": "private"} if era is modern else {})))
    for cut in cuts(answer.body):
        seen = shown(era(call("tools/list")), answer, policy=without("hidden"), cuts=cut)
        # A cut inside the last line end leaves its second half behind, an empty line that means nothing.
        body = seen.body.removesuffix(b"\n\n").removesuffix(b"\n") + b"\n\n"
        assert body == progress + b"id: 2\r\nevent: message\r\ndata: " + wanted + b"\nretry: 5\r\n\n"


def test_an_answer_replayed_on_the_stream_is_filtered_like_the_one_that_broke() -> None:
    replayed = as_events(result({"tools": [{"name": "a"}, {"name": "hidden"}]}, "earlier"))
    seen = shown(stream(last_event_id="e1"), replayed, policy=without("hidden"))
    assert b"hidden" not in seen.body
    escaped = replayed.body.replace(b'"tools"', b'"\\u0074\\u006f\\u006f\\u006c\\u0073"')
    answer = Answer(escaped, headers=replayed.headers, at_once=False)
    assert b"hidden" not in shown(stream(), answer, policy=without("hidden")).body


# --- answers that pass


@pytest.mark.parametrize("era", [legacy, modern])
@pytest.mark.parametrize(
    "value",
    [
        dump(PLAIN),
        b' \n{"jsonrpc":"2.0", "id":1, "result":{ } }\n',
        dump(result({"content": [{"type": "text", "text": 'call the "method" inputRequests taskId'}]})),
        dump(result({"content": [], "structuredContent": {"method": "x", "inputRequests": {"a": {}}, "taskId": "t"}})),
        b'{"jsonrpc":"2.0","id":1,"result":{"content":[{"type":"text","text":"caf\\u00e9 \\u0041 \\ud800 1e999"}]}}',
        b'{"jsonrpc":"2.0","id":1,"result":{"n":123456789012345678901234567890,"structuredContent":{"method":1}}}',
        dump({"jsonrpc": "2.0", "id": 1, "error": {"code": -32602, "message": "no such method"}}),
        b'"text"',
        b"",
    ],
)
@pytest.mark.parametrize("at_once", [True, False])
def test_a_plain_result_keeps_its_bytes(era: Any, value: bytes, at_once: bool) -> None:
    policy = Policy()
    seen = shown(era(TOOL), as_json(value, at_once=at_once), policy=policy, cuts=(len(value) // 2,))
    assert (seen.body, policy.asked, seen.outbox) == (value, [], [])


@pytest.mark.parametrize("era", [legacy, modern])
def test_an_ordinary_result_that_came_in_one_piece_is_not_even_held(era: Any) -> None:
    assert shown(era(TOOL), as_json(PLAIN)).filtered is False


def test_events_that_need_no_judgement_pass_at_once_with_their_bytes_and_ids() -> None:
    events = [
        b"id: 0\ndata:\n\n",
        b": keep-alive\r\n\r\n",
        b"retry: 100\n\n",
        b"id: a\nevent: message\ndata: " + dump({"jsonrpc": "2.0", "method": "notifications/message"}) + b"\n\n",
        b"data: " + dump(PLAIN).replace(b",", b"\ndata: ,", 1) + b"\n\n",
        b"event: endpoint\ndata: /messages?id=1\n\n",
        b"\xef\xbb\xbfdata: {}\r\r",
    ]
    for opened in (legacy(TOOL), modern(TOOL), stream()):
        seen = shown(opened, as_events(*events), cuts=tuple(len(b"".join(events[:at])) for at in range(1, len(events))))
        assert seen.pieces == [*events, b""]


def test_what_a_stream_leaves_behind_its_last_event_passes_if_it_may() -> None:
    rest = b"data: " + dump(PLAIN)
    assert shown(legacy(TOOL), as_events(rest)).body == rest
    denied = as_events(b"data: " + dump(SAMPLING))
    assert shown(legacy(TOOL), denied, policy=denying("mcp.sampling/createMessage")).body == b""


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ([(b"content-type", b"text/html")], 500),
        ([(b"content-type", b"text/plain")], 404),
        ([], 204),
        ([(b"content-type", b"text/event-stream")], 202),
        ([(b"content-type", b"text/plain"), (b"content-length", b"0")], 200),
    ],
)
def test_answers_that_no_client_reads_as_a_message_pass(headers: Any, status: int) -> None:
    body = b"" if (b"content-length", b"0") in headers else b"whatever"
    seen = shown(legacy(TOOL), Answer(body, status, headers))
    assert (seen.filtered, seen.body) == (False, body)


@pytest.mark.parametrize(
    "headers",
    [
        [(b"content-type", b"text/plain")],
        [(b"content-type", b"application/octet-stream")],
        [],
        [(b"content-type", b"application/json"), (b"content-encoding", b"gzip")],
        [(b"content-type", b"text/event-stream"), (b"content-encoding", b"br")],
        [(b"content-type", b"application/json"), (b"content-type", b"text/event-stream")],
        [(b"content-type", b"application/json; x=text/event-stream")],
        [(b"content-type", b"text/plain; x=text/event-stream")],
        [(b"content-type", b"text/plain; application/json")],
    ],
)
def test_an_answer_of_a_type_that_cannot_be_judged_is_not_shown(headers: Any) -> None:
    for opened in (legacy(TOOL), modern(TOOL)):
        with pytest.raises(Malformed):
            shown(opened, Answer(dump(PLAIN), 200, headers))


def test_a_stream_is_an_event_stream_or_it_is_not_shown() -> None:
    with pytest.raises(Malformed):
        shown(stream(), as_json(PLAIN))
    refused = Answer(b"no stream here", 405, [(b"content-type", b"text/plain")])
    assert shown(stream(), refused).body == b"no stream here"


# --- requests of a server, older era


def test_a_request_of_the_server_is_judged_with_its_arguments_and_shown() -> None:
    policy = Policy()
    opened = legacy(TOOL)
    answer = as_events(b"id: 4\ndata: " + dump(SAMPLING) + b"\n\n", PLAIN)
    seen = shown(opened, answer, policy=policy)
    assert (seen.body, seen.outbox) == (answer.body, [])
    context = {"direction": "server", "session": "s1"}
    assert policy.asked == [
        Call(
            "mcp.sampling/createMessage",
            "endpoint",
            "up",
            arguments={"messages": []},
            has_arguments=True,
            context=context,
        )
    ]


@pytest.mark.parametrize("opened", [legacy(TOOL), legacy(call("tools/list")), stream()], ids=["call", "list", "get"])
def test_a_denied_request_of_the_server_is_withheld_and_answered_and_the_rest_flows(opened: Exchange) -> None:
    before, after = b": one\n\n", b"id: 6\ndata: " + dump({**PLAIN, "result": {}}) + b"\n\n"
    answer = as_events(before, b"id: 5\nevent: message\nretry: 9\ndata: " + dump(SAMPLING) + b"\n\n", after)
    for cut in cuts(answer.body):
        opened.filtered = None
        seen = shown(opened, answer, policy=denying("mcp.sampling/createMessage"), cuts=cut)
        assert seen.body == before + b"id: 5\nretry: 9\n\n" + after  # the id still counts for a resumed stream
        assert seen.outbox == [
            {
                "jsonrpc": "2.0",
                "id": 7,
                "error": {"code": -31403, "message": "Denied by policy", "data": {"exchange_id": ID}},
            }
        ]
        assert opened.filtered == (0, 1)


def test_a_denied_request_without_an_event_id_leaves_no_trace() -> None:
    answer = as_events(SAMPLING, PLAIN)
    seen = shown(legacy(TOOL), answer, policy=denying("mcp.sampling/createMessage"))
    assert seen.body == as_events(PLAIN).body


@pytest.mark.parametrize(
    ("raw", "code"),
    [
        (dump(call("tools/call", {"name": "x"}, 7)), -32601),
        (dump(call("custom/ask", {}, 7)), -32601),
        (dump({**SAMPLING, "extra": 1}), -32600),
        (dump({**SAMPLING, "params": [1]}), -32600),
        (b'{"jsonrpc":"2.0","id":7,"method":"roots/list","params":{"n":9007199254740993}}', -32600),
        (b'{"jsonrpc":"2.0","id":7,"method":"roots/list","params":{"n":"\\ud800"}}', -32600),
    ],
)
def test_a_request_that_no_client_knows_or_policy_cannot_read_is_withheld_unasked(raw: bytes, code: int) -> None:
    policy = Policy()
    seen = shown(legacy(TOOL), as_events(b"data: " + raw + b"\n\n"), policy=policy)
    assert (seen.body, policy.asked) == (b"", [])
    assert [message["error"]["code"] for message in seen.outbox] == [code]


@pytest.mark.parametrize(
    "raw",
    [
        dump(SAMPLING).replace(b'"method"', b'"m\\u0065thod"'),
        dump(SAMPLING).replace(b'"method"', b'"\\u006D\\u0065\\u0074\\u0068\\u006f\\u0064"'),
        b"  " + dump(SAMPLING),
        b"\t\n" + dump(SAMPLING),
    ],
)
def test_no_spelling_of_a_request_escapes_judgement(raw: bytes) -> None:
    data = b"\ndata: ".join(raw.split(b"\n"))
    seen = shown(legacy(TOOL), as_events(b"data: " + data + b"\n\n"), policy=denying("mcp.sampling/createMessage"))
    assert (seen.body, len(seen.outbox)) == (b"", 1)


@pytest.mark.parametrize(
    "raw",
    [
        b"data: [" + dump(SAMPLING) + b"]\n\n",
        b"data:   [\ndata: " + dump(PLAIN) + b"]\n\n",
        b"data: " + dump({"jsonrpc": "2.0", "id": 7, "Method": "sampling/createMessage"}) + b"\n\n",
        b"data: " + dump({**SAMPLING, "result": {}}) + b"\n\n",
        b"data: " + dump({**SAMPLING, "method": 5}) + b"\n\n",
        b"data: " + dump({**SAMPLING, "id": None}) + b"\n\n",
        b"data: " + dump({**SAMPLING, "id": 1.5}) + b"\n\n",
        b'data: {"jsonrpc":"2.0","id":7,"method":"a","method":"sampling/createMessage"}\n\n',
        b"data: " + dump(SAMPLING)[:-1] + b"\n\n",
        b"data: \xff" + dump(SAMPLING).decode().encode("utf-16-le") + b"\n\n",
        b":\xe2\x80\xa8data: " + dump(SAMPLING) + b"\xe2\x80\xa8\n\n",
        b"x: \x0bdata: " + dump(SAMPLING) + b"\ndata: {}\n\n",
        b":\xc2\x85data: " + dump(SAMPLING) + b"\n\n",
    ],
)
def test_an_event_that_two_readers_would_read_differently_ends_the_stream(raw: bytes) -> None:
    with pytest.raises(Malformed):
        shown(legacy(TOOL), as_events(raw))


@pytest.mark.parametrize("value", [dump([SAMPLING]), b" [" + dump(PLAIN) + b"]", dump(SAMPLING)])
def test_a_json_answer_is_one_response_or_it_is_not_shown(value: bytes) -> None:
    with pytest.raises(Malformed):
        shown(legacy(TOOL), as_json(value), policy=denying("mcp.sampling/createMessage"))


def test_a_long_line_is_cut_off_at_the_limit() -> None:
    answer = as_events(b"data: " + b"x" * (5 * 1024 * 1024))
    with pytest.raises(Malformed, match="larger than"):
        shown(legacy(TOOL), answer, cuts=tuple(range(65536, 5 * 1024 * 1024, 65536)))


# --- requests of a server, newer era


@pytest.mark.parametrize("method", ["tools/call", "prompts/get", "resources/read", "tasks/get"])
@pytest.mark.parametrize("how", ["json", "events"])
def test_what_a_result_asks_of_the_caller_is_judged_and_the_result_shown(method: str, how: str) -> None:
    policy = Policy()
    opened = modern(call(method, {"name": "n", "uri": "u", "taskId": "t"}, "q"))
    value = result({"resultType": "input_required", "inputRequests": {"who": ELICIT}, "requestState": "s"}, "q")
    answer = as_json(value) if how == "json" else as_events(value)
    assert shown(opened, answer, policy=policy).body == answer.body
    assert [(asked.action, asked.resource_id, asked.arguments, asked.context) for asked in policy.asked] == [
        ("mcp.elicitation/create", "up", ELICIT["params"], {"direction": "server"})
    ]


@pytest.mark.parametrize("how", ["json", "events"])
@pytest.mark.parametrize(
    "requests",
    [
        {"who": ELICIT},
        {"a": {"method": "roots/list"}, "who": ELICIT},
        {"x": {"method": "tools/call", "params": {"name": "add"}}},
        {"x": {"method": "ping"}},
    ],
)
def test_a_result_that_asks_for_what_is_denied_becomes_the_denial(how: str, requests: Any) -> None:
    opened = modern(call("tools/call", {"name": "add"}, "q"))
    value = result({"resultType": "input_required", "inputRequests": requests}, "q")
    answer = as_json(value) if how == "json" else as_events(b"id: 3\ndata: " + dump(value) + b"\n\n")
    seen = shown(opened, answer, policy=denying("mcp.elicitation/create"))
    body = seen.json if how == "json" else json.loads(seen.body.partition(b"data: ")[2])
    assert (body["id"], body["error"]["code"]) == ("q", -31403)
    assert body["error"]["data"] == {"reason": "denied", "exchange_id": ID}
    assert opened.refusal is not None
    assert opened.filtered == (0, len(requests))
    if how == "events":
        assert seen.body.startswith(b"id: 3\n")
        assert seen.body.endswith(b"\n\n")


@pytest.mark.parametrize(
    "raw",
    [
        b'{"jsonrpc":"2.0","id":1,"result":{"resultType":"input_required","\\u0069nputRequests":{"a":%s}}}',
        b'{"id":1,"jsonrpc":"2.0","result":{"inputRequests":{"a":%s}}}',
        b'{"jsonrpc":"2.0","id":1,"result":{"resultType":"complete","inputRequests":{"a":%s}}}',
    ],
)
def test_no_spelling_of_an_input_request_escapes_judgement(raw: bytes) -> None:
    seen = shown(modern(TOOL), as_json(raw % dump(ELICIT)), policy=denying("mcp.elicitation/create"))
    assert seen.json["error"]["code"] == -31403


@pytest.mark.parametrize(
    "value",
    [
        {"inputRequests": []},
        {"inputRequests": {"a": []}},
        {"inputRequests": {"a": {"params": {}}}},
        {"inputRequests": {"a": {**ELICIT, "params": []}}},
        {"inputRequests": {"a": {**ELICIT, "Method": "roots/list"}}},
        {"InputRequests": {"a": ELICIT}},
        {"inputreque\u017ft\u017f": {"a": ELICIT}},
        {"inputRequests": {"a": {"method": "roots/list", "params": {"n": 2**60}}}},
    ],
)
def test_input_requests_that_cannot_be_judged_are_not_shown(value: Any) -> None:
    body = json.dumps(result(value), ensure_ascii=False).encode()
    with pytest.raises(Malformed):
        shown(modern(TOOL), as_json(body))


def test_a_request_on_a_modern_stream_is_withheld() -> None:
    seen = shown(modern(TOOL), as_events(SAMPLING, PLAIN))
    assert (seen.body, seen.outbox) == (as_events(PLAIN).body, [])


def test_a_subscription_tells_only_of_resources_and_tasks_that_are_the_callers() -> None:
    def notice(name: str, **params: Any) -> dict[str, Any]:
        return {"jsonrpc": "2.0", "method": name, "params": params}

    events = [
        notice("notifications/subscriptions/acknowledged", notifications={}),
        notice("notifications/resources/updated", uri="file:///open"),
        notice("notifications/resources/updated", uri="file:///hidden"),
        notice("notifications/tools/list_changed"),
        notice("notifications/tasks", taskId="mine", status="working"),
        notice("notifications/tasks", taskId="theirs", status="working"),
        notice("notifications/tasks", taskId="mine", status="input_required", inputRequests={"who": ELICIT}),
        notice("notifications/resources/updated", uri="file:///hidden"),
    ]
    bindings = Bindings(owners={Handle("mcp-task", "mine"): ANN, Handle("mcp-task", "theirs"): "user:idp/bob"})
    policy = Policy(lambda asked: "hidden" not in asked.resource_id and asked.action != "mcp.elicitation/create")
    opened = modern(call("subscriptions/listen", {"notifications": {"taskIds": ["mine"]}}))
    seen = shown(opened, as_events(*events), policy=policy, bindings=bindings)
    assert seen.body == as_events(events[0], events[1], events[3], events[4]).body
    assert sum(asked.resource_id == "file:///hidden" for asked in policy.asked) == 1


def test_a_task_that_asks_in_a_misspelled_member_ends_the_stream() -> None:
    params = {"taskId": "mine", "status": "input_required", "InputRequests": {"who": ELICIT}}
    bindings = Bindings(owners={Handle("mcp-task", "mine"): ANN})
    opened = modern(call("subscriptions/listen", {"notifications": {"taskIds": ["mine"]}}))
    with pytest.raises(Malformed):
        shown(
            opened,
            as_events({"jsonrpc": "2.0", "method": "notifications/tasks", "params": params}),
            bindings=bindings,
        )


# --- handles


def initialized(session: bytes | None = b"new", **rest: Any) -> Answer:
    answer = as_json(result({"protocolVersion": "2025-11-25", "instructions": "hi"}), **rest)
    if session is not None:
        answer.headers.append((b"mcp-session-id", session))
    return answer


def test_a_minted_session_is_the_callers_before_a_byte_is_shown() -> None:
    bindings = Bindings()
    opened = legacy(call("initialize", {}), session="")
    assert asyncio.run(opened.protocol.filter(opened, initialized(), Policy(), bindings)) is None  # type: ignore[arg-type]
    assert bindings.owners == {Handle("mcp-session", "new"): ANN}


def test_a_session_that_belongs_to_another_caller_is_not_shown() -> None:
    bindings = Bindings(owners={Handle("mcp-session", "new"): "user:idp/bob"})
    with pytest.raises(Malformed):
        shown(legacy(call("initialize", {}), session=""), initialized(), bindings=bindings)


def test_the_callers_own_session_is_not_bound_again_but_another_one_is() -> None:
    bindings = Bindings()
    shown(legacy(TOOL, session="s1"), initialized(b"s1"), bindings=bindings)
    assert bindings.owners == {}
    shown(legacy(TOOL, session="s1"), initialized(b"s2"), bindings=bindings)
    assert bindings.owners == {Handle("mcp-session", "s2"): ANN}


def test_no_session_is_minted_by_an_error_or_by_the_modern_era() -> None:
    bindings = Bindings()
    shown(legacy(call("initialize", {}), session=""), initialized(status=400), bindings=bindings)
    shown(modern(TOOL), initialized(), bindings=bindings)
    assert bindings.owners == {}


def test_two_session_ids_in_one_answer_are_one_too_many() -> None:
    answer = initialized()
    answer.headers.append((b"mcp-session-id", b"other"))
    with pytest.raises(Malformed):
        shown(legacy(call("initialize", {}), session=""), answer)


def test_a_server_request_during_initialization_waits_in_the_new_session() -> None:
    mcp = Mcp()
    answer = as_events(call("roots/list", None, "r1"), result({}))
    answer.headers.append((b"mcp-session-id", b"fresh"))
    shown(legacy(call("initialize", {}), mcp, session=""), answer)
    assert isinstance(legacy({"jsonrpc": "2.0", "id": "r1", "result": {"roots": []}}, mcp, "fresh").asked, Call)


def test_a_session_that_is_minted_again_has_nothing_left_to_answer() -> None:
    mcp = Mcp()
    shown(stream(mcp, "again"), as_events(call("roots/list", None, "r1")))
    answer = {"jsonrpc": "2.0", "id": "r1", "result": {"roots": []}}
    assert isinstance(legacy(answer, mcp, "again").asked, Call)
    shown(legacy(call("initialize", {}), mcp, session=""), initialized(b"again"))
    assert not isinstance(legacy(answer, mcp, "again").asked, Call)


def test_a_task_is_the_callers_before_it_is_shown() -> None:
    new = result({"resultType": "task", "taskId": "t1", "status": "working"})
    old = result({"task": {"taskId": "t2", "status": "working"}})
    for how in (as_json, as_events):
        bindings = Bindings()
        assert shown(modern(TOOL), how(new), bindings=bindings).body == how(new).body
        assert shown(legacy(TOOL), how(old), bindings=bindings).body == how(old).body
        assert bindings.owners == {Handle("mcp-task", "t1"): ANN, Handle("mcp-task", "t2"): ANN}
        with pytest.raises(Malformed):
            shown(modern(TOOL), how(new), bindings=Bindings("user:idp/bob", bindings.owners))


def test_a_list_of_tasks_shows_the_callers_own() -> None:
    bindings = Bindings(owners={Handle("mcp-task", "mine"): ANN, Handle("mcp-task", "theirs"): "user:idp/bob"})
    tasks = [{"taskId": "theirs"}, {"taskId": "mine"}, {"taskId": "unknown"}]
    opened = legacy(call("tasks/list"))
    seen = shown(opened, as_json(result({"tasks": tasks})), bindings=bindings)
    assert seen.json["result"] == {"tasks": [{"taskId": "mine"}]}
    assert opened.filtered == (1, 2)
    for odd in ({"tasks": {}}, {"tasks": [1]}, {"tasks": [{"taskId": 1}]}):
        with pytest.raises(Malformed):
            shown(opened, as_json(result(odd)), bindings=bindings)


def test_the_status_of_anothers_task_is_not_told() -> None:
    bindings = Bindings(owners={Handle("mcp-task", "mine"): ANN})
    mine, theirs = (
        {"jsonrpc": "2.0", "method": "notifications/tasks/status", "params": {"taskId": ident, "status": "working"}}
        for ident in ("mine", "theirs")
    )
    assert shown(stream(), as_events(theirs, mine), bindings=bindings).body == as_events(mine).body
