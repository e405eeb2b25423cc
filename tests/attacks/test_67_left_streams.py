"""A caller that resets its connection in the middle of a stream, at every byte: one usage record, with what was seen.

The upstream sends a piece only when the caller has read all before it, so that where a stream stood when it was reset
is known to the byte: the answer is always the same, and its every offset is tried.
"""

from __future__ import annotations

import asyncio
import json
import socket
import struct
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from rig import Running, gateway, run

from gateway.core.accounts import Account
from tests.flows.canned import open_policy
from tests.flows.stage import EVENT_STREAM, chunk
from tests.wire.faulty import Peer, Server

ROW = 67

BUDGET = {"name": "all", "key": ["subject.id"], "unit": "tokens", "amount": 10**9, "period": "total"}
WORDS = 47
RESET = struct.pack("ii", 1, 0)
AT_ONCE = 12
PATIENCE_SECONDS = 10


def chat() -> list[bytes]:
    """50 events: words, the finish, the usage, the end."""
    said: list[Any] = [{"choices": [{"index": 0, "delta": {"content": " word"}}]}] * WORDS
    said.append({"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]})
    said.append({"choices": [], "usage": {"prompt_tokens": 9, "completion_tokens": WORDS}})
    return [b"data: %b\n\n" % json.dumps(each).encode() for each in said] + [b"data: [DONE]\n\n"]


def message() -> list[bytes]:
    """As many of Anthropic's: the start says the input, the last but one all of the output."""
    start = {"type": "message_start", "message": {"usage": {"input_tokens": 9, "output_tokens": 1}}}
    delta = {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": " word"}}
    end = {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": WORDS}}
    said = [start, *[delta] * WORDS, end, {"type": "message_stop"}]
    return [b"event: %b\ndata: %b\n\n" % (each["type"].encode(), json.dumps(each).encode()) for each in said]


VENDORS = {
    "openai": ("/openai/v1/chat/completions", chat),
    "anthropic": ("/anthropic/v1/messages", message),
}


class Case:
    """One caller. `steps` are given one by one: the head, then each event; `gone`: the gateway gave the answer up."""

    def __init__(self) -> None:
        self.asked, self.gone = asyncio.Event(), asyncio.Event()
        self.steps: asyncio.Queue[None] = asyncio.Queue()
        self.given = 0


class Model:
    """An upstream that gives its events one by one, as each case's caller takes them."""

    def __init__(self, events: Sequence[bytes]) -> None:
        self.events = events
        self.cases: dict[str, Case] = {}
        self.server = Server(self.play)

    async def play(self, peer: Peer) -> None:
        while True:
            _, body = await peer.request()
            case = self.cases[json.loads(body)["user"]]
            case.asked.set()
            gone = asyncio.ensure_future(peer.gone())
            try:
                for data in [EVENT_STREAM, *map(chunk, self.events[:-1]), chunk(self.events[-1]) + b"0\r\n\r\n"]:
                    step = asyncio.ensure_future(case.steps.get())
                    await asyncio.wait({step, gone}, return_when=asyncio.FIRST_COMPLETED)
                    if not step.done():
                        step.cancel()
                        return
                    case.given += 1
                    if case.given > len(self.events):
                        gone.cancel()  # what comes behind the last event is another's request
                        await asyncio.wait([gone])
                    await peer.send(data)
            finally:
                gone.cancel()
                case.gone.set()


class Story:
    def __init__(self, gate: Running, model: Model, path: str) -> None:
        self.gate, self.model, self.path = gate, model, path
        self.token = gate.issuer.token()
        self.ends: list[int] = []  # of the answer's head and of each event, on the wire

    async def connect(self, name: str) -> tuple[Case, asyncio.StreamReader, asyncio.StreamWriter]:
        case = self.model.cases[name] = Case()
        body = {"model": "small-1", "stream": True, "max_tokens": 64, "user": name}
        body |= {"messages": [{"role": "user", "content": "Oslo?"}], "stream_options": {"include_usage": True}}
        data = json.dumps(body).encode()
        lines = [f"POST {self.path} HTTP/1.1", "host: 127.0.0.1", "content-type: application/json"]
        lines += [f"content-length: {len(data)}", f"authorization: Bearer {self.token}", f"x-request-id: {name}"]
        reader, writer = await asyncio.open_connection("127.0.0.1", self.gate.app.port)
        writer.write("\r\n".join([*lines, "", ""]).encode() + data)
        await case.asked.wait()
        return case, reader, writer

    async def whole(self) -> bytes:
        """An answer that is read to its end: where each piece of it ends is noted."""
        case, reader, writer = await self.connect("whole")
        case.steps.put_nowait(None)
        found = await reader.readuntil(b"\r\n\r\n")
        self.ends.append(len(found))
        for _ in self.model.events:
            case.steps.put_nowait(None)
            found += (line := await reader.readuntil(b"\r\n"))
            found += await reader.readexactly(int(line, 16) + 2)
            self.ends.append(len(found))
        found += await reader.readexactly(5)
        writer.close()
        return found

    async def leave(self, offset: int) -> None:
        """Reads so many bytes of the answer, and resets."""
        case, reader, writer = await self.connect(f"at-{offset}")
        taken = 0
        for end in self.ends:
            if taken == offset:
                break
            case.steps.put_nowait(None)
            await reader.readexactly(min(end, offset) - taken)
            taken = min(end, offset)
        raw: socket.socket = writer.get_extra_info("socket")
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        writer.transport.abort()
        await case.gone.wait()

    async def all(self, offsets: Sequence[int]) -> None:
        waiting = iter(offsets)

        async def one_by_one() -> None:
            for offset in waiting:
                async with asyncio.timeout(PATIENCE_SECONDS):
                    await self.leave(offset)

        await asyncio.gather(*(one_by_one() for _ in range(AT_ONCE)))

    def check(self, offset: int, outcomes: list[dict[str, Any]]) -> None:
        """What docs/budgets.md says of a caller who leaves: what the upstream said it used; where it did not come to
        that, no less than what the caller got, and no more than the upstream gave: the event it was in counts."""
        assert len(outcomes) == 1, (offset, outcomes)
        [record] = outcomes
        usage = record["usage"]
        taken = [event for event, end in zip(self.model.events, self.ends[1:], strict=True) if end <= offset]
        given = self.model.cases[f"at-{offset}"].given
        [held] = record["budgets"]
        assert usage["calls"] == 1
        ends = {"client_gone"} if given <= len(self.model.events) else {"client_gone", "ok"}  # all of it was sent
        assert record["result"] in ends, (offset, record)
        if given <= 1:  # nothing of the answer's body
            assert usage.get("output_tokens", 0) == 0, (offset, usage)
            if given == 0:  # not even its head: unknown is not free
                assert (held["settled"], usage["estimated"]) == (held["reserved"], True)
            return
        assert held["settled"] == str(usage["input_tokens"] + usage["output_tokens"])
        seen = self.model.events[: given - 1]
        assert usage["bytes_out"] == sum(map(len, seen))
        if said(seen):
            assert (usage["input_tokens"], usage["output_tokens"]) == (9, WORDS)
            assert "estimated" not in usage
            return
        assert usage["estimated"] is True
        assert tokens(taken) <= usage["output_tokens"] <= max(1, tokens(seen)), (offset, usage)


def tokens(events: Sequence[bytes]) -> int:
    """As docs/budgets.md has it: for each piece one for 3 bytes of its text or part of that, at least one."""
    return sum(2 if b" word" in event else b'"delta": {}' in event for event in events)


def said(events: Sequence[bytes]) -> bool:
    """Whether the upstream said all it used: it does once, near its end."""
    return any(b"_tokens" in event and b"%d" % WORDS in event for event in events)


def some(ends: Sequence[int]) -> list[int]:
    """The offsets of the fast suite: around the ends of pieces, and a few within."""
    near = {end + by for end in (*ends[:3], ends[25], *ends[-4:]) for by in (-1, 0, 1)}
    return sorted(offset for offset in near | {0, 1} | set(range(40, ends[-1], 397)) if 0 <= offset <= ends[-1])


def play(folder: Path, vendor: str, *, every: bool) -> None:
    path, events = VENDORS[vendor]

    async def story() -> None:
        model = Model(events())
        async with model.server:
            upstream = {"url": f"http://127.0.0.1:{model.server.port}", "protocol": vendor}
            routes = [{"name": vendor, "match": {"path": f"/{vendor}"}, "upstream": vendor, "audit": "standard"}]
            found = {
                "policy": open_policy(folder),
                "upstreams": {vendor: upstream},
                "routes": routes,
                "budgets": [BUDGET],
            }
            with gateway(folder, **found) as gate:
                told = Story(gate, model, path)
                assert (await told.whole()).endswith(b"0\r\n\r\n")
                offsets = list(range(told.ends[-1] + 1)) if every else some(told.ends)
                await told.all(offsets)
                outcomes: dict[str, list[dict[str, Any]]] = {}
                for record in await asyncio.to_thread(gate.records):
                    if record["kind"] == "outcome":
                        outcomes.setdefault(record["request"]["client_id"], []).append(record)
                whole = outcomes.pop("whole")
                assert whole[0]["usage"]["output_tokens"] == WORDS
                assert len(outcomes) == len(offsets)
                for offset in offsets:
                    told.check(offset, outcomes[f"at-{offset}"])
                [budget] = gate.app.snapshot.ledger.budgets
                account = Account("all", '["agent:idp/planner"]', "")
                [balance] = await asyncio.to_thread(gate.call, gate.app.counters.balances([(budget, account)]))
                settled = [int(each["budgets"][0]["settled"]) for [each] in [*outcomes.values(), whole]]
                assert (balance.reserved, balance.settled) == (0, sum(settled))

    run(story(), 400 if every else 60)


@pytest.mark.parametrize("vendor", VENDORS)
def test_a_caller_that_resets_leaves_one_record_with_what_was_seen(tmp_path: Path, vendor: str) -> None:
    play(tmp_path, vendor, every=False)


@pytest.mark.slow
@pytest.mark.parametrize("vendor", VENDORS)
def test_at_every_byte(tmp_path: Path, vendor: str) -> None:
    play(tmp_path, vendor, every=True)
