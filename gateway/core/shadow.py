"""What a second engine said differently, as values, and the port by which the admin plane sees it.

A difference holds who asked for what and both decisions, and of the rest of the input only the digest, unless records
hold it: then it is masked as they are (capture.py). Equal differences are one, counted.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol as Port

from gateway.core.canonical import Json
from gateway.core.exchange import Decision

PAGE_MOST = 500

ALLOW_TO_DENY = "allow_to_deny"
DENY_TO_ALLOW = "deny_to_allow"
OBLIGATIONS = "obligations"
RULE = "rule"
REASON = "reason"
KINDS = (ALLOW_TO_DENY, DENY_TO_ALLOW, OBLIGATIONS, RULE, REASON)


@dataclass(frozen=True, slots=True)
class Asked:
    """What was asked, as far as it is kept. `digest` is of the input that the shadow engine saw, `exchange` the one
    in which it came up, "" where there was none. `capture` is how much of the input its records hold: none, shape or
    full."""

    exchange: str
    subject: str
    action: str
    resource_type: str
    resource_id: str
    listing: bool
    digest: str
    capture: str = "none"


@dataclass(frozen=True, slots=True)
class Difference:
    """`number` is its place in the list, from 1; `asked` the latest such question, of `count`. `enforced` and `shadow`
    are decisions as they are shown, `input` what is kept of the input, if anything. `first` and `last` are epoch
    seconds."""

    number: int
    asked: Asked
    kinds: tuple[str, ...]
    enforced: Mapping[str, Json]
    shadow: Mapping[str, Json]
    count: int
    first: float
    last: float
    input: Mapping[str, Json] | None = None


@dataclass(frozen=True, slots=True)
class DifferencePage:
    """Newest first. `cursor` is the `before` of the next page, None when there is none."""

    differences: tuple[Difference, ...]
    cursor: int | None


class Differences(Port):
    """What a shadow engine said differently (pdp/shadow.py). Never waits, never raises."""

    def page(self, *, before: int | None, limit: int, kind: str | None, subject: str | None) -> DifferencePage: ...

    def totals(self) -> Mapping[str, int]:
        """How many questions were answered the same, differently, or not (`fault`); how many the shadow never got:
        `dropped` for want of room, `skipped` because the engine in force had no decision to compare with."""
        ...

    def by_kind(self) -> Mapping[str, int]:
        """How many of the different ones differed in what; one may in several."""
        ...


def kinds_of(enforced: Decision, shadow: Decision) -> tuple[str, ...]:
    """In what two decisions differ; nothing where they are the same for whoever lives by them. The engine's own name
    and revision are no difference, and obligations are compared in order: they are carried out so."""
    found: list[str] = []
    if enforced.allow is not shadow.allow:
        found.append(DENY_TO_ALLOW if shadow.allow is True else ALLOW_TO_DENY)
    if _obligations(enforced) != _obligations(shadow):
        found.append(OBLIGATIONS)
    if enforced.rule != shadow.rule:
        found.append(RULE)
    if enforced.reason != shadow.reason:
        found.append(REASON)
    return tuple(found)


def _obligations(decision: Decision) -> list[tuple[str, dict[str, Json]]]:
    return [(item.type, dict(item.values)) for item in decision.obligations]
