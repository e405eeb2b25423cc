"""From what a policy said to a Decision, strictly.

The rule: allow only for `true`, or an object whose `decision` is `true`, whose every member is known and well formed
and whose every obligation this gateway can fulfil. Anything else is a deny with a reason that says which of these it
was. A member that is not known is not skipped: an obligation under a misspelt name would be one that nobody keeps.
"""

from __future__ import annotations

from dataclasses import dataclass

from gateway.core.canonical import Json
from gateway.core.exchange import Decision, Obligation
from gateway.core.obligations import FULFILLED, read, shortfall
from gateway.core.reasons import Malformed

REASON_CHARACTERS = 1000  # callers see it; a policy may put their input in it

UNDEFINED = "The policy gave no answer for this request (undefined)"
_WRONG = "The policy's answer is not a decision"


@dataclass(frozen=True, slots=True)
class Reader:
    """Reads the answers of one engine. `obligations` are the types that the stages behind Decide fulfil."""

    engine: str
    revision: str
    obligations: frozenset[str] = FULFILLED

    def undefined(self, ms: float) -> Decision:
        return Decision(False, UNDEFINED, "undefined", self.engine, self.revision, ms=ms)

    def fault(self, reason: str, rule: str, ms: float) -> Decision:
        """`reason` is for the caller; `rule` says more and stays in the record."""
        return Decision(False, reason, rule, self.engine, self.revision, fault=True, ms=ms)

    def read(self, answer: Json, ms: float) -> Decision:
        if isinstance(answer, bool):
            reason = "" if answer else "Denied by policy"
            return Decision(answer, reason, "", self.engine, self.revision, ms=ms)
        if not isinstance(answer, dict):
            return self._wrong(f"it is {_kind(answer)}, not an object or true or false", ms)
        context = answer.get("context", {})
        if not isinstance(answer.get("decision"), bool):
            return self._wrong(f"decision is {_kind(answer.get('decision'))}, not true or false", ms)
        if not isinstance(context, dict):
            return self._wrong(f"context is {_kind(context)}, not an object", ms)
        for name in (*(answer.keys() - _MEMBERS), *(context.keys() - _CONTEXT)):
            return self._wrong(f"member {name!r} is not known", ms)
        for name in ("reason", "rule"):
            if not isinstance(context.get(name, ""), str):
                return self._wrong(f"{name} is {_kind(context[name])}, not text", ms)
        return self._decide(bool(answer["decision"]), context, ms)

    def _decide(self, allow: bool, context: dict[str, Json], ms: float) -> Decision:
        reason, rule = str(context.get("reason", ""))[:REASON_CHARACTERS], str(context.get("rule", ""))
        if not allow:
            return Decision(False, reason or "Denied by policy", rule, self.engine, self.revision, ms=ms)
        obligations: list[Obligation] = []
        listed = context.get("obligations", [])
        if not isinstance(listed, list):
            return self._wrong(f"obligations is {_kind(listed)}, not a list", ms)
        for item in listed:
            kind = item.get("type") if isinstance(item, dict) else None
            if not isinstance(item, dict) or not isinstance(kind, str):
                return self._wrong("an obligation is not an object with a type", ms)
            obligations.append(Obligation(kind, {name: value for name, value in item.items() if name != "type"}))
        try:
            for obligation in obligations:
                if obligation.type not in self.obligations:
                    return Decision(False, shortfall(obligation), rule, self.engine, self.revision, ms=ms)
            read(obligations)
        except Malformed as error:
            return self._wrong(f"obligation {error}", ms)
        return Decision(True, reason, rule, self.engine, self.revision, tuple(obligations), ms=ms)

    def _wrong(self, text: str, ms: float) -> Decision:
        return Decision(False, f"{_WRONG}: {text}", "wrong_type", self.engine, self.revision, ms=ms)


_MEMBERS = frozenset({"decision", "context"})
_CONTEXT = frozenset({"reason", "rule", "obligations"})


def _kind(value: Json) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "a boolean"
    if isinstance(value, (int, float)):
        return "a number"
    return {str: "text", list: "a list", dict: "an object"}[type(value)]
