"""Intents among a log's entries, told by their beginning: most begin like others.

1. An entry is one if all before its `exchange`, but for the budgets, is what was an object before, and its ids have 36
   bytes: so the `kind` behind them is its own. Where there are budgets there is a decision behind them.
2. One that begins otherwise is an intent if it has only one member `kind`, wherever that is.
"""

from __future__ import annotations

from typing import Final

import orjson

_LEARNT_MOST: Final = 16  # beginnings that are parsed
_OTHER: Final = b"\0"  # like nothing
_BUDGETS: Final = b',"budgets":['
_DECISION: Final = b'],"decision":{'
_EXCHANGE: Final = b'"exchange":"'
_ID: Final = b'","id":"'
_INTENT: Final = b'","kind":"intent",'


class Intents:
    """Of one batch."""

    __slots__ = ("_before", "_behind", "_learnt", "at")

    def __init__(self) -> None:
        # Of the last one: what was before its budgets and behind them, and where the value of its `exchange` began.
        self._before = self._behind = _OTHER
        self.at = 0
        self._learnt = 0

    def alike(self, entry: bytes) -> bool:
        """Whether it is one that begins like the last one, in the same length."""
        return self._begins(entry, self.at)

    def _begins(self, entry: bytes, at: int) -> bool:
        """Whether it is an intent that begins like the last one, with the value of `exchange` at `at`."""
        before, behind = self._before, self._behind
        return (
            entry[at + 80 : at + 98] == _INTENT
            and entry[at + 36 : at + 44] == _ID
            and at >= len(before) + len(behind)
            and entry[at - len(behind) : at] == behind
            and entry[: len(before)] == before
            and (behind == _EXCHANGE or entry.find(_DECISION, len(before)) == at - len(behind))
        )

    def is_one(self, entry: bytes) -> bool:
        """Of an entry that may begin otherwise. False where that is not sure."""
        at = entry.find(_DECISION, len(self._before)) + len(self._behind)
        if self._begins(entry, at):
            self.at = at
            return True
        at = entry.find(b'"kind":"')
        if not entry.startswith(b'intent"', at + 8) or entry.find(b'"kind":"', at + 8) >= 0:
            return False  # not the only member of that name: it may be another's
        if self._learnt < _LEARNT_MOST:
            self._learnt += 1
            self._learn(entry, entry.find(_EXCHANGE))
        return True

    def _learn(self, entry: bytes, end: int) -> None:
        before, budgets, rest = entry[:end].partition(_BUDGETS)
        _, decision, behind = rest.partition(_DECISION)
        if budgets and not decision:
            return
        whole = before + b',"decision":{' + behind if budgets else before
        try:
            orjson.loads(whole[:-1] + b"}")
        except orjson.JSONDecodeError:
            return
        self._before = before + budgets
        self._behind = decision + behind + _EXCHANGE
        self.at = end + len(_EXCHANGE)
