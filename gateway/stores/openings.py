"""How entries of the log begin, up to the value of their `exchange`: looked into once, told by their bytes afterwards.

1. Entries are canonical JSON, as the gateway writes it: names are sorted, so `action`, `budgets` and `decision` are
   before `exchange`, each at most once, and no string has a quote in it that is not escaped.
2. What was looked into is an object when a brace closes it: so the `exchange` behind it is the entry's own.
3. Two things may differ from one to the next. `budgets` ends where `decision` begins. The digest of policy's input
   has 64 bytes, no quote and no backslash at its end, and a quote behind it.
"""

from __future__ import annotations

from typing import Any, Final

import orjson

KNOWN_MOST: Final = 4096  # different ones that are remembered
KNOWN_BYTES: Final = 1024  # of one; a longer one is looked into each time
_DIGEST: Final = 64
_NONE: Final = b"\0"  # no entry begins so
_BUDGETS: Final = b',"budgets":['
_DECISION: Final = b'],"decision":{'
_EXCHANGE: Final = b'"exchange":"'
_INPUT: Final = b'"input":"sha256:'
_ID: Final = b'","id":"'
_INTENT: Final = b'","kind":"intent",'


class Opening:
    """`charged` are the bytes up to what is in `budgets`, empty without them; `budgets` how long that was last."""

    __slots__ = ("_digest", "action", "behind", "budgets", "charged", "effect", "first")

    def __init__(self, charged: bytes, first: bytes, behind: bytes, action: str | None, effect: str | None) -> None:
        self.charged: Final = charged
        self.first: Final = first  # from there up to the input's digest, or to the value of `exchange`
        self.behind: Final = behind  # from that digest on, where there is one
        self.action: Final = action
        self.effect: Final = effect
        self.budgets = 0
        self._digest = b""  # the last one that was looked at

    def at(self, entry: bytes) -> int:
        """Where the value of `exchange` begins in an entry that begins so; else -1."""
        first = self.first
        start = len(self.charged)
        if start:
            if entry[:start] != self.charged:
                return -1
            begun = start
            start += self.budgets
            if entry[start : start + len(first)] != first:
                start = entry.find(_DECISION, begun)
                if start < 0:
                    return -1
                self.budgets = start - begun
        hole = start + len(first)
        if entry[start:hole] != first:
            return -1
        if not self.behind:
            return hole
        end = hole + _DIGEST
        value = end + len(self.behind)
        if entry[end:value] != self.behind:
            return -1
        digest = entry[hole:end]
        if digest != self._digest:
            if entry.find(b'"', hole) != end or entry[end - 1] == 0x5C:
                return -1  # 3
            self._digest = digest
        return value


class Openings:
    """Of the entries that one reader comes by. `last` is that of the entry that was asked for last."""

    __slots__ = ("_before", "_known", "last")

    def __init__(self) -> None:
        self.last = self._before = Opening(_NONE, _NONE, b"", None, None)
        self._known: Final[dict[bytes, Opening]] = {}

    def at(self, entry: bytes) -> int:
        """Where the value of `exchange` begins; -1 if that is not known, and `last` says nothing then."""
        at = self.last.at(entry)
        if at >= 0:
            return at
        self.last, self._before = self._before, self.last  # intents and outcomes come by turns
        at = self.last.at(entry)
        return at if at >= 0 else self._find(entry)

    def intent(self, entry: bytes, at: int) -> bool:
        """Whether an entry whose `exchange` begins there is an intent with ids of 36 bytes."""
        return entry[at + 36 : at + 44] == _ID and entry[at + 80 : at + 98] == _INTENT

    def _find(self, entry: bytes) -> int:
        opened, found, _ = entry.partition(_EXCHANGE)
        acted, budgets, rest = opened.partition(_BUDGETS)
        charged, decided = b"", opened + found
        if budgets:
            _, decision, rest = rest.partition(_DECISION)
            if not decision:
                return -1
            charged, decided = acted + budgets, decision + rest + found
        first, digest, rest = decided.partition(_INPUT)
        behind = rest[_DIGEST:]
        if digest and behind.startswith(b'"'):
            first += digest
        else:
            first, behind = decided, b""
        key = charged + first + behind
        known = self._known.get(key)
        if known is None:
            known = _looked_into(charged, first, behind) if found else None
            if known is None:
                return -1
            if len(self._known) >= KNOWN_MOST:
                self._known.clear()
            if len(key) <= KNOWN_BYTES:
                self._known[key] = known
        self.last = known
        return known.at(entry)


def _looked_into(charged: bytes, first: bytes, behind: bytes) -> Opening | None:
    """2: None if it is no object."""
    whole = charged + first + b"0" * _DIGEST + behind if behind else charged + first
    try:
        found: dict[str, Any] = orjson.loads(whole.removesuffix(_EXCHANGE).removesuffix(b",") + b"}")
        decision = found.get("decision")
        action, effect = found.get("action"), decision.get("effect") if decision else None
    except (orjson.JSONDecodeError, AttributeError):
        return None
    return Opening(charged, first, behind, action, effect)
