"""A server asks its caller for something, in both eras, with the real client and server: policy is asked first, and a
no ends neither side's session."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import httpx2
import pytest
from mcp import types
from mcp.client.client import Client
from mcp.client.streamable_http import streamable_http_client
from mcp.server import MCPServer
from mcp.server.mcpserver import Elicit, Resolve
from mcp.shared.exceptions import MCPError
from pydantic import BaseModel
from rig import Running, gateway, run, until

from tests.serving import serving

YES = "package tollgate\n\ndecision := true\n"
NO = """package tollgate

import rego.v1

default decision := {"decision": false, "context": {"reason": "Nobody asks our people"}}

decision := true if not input.context.direction
"""
ANSWERS_NOT = """package tollgate

import rego.v1

default decision := {"decision": true}

decision := {"decision": false} if input.context.direction == "response"
"""


class Who(BaseModel):
    name: str


def nobody_knows() -> Elicit[Who]:
    return Elicit("Who are you?", Who)


def asker() -> Any:
    """Its question is a request on the stream in the older era, a part of the result in the newer."""
    server = MCPServer("asker")

    @server.tool()
    def ask(who: Annotated[Who, Resolve(nobody_knows)]) -> str:
        return f"hello {who.name}"

    @server.tool()
    def plain() -> str:
        return "plain"

    return server.streamable_http_app()


@pytest.fixture(scope="module")
def upstream() -> Iterator[str]:
    """The asking server on a free port, in a thread of this process."""
    with serving(asker()) as base:
        yield base + "/mcp"


def settings(folder: Path, upstream: str, policy: str) -> dict[str, Any]:
    (folder / "policy").mkdir()
    (folder / "policy" / "policy.rego").write_text(policy)
    return {
        "upstreams": {"asker": {"url": upstream, "protocol": "mcp"}},
        "routes": [{"name": "asker", "match": {"path": "/asker"}, "upstream": "asker"}],
        "policy": {"bundle": str(folder / "policy")},
    }


def refusals(running: Running, *, idle: bool = True) -> list[dict[str, Any]]:
    return [record for record in running.records(idle=idle) if record["kind"] == "refusal"]


async def talk(running: Running, mode: str, seen: list[str]) -> tuple[str, str]:
    """Calls `ask`, then `plain` in the same session; returns what came of each."""

    async def elicited(context: Any, params: Any) -> types.ElicitResult:
        seen.append(params.message)
        return types.ElicitResult(action="accept", content={"name": "Ann"})

    async with httpx2.AsyncClient(headers={"authorization": f"Bearer {running.issuer.token()}"}, timeout=30) as http:
        transport = streamable_http_client(f"{running.url}/asker", http_client=http)
        async with Client(transport, mode=mode, elicitation_callback=elicited) as client:  # type: ignore[arg-type]
            try:
                asked = (await client.call_tool("ask", {})).content[0].text  # type: ignore[union-attr]
            except MCPError as error:
                asked = f"error {error}"
            return asked, (await client.call_tool("plain", {})).content[0].text  # type: ignore[union-attr]


@pytest.mark.parametrize("mode", ["auto", "legacy"])
def test_an_allowed_question_reaches_the_caller_and_its_answer_the_server(
    mode: str, tmp_path: Path, upstream: str
) -> None:
    seen: list[str] = []
    with gateway(tmp_path, **settings(tmp_path, upstream, YES)) as running:
        assert run(talk(running, mode, seen)) == ("hello Ann", "plain")
        actions = [record.get("action") for record in running.records() if record["kind"] == "outcome"]
    assert seen == ["Who are you?"]
    assert ("mcp.elicitation/create" in actions) == (mode == "legacy")  # there the answer is a request of its own


@pytest.mark.parametrize("mode", ["auto", "legacy"])
def test_a_denied_question_does_not_reach_the_caller_and_both_sides_go_on(
    mode: str, tmp_path: Path, upstream: str
) -> None:
    seen: list[str] = []
    with gateway(tmp_path, **settings(tmp_path, upstream, NO)) as running:
        asked, plain = run(talk(running, mode, seen))
        refused = refusals(running)
        outcomes = [record for record in running.records() if record["kind"] == "outcome"]
    assert asked == ("error Nobody asks our people" if mode == "auto" else "error Denied by policy")
    assert (plain, seen) == ("plain", [])
    assert [record["action"] for record in refused] == ["mcp.elicitation/create"]
    assert refused[0]["parent"] in [record["exchange"] for record in outcomes]


def test_an_answer_that_policy_denies_does_not_reach_the_server(tmp_path: Path, upstream: str) -> None:
    seen: list[str] = []

    async def until_refused(running: Running) -> None:
        """The server goes on waiting for its answer, so the caller gives up once the refusal is there."""
        caller = asyncio.ensure_future(talk(running, "legacy", seen))
        try:
            await asyncio.to_thread(until, lambda: refusals(running, idle=False), 20, "the refusal")
            assert not caller.done()
        finally:
            caller.cancel()
            await asyncio.gather(caller, return_exceptions=True)

    with gateway(tmp_path, **settings(tmp_path, upstream, ANSWERS_NOT)) as running:
        run(until_refused(running))
        assert [record["action"] for record in refusals(running)] == ["mcp.elicitation/create"]
    assert seen == ["Who are you?"]
