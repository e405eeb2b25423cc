"""What a policy says that its author can hardly have meant, though it means the same to everybody.

Such a policy is served: it is odd, not wrong. Who writes it is told (`tollgate check`), with file and line:
1. A part of the request that no request has, like `input.subject.roles` (they are in `subject.properties`): a condition
on it never holds, and one under `not` always does.
2. A name below `data` that no file and no rule defines: likewise.
3. An answer that allows whatever no rule denies, or whatever is asked.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from gateway.core.canonical import Json
from gateway.pdp.checks import ENTRY
from gateway.pdp.compiled import Compiled
from gateway.pdp.syntax import Node, Path, Rule, expression, line_of, reference, target, text_of, visit_rule

# The members of a request by the place that they are in (contract, section 5); a place that is not here has any.
_MEMBERS: Mapping[Path, frozenset[str]] = {
    (): frozenset({"subject", "action", "resource", "context"}),
    ("subject",): frozenset({"type", "id", "properties"}),
    ("subject", "properties"): frozenset({"org", "team", "roles", "issuer", "agent", "delegated_by", "descriptor"}),
    ("action",): frozenset({"name", "properties"}),
    ("resource",): frozenset({"type", "id", "properties"}),
}


def doubts(policy: Compiled) -> tuple[str, ...]:
    """One line for each, without repeating itself."""
    known = frozenset(rule.path for rule in policy.rules)
    found: list[str] = []
    for rule in policy.rules:
        found += _about_answer(rule)
        for kind, content in visit_rule(rule):
            names = (reference(kind, content) or ([], []))[0]
            place = target(rule.scope, names, known) if names else None
            if place is not None:
                node = {kind: content}
                found += (
                    _about_input(rule, place, node) if place[0] == "input" else _about_data(rule, place, policy, node)
                )
    return tuple(dict.fromkeys(found))


def _about_input(rule: Rule, place: Path, node: Node) -> Iterator[str]:
    """1."""
    for size in range(1, len(place)):
        around, name = place[1:size], place[size]
        members = _MEMBERS.get(around)
        if members is not None and name not in members:
            where = ".".join(("input", *around))
            there = ", ".join(sorted(members))
            yield f"{_at(rule, node)}: no request has {where}.{name}; {where} has {there}{_elsewhere(around, name)}"
            return


def _elsewhere(around: Path, name: str) -> str:
    if around == ("subject",) and name in _MEMBERS[("subject", "properties")]:
        return f". It is input.subject.properties.{name}"
    if around == ("resource",) and name in ("route", "upstream", "digest"):
        return f". It is input.resource.properties.{name}"
    if around == () and name in ("arguments", "request", "time"):
        return f". It is input.context.{name}"
    return ""


def _about_data(rule: Rule, place: Path, policy: Compiled, node: Node) -> Iterator[str]:
    """2."""
    if (
        len(place) > 1
        and place[1] not in policy.source.data
        and not any(other.path[0] == place[1] for other in policy.rules)
    ):
        yield f"{_at(rule, node)}: no data file defines data.{place[1]}, and no rule does"


def _about_answer(rule: Rule) -> Iterator[str]:
    """3."""
    if rule.path != ENTRY or rule.value is None or not _allows(rule.value, rule):
        return
    if rule.kind == "default":
        yield f"{rule.file}:{rule.line}: the default allows whatever no rule denies; let the default deny"
    elif not any(body.statements for body in rule.bodies):
        yield f"{rule.file}:{rule.line}: the decision allows whatever is asked; give it a condition (if ...)"


def _allows(node: Node, rule: Rule) -> bool:
    kind, content = expression(node, rule.file)
    if kind == "Object":
        return any(text_of(key) == "decision" and _allows(value, rule) for _, key, value in content["fields"])
    value: Json = content.get("value") if kind == "Bool" else None
    return value is True


def _at(rule: Rule, node: Node) -> str:
    return f"{rule.file}:{line_of(node) or rule.line}"
