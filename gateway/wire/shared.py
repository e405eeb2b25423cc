"""One port for several processes: each has listening sockets of its own, and the kernel spreads callers over them.

The rules: 1. Who opens the port finds out that nobody else has it: a second gateway on it would get half of the
callers. 2. Whoever opened them keeps them: while a process that serves one is started again, its callers wait.
"""

from __future__ import annotations

import socket
from collections.abc import Sequence

from gateway.wire.server import BACKLOG, CannotListen, why_not
from gateway.wire.tls_listener import bound


async def shared(host: str, port: int, count: int) -> list[list[socket.socket]]:
    """`count` times the sockets that listen on every address of the name. Raises CannotListen."""
    made: list[list[socket.socket]] = []
    try:
        probe = await bound(host, port, BACKLOG)  # 1
        found: int = probe[0].getsockname()[1]
        close(probe)
        for _ in range(count):
            made.append(await bound(host, found, BACKLOG, shared=True))
    except OSError as error:
        for sockets in made:
            close(sockets)
        raise CannotListen(why_not(host, port, error)) from error
    return made


def close(sockets: Sequence[socket.socket]) -> None:
    for item in sockets:
        item.close()
