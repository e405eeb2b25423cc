"""What a policy looked for while it made one decision, in its input and in its data, and what of it was not there.

The rule it keeps: only lines that the engine evaluated count, and a place in the data is named only where every part of
its name is known. What depends on a variable with many values is looked up for each, within bounds.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from gateway.core.canonical import Json
from gateway.pdp.compiled import Compiled
from gateway.pdp.syntax import Node, Path, Rule, flatten, line_of, reference, target, variable, visit_rule

VALUES = 64  # of one variable that are tried
PLACES = 200  # named altogether
DEEP = 6  # variables that are bound through variables

_ABSENT = object()


@dataclass(frozen=True, slots=True)
class Looked:
    """`place` begins with `input` or `data`. `found` False: it, or something on its way, was not there. Its first
    `static` names stand so in the policy, the others were made out of the input."""

    place: tuple[str, ...]
    found: bool
    static: int = 0

    def text(self, shows: Callable[[str], bool]) -> str:
        """As Rego writes it. `shows` tells which of the names that were made may be shown."""
        names = [
            _step(name) if at < self.static or shows(name) else "[...]" for at, name in enumerate(self.place) if at
        ]
        return self.place[0] + "".join(names)


class Look:
    """`covered` are the evaluated lines by file, `values` the answers of the policy's own rules by path."""

    def __init__(
        self,
        policy: Compiled,
        document: Mapping[str, Json],
        values: Mapping[Path, Json],
        covered: Mapping[str, frozenset[int]],
    ) -> None:
        self._policy = policy
        self._document = document
        self._values = values
        self._covered = covered
        self._known = frozenset(rule.path for rule in policy.rules)

    def all(self) -> list[Looked]:
        """Each place once, those in the input first."""
        found: dict[tuple[str, ...], Looked] = {}
        for rule, _, names, parts in self._references():
            static = target(rule.scope, names, self._known) or ()
            for place in self._places(rule, names, parts):
                if len(found) < PLACES and len(place) > 1:
                    found.setdefault(place, Looked(place, self._value(place) is not _ABSENT, len(static)))
        return sorted(found.values(), key=lambda item: (item.place[0] != "input", item.place))

    def lines_of(self, place: Path) -> list[tuple[Rule, int]]:
        """Where a place of the input is referred to, evaluated or not: the rule and the line."""
        found = []
        for rule, line, names, _ in self._references(evaluated=False):
            static = target(rule.scope, names, self._known)
            if static is not None and static[0] == "input" and _overlap(static[1:], place):
                found.append((rule, line))
        return found

    def _references(self, *, evaluated: bool = True) -> Iterator[tuple[Rule, int, list[str], list[str | Node]]]:
        for rule in self._policy.rules:
            for kind, content in visit_rule(rule):
                found = reference(kind, content)
                if found is not None:
                    line = line_of(content)
                    if not evaluated or line in self._covered.get(rule.file, ()):
                        yield rule, line, *found

    def _places(self, rule: Rule, names: list[str], parts: list[str | Node]) -> Iterator[tuple[str, ...]]:
        place = target(rule.scope, names, self._known)
        if place is None or (place[0] == "data" and self._own(place[1:])):
            return
        dynamic = parts[len(names) - 1 :]
        choices: list[list[str]] = []
        for part in dynamic:
            wanted = [part] if isinstance(part, str) else self._texts(rule, part)
            if not wanted:
                break  # what it is asked for is not known
            choices.append(wanted)
        for chosen in itertools.islice(itertools.product(*choices), VALUES):
            yield (*place, *chosen)

    def _own(self, place: Path) -> bool:
        return any(place[: len(path)] == path or path[: len(place)] == place for path in self._known)

    def _texts(self, rule: Rule, node: Node) -> list[str]:
        return [value for value in self._all(rule, node, 0) if isinstance(value, str)][:VALUES]

    def _all(self, rule: Rule, node: Node, depth: int) -> list[Json]:
        """The values that an expression had, as far as they can be told."""
        kind, content = next(iter(node.items()))
        if kind in ("String", "RawString", "Number", "Bool"):
            return [content["value"]]
        if kind == "Array":
            items = [self._all(rule, item, depth) for item in content["items"]]
            return [[item[0] for item in items]] if all(items) else []
        if kind == "Call":
            return self._joined(rule, content, depth)
        base, parts = flatten(node)
        name = variable(base)
        if name is None or depth > DEEP:
            return []
        static = [name, *itertools.takewhile(lambda part: isinstance(part, str), parts)]
        place = target(rule.scope, [str(part) for part in static], self._known)
        if place is not None:
            value = self._value(place)
            found = [] if value is _ABSENT else [value]
            rest = parts[len(static) - 1 :]
        else:
            found, rest = list(self._bound(rule, name, depth)), parts
        for part in rest:
            keys = [part] if isinstance(part, str) else self._all(rule, part, depth + 1)
            below = (_member(value, key) for value in found for key in keys)
            found = [item for item in below if item is not _ABSENT]
        return found[:VALUES]  # type: ignore[return-value]  # _ABSENT is not among them

    def _joined(self, rule: Rule, call: Node, depth: int) -> list[Json]:
        base, parts = flatten(call["fcn"])
        if variable(base) != "array" or parts != ["concat"]:
            return []
        joined: list[Json] = []
        for param in call["params"]:
            for value in self._all(rule, param, depth)[:1]:
                joined += value if isinstance(value, list) else []
        return [joined]

    def _bound(self, rule: Rule, name: str, depth: int) -> Iterator[Json]:
        """What a local variable was taken from: members of a collection, or what it was assigned."""
        for statement in _statements([rule.value, *(body.statements for body in rule.bodies)]):
            if "SomeIn" in statement and variable(statement["SomeIn"]["value"]) == name:
                for value in self._all(rule, statement["SomeIn"]["collection"], depth + 1):
                    yield from value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
            elif "Expr" in statement and "AssignExpr" in statement["Expr"]["expr"]:
                assigned = statement["Expr"]["expr"]["AssignExpr"]
                if variable(assigned["lhs"]) == name:
                    yield from self._all(rule, assigned["rhs"], depth + 1)

    def _value(self, place: tuple[str, ...]) -> object:
        if place[0] == "data":
            own = max((path for path in self._values if place[1 : 1 + len(path)] == path), key=len, default=None)
            if own is not None:
                return _walk(self._values[own], place[1 + len(own) :])
            return _walk(self._policy.source.data, place[1:])
        return _walk(self._document, place[1:])


def _walk(value: object, names: tuple[str, ...]) -> object:
    for name in names:
        value = _member(value, name)
    return value


def _member(value: object, key: object) -> object:
    if isinstance(value, Mapping) and isinstance(key, str):
        return value.get(key, _ABSENT)
    if isinstance(value, list):
        if isinstance(key, int) and not isinstance(key, bool):
            return value[key] if 0 <= key < len(value) else _ABSENT
        return key if key in value else _ABSENT  # a set of the policy is a list here, and is asked for a member
    return _ABSENT


def _statements(node: object) -> Iterator[Node]:
    """Every statement within, those of comprehensions too."""
    if isinstance(node, list | tuple):
        for item in node:
            yield from _statements(item)
    elif isinstance(node, dict):
        if isinstance(node.get("literal"), dict):
            yield node["literal"]
        for item in node.values():
            yield from _statements(item)


def _overlap(one: Path, other: Path) -> bool:
    short = min(len(one), len(other))
    return one[:short] == other[:short]


def _step(name: str) -> str:
    plain = name.isascii() and name.replace("_", "a").isalnum() and not name[:1].isdigit()
    return f".{name}" if plain else f'["{name}"]'
