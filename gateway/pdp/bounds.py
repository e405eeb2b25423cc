"""Whether a policy's work is bounded by the size of what it is given, read from its syntax tree.

The engine cannot be interrupted and holds the interpreter, so only bounded policies may run in the gateway's process.
The rule: what is not seen to be bounded is not. Bounded means: at most one loop over the open part of the input
(arguments and whatever has no size of its own) with nothing looped or searched inside or around it, or at most
three nested loops over small things (the caller's roles, the policy's data); no builtin whose work its arguments
decide; no format made from input; no `with`, which evaluates rules again; no functions that call functions so often
that their work multiplies. Literals count for nothing: their length is in the text.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from gateway.pdp.builtins import CHEAP, UNBOUNDED
from gateway.pdp.checks import touched
from gateway.pdp.loops import FIXED, Loops, Nest, Shape, Size, nested, over
from gateway.pdp.syntax import (
    Body,
    Node,
    Path,
    Rule,
    callee,
    children,
    expression,
    flatten,
    is_scalar,
    line_of,
    literal,
    target,
    variable,
    visit_rule,
)

WORK = 50_000  # expressions; about 20 ms

_SMALL_INPUT: tuple[Path, ...] = (
    ("subject",), ("action",), ("resource", "type"), ("resource", "id"), ("resource", "properties", "route"),
    ("resource", "properties", "upstream"), ("resource", "properties", "digest"), ("context", "request"),
    ("context", "time"), ("context", "listing"), ("context", "direction"), ("context", "session"),
    ("context", "trace_id"), ("context", "budget"),
)  # fmt: skip


def unbounded_because(rules: Sequence[Rule]) -> tuple[str, ...]:
    """Why a policy must be evaluated where it can be killed; empty when it is bounded. One line per cause."""
    judge = _Judge(rules)
    for rule in sorted(rules, key=lambda rule: rule.kind == "function"):
        if rule.path not in judge.called:
            judge.rule(rule, (Size.OPEN,) * len(rule.params))
    if _work(rules) > WORK:
        judge.causes.append(f"functions call functions more than {WORK} times for one decision")
    return tuple(dict.fromkeys(judge.causes))


def _work(rules: Sequence[Rule]) -> int:
    """Expressions evaluated if every rule is asked once and every call runs its function, loops not counted."""
    by_path: dict[Path, list[Rule]] = {}
    for rule in rules:
        by_path.setdefault(rule.path, []).append(rule)
    known, sums = frozenset(by_path), dict[Path, int]()

    def of(path: Path) -> int:
        if path not in sums:
            sums[path] = sum(one(rule) for rule in by_path.get(path, ()))
        return sums[path]

    def one(rule: Rule) -> int:
        count = 0
        for kind, content in visit_rule(rule):
            place = target(rule.scope, callee(content, rule.file), known) if kind == "Call" else None
            count += 1 + (of(place[1:]) if place is not None else 0)
        return count

    return sum(of(path) for path, found in by_path.items() if found[0].kind != "function")


class _Judge:
    """Walks rules with the sizes of what they are given. Terminates because recursion was refused before."""

    def __init__(self, rules: Sequence[Rule]) -> None:
        self._by_path: dict[Path, list[Rule]] = {}
        for rule in rules:
            self._by_path.setdefault(rule.path, []).append(rule)
        self._known = frozenset(self._by_path)
        self._functions: dict[tuple[Path, tuple[Size, ...]], Shape] = {}
        self._values: dict[Path, Size] = {}
        self.called: set[Path] = set()
        self.causes: list[str] = []

    def rule(self, rule: Rule, sizes: tuple[Size, ...]) -> Shape:
        """The shape of one rule (as one body of its function) given the sizes of its parameters."""
        shape = FIXED
        for body in rule.bodies or (Body(None, ()),):
            names: dict[str, Size] = {}
            for param, size in zip(rule.params, sizes, strict=True):
                _bind(param, size, names)
            shape = shape.also(self._alternative(rule, body, names))
        if not shape.loops.bounded:
            self._say(rule, None, f"rule {rule.name} nests loops over {_nested_over(shape.loops)}")
        return shape

    def _alternative(self, rule: Rule, body: Body, names: dict[str, Size]) -> Shape:
        loops = self._statements(rule, body.statements, names)
        value = FIXED
        for node in (*rule.dynamic, rule.key, body.value if body.value is not None else rule.value):
            if node is not None:
                value = value.also(self._expression(rule, node, names))
        several = max(value.size, loops.size)
        return Shape(several if rule.kind == "set" or rule.dynamic else value.size, loops.around(value.loops))

    def _statements(self, rule: Rule, statements: Sequence[Node], names: dict[str, Size]) -> Loops:
        """Loops of statements that must hold together nest, in whatever order the engine takes them; those within one
        statement are over before the next. What is looped over is made once, outside its own loop."""
        going_on: list[Loops] = []
        within: list[tuple[int, Loops]] = []
        for statement in statements:
            kind, content = literal(statement, rule.file)
            for modifier in statement.get("with_mods") or ():
                self._say(rule, modifier, "`with` evaluates rules again")
            if kind == "SomeIn":
                found = self._expression(rule, content["collection"], names)
                within.append((len(going_on), found.loops))
                going_on.append(over(_length(content["collection"], found.size)))
                for part in (content["key"], content["value"]):
                    if part is not None:
                        _bind(part, found.size.member, names)
            elif kind == "Every":
                within.append((-1, self._every(rule, content, names)))
            elif kind == "SomeVars":
                for span in content["vars"]:
                    names.pop(rule.scope.spanned(span), None)
            elif kind == "Expr":
                more, once = self._plain(rule, content["expr"], names)
                going_on.append(more)
                within.append((-1, once))
            else:
                more, once = self._plain(rule, content["expr"], dict(names))
                within.append((-1, more.around(once)))
        return nested(going_on, within)

    def _every(self, rule: Rule, content: Node, names: Mapping[str, Size]) -> Loops:
        found = self._expression(rule, content["domain"], names)
        inner = dict(names)
        for span in (content["key"], content["value"]):
            if span is not None:
                inner[rule.scope.spanned(span)] = found.size.member
        loops = over(_length(content["domain"], found.size)).around(
            self._statements(rule, content["query"]["stmts"], inner)
        )
        return found.loops.beside(loops)

    def _plain(self, rule: Rule, node: Node, names: dict[str, Size]) -> tuple[Loops, Loops]:
        """A statement that is an expression: the loops that go on into later statements, and those that do not."""
        direct = Loops()
        for size in self._iterations(rule, node, names):
            direct = direct.around(over(size))
        kind, content = expression(node, rule.file)
        if kind == "AssignExpr":
            right = self._expression(rule, content["rhs"], names)
            left = self._expression(rule, content["lhs"], names)
            size = max(right.size, left.size) if content["op"] == "Eq" else right.size
            _bind(content["lhs"], size, names)
            if content["op"] == "Eq":
                _bind(content["rhs"], size, names)
            return direct, right.loops.beside(left.loops)
        return direct, self._expression(rule, node, names).loops

    def _iterations(self, rule: Rule, node: Node, names: dict[str, Size]) -> Iterator[Size]:
        """References with an unbound variable as index, anywhere in the expression: each loops, and binds it."""
        kind, content = expression(node, rule.file)
        if kind in ("RefDot", "RefBrack"):
            base, parts = flatten(node)
            size = self._base(rule, base, parts, names)
            for part in parts:
                if isinstance(part, str):
                    continue
                if self._unbound(rule, part, names):
                    yield size
                    _bind(part, size.member, names)
                else:
                    yield from self._iterations(rule, part, names)
            if variable(base) is None:
                yield from self._iterations(rule, base, names)
        elif kind == "Call":
            for part in content["params"]:
                yield from self._iterations(rule, part, names)
        elif not is_scalar(kind) and kind != "Var" and not kind.endswith("Compr"):
            for part in children(kind, content):
                yield from self._iterations(rule, part, names)

    def _expression(self, rule: Rule, node: Node, names: Mapping[str, Size]) -> Shape:
        kind, content = expression(node, rule.file)
        if is_scalar(kind):
            return FIXED
        if kind in ("Var", "RefDot", "RefBrack"):
            base, parts = flatten(node)
            shape = Shape(self._base(rule, base, parts, names))
            for part in parts:
                if not isinstance(part, str) and not self._unbound(rule, part, names):
                    shape = Shape(shape.size, shape.loops.beside(self._expression(rule, part, names).loops))
            return shape if variable(base) is not None else shape.also(self._expression(rule, base, names))
        if kind == "Call":
            return self._call(rule, content, names)
        if kind.endswith("Compr"):
            inner = dict(names)
            loops = self._statements(rule, content["query"]["stmts"], inner)
            shape = Shape(loops.size)
            for name in ("term", "key", "value"):
                if name in content:
                    shape = shape.also(self._expression(rule, content[name], inner))
            return Shape(shape.size, loops.around(shape.loops))
        shape = FIXED
        for part in children(kind, content):
            shape = shape.also(self._expression(rule, part, names))
        if kind == "Membership":  # looks at each member in turn
            size = _length(content["collection"], self._expression(rule, content["collection"], names).size)
            shape = Shape(Size.FIXED, shape.loops.beside(over(size)))
        return shape

    def _call(self, rule: Rule, call: Node, names: Mapping[str, Size]) -> Shape:
        shapes = [self._expression(rule, part, names) for part in call["params"]]
        given = FIXED
        for shape in shapes:
            given = given.also(shape)
        dotted = callee(call, rule.file)
        place = target(rule.scope, dotted, self._known)
        if place is None:
            return Shape(given.size, self._builtin(rule, ".".join(dotted), call, shapes, given.loops))
        made = self._function(place[1:], tuple(shape.size for shape in shapes))
        return Shape(max(made.size, Size.FIXED), given.loops.beside(made.loops))

    def _builtin(self, rule: Rule, name: str, call: Node, shapes: Sequence[Shape], loops: Loops) -> Loops:
        if name in UNBOUNDED:
            self._say(rule, call, f"builtin {name} {UNBOUNDED[name]}")
        if name == "sprintf" and shapes and shapes[0].size >= Size.CALLER:
            self._say(rule, call, "builtin sprintf is given a format made from input, which may ask for any width")
        searches = name not in CHEAP and any(shape.size is Size.OPEN for shape in shapes)
        return loops.beside(Loops(frozenset({Nest(search=1)}))) if searches else loops

    def _function(self, path: Path, sizes: tuple[Size, ...]) -> Shape:
        self.called.add(path)
        found = self._functions.get((path, sizes))
        if found is None:
            found = FIXED
            for rule in self._by_path[path]:
                count = len(rule.params)
                found = found.also(self.rule(rule, (*sizes, Size.OPEN)[:count]))
            self._functions[path, sizes] = found
        return found

    def _base(self, rule: Rule, base: Node, parts: Sequence[str | Node], names: Mapping[str, Size]) -> Size:
        """How much a reference may lead to."""
        name = variable(base)
        if name is None:
            return self._expression(rule, base, names).size
        if name in names:
            return names[name]
        static = [name]
        for part in parts:
            if not isinstance(part, str):
                break
            static.append(part)
        place = target(rule.scope, static, self._known)
        if place is None:
            return Size.OPEN  # a variable that some later statement binds
        if place[0] == "input":
            return Size.CALLER if any(place[1 : 1 + len(small)] == small for small in _SMALL_INPUT) else Size.OPEN
        found = Size.DATA
        for path in touched(place[1:], self._known):
            found = max(found, self._value(path))
        return found

    def _value(self, path: Path) -> Size:
        """The size of what a rule answers."""
        if path not in self._values:
            self._values[path] = Size.OPEN  # while it is being found out
            rules = self._by_path[path]
            sizes = [self.rule(rule, (Size.OPEN,) * len(rule.params)).size for rule in rules]
            self._values[path] = max(sizes)
        return self._values[path]

    def _unbound(self, rule: Rule, node: Node, names: Mapping[str, Size]) -> bool:
        """Whether an index is a variable that nothing has given a value yet: then it takes every key in turn."""
        name = variable(node)
        return name is not None and name not in names and target(rule.scope, (name,), self._known) is None

    def _say(self, rule: Rule, node: Node | None, text: str) -> None:
        self.causes.append(f"{rule.file}:{line_of(node) or rule.line}: {text}")


def _nested_over(loops: Loops) -> str:
    worst = max(loops.nests, key=lambda nest: (nest.open, nest.search, nest.small))
    return "the open part of the input" if worst.open else "the caller's roles or the policy's data"


def _length(node: Node, size: Size) -> Size:
    """How often a loop over an expression runs: a literal has the length it is written with, whatever is in it."""
    return Size.FIXED if next(iter(node)) in ("Array", "Set", "Object") else size


def _bind(pattern: Node, size: Size, names: dict[str, Size]) -> None:
    """Gives every variable of a pattern the size of what it is taken from."""
    name = variable(pattern)
    if name is not None:
        if name != "_":
            names[name] = max(names.get(name, size), size)
        return
    kind, content = next(iter(pattern.items()))
    if kind in ("Array", "Set", "Object"):
        for part in children(kind, content):
            _bind(part, size, names)
