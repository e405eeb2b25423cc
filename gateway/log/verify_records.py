"""What the records of a log must say of one another, judged in order of their seq.

1. An entry is one JSON object in canonical form, with `v` 1, its own `seq`, and the log's `node`.
2. `kind` is one of the contract's.
3. An exchange has at most one intent, and after it exactly one outcome; an outcome has its intent before it; a refusal
   closes an exchange that has no intent. What is open at the end is in flight, not wrong.
4. A capture that was moved out is in `blob/` under its digest.
Repeated refusals of one exchange are noticed within the last 250,000 closed exchanges. Own code path.
"""

from __future__ import annotations

import hashlib
from collections import Counter, OrderedDict
from collections.abc import Mapping
from pathlib import Path

import orjson

from gateway.core.canonical import Json, encode
from gateway.core.reasons import Malformed
from gateway.log.verify_tree import Problem

KINDS = frozenset({"intent", "outcome", "refusal", "admin", "activation", "recovery"})
RESULTS = frozenset({"ok", "error", "client_gone", "upstream_gone", "timeout", "unknown"})
_REMEMBERED = 250_000


class RecordCheck:
    """`judge` each entry in order; then `problems`, `kinds` and `open` say what came of it."""

    def __init__(self, directory: Path, node: str) -> None:
        self._blobs = directory / "blob"
        self._node = node
        self._closed: OrderedDict[str, int] = OrderedDict()
        self.open: dict[str, int] = {}
        self.kinds: Counter[str] = Counter()
        self.unknown = 0  # outcomes that recovery wrote
        self.problems: list[Problem] = []

    def judge(self, seq: int, entry: bytes) -> None:
        try:
            record = orjson.loads(entry)
        except orjson.JSONDecodeError as error:
            self._wrong(seq, f"is not JSON: {error}")
            return
        if not isinstance(record, dict) or not canonical(record, entry):
            self._wrong(seq, "is not an object in canonical form")  # 1
            return
        if record.get("seq") != seq or record.get("v") != 1 or record.get("node") != self._node:
            said = f"v {record.get('v')!r}, seq {record.get('seq')!r}, node {record.get('node')!r}"
            self._wrong(seq, f"says {said}")  # 1
        kind = record.get("kind")
        if kind not in KINDS:
            self._wrong(seq, f"has the kind {kind!r}")  # 2
            return
        self.kinds[kind] += 1
        self._pair(seq, kind, record)
        for side in ("request", "response"):
            self._capture(seq, record.get(side))

    def _pair(self, seq: int, kind: str, record: Mapping[str, object]) -> None:
        """Rule 3."""
        exchange = record.get("exchange")
        if not isinstance(exchange, str):
            if kind in ("intent", "outcome"):
                self._wrong(seq, f"is an {kind} of no exchange")
            return
        if kind == "intent":
            if exchange in self.open or exchange in self._closed:
                self._wrong(seq, f"is a second intent of exchange {exchange}")
            self.open[exchange] = seq
        elif kind in ("outcome", "refusal"):
            intent = self.open.pop(exchange, None)
            if exchange in self._closed:
                self._wrong(seq, f"closes exchange {exchange} again; entry {self._closed[exchange]} did")
            elif kind == "outcome" and intent is None:
                self._wrong(seq, f"is an outcome of exchange {exchange}, which has no intent")
            elif kind == "refusal" and intent is not None:
                self._wrong(seq, f"is a refusal of exchange {exchange}, whose intent is entry {intent}")
            if kind == "outcome":
                self._result(seq, record.get("result"))
            self._closed[exchange] = seq
            if len(self._closed) > _REMEMBERED:
                self._closed.popitem(last=False)

    def _result(self, seq: int, result: object) -> None:
        if result not in RESULTS:
            self._wrong(seq, f"has the result {result!r}")
        self.unknown += result == "unknown"

    def _capture(self, seq: int, part: object) -> None:
        """Rule 4."""
        capture = part.get("capture") if isinstance(part, dict) else None
        named = capture.get("blob") if isinstance(capture, dict) and set(capture) == {"blob", "bytes"} else None
        if not isinstance(named, str) or not named.startswith("sha256:"):
            return
        name = named.removeprefix("sha256:")
        path = f"blob/{name}"
        if not name.isalnum():
            self._wrong(seq, f"names a blob {named!r}")
            return
        try:
            data = (self._blobs / name).read_bytes()
        except FileNotFoundError:
            self.problems.append(Problem("blob", f"{path}, the capture of entry {seq}, is missing", path, seq, seq))
            return
        if hashlib.sha256(data).hexdigest() != name:
            self.problems.append(Problem("blob", f"{path}, the capture of entry {seq}, was changed", path, seq, seq))

    def _wrong(self, seq: int, text: str) -> None:
        self.problems.append(Problem("record", f"entry {seq} {text}", "", seq, seq))


def canonical(record: dict[str, Json], entry: bytes) -> bool:
    """Whether `entry` is the RFC 8785 form of `record`. The fast spelling can only agree by being the same bytes."""
    try:
        return orjson.dumps(record, option=orjson.OPT_SORT_KEYS) == entry or encode(record) == entry
    except (Malformed, TypeError):
        return False
