"""The story of the demo, chapter by chapter: real clients, each with nothing changed but its base URL and its key.

A chapter returns the lines to show. It raises when the gateway did not do what the chapter is about: then the demo has
failed, and says so.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import httpx2
import websockets
from a2a.client import A2ACardResolver, ClientConfig, ClientFactory
from a2a.types import Message, Part, Role, SendMessageRequest
from a2a.utils.signing import create_signature_verifier
from anthropic import AsyncAnthropic
from jwt import PyJWK
from mcp import Client
from mcp.client.streamable_http import streamable_http_client
from mcp.shared.exceptions import MCPError
from openai import APIError, AsyncOpenAI, PermissionDeniedError

from gateway.demo.models import SAGA
from gateway.log.entries import EntryReader
from gateway.log.verify import verify


class StoryFailed(Exception):
    """The gateway did something else than the chapter shows."""


@dataclass(frozen=True, slots=True)
class Stage:
    """Where the story plays. `reader` and `payer` are API keys of those roles; `teller` is a reader of its own."""

    url: str
    reader: str
    payer: str
    teller: str
    log: Path
    vkey: str
    settle: Callable[[], Awaitable[object]]  # publishes a checkpoint over everything that happened


def _expect(condition: bool, what: str) -> None:
    if not condition:
        raise StoryFailed(what)


async def allow_and_filter(stage: Stage) -> list[str]:
    """An MCP client lists the tools it may use, and calls one."""
    async with _bearer(stage.reader) as http, Client(_mcp(stage, http)) as client:
        tools = [tool.name for tool in (await client.list_tools()).tools]
        _expect(tools == ["get_forecast"], f"the list should show get_forecast only, it shows {tools}")
        result = await client.call_tool("get_forecast", {"city": "Oslo"})
        text = getattr(result.content[0], "text", "")
        _expect("Oslo" in text, f"the forecast is {text!r}")
    return [f"tools the reader sees: {', '.join(tools)}   (the server has three)", f"get_forecast(Oslo): {text}"]


async def deny(stage: Stage) -> list[str]:
    """The same client calls a tool that is not in its list, by its name."""
    async with _bearer(stage.reader) as http, Client(_mcp(stage, http)) as client:
        reason = await _refused(client, "delete_station", {"station": "18700"})
        again = await client.call_tool("get_forecast", {"city": "Bergen"})
        _expect(not again.is_error, "the session did not survive the denial")
    return [f"delete_station: denied: {reason}", "the session lives on: get_forecast(Bergen) answered"]


async def arguments(stage: Stage) -> list[str]:
    """A rule on an argument: the same tool, two amounts."""
    async with _bearer(stage.payer) as http, Client(_mcp(stage, http)) as client:
        paid = await client.call_tool("transfer", {"account": "NO-1", "amount": 200})
        text = getattr(paid.content[0], "text", "")
        reason = await _refused(client, "transfer", {"account": "NO-1", "amount": 5000})
    return [f"transfer(200): {text}", f"transfer(5000): denied: {reason}"]


async def models(stage: Stage) -> list[str]:
    """Two vendors' SDKs, streamed; then a model that the role may not use."""
    openai = AsyncOpenAI(base_url=f"{stage.url}/openai/v1", api_key=stage.reader, max_retries=0)
    asked: Any = [{"role": "user", "content": "What is the weather in Oslo?"}]
    stream = await openai.chat.completions.create(
        model="small-1", messages=asked, stream=True, stream_options={"include_usage": True}
    )
    words = [chunk.choices[0].delta.content or "" async for chunk in stream if chunk.choices]
    anthropic = AsyncAnthropic(base_url=f"{stage.url}/anthropic", api_key=stage.reader, max_retries=0)
    async with anthropic.messages.stream(model="small-1", max_tokens=64, messages=asked) as message:
        text = await message.get_final_text()
    _expect("".join(words) == text, f"the two streams differ: {words} and {text!r}")
    try:
        await openai.chat.completions.create(model="large-1", messages=asked)
    except PermissionDeniedError as error:
        reason = error.body.get("message", "") if isinstance(error.body, dict) else str(error)
    else:
        raise StoryFailed("the large model answered a reader")
    finally:
        await openai.close()
        await anthropic.close()
    return [
        f"openai SDK, streamed in {len(words)} pieces: {text}",
        "anthropic SDK, streamed: the same",
        f"large-1: denied: {reason}",
    ]


async def agent(stage: Stage) -> list[str]:
    """An A2A client reads the agent's card through the gateway, checks who signed it, and follows it."""
    headers = {"Authorization": f"Bearer {stage.reader}"}
    async with httpx.AsyncClient(headers=headers, timeout=10) as http:
        published = (await http.get(f"{stage.url}/.well-known/jwks.json")).json()["keys"]
        keys = {jwk["kid"]: PyJWK(jwk) for jwk in published}
        verifier = create_signature_verifier(lambda kid, jku: keys[kid or ""], ["EdDSA"])
        card = await A2ACardResolver(http, f"{stage.url}/concierge").get_agent_card(signature_verifier=verifier)
        urls = [interface.url for interface in card.supported_interfaces]
        _expect(all(url.startswith(stage.url) for url in urls), f"the card leads past the gateway: {urls}")
        client = ClientFactory(ClientConfig(httpx_client=http, streaming=True)).create(card)
        message = Message(message_id="m-1", role=Role.ROLE_USER, parts=[Part(text="A table for two")])
        pieces = []
        async for event in client.send_message(SendMessageRequest(message=message)):
            if event.HasField("artifact_update"):
                pieces += [part.text for part in event.artifact_update.artifact.parts]
    _expect(len(pieces) == 3, f"the agent's stream brought {pieces}")
    return [
        f"card: {card.name}, reachable at {urls[0]}",
        "its maker's signature was verified before the call; the one on it now is the gateway's, and is right",
        f"streamed artifacts: {''.join(pieces)}",
    ]


