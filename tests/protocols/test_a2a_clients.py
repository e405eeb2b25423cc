"""The official A2A library on both sides, its requests and answers through the protocol as the wire would send them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

import httpx
import pytest
from a2a.client import A2ACardResolver, Client, ClientConfig, ClientFactory
from a2a.client.errors import A2AClientError
from a2a.server.agent_execution import AgentExecutor, RequestContext
from a2a.server.events import EventQueue
from a2a.server.request_handlers import DefaultRequestHandler
from a2a.server.routes import create_agent_card_routes, create_jsonrpc_routes, create_rest_routes
from a2a.server.tasks import InMemoryPushNotificationConfigStore, InMemoryTaskStore, TaskUpdater
from a2a.types import (
    AgentCapabilities,
    AgentCard,
    AgentInterface,
    AgentSkill,
    CancelTaskRequest,
    DeleteTaskPushNotificationConfigRequest,
    GetExtendedAgentCardRequest,
    GetTaskPushNotificationConfigRequest,
    GetTaskRequest,
    ListTaskPushNotificationConfigsRequest,
    ListTasksRequest,
    Message,
    Part,
    Role,
    SendMessageRequest,
    StreamResponse,
    SubscribeToTaskRequest,
    Task,
    TaskPushNotificationConfig,
    TaskState,
    TaskStatus,
)
from a2a.utils.errors import MethodNotFoundError, TaskNotFoundError
from starlette.applications import Starlette

from gateway.core.exchange import Call, Exchange
from gateway.core.reasons import Reason, Refusal
from gateway.protocols.a2a import A2a

UP = "http://agent.internal:9001"
PUBLIC = "https://gw.example/r"
WIRES = [("JSONRPC", "1.0"), ("HTTP+JSON", "1.0"), ("JSONRPC", "0.3"), ("HTTP+JSON", "0.3")]


class Concierge(AgentExecutor):
    """Answers in two artifacts; asked to wait it asks back and keeps the task open."""

    async def execute(self, context: RequestContext, event_queue: EventQueue) -> None:
        task_id, context_id = context.task_id or "", context.context_id or ""
        updater = TaskUpdater(event_queue, task_id, context_id)
        if context.current_task is None:
            await event_queue.enqueue_event(
                Task(id=task_id, context_id=context_id, status=TaskStatus(state=TaskState.TASK_STATE_SUBMITTED))
            )
        await updater.start_work()
        if context.get_user_input() == "wait":
            await updater.requires_input()
            return
        for word in ("Table", "booked"):
            await updater.add_artifact([Part(text=word)], artifact_id=word)
        await updater.complete()

    async def cancel(self, context: RequestContext, event_queue: EventQueue) -> None:
        await TaskUpdater(event_queue, context.task_id or "", context.context_id or "").cancel()


def agent(version: str) -> Starlette:
    card = AgentCard(
        name="concierge",
        description="Books tables.",
        version="1",
        supported_interfaces=[
            AgentInterface(url=UP + "/rpc", protocol_binding="JSONRPC", protocol_version=version),
            AgentInterface(url=UP + "/rest", protocol_binding="HTTP+JSON", protocol_version=version),
            AgentInterface(url="agent.internal:9002", protocol_binding="GRPC", protocol_version=version),
        ],
        capabilities=AgentCapabilities(streaming=True, push_notifications=True, extended_agent_card=True),
        default_input_modes=["text/plain"],
        default_output_modes=["text/plain"],
        skills=[AgentSkill(id="book", name="Book", description="Books", tags=["dinner"])],
    )
    handler = DefaultRequestHandler(
        agent_executor=Concierge(),
        task_store=InMemoryTaskStore(),
        agent_card=card,
        push_config_store=InMemoryPushNotificationConfigStore(),
        extended_agent_card=card,
    )
    return Starlette(
        routes=[
            *create_agent_card_routes(card),
            *create_jsonrpc_routes(handler, "/rpc", enable_v0_3_compat=True),
            *create_rest_routes(handler, path_prefix="/rest", enable_v0_3_compat=True),
        ]
    )


@dataclass
class Door(httpx.AsyncBaseTransport):
    """One caller's way to the agent: read, classified, its tasks looked up, forwarded, filtered."""

    wire: Any
    agent: httpx.AsyncBaseTransport
    bindings: Any
    decide: Callable[[Call], Refusal | None] = lambda call: None
    calls: list[Call] = field(default_factory=list)
    protocol: A2a = field(default_factory=A2a)

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        assert str(request.url).startswith(PUBLIC), f"{request.url} leads round the gateway"
        body = await request.aread()
        exchange: Exchange = self.wire.classified(
            self.protocol,
            request.method,
            request.url.raw_path.decode(),
            body or None,
            [(name, value) for name, value in request.headers.items() if name not in ("host", "content-length")],
            typed=False,
            principal=self.bindings.subject,
        )
        refusal = await self._judged(exchange)
        if refusal is not None:
            status, headers, text = self.protocol.refuse(exchange, refusal)
            return httpx.Response(status, headers=headers, content=text)
        return await self._forwarded(exchange, body)

    async def _judged(self, exchange: Exchange) -> Refusal | None:
        if isinstance(exchange.asked, Refusal):
            return exchange.asked
        self.calls.append(exchange.call)
        for handle in exchange.call.handles:
            owner = await self.bindings.owner(handle)
            if owner is None:
                return Refusal(Reason.SESSION_UNKNOWN, "unknown")
            if owner != self.bindings.subject:
                return Refusal(Reason.SESSION_FOREIGN, "foreign")
        return self.decide(exchange.call)

    async def _forwarded(self, exchange: Exchange, body: bytes) -> httpx.Response:
        target = UP + exchange.head.target.removeprefix("/r")
        dropped = exchange.call.drop_headers
        headers = [item for item in exchange.head.headers if item[0] not in dropped]
        asked = httpx.Request(exchange.head.method, target, headers=headers, content=body)
        response = await self.agent.handle_async_request(asked)
        content = await response.aread()
        answer: Any = self.wire.Answer(response.status_code, list(response.headers.raw))
        answer.headers = [(name.lower(), value) for name, value in answer.headers if name.lower() != b"content-length"]
        judged = exchange.call.judged
        policy = self.wire.Policy()
        found = await self.protocol.filter(exchange, answer, policy, self.bindings) if judged else None
        if found is not None:
            if found.whole is True:
                shown = await found.rewrite(content)
            else:
                shown = b"".join([await found.feed(content[at : at + 100]) for at in range(0, len(content), 100)])
                shown += await found.finish()
            if not exchange.call.listing:
                assert shown == content
            content = shown
        return httpx.Response(answer.status, headers=answer.headers, content=content)


