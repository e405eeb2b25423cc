"""The official A2A client, unmodified: the card is read at the URL and followed; messages, streams, tasks, a denial.

`binding` and `version` choose one of the card's ways to the agent; for an older version the card is read as one of it.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
from a2a.client import A2ACardResolver, Client, ClientConfig, ClientFactory
from a2a.types import (
    CancelTaskRequest,
    GetTaskRequest,
    ListTasksRequest,
    Message,
    Part,
    Role,
    SendMessageRequest,
    SubscribeToTaskRequest,
    TaskPushNotificationConfig,
)
from google.protobuf.json_format import MessageToDict

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from transcript import Transcript, given


def show(value: Any) -> Any:
    if isinstance(value, list):
        return [show(item) for item in value]
    return MessageToDict(value) if hasattr(value, "DESCRIPTOR") else value


def tell(error: Exception) -> dict[str, Any]:
    """What the error says; one of a status the client has no class for keeps the answer as its cause."""
    said = {name: getattr(error, name) for name in ("code", "data") if hasattr(error, name)}
    if isinstance(error.__cause__, httpx.HTTPStatusError) and error.__cause__.response.is_stream_consumed:
        said["body"] = error.__cause__.response.text
    return said


def said(text: str, **more: str) -> SendMessageRequest:
    return SendMessageRequest(
        message=Message(message_id="m-" + text, role=Role.ROLE_USER, parts=[Part(text=text)], **more)
    )


async def all_of(events: AsyncIterator[Any]) -> list[Any]:
    return [event async for event in events]


def task_of(events: list[Any]) -> tuple[str, str]:
    for event in events:
        if event.HasField("task"):
            return event.task.id, event.task.context_id
        if event.HasField("status_update"):
            return event.status_update.task_id, event.status_update.context_id
    raise LookupError("no task came")


async def watched(streaming: Client, plain: Client, task: str, answer: SendMessageRequest) -> list[Any]:
    """What a subscription to the waiting task brings while somebody answers it, and the answer's own answer."""
    events = streaming.subscribe(SubscribeToTaskRequest(id=task))
    found = [await anext(events)]
    answered = await all_of(plain.send_message(answer))
    return [*found, *await all_of(events), *answered]


async def scenario(streaming: Client, plain: Client, seen: Transcript, version: str) -> None:
    await seen.step("send", all_of(plain.send_message(said("a table for two"))))
    events = await seen.step("send, streamed", all_of(streaming.send_message(said("a table for three"))))
    task, context = task_of(events)
    await seen.step("get", plain.get_task(GetTaskRequest(id=task)))
    await seen.step("no such task", plain.get_task(GetTaskRequest(id="never-was")))
    if version == "1.0":
        await seen.step("list", plain.list_tasks(ListTasksRequest(context_id=context)))
    asked = await seen.step("asked back", all_of(streaming.send_message(said("a table"))))
    waiting, context = task_of(asked)
    more = said("one for four", task_id=waiting, context_id=context)
    await seen.step("answered, watched", watched(streaming, plain, waiting, more))
    given_up, _ = task_of(await all_of(plain.send_message(said("a chair"))))
    await seen.step("cancel", plain.cancel_task(CancelTaskRequest(id=given_up)))
    await seen.step("subscribe to what is over", all_of(streaming.subscribe(SubscribeToTaskRequest(id=given_up))))
    hook = TaskPushNotificationConfig(task_id=task, id="hook", url="https://hook.example/x")
    await seen.step("denied", plain.create_task_push_notification_config(hook))
    await seen.step("after", all_of(streaming.send_message(said("a table for five"))))


async def main() -> None:
    asked = given()
    seen = Transcript(show, tell)
    headers = {"Authorization": f"Bearer {asked['credential']}", "A2A-Version": asked["version"]}
    async with httpx.AsyncClient(headers=headers, timeout=20) as http:
        card = await seen.step("card", A2ACardResolver(http, asked["url"]).get_agent_card())
        for interface in card.supported_interfaces:
            interface.protocol_version = asked["version"]
        clients = [
            ClientFactory(
                ClientConfig(httpx_client=http, streaming=streaming, supported_protocol_bindings=[asked["binding"]])
            ).create(card)
            for streaming in (True, False)
        ]
        await scenario(clients[0], clients[1], seen, asked["version"])
    seen.print()


if __name__ == "__main__":
    asyncio.run(main())
