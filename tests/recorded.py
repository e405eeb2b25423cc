"""A log of decisions as a gateway would have left it, written without the wait for a disk: real exchanges, decided by a
real engine, captured by the real stage, recorded by the functions that the stages use, in real tiles."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import orjson
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from gateway.core import records
from gateway.core.access import access_request
from gateway.core.capture import Capture
from gateway.core.exchange import Call, Decision, Exchange, Head, Principal
from gateway.core.ids import Ids
from gateway.core.masking import Masker
from gateway.core.ports import DecisionPoint
from gateway.core.reasons import Reason, Refusal
from gateway.core.snapshot import Route, Upstream
from gateway.log.entry import encode, fit
from gateway.log.note import LogKeys, VerifierKey
from gateway.log.tiles import LogFiles, TileLog
from gateway.log.tlog import ENTRY_BYTES, Edge
from gateway.stages.capture import CaptureInput
from tests.unlimited import unlimited

NODE = "gw.example/log"
KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
VKEY = str(VerifierKey.of(NODE, KEY))
BEGIN = 1_795_348_800.0  # 2026-11-22T12:00:00Z

TOOLS = ("get_forecast", "set_alert", "delete_station", "list_stations", "export")
CITIES = ("Oslo", "Bergen", "Tromsø", "Paris", "Kraków", "Lima")
PEOPLE = tuple(
    Principal(
        f"agent:idp/planner-{number}", "agent", "idp", org=("acme", "umbrella")[number % 2], agent="planner",
        roles=(("reader",), ("reader", "operator"), ())[number % 3],
        delegated_by=("user:idp/ann",) if number % 5 == 0 else (),
    )
    for number in range(60)
)  # fmt: skip


class FastDisk:
    """Files without the wait for the platter."""

    def replace(self, path: Path, data: bytes, scratch: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)

    def sync_dir(self, path: Path) -> None:
        pass


def asked(rng: random.Random, number: int, level: str, ids: Ids, now: float, **arguments: Any) -> Exchange:
    """One tool call."""
    tool = rng.choice(TOOLS)
    route = Route("weather", "/weather", "", "weather", "required", "json", capture=level)
    upstream = Upstream("weather", "mcp", "http", "127.0.0.1", 9, "127.0.0.1:9", "/mcp")
    given: dict[str, Any] = {"city": rng.choice(CITIES), "days": rng.randint(1, 14), **arguments}
    body = orjson.dumps({"jsonrpc": "2.0", "id": number, "method": "tools/call", "params": given})
    headers = ((b"user-agent", b"probe/1"), (b"content-type", b"application/json"))
    head = Head("POST", "/weather", "/weather", "", "gw.test", "http", headers, f"10.0.0.{number % 50}")
    snapshot: Any = SimpleNamespace(policy_headers=(b"user-agent", b"content-type"), ledger=unlimited())
    call = Call(
        "mcp.tools/call", "tool", f"weather/{tool}", arguments=given, has_arguments=True, context={"session": "s-1"}
    )
    ident = ids.new()
    return Exchange(
        ident, now, now, head, snapshot, route, upstream, SimpleNamespace(name="mcp"),  # type: ignore[arg-type]
        body=body, asked=call, principal=rng.choice(PEOPLE), trace_id=ident.replace("-", ""),
    )  # fmt: skip


def decided(
    engine: DecisionPoint,
    count: int,
    level: str,
    *,
    seed: int = 7,
    arguments: Callable[[int], dict[str, Any]] | None = None,
) -> Iterator[Exchange]:
    """Exchanges as they are when their first record is made. The clock goes on by 0.2 s from one to the next."""
    rng = random.Random(seed)
    now = [BEGIN]
    ids = Ids(lambda: now[0])
    keeps = CaptureInput(Capture(Masker(), bytes(32)))
    for number in range(count):
        now[0] = BEGIN + number * 0.2
        exchange = asked(rng, number, level, ids, now[0], **(arguments(number) if arguments else {}))
        keeps(exchange)
        assert isinstance(exchange.asked, Call)
        answer = engine.decide(access_request(exchange, exchange.asked))
        assert isinstance(answer, Decision)
        exchange.decision = answer
        yield exchange


def write_log(folder: Path, exchanges: Iterator[Exchange], times: int = 1) -> Path:
    """`<folder>/log` with two records of each exchange that was allowed and one of each that was not. `times`: that
    often, each time as exchanges of their own, which is much quicker than to make them anew."""
    directory = folder / "log"
    directory.mkdir(parents=True)
    disk: Any = FastDisk()
    log = TileLog(LogFiles(directory), disk, LogKeys((KEY,)), NODE, Edge(), [], lambda name: None)
    pending: list[bytes] = []
    written: list[tuple[str, int, bytes]] = []
    seq = 0

    def put(entry: bytes) -> None:
        nonlocal seq
        pending.append(entry)
        seq += 1
        if len(pending) == 256:
            log.add(pending)
            pending.clear()
            if seq % 51_200 == 0:
                log.publish()

    def note(record: dict[str, Any]) -> None:
        record |= {"v": 1, "seq": seq, "node": NODE}
        entry, blobs = encode(record), ()
        if len(entry) > ENTRY_BYTES:
            entry, blobs = fit(record)
        for name, data in blobs:
            disk.replace(directory / "blob" / name, data, directory)
        if times > 1:
            written.append((record["exchange"], seq, entry))
        put(entry)

    for number, exchange in enumerate(exchanges):
        soon, ident = exchange.time + 0.001, f"record-{number}"
        decision = exchange.decision
        assert decision is not None
        if decision.allow:
            note(records.intent(exchange, ident, soon))
            exchange.intent_seq, exchange.status = seq - 1, 200
        else:
            exchange.refusal, exchange.status = Refusal(Reason.DENIED, decision.reason, rule=decision.rule), 200
        note(records.terminal(exchange, ident + "-end", soon + 0.01))
    for again in range(1, times):
        for old, at, entry in written:
            new = f"{old[:-12]}{again:012x}"
            entry = entry.replace(old.encode(), new.encode()).replace(_plain(old), _plain(new))
            put(entry.replace(b'"seq":%d,' % at, b'"seq":%d,' % seq))
    log.add(pending)
    log.publish()
    return directory


def _plain(ident: str) -> bytes:
    return ident.replace("-", "").encode()
