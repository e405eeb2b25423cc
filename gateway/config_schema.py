"""The grammar of the configuration: how each kind of value is read, described as JSON Schema, and shown in a file.

One description serves all three: a section is a frozen dataclass whose fields were made with `option(...)`. The rule it
keeps: unknown is an error that names file, line and key; a key of a later version is an error that says so (ruling 24).
Secrets are in config_secrets.py.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import MISSING, Field, dataclass, field, fields
from difflib import get_close_matches
from typing import Any, ClassVar, Final
from typing import Protocol as Port

from gateway.config_values import Secret
from gateway.config_yaml import Node, Place, Problem
from gateway.core.canonical import Json


class _Broken:
    """Stands for a value that could not be read; never leaves the reader."""


BROKEN: Final = _Broken()


class Reading:
    """One pass over the tree: collects problems, remembers where each key stands, knows the environment."""

    __slots__ = ("environ", "places", "problems", "secrets", "vaulted")

    def __init__(self, environ: Mapping[str, str], problems: list[Problem], *, secrets: bool) -> None:
        self.environ = environ
        self.problems = problems
        self.places: dict[str, Place] = {}
        self.secrets = secrets
        self.vaulted: list[tuple[Node, str, Secret, str, str]] = []  # secrets to be filled from path and field

    def fail(self, node: Node, key: str, what: str, do: str = "") -> _Broken:
        self.problems.append(Problem(node.place, key, what, do))
        return BROKEN

    def at(self, key: str, what: str, do: str = "") -> None:
        """A problem found after reading, at the place where `key`, or the section that lacks it, was written."""
        section = key
        while section and section not in self.places:
            section = section.rpartition(".")[0]
        self.problems.append(Problem(self.places[section], key, what, do))


class Kind(Port):
    """How one value is read. `read` returns BROKEN after it has told `at`; `schema` is a JSON Schema of the value."""

    def read(self, node: Node, key: str, at: Reading) -> Any: ...

    def schema(self) -> dict[str, Json]: ...


def option(kind: Kind, default: Any = MISSING, why: str = "", *, shown: str = "", example: str = "") -> Any:
    """A field of a section. No default: the key is required. `shown` is the default as one writes it in YAML; without
    it the key is optional and empty, and `example` stands in a comment."""
    metadata = {"kind": kind, "why": why, "shown": shown, "example": example}
    if default == {}:
        return field(default_factory=dict, kw_only=True, metadata=metadata)
    return field(default=default, kw_only=True, metadata=metadata)


@dataclass(frozen=True, slots=True)
class Text:
    """A string; `pattern` must match all of it, `parse` may turn it into something or raise ValueError with the reason.

    Values from the environment are taken by their text, so that `2` needs no second pair of quotes there.
    """

    says: str
    pattern: str = ""
    parse: Callable[[str], Any] = str
    limit: int = 4096

    def read(self, node: Node, key: str, at: Reading) -> Any:
        text = node.raw if node.environment and not isinstance(node.value, (list, dict)) else node.value
        if not isinstance(text, str):
            quotes = ", put it in quotes" if self.parse is str and isinstance(text, (int, float, bool)) else ""
            return at.fail(node, key, f"{_noun(text)} where {self.says} is expected", f"write {self.says}{quotes}")
        if len(text) > self.limit:
            return at.fail(node, key, f"longer than {self.limit} characters")
        if self.pattern and re.fullmatch(self.pattern, text) is None:
            return at.fail(node, key, f"not {self.says}", f"write {self.says}")
        try:
            return self.parse(text)
        except ValueError as error:
            return at.fail(node, key, str(error), f"write {self.says}")

    def schema(self) -> dict[str, Json]:
        found: dict[str, Json] = {"type": "string", "description": self.says}
        if self.pattern:
            found["pattern"] = f"^(?:{self.pattern})$"
        return found


@dataclass(frozen=True, slots=True)
class Whole:
    """An integer from `least` to `most`."""

    least: int
    most: int

    def read(self, node: Node, key: str, at: Reading) -> Any:
        if not isinstance(node.value, int) or isinstance(node.value, bool):
            return at.fail(node, key, f"{_noun(node.value)} where a whole number is expected")
        if not self.least <= node.value <= self.most:
            return at.fail(node, key, "out of range", f"write {self.least} to {self.most}")
        return node.value

    def schema(self) -> dict[str, Json]:
        return {"type": "integer", "minimum": self.least, "maximum": self.most}


@dataclass(frozen=True, slots=True)
class Flag:
    def read(self, node: Node, key: str, at: Reading) -> Any:
        if not isinstance(node.value, bool):
            return at.fail(node, key, f"{_noun(node.value)} where true or false is expected", "write true or false")
        return node.value

    def schema(self) -> dict[str, Json]:
        return {"type": "boolean"}


@dataclass(frozen=True, slots=True)
class Choice:
    """One of `words`. `later` are words that a later version will take."""

    words: tuple[str, ...]
    later: tuple[str, ...] = ()

    def read(self, node: Node, key: str, at: Reading) -> Any:
        text = node.raw if node.environment else node.value
        if isinstance(text, str) and text in self.words:
            return text
        choice = " or ".join(self.words)
        if isinstance(text, str) and any(text.startswith(word) for word in self.later):
            return at.fail(node, key, "this value's feature is not in this version", f"write {choice}")
        return at.fail(node, key, f"not one of {', '.join(self.words)}", f"write {choice}, in quotes if a number")

    def schema(self) -> dict[str, Json]:
        return {"enum": list(self.words)}


@dataclass(frozen=True, slots=True)
class OrNone:
    """`none`, or what `kind` takes."""

    kind: Kind

    def read(self, node: Node, key: str, at: Reading) -> Any:
        return None if node.value == "none" else self.kind.read(node, key, at)

    def schema(self) -> dict[str, Json]:
        return {"anyOf": [{"const": "none"}, self.kind.schema()]}


@dataclass(frozen=True, slots=True)
class OrWord:
    """That one word, or what `kind` takes."""

    word: str
    kind: Kind

    def read(self, node: Node, key: str, at: Reading) -> Any:
        return self.word if node.value == self.word else self.kind.read(node, key, at)

    def schema(self) -> dict[str, Json]:
        return {"anyOf": [{"const": self.word}, self.kind.schema()]}


@dataclass(frozen=True, slots=True)
class ListOf:
    """A list. Elements with a `name` are called by it in messages and overrides; names must differ."""

    kind: Kind
    least: int = 0

    def read(self, node: Node, key: str, at: Reading) -> Any:
        if not isinstance(node.value, list):
            return at.fail(node, key, f"{_noun(node.value)} where a list is expected", "write [...] or lines with -")
        if len(node.value) < self.least:
            return at.fail(node, key, "the list is empty")
        found: list[Any] = []
        seen: set[str] = set()
        for index, item in enumerate(node.value):
            name = _name_of(item)
            path = f"{key}.{name}" if name else f"{key}[{index}]"
            if name in seen:
                at.fail(item, path, "the name is there twice", "give each its own name")
            seen.update([name] if name else [])
            found.append(self.kind.read(item, path, at))
        return BROKEN if any(value is BROKEN for value in found) else tuple(found)

    def schema(self) -> dict[str, Json]:
        found: dict[str, Json] = {"type": "array", "items": self.kind.schema()}
        if self.least:
            found["minItems"] = self.least
        return found


@dataclass(frozen=True, slots=True)
class MapOf:
    """A mapping from names to sections."""

    kind: Kind
    pattern: str
    says: str

    def read(self, node: Node, key: str, at: Reading) -> Any:
        if not isinstance(node.value, dict):
            return at.fail(node, key, f"{_noun(node.value)} where a mapping is expected")
        found: dict[str, Any] = {}
        for name, item in node.value.items():
            if re.fullmatch(self.pattern, name) is None:
                at.fail(item, f"{key}.{name}", "the name cannot be used", f"write {self.says}")
            found[name] = self.kind.read(item, f"{key}.{name}", at)
        return BROKEN if any(value is BROKEN for value in found.values()) else found

    def schema(self) -> dict[str, Json]:
        return {
            "type": "object",
            "additionalProperties": self.kind.schema(),
            "propertyNames": {"pattern": f"^{self.pattern}$"},
        }


class Section(Port):
    """A dataclass made of `option(...)` fields. `LATER` names keys whose feature this version does not have."""

    __dataclass_fields__: ClassVar[dict[str, Field[Any]]]


@dataclass(frozen=True, slots=True)
class Of:
    """A section as a value. `check` looks at what was read and returns what is wrong with it, "" if nothing."""

    section: type[Section]
    check: Callable[[Any], str] = field(default=lambda found: "")

    def read(self, node: Node, key: str, at: Reading) -> Any:
        at.places[key] = node.place
        if not isinstance(node.value, dict):
            return at.fail(node, key, f"{_noun(node.value)} where a section is expected", "write keys and values")
        known = {item.name: item for item in fields(self.section)}
        later: Mapping[str, str] = getattr(self.section, "LATER", {})
        found: dict[str, Any] = {}
        for name, child in node.value.items():
            path = f"{key}.{name}" if key else name
            at.places.setdefault(path, child.place)
            if name in known:
                found[name] = known[name].metadata["kind"].read(child, path, at)
            elif name in later:
                found[name] = at.fail(child, path, f"{later[name]} not in this version", "take the key out")
            else:
                found[name] = at.fail(child, path, "unknown key", _nearest(name, known))
        for name, item in known.items():
            if _required(item) and name not in found:
                found[name] = at.fail(node, f"{key}.{name}" if key else name, "the key is missing")
        if any(value is BROKEN for value in found.values()):
            return BROKEN
        made = self.section(**found)
        wrong = self.check(made)
        return at.fail(node, key, wrong) if wrong else made

    def schema(self) -> dict[str, Json]:
        properties: dict[str, Json] = {}
        required: list[Json] = []
        for item in fields(self.section):
            described = dict(item.metadata["kind"].schema())
            if item.metadata["why"]:
                described["description"] = item.metadata["why"]
            if _required(item):
                required.append(item.name)
            properties[item.name] = described
        found: dict[str, Json] = {"type": "object", "properties": properties, "additionalProperties": False}
        if required:
            found["required"] = required
        return found


@dataclass(frozen=True, slots=True)
class Either:
    """A plain value or a section, told apart by its form; both give what `make` and the section give."""

    plain: Kind
    section: Of

    def read(self, node: Node, key: str, at: Reading) -> Any:
        return (self.section if isinstance(node.value, dict) else self.plain).read(node, key, at)

    def schema(self) -> dict[str, Json]:
        return {"anyOf": [self.plain.schema(), self.section.schema()]}


def _required(item: Field[Any]) -> bool:
    return item.default is MISSING and item.default_factory is MISSING


def _noun(value: object) -> str:
    if value is None:
        return "nothing"
    kinds = {
        bool: "a truth value",
        int: "a number",
        float: "a number",
        str: "a text",
        list: "a list",
        dict: "a mapping",
    }
    return kinds[type(value)]


def _name_of(node: Node) -> str:
    if isinstance(node.value, dict) and "name" in node.value and isinstance(node.value["name"].value, str):
        return node.value["name"].value
    return ""


def _nearest(name: str, known: Mapping[str, object]) -> str:
    near = get_close_matches(name, known, n=1)
    return f"did you mean {near[0]}?" if near else f"known here: {', '.join(known)}"
