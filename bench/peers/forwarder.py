"""Starlette + httpx doing nothing but forwarding, as its users write it: one client, streamed answers."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import StreamingResponse
from starlette.routing import Route

UPSTREAM = os.environ["UPSTREAM"]
HOP = {"connection", "keep-alive", "transfer-encoding", "host", "content-length"}


@asynccontextmanager
async def lifespan(app: Starlette) -> AsyncIterator[None]:
    limits = httpx.Limits(max_connections=256, max_keepalive_connections=256)
    async with httpx.AsyncClient(base_url=UPSTREAM, limits=limits, timeout=30) as client:
        app.state.client = client
        yield


async def forward(request: Request) -> StreamingResponse:
    client: httpx.AsyncClient = request.app.state.client
    headers = [(name, value) for name, value in request.headers.items() if name not in HOP]
    path = request.scope["path"]
    built = client.build_request(request.method, path, headers=headers, content=await request.body())
    answer = await client.send(built, stream=True)
    kept = {name: value for name, value in answer.headers.items() if name not in HOP}
    return StreamingResponse(answer.aiter_raw(), answer.status_code, kept, background=None)


app = Starlette(routes=[Route("/{path:path}", forward, methods=["GET", "POST"])], lifespan=lifespan)
