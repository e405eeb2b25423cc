"""The official Anthropic client, unmodified: models, messages, tokens, streams, and a model that is denied."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from typing import Any

from anthropic import APIStatusError, AsyncAnthropic

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from transcript import Transcript, given

ASKED: Any = [{"role": "user", "content": "What is the weather in Oslo? ☃"}]


def tell(error: Exception) -> dict[str, Any]:
    return {"status": error.status_code, "body": error.body} if isinstance(error, APIStatusError) else {}


async def items(stream: Any) -> list[Any]:
    return [item async for item in stream]


async def events(client: AsyncAnthropic, model: str) -> list[Any]:
    return await items(await client.messages.create(model=model, max_tokens=64, messages=ASKED, stream=True))


async def whole(client: AsyncAnthropic) -> Any:
    async with client.messages.stream(model="small-1", max_tokens=64, messages=ASKED) as stream:
        return await stream.get_final_message()


async def main() -> None:
    asked = given()
    seen = Transcript(tell=tell)
    async with AsyncAnthropic(base_url=asked["url"], api_key=asked["credential"], timeout=20) as client:
        send = client.messages.create
        await seen.step("models", items(client.models.list()))
        await seen.step("model", client.models.retrieve("small-1"))
        await seen.step("message", send(model="small-1", max_tokens=64, messages=ASKED, system="short"))
        await seen.step("message, streamed", events(client, "small-1"))
        await seen.step("message, put together", whole(client))
        await seen.step("tokens", client.messages.count_tokens(model="small-1", messages=ASKED))
        await seen.step("the vendor's error", send(model="small-0", max_tokens=64, messages=ASKED))
        await seen.step("denied", send(model="large-1", max_tokens=64, messages=ASKED))
        await seen.step("denied stream", events(client, "large-1"))
        await seen.step("after", send(model="small-1", max_tokens=64, messages=ASKED))
    seen.print()


if __name__ == "__main__":
    asyncio.run(main())
