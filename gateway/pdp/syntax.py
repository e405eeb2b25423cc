"""The syntax tree of a policy, as the engine gives it, read into rules and references.

The rule: a kind of node that is not known here refuses the policy, because every conclusion drawn from the tree (which
input is read, which builtins run, what loops) holds only for trees that are understood whole. Nothing here evaluates.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

Node: TypeAlias = "dict[str, Any]"
Path: TypeAlias = "tuple[str, ...]"

_SCALARS = frozenset({"String", "RawString", "Number", "Bool", "Null"})
_EXPRESSIONS = _SCALARS | {
    "Var", "Array", "Set", "Object", "ArrayCompr", "SetCompr", "ObjectCompr", "Call", "UnaryExpr", "RefDot",
    "RefBrack", "BinExpr", "BoolExpr", "ArithExpr", "AssignExpr", "Membership",
}  # fmt: skip
_LANGUAGE = frozenset(
    {
        ("rego", "v1"),
        ("future", "keywords"),
        *(("future", "keywords", word) for word in ("contains", "every", "if", "in")),
    }
)
_LITERALS = frozenset({"SomeVars", "SomeIn", "Expr", "NotExpr", "Every"})


class PolicyRefused(ValueError):
    """A policy that is not served. `args[0]` names the file, the line and rule where there is one, and what to do."""


@dataclass(frozen=True, slots=True)
class Body:
    """One alternative of a rule: the statements that must hold, and the value then (None: the head's own, or true).
    `span` is where its bytes are in the file, `assigned` those of its value with the sign before it."""

    value: Node | None
    statements: tuple[Node, ...]
    span: tuple[int, int] = (0, 0)
    assigned: tuple[int, int] = (0, 0)


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule as it stands in a file. `path` is its static place below `data`, package included.

    `kind` is "complete", "set", "function" or "default"; `dynamic` are the variable parts of its head's reference.
    """

    path: Path
    kind: str
    file: str
    line: int
    params: tuple[Node, ...]
    dynamic: tuple[Node, ...]
    key: Node | None
    value: Node | None
    bodies: tuple[Body, ...]
    scope: Scope
    span: tuple[int, int] = (0, 0)  # where its bytes are in the file
    assigned: tuple[int, int] = (0, 0)  # its head's value with the sign before it; empty, where it would stand

    @property
    def name(self) -> str:
        return ".".join(self.path[len(self.scope.package) :])

    def refuse(self, text: str, node: Node | None = None) -> PolicyRefused:
        return PolicyRefused(f"{self.file}:{line_of(node) or self.line}: rule {self.name}: {text}")


@dataclass(frozen=True, slots=True)
class Scope:
    """What the names of one file mean: its package and its imports, and its text for names kept only as spans."""

    file: str
    package: Path
    aliases: Mapping[str, Path]  # full paths: ("input", ...) or ("data", ...)
    text: bytes

    def spanned(self, span: Node) -> str:
        return self.text[span["start"] : span["end"]].decode("utf-8")


def read_tree(tree: str) -> tuple[Rule, ...]:
    """All rules of all modules of `Engine.get_ast_as_json()`. Raises PolicyRefused."""
    return tuple(rule for module in json.loads(tree) for rule in _module(module))


def _module(module: Node) -> Iterator[Rule]:
    file, text = module["source"]["file"], module["source"]["contents"].encode("utf-8")
    ast = module["ast"]
    base, parts = flatten(ast["package"]["refr"])
    package = (str(variable(base)), *(part for part in parts if isinstance(part, str)))
    scope = Scope(file, package, dict(_imports(ast.get("imports") or (), file, text)), text)
    for node in ast["rules"]:
        yield _rule(node, scope)


def _imports(nodes: Sequence[Node], file: str, text: bytes) -> Iterator[tuple[str, Path]]:
    """What OPA refuses is refused here, because the engine takes it for something: a keyword or version that is not
    there, two imports of one name, an import that hides `input` or `data`."""
    seen: set[str] = set()
    for node in nodes:
        base, parts = flatten(node["refr"])
        root = variable(base)
        path = tuple(part for part in parts if isinstance(part, str))
        if root in ("rego", "future"):
            if (root, *path) not in _LANGUAGE or len(path) != len(parts):
                known = ", ".join(".".join(words) for words in sorted(_LANGUAGE))
                raise PolicyRefused(
                    f"{file}:{line_of(node)}: there is no {'.'.join((root, *path))} to import, only {known}"
                )
            continue
        if root not in ("input", "data") or len(path) != len(parts):
            raise PolicyRefused(f"{file}:{line_of(node)}: only input, data, rego and future can be imported")
        span = node.get("as")
        name = text[span["start"] : span["end"]].decode("utf-8") if span else (path[-1] if path else root)
        if name in seen or (name in ("input", "data") and (root, *path) != (name,)):
            raise PolicyRefused(f"{file}:{line_of(node)}: the name {name} is taken; import it `as` something else")
        seen.add(name)
        yield name, (root, *path)


def _rule(node: Node, scope: Scope) -> Rule:
    kind, spec = _only(node, scope.file)
    line = line_of(spec)
    if kind == "Default":
        path, dynamic = _head(spec["refr"], scope)
        params = tuple(spec.get("args") or ())
        return Rule(path, "default", scope.file, line, params, dynamic, None, spec["value"], (), scope, _span(spec))
    if kind != "Spec":
        raise PolicyRefused(f"{scope.file}:{line}: a rule of kind {kind} is not understood")
    shape, head = _only(spec["head"], scope.file)
    kinds = {"Compr": "complete", "Set": "set", "Func": "function"}
    if shape not in kinds:
        raise PolicyRefused(f"{scope.file}:{line}: a rule head of kind {shape} is not understood")
    path, dynamic = _head(head["refr"], scope)
    assign = head.get("assign")
    bodies = tuple(_body(body) for body in spec["bodies"])
    value = assign["value"] if assign else None
    params = tuple(head.get("args") or ())
    named = _span(next(iter(head["refr"].values())))[1]
    assigned = _span(assign) if assign else (named, named)
    key = head.get("key")
    return Rule(path, kinds[shape], scope.file, line, params, dynamic, key, value, bodies, scope, _span(spec), assigned)


def _body(body: Node) -> Body:
    assign = body.get("assign")
    statements = tuple(body["query"]["stmts"])
    return Body(assign["value"] if assign else None, statements, _span(body), _span(assign) if assign else (0, 0))


def _span(node: Node) -> tuple[int, int]:
    return int(node["span"]["start"]), int(node["span"]["end"])


def _head(node: Node, scope: Scope) -> tuple[Path, tuple[Node, ...]]:
    """The static place of a rule and whatever of its head's reference is not static."""
    base, parts = flatten(node)
    static = [str(variable(base))]
    for index, part in enumerate(parts):
        if not isinstance(part, str):
            return (*scope.package, *static), tuple(rest for rest in parts[index:] if not isinstance(rest, str))
        static.append(part)
    return (*scope.package, *static), ()


def _only(node: Node, file: str) -> tuple[str, Node]:
    """The kind of a node and its content."""
    if len(node) != 1:
        raise PolicyRefused(f"{file}: a syntax node with {len(node)} kinds is not understood")
    kind, content = next(iter(node.items()))
    return kind, content


def expression(node: Node, file: str) -> tuple[str, Node]:
    kind, content = _only(node, file)
    if kind not in _EXPRESSIONS:
        raise PolicyRefused(f"{file}:{line_of(content)}: an expression of kind {kind} is not understood")
    return kind, content


def literal(statement: Node, file: str) -> tuple[str, Node]:
    kind, content = _only(statement["literal"], file)
    if kind not in _LITERALS:
        raise PolicyRefused(f"{file}:{line_of(content)}: a statement of kind {kind} is not understood")
    return kind, content


def is_scalar(kind: str) -> bool:
    return kind in _SCALARS


def variable(node: Node) -> str | None:
    """The name, where the expression is a bare variable."""
    found = node.get("Var")
    return str(found["value"]) if found is not None else None


def text_of(node: Node) -> str | None:
    """The text, where the expression is a string."""
    found = node.get("String") or node.get("RawString")
    return str(found["value"]) if found is not None else None


def flatten(node: Node) -> tuple[Node, list[str | Node]]:
    """A reference as its base and its parts: `a.b["c"][x]` is (`a`, ["b", "c", x])."""
    parts: list[str | Node] = []
    while True:
        if "RefDot" in node:
            content = node["RefDot"]
            parts.append(str(content["field"][1]))
        elif "RefBrack" in node:
            content = node["RefBrack"]
            text = text_of(content["index"])
            parts.append(content["index"] if text is None else text)
        else:
            return node, parts[::-1]
        node = content["refr"]


def line_of(node: Node | None) -> int:
    """The line an expression, statement or rule begins in, 0 where it is not known."""
    if not node:
        return 0
    span = node.get("span")
    if span is None and len(node) == 1:
        inner = next(iter(node.values()))
        span = inner.get("span") if isinstance(inner, dict) else None
    return int(span["line"]) if span else 0


def children(kind: str, content: Node) -> Iterator[Node]:
    """The expressions directly below one that is neither scalar, variable, reference, call nor comprehension."""
    if kind in ("Array", "Set"):
        yield from content["items"]
    elif kind == "Object":
        for _, key, value in content["fields"]:
            yield key
            yield value
    elif kind == "UnaryExpr":
        yield content["expr"]
    elif kind == "Membership":
        yield from (part for part in (content["key"], content["value"], content["collection"]) if part)
    elif kind in ("BinExpr", "BoolExpr", "ArithExpr", "AssignExpr"):
        yield content["lhs"]
        yield content["rhs"]


def target(scope: Scope, parts: Sequence[str], known: frozenset[Path]) -> Path | None:
    """What a dotted name means: a full path from `input` or `data`, or None for a local variable or a builtin.

    `known` are the paths of all rules: a name that begins one of this package's rules is that rule.
    """
    first = parts[0]
    if first in ("input", "data"):
        return tuple(parts)
    alias = scope.aliases.get(first)
    if alias is not None:
        return (*alias, *parts[1:])
    place = (*scope.package, first)
    if any(path[: len(place)] == place for path in known):
        return ("data", *scope.package, *parts)
    return None


def visit_rule(rule: Rule) -> Iterator[tuple[str, Node]]:
    """Every expression of a rule, outermost first, as (kind, content). References and calls come whole; what is
    negated comes once more before itself, as NotExpr, and so does an Every."""
    for node in (*rule.params, *rule.dynamic, rule.key, rule.value):
        if node is not None:
            yield from visit(node, rule.file)
    for body in rule.bodies:
        if body.value is not None:
            yield from visit(body.value, rule.file)
        yield from visit_statements(body.statements, rule.file)


def visit(node: Node, file: str) -> Iterator[tuple[str, Node]]:
    kind, content = expression(node, file)
    yield kind, content
    if is_scalar(kind) or kind == "Var":
        return
    if kind in ("RefDot", "RefBrack"):
        base, parts = flatten(node)
        if variable(base) is None:
            yield from visit(base, file)
        for part in parts:
            if not isinstance(part, str):
                yield from visit(part, file)
    elif kind == "Call":
        for part in content["params"]:
            yield from visit(part, file)
    elif kind in ("ArrayCompr", "SetCompr", "ObjectCompr"):
        for name in ("term", "key", "value"):
            if name in content:
                yield from visit(content[name], file)
        yield from visit_statements(content["query"]["stmts"], file)
    else:
        for part in children(kind, content):
            yield from visit(part, file)


def visit_statements(statements: Sequence[Node], file: str) -> Iterator[tuple[str, Node]]:
    for statement in statements:
        kind, content = literal(statement, file)
        if kind in ("NotExpr", "Every"):
            yield kind, content
        if kind in ("Expr", "NotExpr"):
            yield from visit(content["expr"], file)
        elif kind == "SomeIn":
            for name in ("key", "value", "collection"):
                if content[name] is not None:
                    yield from visit(content[name], file)
        elif kind == "Every":
            yield from visit(content["domain"], file)
            yield from visit_statements(content["query"]["stmts"], file)
        for modifier in statement.get("with_mods") or ():
            yield from visit(modifier["refr"], file)
            yield from visit(modifier["as"], file)


def reference(kind: str, content: Node) -> tuple[list[str], list[str | Node]] | None:
    """A variable or reference as (its static names from the base on, all parts behind the base); None for the rest."""
    if kind == "Var":
        return [str(content["value"])], []
    if kind not in ("RefDot", "RefBrack"):
        return None
    base, parts = flatten({kind: content})
    name = variable(base)
    if name is None:
        return None
    static = [name]
    for part in parts:
        if not isinstance(part, str):
            break
        static.append(part)
    return static, parts


def callee(content: Node, file: str) -> list[str]:
    """The dotted name that is called."""
    base, parts = flatten(content["fcn"])
    name = variable(base)
    if name is None or not all(isinstance(part, str) for part in parts):
        raise PolicyRefused(f"{file}:{line_of(content)}: a call of something that is not a name")
    return [name, *(part for part in parts if isinstance(part, str))]
