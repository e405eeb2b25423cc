"""Which parts of the input a policy can read, and the part of a document that holds exactly those.

The rule: the engine is given the projection, never more, so an answer is a function of the projection's bytes and a
cache keyed by them cannot confuse two requests. What is read through a variable or as a whole counts as read whole.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import TypeAlias

from gateway.core.canonical import Json
from gateway.core.excerpt import project, tree_of
from gateway.pdp.syntax import Path, Rule, reference, visit_rule

Project: TypeAlias = "Callable[[Mapping[str, Json]], Mapping[str, Json]]"

_UNIQUE: tuple[Path, ...] = (("context", "time"), ("context", "request", "id"), ("context", "trace_id"))


def paths_read(rules: Iterable[Rule]) -> frozenset[Path]:
    """The shortest paths below `input` that together hold everything any rule reads; `()` among them is everything."""
    found: set[Path] = set()
    for rule in rules:
        for kind, content in visit_rule(rule):
            names = (reference(kind, content) or ([], []))[0]
            if not names:
                continue
            if names[0] == "input":
                found.add(tuple(names[1:]))
            elif rule.scope.aliases.get(names[0], ("",))[0] == "input":
                found.add((*rule.scope.aliases[names[0]][1:], *names[1:]))
    return frozenset(path for path in found if not any(path[:size] in found for size in range(len(path))))


def covers(reads: Iterable[Path], place: Path) -> bool:
    """Whether the value at `place`, a part of it or something around it is read."""
    return any(path[: len(place)] == place[: len(path)] for path in reads)


def unique_reads(reads: Iterable[Path]) -> tuple[str, ...]:
    """What is read that no two requests have in common: such decisions are not worth keeping."""
    return tuple("input." + ".".join(place) for place in _UNIQUE if covers(reads, place))


def projector(reads: Iterable[Path]) -> Project:
    """A function that copies from a document what `reads` names. What is absent stays absent; a value where an object
    was expected is copied as it is, because a policy can tell the two apart."""
    tree = tree_of(reads)
    if tree is None:
        return lambda document: document
    return lambda document: project(document, tree)
