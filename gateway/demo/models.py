"""The demo's model: OpenAI- and Anthropic-shaped answers, streamed, without a model behind them; and a WebSocket echo.

It speaks the two vendors' wire formats well enough for their official SDKs, usage included. A raw ASGI application.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, MutableMapping
from itertools import chain, repeat
from typing import Any, TypeAlias

Message: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[Message]]
Send: TypeAlias = Callable[[Message], Awaitable[None]]

WORDS = ("Snow", " in", " Oslo,", " so", " pack", " boots.")
MODELS = ("small-1", "large-1")
SAGA = "small-saga"  # does not know when to stop: for a budget that does
SAGA_WORDS = (" And then it snowed in Oslo once more,",) * 400
RETIRED = "small-0"  # to ask it is an error of the vendor's, not of the gateway's


class Model:
    """`pause` seconds lie between two words of a stream."""

    def __init__(self, pause: float = 0.02) -> None:
        self._pause = pause

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket":
            await _echo(scope, receive, send)
            return
        if scope["type"] != "http":
            raise RuntimeError(f"a {scope['type']} scope has no meaning here")
        body = b""
        while True:
            message = await receive()
            body += message.get("body", b"")
            if not message.get("more_body"):
                break
        asked = json.loads(body) if body else {}
        anthropic = any(name == b"anthropic-version" for name, _ in scope["headers"])
        if asked.get("model") == RETIRED:
            await _json(send, gone(anthropic), 404)
        elif "/models" in scope["path"]:
            await _json(send, *models(scope["path"].rpartition("/models")[2].strip("/"), anthropic))
        else:
            await self._answer(scope["path"], asked, send)

    async def _answer(self, path: str, asked: dict[str, Any], send: Send) -> None:
        model = asked.get("model", "")
        if path.endswith("/chat/completions"):
            events = chat_events(model, asked) if asked.get("stream") else None
            await (self._events(events, send) if events else _json(send, chat(model)))
        elif path.endswith("/responses"):
            events = response_events(model) if asked.get("stream") else None
            await (self._events(events, send) if events else _json(send, response(model)))
        elif path.endswith("/embeddings"):
            await _json(send, embeddings(model))
        elif path.endswith("/messages/count_tokens"):
            await _json(send, {"input_tokens": 9})
        elif path.endswith("/messages"):
            events = message_events(model) if asked.get("stream") else None
            await (self._events(events, send) if events else _json(send, message_of(model)))
        else:
            await _json(send, {"error": {"message": "no such endpoint", "type": "invalid_request_error"}}, 404)

    async def _events(self, events: list[tuple[str, str]], send: Send) -> None:
        headers = [(b"content-type", b"text/event-stream"), (b"cache-control", b"no-cache")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        for name, data in events:
            text = (f"event: {name}\n" if name else "") + f"data: {data}\n\n"
            await send({"type": "http.response.body", "body": text.encode(), "more_body": True})
            await asyncio.sleep(self._pause if len(events) < len(SAGA_WORDS) else self._pause / 4)
        await send({"type": "http.response.body", "body": b""})


async def _json(send: Send, value: object, status: int = 200) -> None:
    body = json.dumps(value).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


async def _echo(scope: Message, receive: Receive, send: Send) -> None:
    offered = scope.get("subprotocols") or [None]
    while True:
        message = await receive()
        if message["type"] == "websocket.connect":
            await send({"type": "websocket.accept", "subprotocol": offered[0]})
        elif message["type"] == "websocket.receive":
            await send({"type": "websocket.send", "text": message.get("text"), "bytes": message.get("bytes")})
        else:
            return


def models(ident: str, anthropic: bool) -> tuple[dict[str, Any], int]:
    """The list of models, or one of them, and the status."""
    if anthropic:
        made: dict[str, Any] = {"type": "model", "created_at": "2026-01-01T00:00:00Z"}
        data = [made | {"id": item, "display_name": item.title()} for item in MODELS]
        whole: dict[str, Any] = {"data": data, "has_more": False, "first_id": MODELS[0], "last_id": MODELS[-1]}
    else:
        data = [{"id": item, "object": "model", "created": 1, "owned_by": "demo"} for item in MODELS]
        whole = {"object": "list", "data": data}
    if not ident:
        return whole, 200
    return next(((item, 200) for item in data if item["id"] == ident), (gone(anthropic), 404))


def gone(anthropic: bool) -> dict[str, Any]:
    """What each vendor says of a model it does not have."""
    text = "This model is not here"
    if anthropic:
        return {"type": "error", "error": {"type": "not_found_error", "message": text}, "request_id": "req_demo"}
    return {"error": {"message": text, "type": "invalid_request_error", "param": "model", "code": "model_not_found"}}


def words(model: str) -> tuple[str, ...]:
    return SAGA_WORDS if model == SAGA else WORDS


def _tokens(model: str) -> int:
    return sum(len(word.split()) for word in words(model))


def _usage(model: str) -> dict[str, Any]:
    tokens = _tokens(model)
    return {"prompt_tokens": 9, "completion_tokens": tokens, "total_tokens": 9 + tokens}


def chat(model: str) -> dict[str, Any]:
    message = {"role": "assistant", "content": "".join(words(model))}
    choice = {"index": 0, "message": message, "finish_reason": "stop", "logprobs": None}
    return {
        "id": "chatcmpl-demo", "object": "chat.completion", "created": 1, "model": model,
        "choices": [choice], "usage": _usage(model),
    }  # fmt: skip


def chat_events(model: str, asked: dict[str, Any]) -> list[tuple[str, str]]:
    base = {"id": "chatcmpl-demo", "object": "chat.completion.chunk", "created": 1, "model": model}
    chunks: list[dict[str, Any]] = [
        base | {"choices": [{"index": 0, "delta": first | {"content": word}, "finish_reason": None}]}
        for first, word in zip(chain([{"role": "assistant"}], repeat({})), words(model), strict=False)
    ]
    chunks.append(base | {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]})
    if (asked.get("stream_options") or {}).get("include_usage"):
        chunks.append(base | {"choices": [], "usage": _usage(model)})
    return [("", json.dumps(chunk)) for chunk in chunks] + [("", "[DONE]")]


def response(model: str) -> dict[str, Any]:
    text = {"type": "output_text", "text": "".join(words(model)), "annotations": []}
    item = {"id": "msg_demo", "type": "message", "role": "assistant", "status": "completed", "content": [text]}
    details = {"input_tokens_details": {"cached_tokens": 0}, "output_tokens_details": {"reasoning_tokens": 0}}
    usage = {"input_tokens": 9, "output_tokens": _tokens(model), "total_tokens": 9 + _tokens(model)} | details
    return {
        "id": "resp_demo", "object": "response", "created_at": 1, "model": model, "status": "completed",
        "output": [item], "parallel_tool_calls": True, "tool_choice": "auto", "tools": [], "usage": usage,
    }  # fmt: skip


def response_events(model: str) -> list[tuple[str, str]]:
    whole = response(model)
    events: list[dict[str, Any]] = [
        {"type": "response.created", "sequence_number": 0, "response": whole | {"status": "in_progress", "usage": None}}
    ]
    for number, word in enumerate(words(model), 1):
        place = {"item_id": "msg_demo", "output_index": 0, "content_index": 0, "logprobs": []}
        events.append({"type": "response.output_text.delta", "sequence_number": number, "delta": word} | place)
    events.append({"type": "response.completed", "sequence_number": len(words(model)) + 1, "response": whole})
    return [(event["type"], json.dumps(event)) for event in events]


def embeddings(model: str) -> dict[str, Any]:
    data = [{"object": "embedding", "index": 0, "embedding": [0.25, -0.5, 0.125]}]
    return {"object": "list", "model": model, "data": data, "usage": {"prompt_tokens": 3, "total_tokens": 3}}


def message_of(model: str) -> dict[str, Any]:
    return {
        "id": "msg_demo", "type": "message", "role": "assistant", "model": model, "stop_reason": "end_turn",
        "stop_sequence": None, "content": [{"type": "text", "text": "".join(words(model))}],
        "usage": {"input_tokens": 9, "output_tokens": _tokens(model)},
    }  # fmt: skip


def message_events(model: str) -> list[tuple[str, str]]:
    start = message_of(model) | {"content": [], "stop_reason": None, "usage": {"input_tokens": 9, "output_tokens": 1}}
    events: list[dict[str, Any]] = [
        {"type": "message_start", "message": start},
        {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
    ]
    for word in words(model):
        delta = {"type": "text_delta", "text": word}
        events.append({"type": "content_block_delta", "index": 0, "delta": delta})
    events += [
        {"type": "content_block_stop", "index": 0},
        {
            "type": "message_delta", "delta": {"stop_reason": "end_turn", "stop_sequence": None},
            "usage": {"output_tokens": _tokens(model)},
        },
        {"type": "message_stop"},
    ]  # fmt: skip
    return [(event["type"], json.dumps(event)) for event in events]
