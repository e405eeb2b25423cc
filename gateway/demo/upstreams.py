"""Starts the demo's upstreams in a process of their own: `python -m gateway.demo.upstreams`.

Each listens on a free loopback port. One JSON line on stdout names them when all answer; the process ends when its
stdin is closed, so that no upstream outlives the demo that started it.
"""

from __future__ import annotations

import asyncio
import json
import socket
import sys
from typing import Any, Literal

import uvicorn
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from gateway.demo.agents import concierge, weather
from gateway.demo.models import Model


def _listen() -> socket.socket:
    # The protocol is named, else asyncio leaves Nagle's algorithm on: a stream's small writes then wait 40 ms.
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.bind(("127.0.0.1", 0))
    listener.listen(128)
    return listener


def _server(app: Any, *, lifespan: Literal["on", "off"]) -> uvicorn.Server:
    config = uvicorn.Config(
        app,
        log_level="error",
        lifespan=lifespan,
        timeout_graceful_shutdown=1,
        ws="websockets-sansio",
    )
    return uvicorn.Server(config)


async def serve() -> None:
    sockets = {name: _listen() for name in ("weather", "concierge", "model")}
    bases = {name: f"http://127.0.0.1:{item.getsockname()[1]}" for name, item in sockets.items()}
    key = ec.generate_private_key(ec.SECP256R1()).private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    servers = {
        "weather": _server(weather(), lifespan="on"),
        "concierge": _server(concierge(bases["concierge"], key), lifespan="off"),
        "model": _server(Model(), lifespan="off"),
    }
    tasks = [asyncio.create_task(server.serve(sockets=[sockets[name]])) for name, server in servers.items()]
    while not all(server.started for server in servers.values()):  # noqa: ASYNC110 (uvicorn has a flag only)
        await asyncio.sleep(0.01)
    print(json.dumps(bases), flush=True)  # noqa: T201 (the one line the demo reads)
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.buffer.read)
    for server in servers.values():
        server.should_exit = True
    await asyncio.gather(*tasks)


if __name__ == "__main__":
    asyncio.run(serve())
