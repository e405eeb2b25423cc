"""Names that a database, a file system or a careless comparison takes for one are different callers everywhere.

Each store is asked with the same spellings, and again after a restart: what one of them owns, spent, did or was blocked
from is never another's.
"""

from __future__ import annotations

import asyncio
import re
import unicodedata
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import orjson
import pytest

from gateway.core.exchange import Handle
from gateway.core.pipeline import CONTINUE
from gateway.core.query import RecordQuery
from gateway.core.reasons import Malformed, Reason, Refusal
from gateway.identity.vaulted_tokens import segment
from gateway.ledger.limits import LimitSettings
from gateway.stores.agents import SqliteRegistry
from gateway.stores.memory import MemoryHandles
from gateway.stores.records import RecordIndex
from gateway.stores.sqlite import SqliteHandles
from gateway.trust.blocks import KillSwitch
from tests.identity.issuer import Issuer, ask, bearer, caller, known
from tests.ledger.exchanges import HandClock, Limits, exchange

ROW = 58
STORES = Path(__file__).resolve().parents[2] / "gateway" / "stores"
PLACE = {"route": "weather", "upstream": "weather"}

# Of each kind of folding, two or more that it takes for one.
SPELLINGS = [
    "alice", "Alice", "ALICE", "alice ", " alice", "alice  ", "al\u00edce", "ali\u0301ce", "\u0430lice", "\uff41lice",
    "stra\u00dfe", "strasse", "STRASSE", "K", "k", "\u212a", "\ufb01n", "fin", "\u0130", "i\u0307", "i", "I", "\u0131",
    "\u03c3", "\u03c2", "\u03a3", "1", "01", "1.0", "1e0", "a_b", "a-b", "a%b", "a'b", 'a"b', "a\\b",
]  # fmt: skip


class StillClock:
    def time(self) -> float:
        return 1_800_000_000.0

    def monotonic(self) -> float:
        return 1.0


def test_the_spellings_are_those_that_foldings_confuse() -> None:
    """Otherwise the tests below would prove nothing."""
    for folded in (
        {name.casefold() for name in SPELLINGS},
        {name.strip() for name in SPELLINGS},
        {unicodedata.normalize("NFC", name) for name in SPELLINGS},
        {unicodedata.normalize("NFKC", name) for name in SPELLINGS},
    ):
        assert len(folded) < len(SPELLINGS) == len(set(SPELLINGS))


def test_each_is_a_caller_of_its_own() -> None:
    idp = Issuer()
    who = caller(idp)
    assert len({known(ask(who, bearer(idp.token(sub=name)))).id for name in SPELLINGS}) == len(SPELLINGS)


@pytest.mark.parametrize("store", ["memory", "sqlite"])
def test_a_handle_of_one_is_not_the_others(store: str, tmp_path: Path) -> None:
    clock = StillClock()

    def opened() -> Any:
        return MemoryHandles(clock) if store == "memory" else SqliteHandles(tmp_path / "handles.db", clock)

    async def story() -> None:
        handles = opened()
        for name in SPELLINGS:
            await handles.bind(Handle("mcp-session", name), subject=name, **PLACE)  # its id is spelt so as well
        if store == "sqlite":
            handles.close()
            handles = opened()
        for name in SPELLINGS:
            assert await handles.owner(Handle("mcp-session", name), **PLACE) == name
        await handles.bind(Handle("a2a-task", "t"), subject="alice", **PLACE)
        for name in SPELLINGS[1:]:
            with pytest.raises(Malformed):
                await handles.bind(Handle("a2a-task", "t"), subject=name, **PLACE)
        if store == "sqlite":
            handles.close()

    asyncio.run(story())


@pytest.mark.parametrize("key", ["subject.id", "subject.org", "agent", "resource.id"])
def test_what_one_spent_of_a_limit_is_not_spent_for_the_others(key: str) -> None:
    limits = Limits([LimitSettings("once", (key,), rate=1, window=3600, burst=1)], HandClock())
    member = {"subject.id": "subject", "subject.org": "org", "agent": "agent", "resource.id": "resource"}[key]
    asked: list[dict[str, Any]] = [{member: name} for name in SPELLINGS]
    assert [limits.take(exchange(**who)) for who in asked] == [None] * len(SPELLINGS)
    again = [limits.take(exchange(**who)) for who in asked]
    assert all(isinstance(found, Refusal) and found.reason is Reason.RATE_LIMITED for found in again)


def test_who_is_blocked_is_blocked_and_nobody_else(tmp_path: Path) -> None:
    registry = SqliteRegistry(tmp_path / "agents.db", lambda: 1000.0)
    for name in SPELLINGS[::2]:
        asyncio.run(registry.block("caller", "", name, "stolen", "admin"))
    registry.close()
    registry = SqliteRegistry(tmp_path / "agents.db", lambda: 1000.0)
    switch = KillSwitch(registry)
    passed = [name for name in SPELLINGS if switch.check(exchange(name)) is CONTINUE]
    assert passed == SPELLINGS[1::2]
    registry.close()


class KeptEntries:
    def __init__(self, entries: list[bytes]) -> None:
        self.entries = entries

    def read(self, start: int, stop: int | None) -> Iterable[tuple[int, bytes]]:
        return list(enumerate(self.entries))[start:stop]


def entry(seq: int, subject: str) -> bytes:
    record = {
        "v": 1, "seq": seq, "kind": "intent", "time": "2026-11-22T12:00:00.000000Z", "exchange": f"x-{seq}",
        "action": "mcp.ping", "route": subject, "subject": {"id": subject, "type": "agent"},
    }  # fmt: skip
    return orjson.dumps(record, option=orjson.OPT_SORT_KEYS)


def test_records_of_one_are_not_found_as_the_others(tmp_path: Path) -> None:
    entries = [entry(seq, name) for seq, name in enumerate(SPELLINGS)]
    index = RecordIndex(tmp_path / "index.db", KeptEntries(entries))
    index.start()
    index.committed(list(enumerate(entries)))
    for seq, name in enumerate(SPELLINGS):
        for query in (RecordQuery(subject=name), RecordQuery(route=name)):
            page = asyncio.run(index.find(query))
            assert [record["seq"] for record in page.records] == [seq], name
    index.close()


def test_a_secret_that_is_kept_for_one_lies_where_no_other_looks() -> None:
    places = {segment(name) for name in SPELLINGS}
    assert len(places) == len(SPELLINGS)
    assert None not in places


@pytest.mark.parametrize("file", sorted(STORES.glob("*.py")), ids=lambda path: path.name)
def test_no_store_asks_its_database_to_fold(file: Path) -> None:
    found = re.findall(
        r"COLLATE|NOCASE|RTRIM|\bLIKE\b|\bGLOB\b|\bLOWER\(|\bUPPER\(|casefold|unicodedata", file.read_text()
    )
    assert found == []
