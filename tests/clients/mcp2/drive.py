"""The official MCP client 2.x, unmodified, in the era that `mode` names: "legacy", "auto" or a version."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from typing import Any

import httpx2
from mcp import Client
from mcp.client.streamable_http import streamable_http_client
from mcp.shared.exceptions import MCPError

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from transcript import Transcript, given, plain


def tell(error: Exception) -> dict[str, Any]:
    return {"code": error.error.code, "data": error.error.data} if isinstance(error, MCPError) else {}


async def scenario(client: Client, seen: Transcript) -> None:
    about = {"server": client.server_info, "capabilities": client.server_capabilities, "said": client.instructions}
    await seen.step("connect", asyncio.sleep(0, plain({**about, "version": client.protocol_version})))
    await seen.step("tools", client.list_tools())
    await seen.step("call", client.call_tool("get_forecast", {"city": "Oslo"}))
    progress: list[list[Any]] = []

    async def moved(done: float, total: float | None, text: str | None) -> None:
        progress.append([done, total, text])

    long = client.call_tool("get_forecast", {"city": "Oslo", "days": 3}, progress_callback=moved)
    await seen.step("call, streamed", long)
    await seen.step("progress", asyncio.sleep(0, progress))
    await seen.step("bad arguments", client.call_tool("get_forecast", {"town": 1}))
    await seen.step("resources", client.list_resources())
    await seen.step("templates", client.list_resource_templates())
    await seen.step("read", client.read_resource("weather://cities"))
    await seen.step("read a template", client.read_resource("weather://city/Bergen"))
    await seen.step("no such resource", client.read_resource("weather://nothing"))
    await seen.step("prompts", client.list_prompts())
    await seen.step("prompt", client.get_prompt("packing", {"city": "Oslo"}))
    await seen.step("denied", client.call_tool("delete_station", {"station": "1"}))
    await seen.step("after", client.call_tool("get_forecast", {"city": "Bergen"}))
    cities = ("Oslo", "Bergen", "Madrid", "Lima")
    await seen.step("at once", asyncio.gather(*(client.call_tool("get_forecast", {"city": city}) for city in cities)))


async def main() -> None:
    asked = given()
    seen = Transcript(tell=tell)
    headers = {"Authorization": f"Bearer {asked['credential']}"}
    async with httpx2.AsyncClient(headers=headers, timeout=20) as http:
        transport = streamable_http_client(asked["url"], http_client=http)
        async with Client(transport, mode=asked["mode"]) as client:
            await scenario(client, seen)
    seen.print()


if __name__ == "__main__":
    asyncio.run(main())
