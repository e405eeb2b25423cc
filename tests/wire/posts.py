"""A worker's end and its owner's end of one pair of sockets, in this process."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from gateway.wire.post import SocketPost, connected


@asynccontextmanager
async def posts() -> AsyncIterator[tuple[SocketPost, SocketPost]]:
    ours, theirs = socket.socketpair()
    gone = [asyncio.Event(), asyncio.Event()]
    both = await connected(ours, gone[0].set), await connected(theirs, gone[1].set)
    try:
        yield both
    finally:
        for post in both:
            post.close()
        await asyncio.gather(*(event.wait() for event in gone))