def said(text: str, **more: Any) -> SendMessageRequest:
    return SendMessageRequest(message=Message(message_id="m1", role=Role.ROLE_USER, parts=[Part(text=text)], **more))


async def all_of(stream: AsyncIterator[StreamResponse]) -> list[StreamResponse]:
    return [item async for item in stream]


def task_of(events: list[StreamResponse]) -> str:
    for item in events:
        found = item.task.id or item.status_update.task_id or item.artifact_update.task_id
        if found:
            return str(found)
    raise AssertionError(events)


def talk(
    wire: Any,
    binding: str,
    version: str,
    story: Callable[[Client, Door, Client], Awaitable[None]],
    *,
    streaming: bool = True,
) -> None:
    """Runs a story with Ann's client, her door, and Bob's client at the same agent."""

    async def run() -> None:
        app = httpx.ASGITransport(app=agent(version))
        owners: dict[Any, str] = {}
        doors = [Door(wire, app, wire.Bindings(name, owners)) for name in ("user:idp/ann", "user:idp/bob")]
        clients = []
        for door in doors:
            http = httpx.AsyncClient(transport=door, headers={"A2A-Version": version})
            card = await A2ACardResolver(http, PUBLIC).get_agent_card()
            assert {item.url for item in card.supported_interfaces} == {PUBLIC + "/rpc", PUBLIC + "/rest"}
            config = ClientConfig(httpx_client=http, streaming=streaming, supported_protocol_bindings=[binding])
            clients.append(ClientFactory(config).create(card))
        for door in doors:
            door.calls.clear()
        await story(clients[0], doors[0], clients[1])

    asyncio.run(run())


@pytest.mark.parametrize(("binding", "version"), WIRES)
@pytest.mark.parametrize("streaming", [True, False])
def test_a_message_its_task_and_everything_about_it(wire: Any, binding: str, version: str, streaming: bool) -> None:
    async def story(ann: Client, door: Door, bob: Client) -> None:
        events = await all_of(ann.send_message(said("hello")))
        task = task_of(events)
        assert [handle.id for handle in door.bindings.bound if handle.kind == "a2a-task"] == [task]
        found = await ann.get_task(GetTaskRequest(id=task))
        assert found.status.state == TaskState.TASK_STATE_COMPLETED
        waiting = task_of(await all_of(ann.send_message(said("wait"))))
        more = await all_of(ann.send_message(said("go on", task_id=waiting)))
        assert task_of(more) == waiting
        again = task_of(await all_of(ann.send_message(said("wait"))))
        await ann.cancel_task(CancelTaskRequest(id=again))
        names = [call.action.removeprefix("a2a.") for call in door.calls]
        send = "SendStreamingMessage" if streaming else "SendMessage"
        assert names == [send, "GetTask", send, send, send, "CancelTask"]
        assert [len(call.handles) for call in door.calls] == [0, 1, 0, 1, 0, 1]
        assert {call.context["version"] for call in door.calls} == {version}
        assert {call.context["binding"] for call in door.calls} == {binding}

    talk(wire, binding, version, story, streaming=streaming)


