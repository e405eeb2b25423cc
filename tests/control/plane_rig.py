"""An admin plane over a real log and a real index, asked as a server would ask it: raw ASGI, any header, any Host."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.parse import quote

import orjson

from gateway import config
from gateway.assembly_bundles import Commit, Desk, Policies
from gateway.assembly_keys import Rotation, RunningKeys, log_keys
from gateway.assembly_planes import telling
from gateway.assembly_replay_jobs import ChildReplays
from gateway.assembly_upstreams import RunningUpstreams, Upkeep
from gateway.assembly_usage import RunningAccounts
from gateway.assembly_why import PolicyWhys
from gateway.control.access import Access
from gateway.control.acts import Acts
from gateway.control.agents import Agents
from gateway.control.app import Admin, make_admin
from gateway.control.asking import Asking
from gateway.control.budgets import Budgets
from gateway.control.bundles import Bundles as BundleApi
from gateway.control.fleet import Fleet
from gateway.control.guard import App, Door
from gateway.control.keys import Keys
from gateway.control.questions import Questions
from gateway.control.recent import Recent
from gateway.control.replay import Replays
from gateway.control.shadow import Shadows
from gateway.control.upstreams import Upstreams
from gateway.control.usage import Usage
from gateway.core.accounts import Budget
from gateway.core.ids import Ids
from gateway.core.snapshot import Route, RouteTable, Snapshot, Upstream
from gateway.ledger.counters import MemoryCounters
from gateway.log.tiles import LogFiles
from gateway.log.writer import LogSettings, Sequencer
from gateway.pdp.shadow import Comparisons
from gateway.pdp.sources import PolicySource
from gateway.stores.agents import SqliteRegistry
from gateway.stores.bundles import SqliteBundles
from gateway.stores.held import HeldBreakers
from gateway.stores.records import RecordIndex
from gateway.stores.usage import UsageBook
from gateway.trust.keys import KeyRing
from gateway.trust.pins import Pins
from gateway.trust.tools import Named, Pin
from gateway.trust.watched import PinSettings
from tests.ledger.pricing import prices

TOKEN = "t0ken-of-the-tests-4f1c9a0be77d2c55"
FLEET_TOKEN = "t0ken-of-the-fleet-77d2c554f1c9a0be"
HOST = "127.0.0.1:8081"
PRICES = "models: [{model: m*, input: 0.15, output: 2, tiers: [{above: 9, input: 1, output: 4}]}]\nfree: {tools: [a/*]}"
EXCHANGE = "01990000-0000-7000-8000-00000000000{}"


class RealClock:
    def time(self) -> float:
        return time.time()

    def monotonic(self) -> float:
        return time.monotonic()


class Bundles:
    """The log's entries, read from its files."""

    def __init__(self, folder: Path) -> None:
        self._files = LogFiles(folder)

    def read(self, start: int, stop: int | None) -> Iterable[tuple[int, bytes]]:
        size = int(self._files.checkpoint().split(b"\n")[1])
        end = size if stop is None else min(stop, size)
        for n in range(start // 256, -(-end // 256)):
            for seq, entry in enumerate(self._files.entries(n, min(256, size - n * 256)), n * 256):
                if start <= seq < end:
                    yield seq, entry


@dataclass(frozen=True)
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes
    raw: list[tuple[bytes, bytes]] = field(default_factory=list)

    @property
    def json(self) -> Any:
        return orjson.loads(self.body)


async def ask(
    app: App,
    target: str,
    *,
    method: str = "GET",
    headers: Iterable[tuple[str, str]] = (),
    body: bytes = b"",
    scheme: str = "http",
) -> Answer:
    path, _, query = target.partition("?")
    sent: list[Any] = []
    scope = {
        "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": method, "scheme": scheme,
        "path": path, "raw_path": quote(path).encode(), "query_string": query.encode(), "root_path": "",
        "headers": [(name.lower().encode(), value.encode("latin-1")) for name, value in headers],
        "client": ("127.0.0.1", 50000), "server": ("127.0.0.1", 8081),
    }  # fmt: skip

    messages = [{"type": "http.request", "body": body, "more_body": False}]

    async def receive() -> dict[str, Any]:
        if messages:
            return messages.pop()
        await asyncio.Event().wait()  # the caller stays; whoever listens is cancelled with its answer
        raise AssertionError

    async def send(message: Any) -> None:
        sent.append(message)

    await app(scope, receive, send)
    start = sent[0]
    content = b"".join(message.get("body", b"") for message in sent[1:])
    named = {name.decode(): value.decode("latin-1") for name, value in start["headers"]}
    return Answer(start["status"], named, content, list(start["headers"]))


@dataclass
class Rig:
    """`get` asks with the token and the right Host; `ask` sends exactly what it is given."""

    app: App
    access: Access
    log: Sequencer
    data_dir: Path
    registry: SqliteRegistry
    pins: Pins
    ring: KeyRing
    rotation: Rotation
    problems: list[str] = field(default_factory=list)
    rebuilt: list[int] = field(default_factory=list)
    comparisons: Comparisons = field(default_factory=lambda: Comparisons(time.time))
    counters: MemoryCounters = field(default_factory=lambda: MemoryCounters(RealClock()))
    accounts: RunningAccounts | None = None
    book: UsageBook | None = None

    async def get(self, target: str, *headers: tuple[str, str], **more: Any) -> Answer:
        own = [("host", HOST), ("authorization", f"Bearer {TOKEN}")]
        return await ask(self.app, target, headers=[*own, *headers], **more)

    async def ask(self, target: str, *headers: tuple[str, str], **more: Any) -> Answer:
        return await ask(self.app, target, headers=headers, **more)

    async def post(self, target: str, document: Any, *headers: tuple[str, str]) -> Answer:
        own = [("content-type", "application/json"), *headers]
        return await self.get(target, *own, method="POST", body=orjson.dumps(document))

    async def write(self, **members: Any) -> None:
        record = {"kind": "intent", "id": "x", "time": "2026-11-22T12:00:00.000000Z"} | members
        await self.log.sequenced(self.log.submit(record))


BUDGETS = (
    Budget("org-month", ("subject.org",), "usd", 100_000_000, "month", warn_at=(500, 800), carry=100),
    Budget("calls", ("subject.id", "route"), "calls", 50, "rolling", window=3600),
)


def no_clients() -> Any:
    raise AssertionError("nothing is asked here")


def snapshot() -> Snapshot:
    unused: Any = None
    ledger: Any = SimpleNamespace(budgets=BUDGETS)
    engine: Any = SimpleNamespace(name="embedded", revision="sha256:" + "a" * 64)
    upstream = Upstream(
        "weather", "mcp", "http", "127.0.0.1", 9001, "127.0.0.1:9001", "/mcp",
        credentials=((b"authorization", b"Bearer canary-upstream"),),
    )  # fmt: skip
    return Snapshot(
        revision="r1",
        routes=RouteTable((Route("weather", "/weather", "", "weather", "required", "json"),)),
        upstreams={"weather": upstream},
        authenticator=unused,
        engine=engine,
        ledger=ledger,
        prices=prices(PRICES),
        public_url="http://127.0.0.1:8080",
        hosts=frozenset({"127.0.0.1"}),
        origins=frozenset(),
        policy_headers=(),
        judged_body_bytes=1,
        body_bytes=1,
    )


async def nothing_listed(upstream: Upstream) -> dict[str, list[dict[str, Any]]]:
    return {}


async def nothing_signed(settings: PinSettings) -> tuple[Named, ...]:
    return ()


@asynccontextmanager
async def plane(
    tmp_path: Path, *, public_url: str = f"http://{HOST}", metrics_open: bool = False
) -> AsyncIterator[Rig]:
    clock = RealClock()
    ids = Ids(clock.time)
    ring = KeyRing(tmp_path / "keys")
    index = RecordIndex(tmp_path / "records.sqlite", Bundles(tmp_path / "log"), lambda: log.size)
    book = UsageBook(tmp_path / "usage.sqlite", Bundles(tmp_path / "log"), clock, lambda: log.size + log.unsequenced)
    log = Sequencer(
        tmp_path,
        node="gw-1",
        key=log_keys(ring, "gw-1"),
        clock=clock,
        ids=ids,
        settings=LogSettings(checkpoint_seconds=0.05),
        listener=telling(index.committed, book.committed),
    )
    log.start(asyncio.get_running_loop())
    index.start()
    book.start()
    access = Access(TOKEN, clock, fleet_token=FLEET_TOKEN)
    problems: list[str] = []
    current = snapshot()
    registry = SqliteRegistry(tmp_path / "descriptors.sqlite", clock.time)
    pins = Pins(registry, nothing_listed, nothing_signed, lambda action, about: None, clock)
    pins.adopt([(current.upstreams["weather"], PinSettings(Pin.FIRST_USE))])
    rebuilt: list[int] = []

    async def rebuild() -> None:
        rebuilt.append(ring.revision)

    comparisons = Comparisons(clock.time)
    replays = ChildReplays(tmp_path, lambda: [log.vkey], ids, clock)
    store = SqliteBundles(tmp_path / "bundles.sqlite")
    settings = config.Settings(data_dir=tmp_path, policy=config.Policy(signers=("gateway",)))

    async def swap(source: PolicySource | None, commit: Commit) -> None:
        await commit(current)

    desk = Desk(Policies(settings, ring, store, clock), store, log, ids, clock, lambda: "tollgate", swap)
    rotation = Rotation(ring, log, "gw-1", tmp_path / "keys", ids, clock, rebuild)
    acts = Acts(log, ids, clock)
    limits = (config.Limit(name="per-agent", key=("subject.id",), rate=config.Rate(100, 60), burst=20),)
    limited = config.Settings(data_dir=tmp_path, limits=limits)
    counters = MemoryCounters(clock)
    upkeep = Upkeep(lambda: log, no_clients, ids, clock, lambda: 0.5)
    upkeep.adopt(current.upstreams.values())
    accounts = RunningAccounts(lambda: limited, lambda: current, counters, clock)
    app = make_admin(
        Admin(
            door=Door(public_url, frozenset({"127.0.0.1", "localhost", "gw.example"}), metrics_open),
            access=access,
            snapshot=lambda: current,
            ready=lambda: problems,
            status=lambda: {"node": "gw-1", "log": {"size": log.size, "pending": log.pending}},
            records=index,
            metrics=lambda accept: (b"tollgate_x 1\n", "text/plain; version=0.0.4"),
            log=log,
            log_folder=tmp_path / "log",
            agents=Agents(registry, registry, pins, lambda: current, acts),
            keys=Keys(RunningKeys(ring, rotation, "gw-1", lambda: 3600.0)),
            replays=Replays(replays, {"tollgate": b"pushed"}.get, acts),
            shadows=Shadows(comparisons, lambda: {"engine": "embedded", "revision": "sha256:b"}),
            asking=Asking(Questions(lambda: current, acts, clock), PolicyWhys(lambda: current), Recent(), public_url),
            bundles=BundleApi(desk),
            fleet=Fleet(desk, acts.record, clock),
            budgets=Budgets(accounts, book, acts, ids, clock),
            usage=Usage(book),
            upstreams=Upstreams(
                RunningUpstreams(upkeep, HeldBreakers(tmp_path / "breakers.json")), lambda: current, acts
            ),
            ids=ids,
            clock=clock,
            version="0.1.0",
        )
    )
    try:
        yield Rig(
            app, access, log, tmp_path, registry, pins, ring, rotation, problems, rebuilt, comparisons, counters,
            accounts, book,
        )  # fmt: skip
    finally:
        await replays.aclose()
        await log.close()
        registry.close()
        store.close()
        index.close()
        book.close()
