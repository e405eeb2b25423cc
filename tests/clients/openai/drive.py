"""The official OpenAI client, unmodified: models, chat, responses, embeddings, streams, and a model that is denied."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from typing import Any

from openai import APIStatusError, AsyncOpenAI

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from transcript import Transcript, given

ASKED: Any = [{"role": "user", "content": "What is the weather in Oslo? ☃"}]


def tell(error: Exception) -> dict[str, Any]:
    if not isinstance(error, APIStatusError):
        return {}
    return {"status": error.status_code, "code": error.code, "body": error.body}


async def items(stream: Any) -> list[Any]:
    return [item async for item in stream]


async def chunks(client: AsyncOpenAI, model: str) -> list[Any]:
    options: Any = {"include_usage": True}
    stream = await client.chat.completions.create(model=model, messages=ASKED, stream=True, stream_options=options)
    return await items(stream)


async def whole(client: AsyncOpenAI) -> Any:
    async with client.chat.completions.stream(model="small-1", messages=ASKED) as stream:
        return await stream.get_final_completion()


async def events(client: AsyncOpenAI) -> list[Any]:
    return await items(await client.responses.create(model="small-1", input="Oslo?", stream=True))


async def main() -> None:
    asked = given()
    seen = Transcript(tell=tell)
    async with AsyncOpenAI(base_url=asked["url"], api_key=asked["credential"], timeout=20) as client:
        chat = client.chat.completions
        await seen.step("models", items(client.models.list()))
        await seen.step("model", client.models.retrieve("small-1"))
        await seen.step("chat", chat.create(model="small-1", messages=ASKED))
        await seen.step("chat, streamed", chunks(client, "small-1"))
        await seen.step("chat, put together", whole(client))
        await seen.step("response", client.responses.create(model="small-1", input="Oslo?"))
        await seen.step("response, streamed", events(client))
        await seen.step("embeddings", client.embeddings.create(model="small-1", input=["a", "b"]))
        await seen.step("the vendor's error", chat.create(model="small-0", messages=ASKED))
        await seen.step("denied", chat.create(model="large-1", messages=ASKED))
        await seen.step("denied stream", chunks(client, "large-1"))
        await seen.step("after", chat.create(model="small-1", messages=ASKED))
    seen.print()


if __name__ == "__main__":
    asyncio.run(main())
