"""The official MCP client 1.x, unmodified: a session from `initialize` to its end, one denied call in the middle."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from typing import Any

import httpx
from mcp import ClientSession, McpError
from mcp.client.streamable_http import streamable_http_client
from pydantic import AnyUrl

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from transcript import Transcript, given


def tell(error: Exception) -> dict[str, Any]:
    return {"code": error.error.code, "data": error.error.data} if isinstance(error, McpError) else {}


async def scenario(session: ClientSession, seen: Transcript) -> None:
    await seen.step("initialize", session.initialize())
    await seen.step("ping", session.send_ping())
    await seen.step("tools", session.list_tools())
    await seen.step("call", session.call_tool("get_forecast", {"city": "Oslo"}))
    progress: list[list[Any]] = []

    async def moved(done: float, total: float | None, text: str | None) -> None:
        progress.append([done, total, text])

    await seen.step("call, streamed", session.call_tool("get_forecast", {"city": "Oslo", "days": 3}, None, moved))
    await seen.step("progress", asyncio.sleep(0, progress))
    await seen.step("bad arguments", session.call_tool("get_forecast", {"town": 1}))
    await seen.step("resources", session.list_resources())
    await seen.step("templates", session.list_resource_templates())
    await seen.step("read", session.read_resource(AnyUrl("weather://cities")))
    await seen.step("read a template", session.read_resource(AnyUrl("weather://city/Bergen")))
    await seen.step("no such resource", session.read_resource(AnyUrl("weather://nothing")))
    await seen.step("prompts", session.list_prompts())
    await seen.step("prompt", session.get_prompt("packing", {"city": "Oslo"}))
    await seen.step("denied", session.call_tool("delete_station", {"station": "1"}))
    await seen.step("after", session.call_tool("get_forecast", {"city": "Bergen"}))
    cities = ("Oslo", "Bergen", "Madrid", "Lima")
    await seen.step("at once", asyncio.gather(*(session.call_tool("get_forecast", {"city": city}) for city in cities)))


async def main() -> None:
    asked = given()
    seen = Transcript(tell=tell)
    headers = {"Authorization": f"Bearer {asked['credential']}"}
    async with httpx.AsyncClient(headers=headers, timeout=20) as http:  # noqa: SIM117 (each in its own order of closing)
        async with streamable_http_client(asked["url"], http_client=http) as (read, write, *_):
            async with ClientSession(read, write) as session:
                await scenario(session, seen)
    seen.print()


if __name__ == "__main__":
    asyncio.run(main())
