"""YAML, read strictly: text in, a tree of nodes out, each of which knows its file and line.

The rule: what two readers could understand differently is an error. YAML 1.2 core schema (`yes` and `2026-01-01` are
strings, `010` is ten), one document, no anchors, aliases, merges, tags or directives, no duplicate and no non-string
keys. Overrides from the environment are laid over the tree before anything interprets it. It never stops at the first
problem if it can go on, and never quotes a value: a value may be a secret in the wrong place.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

import yaml

FILE_LIMIT_BYTES = 4 * 1024 * 1024  # a configuration of 10,000 routes is about 2 MiB
DEPTH_LIMIT = 32
ENVIRONMENT_PREFIX = "TOLLGATE__"

Scalar: TypeAlias = "bool | int | float | str | None"
Value: TypeAlias = "Scalar | list[Node] | dict[str, Node]"

_INTEGER = re.compile(r"[-+]?[0-9]+")
_OCTAL = re.compile(r"0o[0-7]+")
_HEX = re.compile(r"0x[0-9a-fA-F]+")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_NULL = frozenset({"", "~", "null", "Null", "NULL"})
_TRUE = frozenset({"true", "True", "TRUE"})
_FALSE = frozenset({"false", "False", "FALSE"})
_OTHER_LINE_ENDS = re.compile("[\x85\u2028\u2029]")  # line ends in YAML 1.1, plain text in 1.2


@dataclass(frozen=True, slots=True)
class Place:
    """Where something was written; `line` counts from 1, 0 for an environment variable."""

    source: str
    line: int = 0

    def __str__(self) -> str:
        return f"{self.source}:{self.line}" if self.line else self.source


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong: where, which key, what, and what to do about it."""

    place: Place
    key: str
    what: str
    do: str = ""

    def __str__(self) -> str:
        head = f"{self.place}: {self.key}: {self.what}" if self.key else f"{self.place}: {self.what}"
        return f"{head}; {self.do}" if self.do else head


class ConfigError(Exception):
    """The configuration cannot be used. `problems` has everything that was found, in order of their lines."""

    def __init__(self, problems: list[Problem]) -> None:
        self.problems = tuple(sorted(problems, key=lambda problem: (problem.place.source, problem.place.line)))
        super().__init__("\n".join(map(str, self.problems)))


class _TooDeep(Exception):
    def __init__(self, place: Place) -> None:
        super().__init__(place)
        self.place = place


@dataclass(slots=True)
class Node:
    """A value with the place of its key. `raw` is a plain or quoted scalar's own text."""

    value: Value
    place: Place
    raw: str = ""
    environment: bool = field(default=False)


def read_text(text: str, source: str, problems: list[Problem]) -> Node | None:
    """The tree of one document, None when it cannot be read at all (then `problems` says why)."""
    found = _OTHER_LINE_ENDS.search(text)
    if found is not None:
        line = text.count("\n", 0, found.start()) + 1
        problems.append(Problem(Place(source, line), "", "an invisible line separator", "delete it"))
        return None
    builder = _Builder(source, problems)
    try:
        return builder.document(iter(yaml.parse(text, Loader=yaml.SafeLoader)))
    except _TooDeep as error:
        problems.append(Problem(error.place, "", f"deeper than {DEPTH_LIMIT} levels"))
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark is not None else 1
        problems.append(Problem(Place(source, line), "", f"not YAML: {error.problem or error.context}"))
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        problems.append(Problem(Place(source, line), "", "a control character", "delete it"))
    return None


def read_plain(data: bytes) -> object:
    """Lists, dicts and scalars of another file that is read as strictly: keys, tokens. Raises ValueError."""
    problems: list[Problem] = []
    node = read_text(data.decode("utf-8"), "line", problems)
    if problems or node is None:
        raise ValueError("; ".join(_without_source(problem) for problem in problems))
    return _plain(node.value)


def _without_source(problem: Problem) -> str:
    """Who asked knows the file."""
    return str(problem).replace("line:", "line ", 1)


def _plain(value: Value) -> object:
    if isinstance(value, dict):
        return {name: _plain(node.value) for name, node in value.items()}
    return [_plain(node.value) for node in value] if isinstance(value, list) else value


