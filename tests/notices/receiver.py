"""A web server on loopback that keeps what it is sent and answers as it is told."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field


@dataclass
class Receiver:
    """`answers` are given in their order, the last one for ever: a status, or None for a connection that is cut."""

    answers: list[int | None] = field(default_factory=lambda: [204])
    headers: list[dict[str, str]] = field(default_factory=list)
    bodies: list[bytes] = field(default_factory=list)
    more: Sequence[str] = ()
    url: str = ""
    told: Callable[[dict[str, str], bytes], None] = lambda headers, body: None

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
            given = {name.lower(): value for name, _, value in (line.partition(": ") for line in head[1:] if line)}
            body = await reader.readexactly(int(given.get("content-length", "0")))
            self.headers.append(given)
            self.bodies.append(body)
            self.told(given, body)
            status = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
            if status is not None:
                extra = "".join(f"{line}\r\n" for line in self.more)
                writer.write(f"HTTP/1.1 {status} X\r\n{extra}content-length: 0\r\nconnection: close\r\n\r\n".encode())
                await writer.drain()
        except (ConnectionError, asyncio.IncompleteReadError):
            pass  # the sender had enough
        finally:
            writer.close()


@asynccontextmanager
async def receiving(*answers: int | None, more: Sequence[str] = ()) -> AsyncIterator[Receiver]:
    found = Receiver(list(answers) or [204], more=more)
    server = await asyncio.start_server(found.serve, "127.0.0.1", 0)
    async with server:
        found.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/hook"
        yield found


def _tell(headers: dict[str, str], body: bytes) -> None:
    print(json.dumps({"headers": headers, "body": body.decode()}), flush=True)


async def _forever() -> None:
    found = Receiver(told=_tell)
    server = await asyncio.start_server(found.serve, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    async with server:
        await server.serve_forever()


if __name__ == "__main__":  # a process of its own: prints its port, then a line for each message
    sys.exit(asyncio.run(_forever()))