async def socket(stage: Stage) -> list[str]:
    """A WebSocket: the opening is judged, what follows is relayed."""
    url = stage.url.replace("http://", "ws://") + "/echo/ws"
    async with websockets.connect(url, additional_headers={"Authorization": f"Bearer {stage.reader}"}) as found:
        await found.send("hello")
        answer = await found.recv()
    _expect(answer == "hello", f"the echo is {answer!r}")
    return [f"echo: {answer!r}"]


async def limit(stage: Stage) -> list[str]:
    """More calls than the limit lets through."""
    passed = 0
    async with httpx2.AsyncClient(headers={"x-api-key": stage.reader}, timeout=10) as http:
        for _ in range(60):
            answer = await http.get(f"{stage.url}/echo/v1/models")
            if answer.status_code == 429:
                return [
                    f"{passed} calls passed, then: 429, Retry-After {answer.headers['retry-after']}",
                    f"RateLimit: {answer.headers['ratelimit']}",
                ]
            _expect(answer.status_code == 200, f"the call was answered {answer.status_code}")
            passed += 1
    raise StoryFailed("sixty calls passed a limit of fifteen")


async def budget(stage: Stage) -> list[str]:
    """A model that does not stop, and a budget that does: in mid-stream, as an error of the client's own library."""
    openai = AsyncOpenAI(base_url=f"{stage.url}/openai/v1", api_key=stage.teller, max_retries=0)
    asked: Any = [{"role": "user", "content": "Tell me a saga"}]
    pieces, said = 0, {}
    try:
        async for chunk in await openai.chat.completions.create(model=SAGA, messages=asked, stream=True):
            pieces += len(chunk.choices)
    except APIError as error:
        said = error.body if isinstance(error.body, dict) else {}
    finally:
        await openai.close()
    _expect(said.get("code") == "budget_exhausted", f"the stream ended after {pieces} pieces with {said}")
    record = await _outcome(stage, said.get("exchange_id"))
    [held], usage = record["budgets"], record["usage"]
    about = "about " if usage.get("estimated") else ""
    return [
        f"openai SDK: {pieces} pieces of the story, then APIError: {said.get('message')}",
        f"record {record['seq']}: {record['refusal']['reason']} within status {record['response']['status']}",
        f"  {held['name']}: reserved {held['reserved']}, settled {held['settled']} {held['unit']}",
        f"  {about}{usage['output_tokens']} tokens for {usage['usd']} usd",
    ]


async def _outcome(stage: Stage, exchange: object) -> dict[str, Any]:
    """Its record, which is written when its last byte was sent."""
    for _ in range(50):
        await stage.settle()
        for _, entry in EntryReader(stage.log).read(0, None):
            record = json.loads(entry)
            if record.get("exchange") == exchange and record["kind"] == "outcome":
                return dict(record)
        await asyncio.sleep(0.1)
    raise StoryFailed(f"the log has no outcome of {exchange}")


async def log(stage: Stage) -> list[str]:
    """Everything above is in the log; anybody with the verifier key can check it."""
    await stage.settle()
    report = verify(stage.log, [stage.vkey])
    _expect(report.ok, f"the log does not verify: {report}")
    return [
        f"{report.size} records verified from the first to the last, signed by",
        f"  {stage.vkey}",
        f"check it yourself: .venv/bin/tollgate audit verify {stage.log} --key '{stage.vkey}'",
    ]


CHAPTERS: tuple[tuple[str, Callable[[Stage], Awaitable[list[str]]]], ...] = (
    ("An agent is allowed, and sees only what it may use", allow_and_filter),
    ("A call is denied, and the agent learns why", deny),
    ("Policy reads the real arguments", arguments),
    ("Model traffic, streamed and metered", models),
    ("An A2A agent behind its card, verified and signed anew", agent),
    ("A WebSocket", socket),
    ("A rate limit stops a loop", limit),
    ("A budget stops a stream in the middle", budget),
    ("The log of all this verifies", log),
)


def _bearer(key: str) -> httpx2.AsyncClient:
    return httpx2.AsyncClient(headers={"Authorization": f"Bearer {key}"}, timeout=10)


def _mcp(stage: Stage, http: httpx2.AsyncClient) -> Any:
    return streamable_http_client(f"{stage.url}/weather", http_client=http)


async def _refused(client: Client, tool: str, values: dict[str, Any]) -> str:
    try:
        await client.call_tool(tool, values)
    except MCPError as error:
        return error.error.message
    raise StoryFailed(f"{tool} was allowed")