class _Builder:
    """Turns PyYAML's events into nodes; everything the events say beyond values is refused here."""

    def __init__(self, source: str, problems: list[Problem]) -> None:
        self._source = source
        self._problems = problems

    def document(self, events: Iterator[yaml.Event]) -> Node:
        root = Node({}, Place(self._source, 1))
        documents = 0
        for event in events:
            if isinstance(event, yaml.DocumentStartEvent):
                documents += 1
                if documents > 1:
                    self._fail(event, "", "a second document", "keep one document in the file")
                    break
                if event.version or event.tags:
                    self._fail(event, "", "YAML directives are not read", "delete the lines that begin with %")
            elif isinstance(event, yaml.NodeEvent):
                root = self._node(event, events, "", 0)
                if root.value is None:
                    root.value = {}
        return root

    def _node(self, event: yaml.Event, events: Iterator[yaml.Event], key: str, depth: int) -> Node:
        """The node that begins with `event`; takes from `events` what belongs to it."""
        place = self._place(event)
        if isinstance(event, yaml.AliasEvent):
            self._fail(event, key, "aliases are not read", "write the value out")
            return Node(None, place)
        if not isinstance(event, (yaml.ScalarEvent, yaml.SequenceStartEvent, yaml.MappingStartEvent)):
            raise TypeError(f"no value begins with {type(event).__name__}")
        if event.anchor is not None:
            self._fail(event, key, "anchors are not read", "write the value where it is used")
        if event.tag is not None:
            self._fail(event, key, "tags are not read", "delete the word that begins with !")
        if depth > DEPTH_LIMIT:
            raise _TooDeep(place)
        if isinstance(event, yaml.SequenceStartEvent):
            items: list[Node] = []
            while not isinstance(event := next(events), yaml.SequenceEndEvent):
                items.append(self._node(event, events, f"{key}[{len(items)}]", depth + 1))
            return Node(items, place)
        if isinstance(event, yaml.MappingStartEvent):
            return Node(self._members(events, key, depth), place)
        plain = event.implicit[0]
        return Node(_resolve(event.value) if plain else event.value, place, event.value)

    def _members(self, events: Iterator[yaml.Event], key: str, depth: int) -> dict[str, Node]:
        members: dict[str, Node] = {}
        while not isinstance(event := next(events), yaml.MappingEndEvent):
            name = self._node(event, events, key, depth + 1)
            place = name.place
            path = f"{key}.{name.raw}" if key else name.raw
            node = self._node(next(events), events, path, depth + 1)
            node.place = place
            if not isinstance(name.value, str):
                self._fail(event, path, "a key must be a string", "put it in quotes")
            elif name.value == "<<":
                self._fail(event, path, "merges are not read", "write the keys out")
            elif name.value in members:
                first = members[name.value].place.line
                self._fail(event, path, f"the key is there twice, first in line {first}", "keep one of them")
            else:
                members[name.value] = node
        return members

    def _place(self, event: yaml.Event) -> Place:
        return Place(self._source, event.start_mark.line + 1 if event.start_mark is not None else 1)

    def _fail(self, event: yaml.Event, key: str, what: str, do: str) -> None:
        self._problems.append(Problem(self._place(event), key, what, do))


def _resolve(text: str) -> Scalar:
    """A plain scalar's value by the YAML 1.2 core schema, without its `.inf` and `.nan`, which nothing here takes."""
    if text in _NULL:
        return None
    if text in _TRUE or text in _FALSE:
        return text in _TRUE
    if _INTEGER.fullmatch(text):
        return int(text) if len(text) < 20 else text
    if _OCTAL.fullmatch(text) or _HEX.fullmatch(text):
        return int(text, 0) if len(text) < 20 else text
    return float(text) if _FLOAT.fullmatch(text) else text


def override(root: Node, environ: Mapping[str, str], problems: list[Problem]) -> None:
    """Lays `TOLLGATE__a__b=value` over the tree. Values are YAML; list elements are found by their `name`."""
    for variable in sorted(environ):
        if not variable.startswith(ENVIRONMENT_PREFIX):
            continue
        source = f"environment {variable}"
        path = variable.removeprefix(ENVIRONMENT_PREFIX).split("__")
        node = read_text(environ[variable], source, problems)
        if node is None:
            continue
        _mark(node, Place(source))
        if environ[variable].strip() == "":
            node.value = ""
        _put(root, path, node, problems)


def _mark(node: Node, place: Place) -> None:
    node.place = place
    node.environment = True
    if isinstance(node.value, dict):
        children = list(node.value.values())
    else:
        children = node.value if isinstance(node.value, list) else []
    for child in children:
        _mark(child, place)


def _put(root: Node, path: list[str], node: Node, problems: list[Problem]) -> None:
    if not all(path):
        problems.append(Problem(node.place, "", "an empty name between underscores", "write TOLLGATE__section__key"))
        return
    at = root
    for depth, name in enumerate(path):
        key = ".".join(path[: depth + 1])
        last = depth == len(path) - 1
        if isinstance(at.value, list):
            index = _named(at.value, name)
            if index is None:
                problems.append(Problem(node.place, key, "no element of this list has that name"))
                return
            if last:
                at.value[index] = node
            at = at.value[index]
        elif isinstance(at.value, dict):
            if last:
                at.value[name] = node
            at = at.value.setdefault(name, Node({}, node.place, environment=True))
        else:
            problems.append(Problem(node.place, key, "what stands there has no keys"))
            return


def _named(items: list[Node], name: str) -> int | None:
    for index, item in enumerate(items):
        if isinstance(item.value, dict):
            found = item.value.get("name")
            if found is not None and found.value == name:
                return index
    return None