@pytest.mark.parametrize(("binding", "version"), WIRES)
def test_push_configurations_belong_to_the_task(wire: Any, binding: str, version: str) -> None:
    async def story(ann: Client, door: Door, bob: Client) -> None:
        task = task_of(await all_of(ann.send_message(said("wait"))))
        door.calls.clear()
        config = TaskPushNotificationConfig(task_id=task, id="c", url="https://hook.example/x")
        await ann.create_task_push_notification_config(config)
        found = await ann.get_task_push_notification_config(GetTaskPushNotificationConfigRequest(task_id=task, id="c"))
        assert found.url == "https://hook.example/x"
        names = ["CreateTaskPushNotificationConfig", "GetTaskPushNotificationConfig"]
        if (binding, version) != ("HTTP+JSON", "0.3"):
            await ann.list_task_push_notification_configs(ListTaskPushNotificationConfigsRequest(task_id=task))
            await ann.delete_task_push_notification_config(
                DeleteTaskPushNotificationConfigRequest(task_id=task, id="c")
            )
            names += ["ListTaskPushNotificationConfigs", "DeleteTaskPushNotificationConfig"]
        assert [call.action for call in door.calls] == ["a2a." + name for name in names]
        assert [[handle.id for handle in call.handles] for call in door.calls] == [[task]] * len(names)

    talk(wire, binding, version, story)


@pytest.mark.parametrize(("binding", "version"), WIRES)
def test_the_extended_card_of_a_caller_leads_through_the_gateway(wire: Any, binding: str, version: str) -> None:
    async def story(ann: Client, door: Door, bob: Client) -> None:
        card = await ann.get_extended_agent_card(GetExtendedAgentCardRequest())
        assert {item.url for item in card.supported_interfaces} == {PUBLIC + "/rpc", PUBLIC + "/rest"}
        assert [call.action for call in door.calls] == ["a2a.GetExtendedAgentCard"]

    talk(wire, binding, version, story)


@pytest.mark.parametrize("binding", ["JSONRPC", "HTTP+JSON"])
def test_another_caller_sees_nothing_of_a_task(wire: Any, binding: str) -> None:
    async def story(ann: Client, door: Door, bob: Client) -> None:
        task = task_of(await all_of(ann.send_message(said("wait"))))
        own = task_of(await all_of(bob.send_message(said("hello"))))
        attempts: list[Callable[[], Awaitable[object]]] = [
            lambda: bob.get_task(GetTaskRequest(id=task)),
            lambda: bob.cancel_task(CancelTaskRequest(id=task)),
            lambda: all_of(bob.subscribe(SubscribeToTaskRequest(id=task))),
            lambda: all_of(bob.send_message(said("go on", task_id=task))),
            lambda: all_of(bob.send_message(said("look", reference_task_ids=[task]))),
            lambda: bob.create_task_push_notification_config(
                TaskPushNotificationConfig(task_id=task, id="c", url="https://evil.example")
            ),
        ]
        for attempt in attempts:
            with pytest.raises(A2AClientError, match=r"403|-31403"):
                await attempt()
        assert [item.id for item in (await bob.list_tasks(ListTasksRequest())).tasks] == [own]
        assert [item.id for item in (await ann.list_tasks(ListTasksRequest())).tasks] == [task]
        assert (await ann.get_task(GetTaskRequest(id=task))).status.state == TaskState.TASK_STATE_INPUT_REQUIRED

    talk(wire, binding, "1.0", story)


def test_a_task_nobody_has_is_the_librarys_own_not_found(wire: Any) -> None:
    async def story(ann: Client, door: Door, bob: Client) -> None:
        with pytest.raises(TaskNotFoundError):
            await ann.get_task(GetTaskRequest(id="never-was"))

    talk(wire, "HTTP+JSON", "1.0", story)


@pytest.mark.parametrize(("binding", "version"), WIRES)
@pytest.mark.parametrize("streaming", [True, False])
def test_a_denial_reaches_the_caller_with_its_text_and_ends_nothing(
    wire: Any, binding: str, version: str, streaming: bool
) -> None:
    async def story(ann: Client, door: Door, bob: Client) -> None:
        door.decide = lambda call: Refusal(Reason.DENIED, "not after midnight", retry_after=None)
        with pytest.raises(A2AClientError, match="not after midnight" if binding == "JSONRPC" else "403") as caught:
            await all_of(ann.send_message(said("hello")))
        assert not isinstance(caught.value, TaskNotFoundError | MethodNotFoundError)
        door.decide = lambda call: None
        assert task_of(await all_of(ann.send_message(said("hello"))))

    talk(wire, binding, version, story, streaming=streaming)
