"""A budget that runs out in mid-stream, wire to wire: where exactly the stream ends, how its client is told, what the
record says, and that nothing else is any different."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
import websockets.asyncio.client as socket_client
from rig import Running, gateway, routes_to, run

from gateway.control.explain import explain
from gateway.core.canonical import Json
from tests.flows.endless import (
    ASKED,
    JSON,
    PIECE,
    Endless,
    bare_update,
    budget,
    chat,
    events,
    message,
    outcome,
    plain,
    progress,
    response,
    said_back,
    told,
    update,
)
from tests.flows.stage import EVENT_STREAM, Stage, calling, chunk, left, staged
from tests.wire.faulty import Peer, Server, until


@pytest.mark.parametrize("at_once", [1, 7])
def test_a_stream_ends_with_the_last_event_for_which_there_is_room(tmp_path: Path, at_once: int) -> None:
    async def story() -> None:
        upstream = Endless(chat(PIECE), at_once=at_once)
        async with told(tmp_path, upstream, "openai", budget("tokens", 3000)) as (gate, http):
            answer = await http.post("/up/v1/chat/completions", json=ASKED)
            assert answer.status_code == 200
            await asyncio.wait_for(upstream.given_up.wait(), 10)
            record = await outcome(gate)
            whole = await asyncio.to_thread(gate.records)
            explained: Any = explain([each for each in whole if each.get("exchange") == record["exchange"]])
            again = await http.post("/up/v1/chat/completions", json=ASKED)
            assert (again.status_code, again.json()["error"]["reason"]) == (402, "budget_exhausted")
        *got, error, done = events(answer.content)
        assert done == b"[DONE]"
        assert (error["error"]["code"], error["error"]["exchange_id"]) == ("budget_exhausted", record["exchange"])
        asked = record["usage"]["input_tokens"]
        assert len(got) == (3000 - asked) // 10
        assert b"".join([chat(PIECE)] * len(got)) == answer.content[: record["usage"]["bytes_out"]]
        assert record["usage"]["output_tokens"] == 10 * (len(got) + 1)  # the one that was made and not sent
        assert record["usage"]["estimated"] is True
        [held] = record["budgets"]
        assert (held["reserved"], held["settled"]) == ("3000", str(asked + 10 * (len(got) + 1)))
        assert (record["result"], record["response"]["status"]) == ("error", 200)
        assert (record["refusal"]["reason"], record["refusal"]["stage"]) == ("budget_exhausted", "answer")
        assert "fault" not in record
        assert "It was stopped in mid-answer (budget_exhausted)" in explained["summary"]
        stages = {stage["stage"]: stage for stage in explained["stages"]}
        assert (stages["forward"]["verdict"], stages["answer"]["verdict"]) == ("passed", "refused")
        assert stages["ledger"]["text"] == "budgets story"

    run(story())


def test_a_budget_in_dollars_ends_a_stream_as_exactly(tmp_path: Path) -> None:
    async def story() -> None:
        upstream = Endless(chat(PIECE))
        async with told(tmp_path, upstream, "openai", budget("usd", 0.02)) as (gate, http):
            answer = await http.post("/up/v1/chat/completions", json=ASKED)
            record = await outcome(gate)
        asked = record["usage"]["input_tokens"]
        assert len(events(answer.content)) - 2 == (20_000 - asked) // 100  # micro-dollars; ten tokens are 100
        [held] = record["budgets"]
        assert (held["reserved"], held["settled"], held["unit"]) == ("0.02", record["usage"]["usd"], "usd")
        assert 0.02 <= float(held["settled"]) < 0.02 + 0.0001

    run(story())


def test_a_stream_within_its_budget_is_the_very_bytes_of_the_upstream(tmp_path: Path) -> None:
    async def story() -> None:
        usage = {"choices": [], "usage": {"prompt_tokens": 9, "completion_tokens": 2000}}
        end = b"data: %b\n\ndata: [DONE]\n\n" % json.dumps(usage).encode()
        upstream = Endless(chat(PIECE), 300, end)
        async with told(tmp_path, upstream, "openai", budget("tokens", 10_000)) as (gate, http):
            answer = await http.post("/up/v1/chat/completions", json=ASKED)
            record = await outcome(gate)
        assert answer.content == upstream.whole
        [held] = record["budgets"]
        assert (record["result"], held["settled"]) == ("ok", "2009")
        assert "refusal" not in record
        assert "estimated" not in record["usage"]

    run(story())


def test_what_is_read_on_for_a_caller_that_left_ends_with_its_budget_too(tmp_path: Path) -> None:
    async def story() -> None:
        upstream = Endless(chat(PIECE), hold=10)
        upstream.options = {"on_client_gone": "drain"}
        async with told(tmp_path, upstream, "openai", budget("tokens", 3000)) as (gate, _):
            async with calling(gate.app.port) as caller:
                line = ("POST /up/v1/chat/completions", gate.issuer.token())
                await caller.ask(*line, json.dumps(ASKED).encode(), "content-type: application/json")
                assert (await caller.chunk()).startswith(b"data: ")
                caller.leave()
            await until(lambda: left(gate))
            upstream.released.set()
            await asyncio.wait_for(upstream.given_up.wait(), 10)
            record = await outcome(gate)
        assert (record["result"], record["refusal"]["reason"]) == ("client_gone", "budget_exhausted")
        assert record["budgets"][0]["reserved"] == "3000"
        assert record["usage"]["bytes_out"] <= 10 * len(upstream.event)

    run(story())


@pytest.mark.parametrize("api", ["chat", "responses", "messages"])
def test_an_sdks_user_sees_its_own_error_with_our_reason(tmp_path: Path, api: str) -> None:
    import anthropic
    import openai

    async def chatting(client: Any) -> AsyncIterator[Any]:
        asked: Any = {"model": "m", "messages": ASKED["messages"], "stream": True}
        async for piece in await client.chat.completions.create(**asked):
            yield piece

    async def responding(client: Any) -> AsyncIterator[Any]:
        async for piece in await client.responses.create(model="m", input="Oslo?", stream=True, store=False):
            yield piece

    async def saying(client: Any) -> AsyncIterator[Any]:
        asked: Any = {"model": "m", "max_tokens": 50000, "messages": ASKED["messages"], "stream": True}
        async for piece in await client.messages.create(**asked):
            yield piece

    async def story() -> None:
        vendor = "anthropic" if api == "messages" else "openai"
        event = {"chat": chat, "responses": response, "messages": message}[api](PIECE)
        ask = {"chat": chatting, "responses": responding, "messages": saying}[api]
        async with told(tmp_path, Endless(event), vendor, budget("tokens", 2000)) as (gate, _):
            token, pieces = gate.issuer.token(), 0
            client: Any
            if vendor == "openai":
                client = openai.AsyncOpenAI(base_url=f"{gate.url}/up/v1", api_key=token, max_retries=2)
            else:
                client = anthropic.AsyncAnthropic(base_url=f"{gate.url}/up", auth_token=token, max_retries=2)
            async with client:
                try:
                    async for _ in ask(client):
                        pieces += 1
                except (openai.APIError, anthropic.APIStatusError) as error:
                    raised: Any = error
            record = await outcome(gate)  # one: nothing was tried again
        facts = raised.body["error"]["details"] if vendor == "anthropic" else raised.body
        assert (facts["reason"], facts["exchange_id"]) == ("budget_exhausted", record["exchange"])
        assert "story" in raised.message
        assert pieces == (2000 - record["usage"]["input_tokens"]) // 10

    run(story())


MCP = {"jsonrpc": "2.0", "id": 7, "method": "tools/call", "params": {"name": "slow", "arguments": {}}}
A2A = {"jsonrpc": "2.0", "id": 7, "method": "SendStreamingMessage", "params": {"message": {"parts": []}}}


@pytest.mark.parametrize(("protocol", "event", "asked"), [("mcp", progress, MCP), ("a2a", update, A2A)])
def test_a_jsonrpc_stream_ends_with_the_response_to_its_request(
    tmp_path: Path, protocol: str, event: Any, asked: dict[str, Json]
) -> None:
    async def story() -> None:
        upstream = Endless(event("x" * 1000))
        async with told(tmp_path, upstream, protocol, budget("bytes", 200_000)) as (gate, http):
            accept = {"accept": "application/json, text/event-stream"}
            answer = await http.post("/up", json=asked, headers=accept)
            await asyncio.wait_for(upstream.given_up.wait(), 10)
            record = await outcome(gate)
        *got, error = events(answer.content)
        assert (error["id"], error["error"]["code"]) == (7, -31402)
        assert len(got) == (200_000 - record["usage"]["bytes_in"]) // len(upstream.event)
        assert record["usage"]["bytes_out"] == len(got) * len(upstream.event)
        [held] = record["budgets"]
        assert (held["reserved"], record["refusal"]["reason"]) == ("200000", "budget_exhausted")
        assert held["settled"] == str(record["usage"]["bytes_in"] + record["usage"]["bytes_out"])

    run(story())


@pytest.mark.parametrize("mode", ["legacy", "2026-07-28"])
def test_an_mcp_client_sees_an_error_of_its_call_and_its_session_lives_on(
    tmp_path: Path, bases: dict[str, str], mode: str
) -> None:
    from mcp import Client
    from mcp.client.streamable_http import streamable_http_client
    from mcp.shared.exceptions import MCPError

    async def story() -> None:
        days: list[float] = []

        async def day(progress: float, total: float | None, text: str | None) -> None:
            days.append(progress)

        with gateway(tmp_path, **routes_to(bases), budgets=[budget("bytes", 100_000)]) as gate:
            headers = {"authorization": f"Bearer {gate.issuer.token()}"}
            async with (
                httpx2.AsyncClient(headers=headers, timeout=20) as http,
                Client(streamable_http_client(f"{gate.url}/weather", http_client=http), mode=mode) as client,
            ):
                asked = {"city": "Oslo", "days": 5000}
                with pytest.raises(MCPError) as found:
                    await client.call_tool("get_forecast", asked, progress_callback=day)
                assert (found.value.error.code, found.value.error.data["reason"]) == (-31402, "budget_exhausted")
                assert [tool.name for tool in (await client.list_tools()).tools] == ["get_forecast"]
            records = await asyncio.to_thread(gate.records)
        [stopped] = [record for record in records if record["kind"] == "outcome" and "refusal" in record]
        assert 100 < len(days) < 1000
        assert stopped["refusal"]["reason"] == "budget_exhausted"
        assert 99_000 < int(stopped["budgets"][0]["settled"]) <= 100_000

    run(story())


@pytest.mark.parametrize(("transport", "event"), [("JSONRPC", update), ("HTTP+JSON", bare_update)])
def test_an_a2a_client_sees_an_error_of_its_call(tmp_path: Path, transport: str, event: Any) -> None:
    import httpx
    from a2a.client import A2AClientError, ClientConfig, ClientFactory
    from a2a.types import AgentCapabilities, AgentCard, AgentInterface, Message, Part, Role, SendMessageRequest

    async def story() -> None:
        upstream = Endless(event("x" * 1000))
        async with told(tmp_path, upstream, "a2a", budget("bytes", 100_000)) as (gate, _):
            place = AgentInterface(url=f"{gate.url}/up", protocol_binding=transport, protocol_version="1.0")
            card = AgentCard(name="up", supported_interfaces=[place], capabilities=AgentCapabilities(streaming=True))
            said = Message(message_id="m", role=Role.ROLE_USER, parts=[Part(text="a table")])
            headers, seen = {"Authorization": f"Bearer {gate.issuer.token()}"}, 0
            async with httpx.AsyncClient(headers=headers, timeout=20) as http:
                config = ClientConfig(httpx_client=http, streaming=True, supported_protocol_bindings=[transport])
                try:
                    async for _ in ClientFactory(config).create(card).send_message(SendMessageRequest(message=said)):
                        seen += 1
                except A2AClientError as error:
                    raised = str(error)
            record = await outcome(gate)
        assert "The budget story is used up" in raised
        assert seen == record["usage"]["bytes_out"] // len(upstream.event) > 10
        assert record["refusal"]["reason"] == "budget_exhausted"

    run(story())


def test_where_there_are_no_words_the_stream_is_cut(tmp_path: Path) -> None:
    async def story() -> None:
        upstream = Endless(plain("x" * 1000))
        async with (
            told(tmp_path, upstream, "http", budget("bytes", 200_000)) as (gate, _),
            calling(gate.app.port) as caller,
        ):
            status, _ = await caller.ask("GET /up/events", gate.issuer.token())
            assert (status, await caller.is_cut()) == (200, True)
            await asyncio.wait_for(upstream.given_up.wait(), 10)
            record = await outcome(gate)
        assert record["usage"]["bytes_out"] == 200_000 // len(upstream.event) * len(upstream.event)
        assert (record["result"], record["refusal"]["reason"]) == ("error", "budget_exhausted")
        assert "fault" not in record

    run(story())


def test_an_answer_that_is_judged_as_a_whole_is_refused_before_all_of_it_is_here(tmp_path: Path) -> None:
    async def story() -> None:
        upstream = Endless(b" " * 1000, head=JSON)
        async with told(tmp_path, upstream, "openai", budget("bytes", 100_000)) as (gate, http):
            answer = await http.post("/up/v1/responses", json={"model": "m", "input": "Oslo?"})
            await asyncio.wait_for(upstream.given_up.wait(), 10)
            record = await outcome(gate)
        assert (answer.status_code, answer.json()["error"]["reason"]) == (402, "budget_exhausted")
        usage = record["usage"]
        assert (record["result"], usage["bytes_out"]) == ("error", 0)
        assert (record["refusal"]["reason"], record["refusal"]["stage"]) == ("budget_exhausted", "answer")
        assert record["budgets"][0]["settled"] == str(usage["bytes_in"])

    run(story())


class Swallowing(Endless):
    """Takes all of a request, and answers before its end or not at all."""

    def __init__(self, answers: bool) -> None:
        super().__init__(plain("go on"))
        self.answers = answers
        self.server = Server(self._swallow)

    async def _swallow(self, peer: Peer) -> None:
        await peer.head()
        if self.answers:
            await peer.send(EVENT_STREAM + chunk(self.event))
        await peer.gone()
        self.given_up.set()


def check_upload(record: dict[str, Any]) -> None:
    assert (record["result"], record["refusal"]["reason"]) == ("error", "budget_exhausted")
    assert "fault" not in record
    assert 200_000 - 65536 < int(record["budgets"][0]["settled"]) <= 200_000 + 65536


def test_an_upload_of_no_declared_length_ends_where_there_is_no_room(tmp_path: Path) -> None:
    async def story() -> None:
        upstream = Swallowing(answers=False)

        async def endless() -> AsyncIterator[bytes]:
            while not upstream.given_up.is_set():
                yield b"x" * 10_000

        async with told(tmp_path, upstream, "http", budget("bytes", 200_000)) as (gate, http):
            answer = await http.post("/up/a", content=endless())
            assert (answer.status_code, answer.json()["reason"]) == (402, "budget_exhausted")
            await asyncio.wait_for(upstream.given_up.wait(), 10)
            check_upload(await outcome(gate))

    run(story())


def test_an_upload_whose_answer_has_begun_takes_that_with_it(tmp_path: Path) -> None:
    async def story() -> None:
        upstream = Swallowing(answers=True)
        async with told(tmp_path, upstream, "http", budget("bytes", 200_000)) as (gate, _):
            async with calling(gate.app.port) as caller:
                head = f"POST /up/a HTTP/1.1\r\nhost: 127.0.0.1\r\nauthorization: Bearer {gate.issuer.token()}\r\n"
                caller.writer.write(head.encode() + b"transfer-encoding: chunked\r\n\r\n" + chunk(b"begun"))
                await caller.reader.readuntil(b"\r\n\r\n")
                assert await caller.chunk() == upstream.event
                cut = asyncio.create_task(caller.is_cut())
                while not cut.done() and not upstream.given_up.is_set():
                    caller.writer.write(chunk(b"x" * 10_000))
                    await asyncio.wait({cut}, timeout=0)
                assert await cut
            await asyncio.wait_for(upstream.given_up.wait(), 10)
            check_upload(await outcome(gate))

    run(story())


async def echoing(stage: Stage, folder: Path, *budgets: dict[str, Any]) -> dict[str, Any]:
    return {**stage.settings(folder), "budgets": list(budgets)}


def opened(gate: Running) -> Any:
    headers = {"authorization": f"Bearer {gate.issuer.token()}"}
    return socket_client.connect(f"ws://127.0.0.1:{gate.app.port}/sockets", additional_headers=headers)


def test_an_open_socket_is_closed_when_its_budget_runs_out(tmp_path: Path) -> None:
    async def story() -> None:
        async with staged() as stage:
            with gateway(tmp_path, **await echoing(stage, tmp_path, budget("bytes", 100_000))) as gate:
                echoed, ended = 0, None
                async with opened(gate) as socket:
                    while ended is None:
                        said, ended = await said_back(socket, "x" * 1000)
                        echoed += len(said)
                assert ended.code == 1008
                assert "story" in ended.reason
                record = await outcome(gate)
        assert echoed == 50_000
        usage = record["usage"]
        assert usage["bytes_in"] + usage["bytes_out"] == 100_000
        assert (record["refusal"]["reason"], record["result"]) == ("budget_exhausted", "error")
        assert "fault" not in record
        [held] = record["budgets"]
        assert (held["reserved"], held["settled"]) == ("100000", "100000")

    run(story())


def test_each_judged_message_is_a_call_of_its_own(tmp_path: Path) -> None:
    async def story() -> None:
        async with staged() as stage:
            with gateway(tmp_path, **await echoing(stage, tmp_path, budget("calls", 3))) as gate:
                async with opened(gate) as socket:
                    for number in range(5):
                        await socket.send(json.dumps({"jsonrpc": "2.0", "id": number, "method": "ask"}))
                        said = json.loads(await socket.recv())
                        if number < 3:
                            assert said["method"] == "ask"
                        else:
                            assert (said["id"], said["error"]["code"]) == (number, -31402)  # and the socket stays
                    _, ended = await said_back(socket, '{"not": "an rpc"}')
                    assert ended is not None
                    assert ended.code == 1008
                records = await asyncio.to_thread(gate.records)
        said = [record for record in records if record.get("action") == "ws.message"]
        settled = [record["budgets"][0]["settled"] for record in said if record["kind"] == "outcome"]
        assert settled == ["1", "1", "1"]
        refused = [record["refusal"]["reason"] for record in said if record["kind"] == "refusal"]
        assert refused == ["budget_exhausted"] * 3

    run(story())


def test_bytes_of_judged_messages_are_not_charged_twice(tmp_path: Path) -> None:
    async def story() -> None:
        async with staged() as stage:
            with gateway(tmp_path, **await echoing(stage, tmp_path, budget("bytes", 1_000_000))) as gate:
                judged, counted = '{"a": "%s"}' % ("x" * 100), "y" * 200
                async with opened(gate) as socket:
                    for text in (judged, counted):
                        await socket.send(text)
                        await socket.recv()
                records = await asyncio.to_thread(gate.records)
        settled = {
            record["action"]: int(record["budgets"][0]["settled"]) for record in records if record["kind"] == "outcome"
        }
        assert settled == {"ws.message": len(judged), "ws.open": 2 * len(counted) + len(judged)}

    run(story())
