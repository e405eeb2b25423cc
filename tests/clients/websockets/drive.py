"""The `websockets` client, unmodified: text, binary, large and many messages, a subprotocol, a denied message in the
middle of a connection that stays, a denied opening."""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path
from typing import Any

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from transcript import Transcript, given


def tell(error: Exception) -> dict[str, Any]:
    if isinstance(error, InvalidStatus):
        return {"status": error.response.status_code, "body": error.response.body.decode()}
    if isinstance(error, ConnectionClosed) and error.rcvd is not None:
        return {"code": error.rcvd.code, "reason": error.rcvd.reason}
    return {}


async def echo(socket: ClientConnection, message: Any) -> Any:
    await socket.send(message)
    return await socket.recv()


async def rpc(socket: ClientConnection, method: str) -> Any:
    return await echo(socket, json.dumps({"jsonrpc": "2.0", "id": method, "method": method, "params": {"a": [1]}}))


async def many(socket: ClientConnection) -> list[Any]:
    for number in range(50):
        await socket.send(f"message {number}")
    return [await socket.recv() for _ in range(50)]


async def ponged(socket: ClientConnection) -> bool:
    return await (await socket.ping(b"here?")) >= 0


async def closed(socket: ClientConnection) -> list[Any]:
    await socket.close(1000, "done")
    return [socket.close_code, socket.close_reason]


async def opened(url: str, headers: dict[str, str]) -> str:
    async with connect(url, additional_headers=headers) as socket:
        return str(await echo(socket, "hello"))


async def main() -> None:
    asked = given()
    seen = Transcript(tell=tell)
    headers = {"Authorization": f"Bearer {asked['credential']}"}
    async with connect(asked["url"], additional_headers=headers, subprotocols=["chat.v2", "chat.v1"]) as socket:  # type: ignore[list-item]
        await seen.step("subprotocol", asyncio.sleep(0, socket.subprotocol))
        await seen.step("text", echo(socket, "hello ☃"))
        await seen.step("empty", echo(socket, ""))
        await seen.step("binary", echo(socket, bytes(range(256))))
        await seen.step("large", echo(socket, "0123456789abcdef" * 20_000))
        await seen.step("fragments", echo(socket, ["one ", "two ", "three"]))
        await seen.step("json", echo(socket, '{"a": 1.50, "b": "\\u00e9"}'))
        await seen.step("rpc", rpc(socket, "allowed"))
        await seen.step("ping", ponged(socket))
        await seen.step("many", many(socket))
        await seen.step("denied", rpc(socket, "forbidden"))
        await seen.step("after", echo(socket, "still here"))
        await seen.step("close", closed(socket))
    await seen.step("denied opening", opened(asked["shut"], headers))
    await seen.step("after a denied opening", opened(asked["url"], headers))
    seen.print()


if __name__ == "__main__":
    asyncio.run(main())
