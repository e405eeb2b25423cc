"""`tollgate usage invoice` over files: only what verifies counts, and a ledger that says otherwise is named."""

from __future__ import annotations

import asyncio
import json
import shutil
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from gateway.assembly_planes import telling, usage_book
from gateway.core.ids import Ids
from gateway.log.writer import Sequencer
from tests.cli.rig_cli import RealClock, Shell

DAYS = ("--from", "2026-11-01", "--to", "2026-11-30")
PERIOD = "2026-11-01T00:00:00Z"


def spend(folder: Path, key: Ed25519PrivateKey, exchanges: int, *, checkpoint: bool = True) -> str:
    """A log of exchanges that cost 0.25 each, and its book; returns the vkey. Goes on where one is."""

    async def story() -> str:
        clock = RealClock()
        book = usage_book(folder, clock, lambda: log.size + log.unsequenced)
        log = Sequencer(
            folder, node="gw-1", key=key, clock=clock, ids=Ids(clock.time), listener=telling(book.committed)
        )
        log.start(asyncio.get_running_loop())
        book.start()
        seq = 0
        for number in range(log.size, log.size + exchanges):
            item = {"key": ["acme"], "name": "org", "period": PERIOD, "reserved": "1", "unit": "usd"}
            common: dict[str, Any] = {
                "exchange": f"01990000-0000-7000-8000-{number:012d}", "subject": {"id": "a", "org": "acme"},
                "resource": {"id": "gpt-5", "type": "model"}, "upstream": {"name": "llm"}, "action": "llm.chat",
                "time": "2026-11-22T12:00:00.000000Z",
            }  # fmt: skip
            log.submit({"kind": "intent", "id": f"i{number}", "budgets": [item], **common})
            usage = {"bytes_in": 1, "bytes_out": 2, "calls": 1, "input_tokens": 7, "usd": "0.25"}
            outcome = {"budgets": [{**item, "settled": "0.25"}], "result": "ok", "usage": usage, **common}
            seq = log.submit({"kind": "outcome", "id": f"o{number}", "response": {"status": 200}, "us": 1, **outcome})
        await log.sequenced(seq)
        if checkpoint:
            await log.checkpoint()
        await log.close()
        book.close()
        return log.vkey

    return asyncio.run(story())


@pytest.fixture
def data_dir(folder: Path, log_key: Ed25519PrivateKey) -> Path:
    (folder / "log.vkey").write_text(spend(folder / "var", log_key, 300))
    return folder / "var"


Invoice = Callable[..., Any]


@pytest.fixture
def invoice(data_dir: Path, shell: Shell) -> Invoice:
    def asked(*words: object) -> Any:
        where = ("--data-dir", data_dir, "--key", f"@{data_dir.parent / 'log.vkey'}")
        return shell("usage", "invoice", *DAYS, *where, *words)

    return asked


def test_what_verifies_and_equals_the_book_is_proven(invoice: Invoice) -> None:
    found = invoice()
    assert found.code == 0, (found.out, found.err)
    rows = [" ".join(line.split()) for line in found.out.splitlines()]
    assert "acme model gpt-5 300 2100 0 300 600 75" in rows
    assert "TOTAL 300 2100 0 300 600 75" in rows
    assert any(row.startswith("it rests on gw-1, 600 entries") for row in rows)
    assert any(row.startswith("the ledger says the same") and row.endswith("1 accounts)") for row in rows)
    whole = invoice("--json", "--by", "org").json
    assert whole["lines"] == [
        {"org": "acme", "calls": 300, "input_tokens": 2100, "output_tokens": 0, "bytes_in": 300, "bytes_out": 600,
         "usd": "75"}
    ]  # fmt: skip
    assert (whole["proven"], whole["checkpoint"]["size"], whole["differences"]) == (True, 600, [])


def test_a_book_that_says_otherwise_is_named_account_by_account(invoice: Invoice, data_dir: Path) -> None:
    with sqlite3.connect(data_dir / "usage.sqlite") as database:
        database.execute("UPDATE settled SET settled = settled - 250000")
        database.execute("INSERT INTO settled VALUES ('org', 'usd', '', '[\"ghost\"]', 1)")
        database.execute("UPDATE used SET calls = 299")
    found = invoice()
    assert found.code == 4
    assert f'org ["acme"] from {PERIOD}, usd: 75 by the log, 74.75 by the ledger' in found.out
    assert 'org ["ghost"], usd: 0 by the log, 0.000001 by the ledger' in found.out
    assert "acme model gpt-5, calls: 300 by the log, 299 by the ledger" in found.out
    assert len(invoice("--json").json["differences"]) == 3


def test_a_log_that_was_changed_proves_nothing(invoice: Invoice, data_dir: Path) -> None:
    path = data_dir / "log" / "tile" / "entries" / "000"
    path.write_bytes(path.read_bytes().replace(b'"llm.chat"', b'"llm.chap"', 1))  # which changes no sum
    found = invoice()
    assert found.code == 4
    assert "NOT VERIFIED" in found.out
    whole = invoice("--json").json
    assert whole["proven"] is False
    assert whole["problems"][0]["where"] == "entry"


def test_another_key_proves_nothing(data_dir: Path, shell: Shell, log_key: Ed25519PrivateKey) -> None:
    other = spend(data_dir.parent / "other", Ed25519PrivateKey.generate(), 1)
    found = shell("usage", "invoice", *DAYS, "--data-dir", data_dir, "--key", other)
    assert found.code == 4
    assert "signature" in found.out


def test_a_book_that_is_behind_is_judged_up_to_where_it_is(
    invoice: Invoice, data_dir: Path, log_key: Ed25519PrivateKey
) -> None:
    shutil.copy(data_dir / "usage.sqlite", data_dir / "older")
    spend(data_dir, log_key, 5)
    shutil.move(data_dir / "older", data_dir / "usage.sqlite")
    whole = invoice("--json").json
    assert (whole["proven"], whole["usd"], whole["left_out"]) == (True, "75", 5)
    assert "5 calls of these days are not" in invoice().out


def test_a_book_that_counted_more_than_the_log_has_is_no_proof(invoice: Invoice, data_dir: Path) -> None:
    with sqlite3.connect(data_dir / "usage.sqlite") as database:
        database.execute("UPDATE position SET seq = 700")
    found = invoice()
    assert found.code == 4
    assert "records: 600 by the log, 701 by the ledger" in found.out


def test_without_a_book_the_log_is_asked_alone_only_if_that_is_wanted(invoice: Invoice, data_dir: Path) -> None:
    (data_dir / "usage.sqlite").unlink()
    found = invoice()
    assert found.code == 4
    assert "--log-only" in found.err
    found = invoice("--log-only")
    assert found.code == 0
    assert "compared with no ledger" in found.out
    assert invoice("--log-only", "--json").json["usd"] == "75"


def test_a_copy_of_a_log_is_enough_for_the_lines(data_dir: Path, shell: Shell, folder: Path) -> None:
    assert shell("audit", "backup", data_dir, folder / "copy").code == 0
    found = shell("usage", "invoice", *DAYS, "--data-dir", folder / "copy", "--log-only", "--json")
    assert (found.code, found.json["usd"]) == (0, "75")
    assert json.loads(found.out)["checkpoint"]["key_source"] == "log directory"
