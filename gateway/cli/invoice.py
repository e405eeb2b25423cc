"""An invoice: a log that is verified and added up, beside what the ledger says, and where the two differ.

1. Nothing counts of a log that does not verify. 2. The ledger's sums are read first, with how many records they count:
the log is judged up to there. 3. Of a running gateway its counters are asked too, and again where calls were under way.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from urllib.parse import quote, urlencode

from gateway.cli.logs import log_folder, trusted_keys
from gateway.cli.output import UNVERIFIED, Stop
from gateway.cli.remote import fetched, get
from gateway.core.canonical import Json
from gateway.log.bill import MEASURES, Bill, Difference, differing_accounts, differing_lines, grouped, money
from gateway.log.verify import Report, verify
from gateway.log.verify_read import WIDTH, Wrong, place, read_entries
from gateway.stores.usage_file import Written, written

Days = tuple[str, str]
Account = tuple[str, str, str, str]
TRIES = 5  # while calls are under way the counters are ahead of the log for a moment
CHECKPOINT_SECONDS = 30.0
_PAUSE_SECONDS = 0.2
_BLOB = re.compile(rb'"blob":"sha256:([0-9a-f]{64})"')


@dataclass(frozen=True, slots=True)
class Invoice:
    """`compared` says with what; "" where the log was asked alone."""

    days: Days
    report: Report
    bill: Bill
    key_source: str
    compared: str
    accounts: int = 0
    differences: list[Difference] = field(default_factory=list)

    @property
    def proven(self) -> bool:
        return self.report.ok and not self.differences and not self.bill.unreadable

    def record(self, names: tuple[str, ...]) -> dict[str, Json]:
        report, lines = self.report, grouped(self.bill.lines, names)
        total = sum((line.amounts["usd"] for line in lines.values()), Decimal(0))
        rows: list[Json] = [{**dict(zip(names, group, strict=True)), **line.record()} for group, line in lines.items()]
        checkpoint: dict[str, Json] = {"origin": report.origin, "size": report.size, "root": report.root}
        return {
            "from": self.days[0], "to": self.days[1], "lines": rows, "usd": money(total), "proven": self.proven,
            "checkpoint": {**checkpoint, "key": report.key, "key_source": self.key_source},
            "problems": [problem.record() for problem in report.problems], "unreadable": [*self.bill.unreadable],
            "compared": self.compared, "accounts": self.accounts, "left_out": self.bill.left_out,
            "differences": [one.record() for one in self.differences],
        }  # fmt: skip

    def told(self) -> list[str]:
        """What it rests on, for a person."""
        report = self.report
        text = [f"it rests on {report.origin}, {report.size} entries, root {report.root}", f"signed by {report.key}"]
        if self.bill.left_out:
            text.append(f"{self.bill.left_out} calls of these days are not under that checkpoint and not in it")
        if not report.ok:
            text = ["NOT VERIFIED", *(f"  {problem}" for problem in report.problems)]
        text += [f"cannot be read: {one}" for one in self.bill.unreadable]
        if not self.compared:
            text.append("compared with no ledger")
        elif self.differences:
            text += [f"THE LEDGER DIFFERS ({self.compared}):", *(f"  {one}" for one in self.differences)]
        else:
            text.append(f"the ledger says the same ({self.compared}, {self.accounts} accounts)")
        return text


def of_files(data_dir: Path, days: Days, keys: Sequence[str], *, log_only: bool) -> Invoice:
    """Raises Stop, StoreFailed."""
    folder = log_folder(data_dir)
    trusted, source = trusted_keys(keys, folder, required=False)
    path = folder.parent / "usage.sqlite"
    if log_only:
        report, bill = _verified(folder, trusted, days, None)
        return Invoice(days, report, bill, source, "")
    if not path.is_file():
        raise Stop(f"{path} is not there: name the gateway's data_dir, or say --log-only for a copy", UNVERIFIED)
    book = written(path, *days)  # 2
    report, bill = _verified(folder, trusted, days, book.counted)
    differences = _compared(book, bill)
    return Invoice(days, report, bill, source, f"the book {path}", len(bill.accounts), differences)


def of_gateway(admin: str, token_file: Path, folder: Path, days: Days, keys: Sequence[str]) -> Invoice:
    """`folder` is where its log is copied to. Raises Stop."""
    for left in range(TRIES, 0, -1):
        asked = _asked(admin, token_file, days)
        book = asked.counts
        _copied(admin, token_file, folder, book.counted)
        trusted, source = trusted_keys(keys, folder, required=False)
        report, bill = _verified(folder, trusted, days, book.counted)
        differences = differing_lines(bill.judged, book.used)
        mine: dict[Account, Decimal] = {}
        compared = f"the usage of {admin}; its balances are of several gateways and were not compared"
        if not asked.shared:
            compared = f"the counters of {admin}"
            there = {account[:3] for account in book.settled}
            for account in {*book.settled, *(one for one in bill.accounts if one[:3] in there)}:
                mine[account] = bill.accounts.get(account, Decimal(0)) - bill.forgiven.get(account, 0)
            differences += differing_accounts(mine, book.settled)
        if not differences or left == 1 or not report.ok:
            return Invoice(days, report, bill, source, compared, len(mine), differences)
        time.sleep(_PAUSE_SECONDS)  # 3
    raise AssertionError


def _verified(folder: Path, trusted: Sequence[str], days: Days, counted: int | None) -> tuple[Report, Bill]:
    """1"""
    size = _size((folder / "checkpoint").read_bytes())
    bill = Bill(*days, size if counted is None else min(size, counted), size if counted is None else counted)
    try:
        report = verify(folder, trusted, visit=bill.add)
    except Wrong as wrong:
        raise Stop(f"the log's key: {wrong}", UNVERIFIED) from None
    return report, bill


def _compared(book: Written, bill: Bill) -> list[Difference]:
    if book.counted > bill.seen:
        return [Difference("records", str(bill.seen), str(book.counted))]
    return differing_accounts(bill.accounts, book.settled) + differing_lines(bill.judged, book.used)


@dataclass(frozen=True, slots=True)
class _Asked:
    counts: Written
    shared: bool


def _asked(admin: str, token_file: Path, days: Days) -> _Asked:
    """What a running gateway counts: usage of the days with how many records that are, and the running balances of all
    budgets but rolling ones, whose sums pass with time."""
    budgets = get(admin, token_file, "/api/v1/budgets")
    settled: dict[Account, Decimal] = {}
    for budget in budgets["budgets"]:
        if budget["period"] == "rolling":
            continue
        cursor = ""
        while True:
            query = {"limit": "500", **({"cursor": cursor} if cursor else {})}
            page = get(admin, token_file, f"/api/v1/budgets/{quote(budget['name'], safe='')}?{urlencode(query)}")
            for account in page["accounts"]:
                key = json.dumps(account["key"], separators=(",", ":"))
                settled[budget["name"], budget["unit"], budget.get("begins", ""), key] = Decimal(account["settled"])
            cursor = page["next"] or ""
            if not cursor:
                break
    size, used = _used(admin, token_file, days)
    return _Asked(Written(size, settled, used), budgets["shared"])


def _used(admin: str, token_file: Path, days: Days) -> tuple[int, dict[tuple[str, str, str], dict[str, Decimal]]]:
    used: dict[tuple[str, str, str], dict[str, Decimal]] = {}
    skip, size = 0, -1
    while True:
        asked = {"by": "org,type,resource", "from": days[0], "to": days[1], "limit": "10000", "cursor": str(skip)}
        page = get(admin, token_file, f"/api/v1/usage?{urlencode(asked)}")
        if size not in (-1, page["size"]):
            skip, size, used = 0, -1, {}  # it went on counting between two pages
            continue
        size = page["size"]
        for row in page["rows"]:
            sums = {name: Decimal(row.get(name, 0)) for name in MEASURES}
            if any(sums.values()):
                used[row["org"], row["type"], row["resource"]] = sums
        if page["next"] is None:
            return size, used
        skip = page["next"]


def _copied(admin: str, token_file: Path, folder: Path, counted: int) -> None:
    """The log's files, once a checkpoint covers what was counted. What is there already is not fetched again, but for
    what still grows."""
    deadline = time.monotonic() + CHECKPOINT_SECONDS
    while True:
        note = fetched(admin, token_file, "/log/checkpoint")
        if note is None:
            raise Stop(f"{admin} has no checkpoint yet")
        if _size(note) >= counted:
            break
        if time.monotonic() > deadline:
            raise Stop(f"the log of {admin} has no checkpoint over the {counted} records that it counts")
        time.sleep(_PAUSE_SECONDS)
    size = _size(note)
    for name in ("vkey", "vkeys", "origin"):
        _copy(admin, token_file, folder, name)
    for n in range(-(-size // WIDTH)):
        width = min(WIDTH, size - n * WIDTH)
        _tile(admin, token_file, folder, "entries", n, width)
        for entry in read_entries(folder, n, width)[1] or ():
            for name in _BLOB.findall(entry):
                _copy(admin, token_file, folder, f"blob/{name.decode()}")
    level = 0
    while size >> (8 * level):
        hashes = size >> (8 * level)
        for n in range(-(-hashes // WIDTH)):
            _tile(admin, token_file, folder, str(level), n, min(WIDTH, hashes - n * WIDTH))
        level += 1
    _write(folder / "checkpoint", note)


def _tile(admin: str, token_file: Path, folder: Path, level: str, n: int, width: int) -> None:
    if not _copy(admin, token_file, folder, place(level, n, width)):
        _copy(admin, token_file, folder, place(level, n))  # it is full by now


def _copy(admin: str, token_file: Path, folder: Path, name: str) -> bool:
    if name not in ("vkey", "vkeys") and (folder / name).exists():
        return True
    found = fetched(admin, token_file, f"/log/{name}")
    if found is None:
        return False
    _write(folder / name, found)
    return True


def _write(path: Path, found: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(found)


def _size(note: bytes) -> int:
    try:
        return int(note.split(b"\n")[1])
    except (IndexError, ValueError):
        raise Stop("the checkpoint is not origin, size and root", UNVERIFIED) from None
