"""What comes back from an agent: tasks bound before they are shown, others' tasks never, all else byte for byte."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.exchange import Handle
from gateway.core.reasons import Malformed
from gateway.protocols.a2a import A2a

A2A = A2a()
SSE = [(b"content-type", b"text/event-stream")]
JSON = [(b"content-type", b"application/json")]
STATUS = {"state": "TASK_STATE_WORKING"}


def handle(ident: str) -> Handle:
    return Handle("a2a-task", ident)


def conversation(ident: str) -> Handle:
    return Handle("a2a-context", ident, chosen=True)


def minted(tasks: list[str], result: object) -> list[Handle]:
    """What is bound for an answer: its tasks, and the conversation it names."""
    named = [conversation("c")] if '"contextId"' in json.dumps(result) else []
    return [*map(handle, tasks), *named]


def rpc(method: str, params: object) -> bytes:
    return json.dumps({"jsonrpc": "2.0", "id": 1, "method": method, "params": params}).encode()


def sending(wire: Any, *, enveloped: bool, message: dict[str, Any] | None = None, stream: bool = False) -> Any:
    """An exchange that sends a message, in either binding."""
    params = {"message": message or {"messageId": "m"}}
    if enveloped:
        return wire.classified(A2A, "POST", "/r", rpc("SendStreamingMessage" if stream else "SendMessage", params))
    target = "/r/message:stream" if stream else "/r/message:send"
    return wire.classified(A2A, "POST", target, json.dumps(params).encode())


def packed(result: object, *, enveloped: bool) -> bytes:
    return json.dumps({"jsonrpc": "2.0", "id": 1, "result": result} if enveloped else result, indent=1).encode()


# What an agent may answer a message with: both versions, both bindings.
RESULTS: list[tuple[dict[str, Any], list[str]]] = [
    ({"task": {"id": "t", "contextId": "c", "status": STATUS}}, ["t"]),
    ({"message": {"messageId": "x", "taskId": "t"}}, ["t"]),
    ({"message": {"messageId": "x"}}, []),
    ({"statusUpdate": {"taskId": "t", "contextId": "c", "status": STATUS}}, ["t"]),
    ({"artifactUpdate": {"taskId": "t", "artifact": {"artifactId": "a", "parts": []}}}, ["t"]),
    ({"kind": "task", "id": "t", "contextId": "c", "status": {"state": "working"}}, ["t"]),
    ({"id": "t", "contextId": "c", "status": {"state": "working"}}, ["t"]),
    ({"kind": "message", "messageId": "x", "taskId": "t"}, ["t"]),
    ({"kind": "message", "messageId": "x"}, []),
    ({"kind": "status-update", "taskId": "t", "final": True, "status": {"state": "completed"}}, ["t"]),
    ({"kind": "artifact-update", "taskId": "t", "artifact": {"artifactId": "a"}}, ["t"]),
    ({"msg": {"message_id": "x", "task_id": "t"}}, ["t"]),
    ({"status_update": {"task_id": "t"}}, ["t"]),
]


@pytest.mark.parametrize("enveloped", [True, False])
@pytest.mark.parametrize(("result", "tasks"), RESULTS)
def test_the_task_of_an_answer_is_bound_and_its_bytes_stay_at_every_split(
    wire: Any, result: dict[str, Any], tasks: list[str], enveloped: bool
) -> None:
    exchange = sending(wire, enveloped=enveloped)
    body = packed(result, enveloped=enveloped)
    for place in range(len(body) + 1):
        bindings = wire.Bindings()
        shown = wire.filtered(exchange, wire.Answer(200, list(JSON)), [body[:place], body[place:]], bindings=bindings)
        assert b"".join(shown) == body
        assert bindings.bound == minted(tasks, result)


@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize("enveloped", [True, False])
@pytest.mark.parametrize(("result", "tasks"), RESULTS)
def test_the_task_of_an_event_is_bound_before_the_event_is_shown_at_every_split(
    wire: Any, result: dict[str, Any], tasks: list[str], enveloped: bool, end: str
) -> None:
    exchange = sending(wire, enveloped=enveloped, stream=True)
    document = json.loads(packed(result, enveloped=enveloped))
    one = f": hello{end}{end}data: {json.dumps(document)}{end}{end}".encode()
    stream = one + one

    async def run(place: int) -> None:
        bindings = wire.Bindings()
        answer: Any = wire.Answer(200, list(SSE))
        found = await A2A.filter(exchange, answer, wire.Policy(), bindings)
        assert found is not None
        assert not found.whole
        shown = b""
        for chunk in (stream[:place], stream[place:]):
            shown += await found.feed(chunk)
            if document_in(shown):
                assert bindings.bound == minted(tasks, result)
        assert shown + await found.finish() == stream
        assert bindings.bound == minted(tasks, result)
        assert found.outbox() == []

    def document_in(shown: bytes) -> bool:
        return json.dumps(document).encode() in shown

    for place in range(len(stream) + 1):
        asyncio.run(run(place))


@pytest.mark.parametrize("spelling", ["contextId", "context_id"])
def test_a_conversation_is_bound_once_and_another_callers_stays_theirs(wire: Any, spelling: str) -> None:
    message = {"messageId": "m", spelling: "c"}
    bindings = wire.Bindings()
    body = packed({"task": {"id": "t", spelling: "c", "status": STATUS}}, enveloped=False)
    wire.filtered(sending(wire, enveloped=False, message=message), wire.Answer(), [body], bindings=bindings)
    assert bindings.bound == [handle("t"), conversation("c")], "a name of the caller's own is its own from here on"
    again = packed({"message": {"messageId": "x", spelling: "c"}}, enveloped=False)
    wire.filtered(sending(wire, enveloped=False, message=message), wire.Answer(), [again], bindings=bindings)
    assert bindings.bound == [handle("t"), conversation("c")]
    sent = json.dumps({"message": {"messageId": "m"}}).encode()
    foreign = wire.classified(A2A, "POST", "/r/message:send", sent, principal="user:idp/bob")
    assert wire.filtered(foreign, wire.Answer(), [again], bindings=bindings) == [again], "what was said is bob's"
    assert bindings.owners[conversation("c")] == "user:idp/ann"


def test_a_new_conversation_in_an_update_of_a_known_task_is_not_passed_over(wire: Any) -> None:
    exchange = sending(wire, enveloped=False, stream=True)
    bindings = wire.Bindings()
    update = {"statusUpdate": {"taskId": "t", "contextId": "c", "status": STATUS}}
    first = f"data: {json.dumps(update)}\n\n".encode()
    other = first.replace(b'"c"', b'"d"')
    assert b"".join(wire.filtered(exchange, wire.Answer(200, list(SSE)), [first, first, other], bindings=bindings))
    assert bindings.bound == [handle("t"), conversation("c"), conversation("d")]


def test_each_event_is_shown_as_soon_as_it_is_whole(wire: Any) -> None:
    exchange = sending(wire, enveloped=False, stream=True)
    events = [
        f"data: {json.dumps({'statusUpdate': {'taskId': 't', 'status': STATUS, 'n': number}})}\n\n".encode()
        for number in range(5)
    ]
    assert wire.filtered(exchange, wire.Answer(200, list(SSE)), events) == [*events, b""]


def test_a_task_the_request_named_is_not_bound_again(wire: Any) -> None:
    exchange = sending(wire, enveloped=True, message={"messageId": "m", "taskId": "t"})
    bindings = wire.Bindings(owners={handle("t"): "user:idp/ann"})
    body = packed({"task": {"id": "t", "status": STATUS}}, enveloped=True)
    assert b"".join(wire.filtered(exchange, wire.Answer(), [body], bindings=bindings)) == body
    assert bindings.bound == []


@pytest.mark.parametrize("enveloped", [True, False])
@pytest.mark.parametrize("stream", [True, False])
def test_an_answer_with_another_callers_task_is_not_shown_and_the_task_keeps_its_owner(
    wire: Any, enveloped: bool, stream: bool
) -> None:
    exchange = sending(wire, enveloped=enveloped, stream=stream)
    bindings = wire.Bindings(owners={handle("t"): "user:idp/bob"})
    body = packed({"task": {"id": "t", "status": STATUS}}, enveloped=enveloped)
    chunk = b"data: " + json.dumps(json.loads(body)).encode() + b"\n\n" if stream else body
    with pytest.raises(Malformed, match="another caller"):
        wire.filtered(exchange, wire.Answer(200, list(SSE if stream else JSON)), [chunk], bindings=bindings)
    assert bindings.owners == {handle("t"): "user:idp/bob"}


def test_a_second_task_in_the_middle_of_a_stream_is_bound_too_and_a_foreign_one_ends_it(wire: Any) -> None:
    exchange = sending(wire, enveloped=False, stream=True)
    bindings = wire.Bindings(owners={handle("foreign"): "user:idp/bob"})
    events = [
        f"data: {json.dumps({'statusUpdate': {'taskId': ident}})}\n\n".encode() for ident in ("one", "one", "two")
    ]
    wire.filtered(exchange, wire.Answer(200, list(SSE)), events, bindings=bindings)
    assert bindings.bound == [handle("one"), handle("two")]
    foreign = b'data: {"statusUpdate": {"taskId": "foreign"}}\n\n'
    with pytest.raises(Malformed):
        wire.filtered(exchange, wire.Answer(200, list(SSE)), [*events, foreign], bindings=bindings)


def test_a_task_hidden_behind_a_known_one_is_seen(wire: Any) -> None:
    exchange = sending(wire, enveloped=False, stream=True)
    bindings = wire.Bindings(owners={handle("foreign"): "user:idp/bob"})
    known = b'data: {"statusUpdate": {"taskId": "one"}}\n\n'
    both = b'data: {"statusUpdate": {"taskId": "one"}, "task": {"id": "foreign", "status": {}}}\n\n'
    with pytest.raises(Malformed):
        wire.filtered(exchange, wire.Answer(200, list(SSE)), [known, both], bindings=bindings)


def test_an_error_in_json_rpc_passes_in_a_document_and_in_a_stream(wire: Any) -> None:
    error = b'{"jsonrpc": "2.0", "id": 1, "error": {"code": -32004, "message": "no"}}'
    exchange = sending(wire, enveloped=True)
    assert b"".join(wire.filtered(exchange, wire.Answer(200, list(JSON)), [error])) == error
    event = b"event: error\ndata: " + error + b"\n\n"
    streaming = sending(wire, enveloped=True, stream=True)
    assert b"".join(wire.filtered(streaming, wire.Answer(200, list(SSE)), [event])) == event


@pytest.mark.parametrize("body", [b"{", b"<html>", b'{"task": {}, "task": {}}', b"\xff", b'"x'])
def test_an_answer_that_cannot_be_read_is_not_shown(wire: Any, body: bytes) -> None:
    with pytest.raises(Malformed):
        wire.filtered(sending(wire, enveloped=False), wire.Answer(200, list(JSON)), [body])
    with pytest.raises(Malformed):
        wire.filtered(
            sending(wire, enveloped=False, stream=True), wire.Answer(200, list(SSE)), [b"data: " + body + b"\n\n"]
        )


def test_an_answer_in_a_content_coding_is_not_shown(wire: Any) -> None:
    body = packed({"task": {"id": "t", "status": STATUS}}, enveloped=True)  # readable by us, not by the caller
    with pytest.raises(Malformed, match="encoded"):
        wire.filtered(sending(wire, enveloped=True), wire.Answer(200, [(b"content-encoding", b"gzip")]), [body])


def test_an_answers_large_numbers_and_odd_text_are_no_reason_to_withhold_it(wire: Any) -> None:
    body = b'{"task": {"id": "t", "status": {}, "metadata": {"big": 99999999999999999999, "odd": "\\ud800"}}}'
    assert b"".join(wire.filtered(sending(wire, enveloped=False), wire.Answer(200, list(JSON)), [body])) == body


@pytest.mark.parametrize(
    ("method", "target"),
    [
        ("GET", "/r/tasks/t"),
        ("POST", "/r/tasks/t:cancel"),
        ("POST", "/r/tasks/t:subscribe"),
        ("GET", "/r/tasks/t/pushNotificationConfigs"),
    ],
)
def test_answers_about_a_task_the_caller_owns_pass_untouched(wire: Any, method: str, target: str) -> None:
    exchange = wire.classified(A2A, method, target)
    assert not exchange.asked.judged
    assert wire.filtered(exchange, wire.Answer(200, list(SSE)), [b"any", b"thing"]) == [b"any", b"thing"]
    assert wire.reader(exchange, wire.Answer()) is None


@pytest.mark.parametrize("status", [302, 400, 404, 503])
def test_an_error_of_the_agent_passes_as_it_is(wire: Any, status: int) -> None:
    exchange = sending(wire, enveloped=False)
    assert wire.filtered(exchange, wire.Answer(status), [b"<html>"]) == [b"<html>"]


def test_a_stream_that_ends_in_mid_event_shows_the_rest_unless_it_names_an_unbound_task(wire: Any) -> None:
    exchange = sending(wire, enveloped=False, stream=True)
    for rest, shown in (
        (b": almost", b": almost"),
        (b'data: {"statusUpdate": {"taskId": "new"}}', b""),
        (b'data: {"task": {"id": "ne', b""),
    ):
        assert wire.filtered(exchange, wire.Answer(200, list(SSE)), [rest])[-1] == shown


def task_list(*idents: str, **more: object) -> dict[str, Any]:
    return {"tasks": [{"id": ident, "contextId": "c", "status": STATUS} for ident in idents]} | more


@pytest.mark.parametrize("enveloped", [True, False])
def test_a_list_shows_the_callers_own_tasks_only(wire: Any, enveloped: bool) -> None:
    exchange = wire.classified(A2A, *(("POST", "/r", rpc("ListTasks", {})) if enveloped else ("GET", "/r/tasks")))
    owners = {handle("mine"): "user:idp/ann", handle("theirs"): "user:idp/bob"}
    body = packed(
        task_list("mine", "theirs", "nobodys", totalSize=12, pageSize=3, nextPageToken="n"), enveloped=enveloped
    )
    wanted = None
    for place in range(len(body) + 1):
        answer = wire.Answer(200, [*JSON, (b"etag", b'"all"')])
        bindings = wire.Bindings(owners=dict(owners))
        shown = b"".join(wire.filtered(exchange, answer, [body[:place], body[place:]], bindings=bindings))
        wanted = wanted or shown
        assert shown == wanted
    assert bindings.bound == []
    found = json.loads(wanted or b"")
    result = found["result"] if enveloped else found
    assert [item["id"] for item in result["tasks"]] == ["mine"]
    assert (result["totalSize"], result["nextPageToken"]) == (10, "n")
    assert exchange.filtered == (1, 2)
    assert answer.headers == [*JSON, (b"cache-control", b"private")]


def test_a_list_of_which_nothing_is_hidden_keeps_its_bytes(wire: Any) -> None:
    exchange = wire.classified(A2A, "GET", "/r/tasks")
    body = packed(task_list("a", "b"), enveloped=False)
    bindings = wire.Bindings(owners={handle("a"): "user:idp/ann", handle("b"): "user:idp/ann"})
    assert b"".join(wire.filtered(exchange, wire.Answer(200, list(JSON)), [body], bindings=bindings)) == body
    assert b"".join(wire.filtered(exchange, wire.Answer(200, list(JSON)), [b"{}"], bindings=bindings)) == b"{}"


@pytest.mark.parametrize(
    "body", [b"[]", b'{"tasks": {}}', b'{"tasks": [{}]}', b'{"tasks": [{"id": 5}]}', b'{"tasks": ["t"]}', b""]
)
def test_what_is_no_list_of_tasks_is_not_shown(wire: Any, body: bytes) -> None:
    with pytest.raises(Malformed):
        wire.filtered(wire.classified(A2A, "GET", "/r/tasks"), wire.Answer(200, list(JSON)), [body])


@given(
    result=st.recursive(
        st.none() | st.text(max_size=3) | st.integers(),
        lambda inner: (
            st.dictionaries(st.sampled_from(["task", "id", "status", "taskId", "kind", "message", "tasks"]), inner)
            | st.lists(inner, max_size=2)
        ),
        max_leaves=6,
    ),
    enveloped=st.booleans(),
    stream=st.booleans(),
)
def test_every_readable_answer_passes_as_it_is(wire: Any, result: object, enveloped: bool, stream: bool) -> None:
    exchange = sending(wire, enveloped=enveloped, stream=stream)
    body = json.dumps({"result": result} if enveloped else result).encode()
    chunk = b"data: " + body + b"\n\n" if stream else body
    assert b"".join(wire.filtered(exchange, wire.Answer(200, list(SSE if stream else JSON)), [chunk])) == chunk
