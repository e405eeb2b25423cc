"""The offline verifier: needs the files and a key, nothing of the program that wrote them.

1. The checkpoint is signed by a given key, which names the log's origin; else nothing below it is looked at.
2. Entries and tiles hash to its root; what does not is named (verify_tree.py).
3. The records keep their rules (verify_records.py); not judged where entries were changed.
4. Growth from an older checkpoint, where one is given: the same log, longer or equal, the same prefix.
5. The journal beside a directory named `log`, where there is one: what it holds behind the checkpoint is `pending`,
   judged by rule 3.
Own code path: no file of this verifier imports one that writes.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import orjson

from gateway.core.canonical import Json, encode, parse_object
from gateway.core.reasons import Malformed
from gateway.log.verify_read import Growing, Head, Key, Wrong, included, journal_entries, leaf, verified_head
from gateway.log.verify_records import RecordCheck
from gateway.log.verify_tree import Problem, TreeCheck

PROBLEMS_SHOWN = 100
LOOKS = 10  # at a journal that changes as it is read; what is wrong with one at rest is the same twice


@dataclass(frozen=True, slots=True)
class Report:
    """What was verified and what is wrong. `size`, `root` and `origin` are the signed ones, absent without a signature.

    `checkpoint_age` is in seconds by the file's time, `in_flight` the open exchanges with their intents' seqs,
    `unknown` the outcomes that recovery wrote, `since` the size of the older checkpoint that this log grew from.
    """

    directory: str
    problems: tuple[Problem, ...]
    origin: str = ""
    size: int = 0
    root: str = ""
    key: str = ""
    pending: int = 0
    checkpoint_age: float | None = None
    kinds: Mapping[str, int] = field(default_factory=dict)
    in_flight: tuple[tuple[str, int], ...] = ()
    unknown: int = 0
    since: int | None = None

    @property
    def ok(self) -> bool:
        return not self.problems

    def record(self) -> dict[str, Json]:
        found: dict[str, Json] = {"ok": self.ok, "directory": self.directory, "size": self.size}
        if self.key:
            found |= {"origin": self.origin, "root": self.root, "key": self.key, "pending": self.pending}
            found |= {"kinds": dict(self.kinds), "unknown": self.unknown}
            found["in_flight"] = [{"exchange": exchange, "seq": seq} for exchange, seq in self.in_flight]
        if self.checkpoint_age is not None:
            found["checkpoint_age"] = round(self.checkpoint_age, 3)
        if self.since is not None:
            found["since"] = self.since
        found["problems"] = [problem.record() for problem in self.problems[:PROBLEMS_SHOWN]]
        if len(self.problems) > PROBLEMS_SHOWN:
            found["problems_left_out"] = len(self.problems) - PROBLEMS_SHOWN
        return found


def directory_keys(directory: Path) -> list[str]:
    """The vkeys that lie in the log directory, the one that signs first: they prove consistency only. Raises Wrong if
    there is none."""
    try:
        current = (directory / "vkey").read_text().strip()
    except FileNotFoundError:
        raise Wrong(f"{directory} has no vkey file: name the key") from None
    former = directory / "vkeys"
    return [current, *(key for key in (former.read_text().split() if former.exists() else ()) if key != current)]


def verify(
    directory: Path,
    vkeys: Sequence[str],
    *,
    since: bytes | None = None,
    now: float | None = None,
    visit: Callable[[int, bytes], None] | None = None,
) -> Report:
    """Verifies `<data_dir>/log` (and `../journal`, where it is). `since`: an older signed checkpoint; `now`: epoch
    seconds, for `checkpoint_age`. `visit` is given every entry on the way, in order: what it was given counts only if
    the report is ok. Raises Wrong for keys that are none."""
    keys = [Key.parse(text) for text in vkeys]
    path = directory / "checkpoint"
    try:
        note = path.read_bytes()
        written = path.stat().st_mtime
    except FileNotFoundError:
        return Report(str(directory), (Problem("checkpoint", f"{path} is missing", "checkpoint"),))
    age = None if now is None else now - written
    try:
        head = verified_head(note, keys)  # 1
    except Wrong as wrong:
        return Report(str(directory), (Problem("checkpoint", str(wrong), "checkpoint"),), checkpoint_age=age)
    records = RecordCheck(directory, head.origin)
    judge = records.judge if visit is None else _both(visit, records.judge)
    tree = TreeCheck(directory, head.size, head.root)
    older, problems = _older(since, keys, head)
    grown = tree.run(judge, None if older is None else (older.size, Growing()))  # 2
    problems += _origin(directory, head) + tree.problems
    if older is not None and not tree.problems and grown != older.root:  # 4
        text = f"the first {older.size} entries are not those that were signed in the older checkpoint"
        problems.append(Problem("growth", text, "", 0, older.size - 1))
    pending = 0
    if not tree.problems:
        pending, wrong_journal = _journal(directory.resolve(), note, head.size, judge)  # 5
        problems += records.problems + wrong_journal  # 3
    return Report(
        str(directory),
        tuple(problems),
        head.origin,
        head.size,
        base64.b64encode(head.root).decode(),
        head.key.text,
        pending,
        age,
        dict(sorted(records.kinds.items())),
        tuple(sorted(records.open.items(), key=lambda item: item[1])),
        records.unknown,
        None if older is None else older.size,
    )


def _both(visit: Callable[[int, bytes], None], judge: Callable[[int, bytes], None]) -> Callable[[int, bytes], None]:
    def looked(seq: int, entry: bytes) -> None:
        visit(seq, entry)
        judge(seq, entry)

    return looked


def _older(since: bytes | None, keys: Sequence[Key], head: Head) -> tuple[Head | None, list[Problem]]:
    if since is None:
        return None, []
    try:
        older = verified_head(since, keys)
    except Wrong as wrong:
        return None, [Problem("growth", f"the older checkpoint: {wrong}")]
    if older.origin != head.origin:
        return None, [Problem("growth", f"the older checkpoint is of {older.origin}, this log is {head.origin}")]
    if older.size > head.size:
        text = f"the log had {older.size} entries and now has {head.size}: it was cut"
        return None, [Problem("growth", text, "", head.size, older.size - 1)]
    return older, []


def _origin(directory: Path, head: Head) -> list[Problem]:
    path = directory / "origin"
    if path.exists() and path.read_text("utf-8", "replace") != f"{head.origin}\n":
        return [Problem("origin", f"{path} does not say {head.origin}", "origin")]
    return []


def _journal(directory: Path, note: bytes, size: int, judge: Callable[[int, bytes], None]) -> tuple[int, list[Problem]]:
    journal = directory.parent / "journal"
    if directory.name != "log" or not journal.is_dir():  # a copy elsewhere has no journal of its own
        return 0, []
    said = ""
    for _ in range(LOOKS):
        try:
            start, entries = journal_entries(journal, size)
        except (Wrong, FileNotFoundError) as wrong:  # a segment that is used again has another name
            if (directory / "checkpoint").read_bytes() != note:
                return 0, []  # a gateway is at work: these entries are under a newer checkpoint by now
            if str(wrong) == said:
                break
            said = str(wrong)  # it may have gone on writing between two segments that were read
            continue
        for seq, entry in enumerate(entries, start):
            judge(seq, entry)
        return len(entries), []
    return 0, [Problem("journal", said)]


# Single rows


def verify_proof(text: str, entry: bytes, vkeys: Sequence[str]) -> int:
    """The index at which a signed checkpoint includes `entry`, by a c2sp.org/tlog-proof@v1. Raises Wrong."""
    keys = [Key.parse(key) for key in vkeys]
    top, found, note = text.partition("\n\n")
    lines = top.split("\n")
    if not found or lines.pop(0) != "c2sp.org/tlog-proof@v1":
        raise Wrong("this is not a c2sp.org/tlog-proof@v1")
    if lines and lines[0].startswith("extra "):
        lines.pop(0)
    if not lines or not lines[0].startswith("index ") or not lines[0][6:].isdecimal():
        raise Wrong("the proof has no index")
    index = int(lines.pop(0)[6:])
    head = verified_head(note.encode(), keys)
    if not included(leaf(entry), index, head.size, _hashes(lines), head.root):
        raise Wrong(f"the entry is not entry {index} of the log {head.origin} at size {head.size}")
    return index


def verify_export(lines: Iterable[bytes], vkeys: Sequence[str]) -> Report:
    """An export as export.py writes it, by itself: names each row that was edited, deleted, added or moved."""
    keys = [Key.parse(text) for text in vkeys]
    rows = iter(lines)
    try:
        header = parse_object(next(rows, b""))
        note = str(header.get("checkpoint")).encode()
        head = verified_head(note, keys)
        first, end = _int(header, "from"), _int(header, "to")
        complete = header.get("complete") is True
    except (Wrong, Malformed) as wrong:
        return Report("export", (Problem("export", f"its first line: {wrong}"),))
    problems: list[Problem] = []
    expected = first
    count = 0
    for line in rows:
        count += 1
        try:
            seq = _row(line, head)
        except (Wrong, Malformed) as wrong:
            problems.append(Problem("export", f"row {count}: {wrong}", "", expected, expected))
            expected += 1
            continue
        if seq < expected:
            problems.append(Problem("export", f"row {count} is entry {seq}, out of its order", "", seq, seq))
            continue
        if complete and seq > expected:
            problems.append(Problem("export", f"entries {expected} to {seq - 1} are missing", "", expected, seq - 1))
        expected = seq + 1
    if complete and expected < end:
        problems.append(Problem("export", f"entries {expected} to {end - 1} are missing", "", expected, end - 1))
    root = base64.b64encode(head.root).decode()
    return Report("export", tuple(problems), head.origin, head.size, root, head.key.text, kinds={"rows": count})


def _row(line: bytes, head: Head) -> int:
    row = parse_object(line)
    seq = _int(row, "seq")
    record, proof = row.get("record"), row.get("proof")
    if not isinstance(record, dict) or not isinstance(proof, list):
        raise Wrong(f"entry {seq} has no record or no proof")
    value = leaf(orjson.dumps(record, option=orjson.OPT_SORT_KEYS))
    said = row.get("leaf")
    if base64.b64encode(value).decode() != said:
        value = leaf(encode(record))
    if base64.b64encode(value).decode() != said:
        raise Wrong(f"entry {seq} was changed: its record does not hash to its leaf")
    if record.get("seq") != seq or not included(value, seq, head.size, _hashes(proof), head.root):
        raise Wrong(f"entry {seq} was changed: it is not in the signed log")
    return seq


def _int(value: Mapping[str, Json], name: str) -> int:
    found = value.get(name)
    if not isinstance(found, int) or isinstance(found, bool) or found < 0:
        raise Wrong(f"{name} is not a number")
    return found


def _hashes(values: Sequence[object]) -> list[bytes]:
    try:
        return [base64.b64decode(value, validate=True) for value in map(str, values)]
    except (binascii.Error, ValueError):
        raise Wrong("a hash of the proof is not base64") from None


def report_text(report: Report) -> str:
    """The report for a person, one fact a line."""
    if not report.key:
        return "\n".join(map(str, report.problems))
    kinds = ", ".join(f"{count} {kind}" for kind, count in report.kinds.items()) or "no records"
    lines = [
        f"{'ok' if report.ok else 'NOT OK'}: {report.origin}, {report.size} entries, root {report.root}",
        f"signed by {report.key}",
        f"{kinds}; {report.unknown} with unknown outcome, {len(report.in_flight)} in flight, {report.pending} pending",
    ]
    if report.since is not None:
        lines.append(f"grew from the checkpoint of {report.since} entries")
    shown = report.problems[:PROBLEMS_SHOWN]
    more = [f"and {len(report.problems) - len(shown)} more"] if len(report.problems) > len(shown) else []
    return "\n".join([*lines, *map(str, shown), *more])


__all__ = ["Problem", "Report", "Wrong", "directory_keys", "report_text", "verify", "verify_export", "verify_proof"]
