"""A process that writes to another's log: `remote_driver.py SOCKET COUNT`, the socket an inherited descriptor.

Says `A <exchange>` on its standard output for each intent that was durable, and ends when COUNT exchanges are over.
"""

from __future__ import annotations

import asyncio
import socket
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent.parent))

from gateway.log.remote import RemoteLog
from gateway.wire.post import connected
from tests.log.log_rig import exchange_id, record


async def main(number: int, count: int) -> None:
    gone = asyncio.Event()
    post = await connected(socket.socket(fileno=number), gone.set)
    log = RemoteLog(post)

    async def some(share: int) -> None:
        for _ in range(share):
            exchange = exchange_id()
            await log.sequenced(log.submit(record("intent", exchange)))
            print(f"A {exchange}", flush=True)
            log.submit(record("outcome", exchange))

    await asyncio.gather(*(some(count // 5) for _ in range(5)))
    log.flush()
    post.close()
    await gone.wait()


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]), int(sys.argv[2])))
