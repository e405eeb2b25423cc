"""Where the engine evaluates otherwise than OPA, without an error: such policies are refused when they are loaded.

Each of these was found by asking both the same. The rule: a construct that may answer otherwise is refused whole, and
the message says how to write it so that both agree.
1. What is negated is a reference, an equality of references, or made of values that are certain to be there. OPA takes
`not f(input.x)` for undefined when `input.x` is; the engine takes it for true, which may allow what OPA denies.
2. Within `every`, what is negated looks nothing up by a variable: the engine takes the whole for undefined.
3. Where a body loops, the head takes nothing from its variables that may be undefined (a member, a function's answer):
OPA leaves that turn out, the engine may leave out all, and with it every reason to deny.
4. Before an `else`, a value is not looked up by a variable of its body: the engine does so for every key. A function's
cannot be undefined there either: OPA goes on to the `else` then, the engine does not.
5. No set is compared by order: the engine puts sets before objects, OPA behind them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

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
    literal,
    reference,
    target,
    variable,
    visit,
    visit_rule,
    visit_statements,
)

_NEGATED = (
    "`not` stands before something with a part that may be undefined, where OPA answers otherwise; give the part a name"
    " first (x := ...), or make a rule of it and write `not rule`"
)
_IN_EVERY = (
    "`not` within `every` looks something up by a variable, where OPA answers otherwise; make a function of it and"
    " write `not f(x)`"
)
_IN_HEAD = (
    "the head takes something of a loop that may be undefined, where OPA answers otherwise; give it a name among the"
    " conditions (y := x.y)"
)


def check_fidelity(rules: Sequence[Rule]) -> None:
    """Raises PolicyRefused for a rule that OPA would evaluate otherwise."""
    known = frozenset(rule.path for rule in rules)
    sets = frozenset(rule.path for rule in rules if rule.kind == "set")
    for rule in rules:
        for kind, content in visit_rule(rule):
            if kind == "NotExpr" and not _may_be_negated(rule, content["expr"], known):
                raise rule.refuse(_NEGATED, content["expr"])  # 1
            if kind == "Every":
                _check_every(rule, content, known)
            elif kind == "BoolExpr" and content["op"] not in ("Eq", "Ne"):
                _check_order(rule, content, known, sets)
        for body in rule.bodies:
            _check_head(rule, body, known)
        for body in rule.bodies[:-1]:
            _check_before_else(rule, body, known)


def _check_every(rule: Rule, every: Node, known: frozenset[Path]) -> None:
    """2."""
    for kind, content in visit_statements(every["query"]["stmts"], rule.file):
        if kind == "NotExpr" and any(_indices(rule, content["expr"], known)):
            raise rule.refuse(_IN_EVERY, content["expr"])


def _check_head(rule: Rule, body: Body, known: frozenset[Path]) -> None:
    """3."""
    value = body.value if body.value is not None else rule.value
    head = [node for node in (*rule.dynamic, rule.key, value) if node is not None]
    if not _may_loop(rule, body, known) and not any(any(_indices(rule, node, known)) for node in head):
        return
    params = {name for param in rule.params for name in _variables(rule, param, known)}
    for node in head:
        for kind, content in visit(node, rule.file):
            whole = {kind: content}
            calls = kind == "Call" and target(rule.scope, callee(content, rule.file), known) is not None
            takes = kind in ("RefDot", "RefBrack")
            if (calls or takes) and not set(_variables(rule, whole, known)) <= params:
                raise rule.refuse(_IN_HEAD, whole)


def _may_loop(rule: Rule, body: Body, known: frozenset[Path]) -> bool:
    for statement in body.statements:
        kind, content = literal(statement, rule.file)
        if kind in ("SomeIn", "SomeVars"):
            return True
        if kind == "Expr" and (any(_indices(rule, content["expr"], known)) or _walks(rule, content["expr"])):
            return True
    return False


def _walks(rule: Rule, node: Node) -> bool:
    """Whether an expression gives its variables one value after the other without an index."""
    return any(kind == "Call" and callee(content, rule.file) == ["walk"] for kind, content in visit(node, rule.file))


def _may_be_negated(rule: Rule, node: Node, known: frozenset[Path]) -> bool:
    kind, content = expression(node, rule.file)
    if kind == "Call":
        return all(_is_certain(rule, part, known) for part in content["params"])
    if kind in ("BoolExpr", "AssignExpr") and content["op"] == "Eq":
        sides = (content["lhs"], content["rhs"])
        return all(_is_certain(rule, side, known) or _is_plain(rule, side, known) for side in sides)
    if kind in ("BoolExpr", "Membership"):
        return all(_is_certain(rule, part, known) for part in children(kind, content))
    return _is_certain(rule, node, known) or _is_plain(rule, node, known)


def _is_certain(rule: Rule, node: Node, known: frozenset[Path]) -> bool:
    """Whether a value is there whatever the input: a literal, a comprehension, a variable of this rule, or of such."""
    kind, content = expression(node, rule.file)
    if is_scalar(kind) or kind.endswith("Compr"):
        return True
    if kind == "Var":
        return target(rule.scope, (content["value"],), known) is None
    if kind in ("Array", "Set", "Object", "UnaryExpr"):
        return all(_is_certain(rule, part, known) for part in children(kind, content))
    return False


def _is_plain(rule: Rule, node: Node, known: frozenset[Path]) -> bool:
    """Whether an expression is a reference and nothing in it but the reference can be undefined."""
    base, parts = flatten(node)
    return variable(base) is not None and all(isinstance(part, str) or _is_certain(rule, part, known) for part in parts)


def _check_before_else(rule: Rule, body: Body, known: frozenset[Path]) -> None:
    """4."""
    value = body.value if body.value is not None else rule.value
    if value is None:
        return
    if rule.kind == "function" and not _is_definite(rule, value, known):
        raise rule.refuse("the value before an `else` may be undefined; make sure of it among the conditions", value)
    if any(_indices(rule, value, known)):
        raise rule.refuse("the value before an `else` is looked up by a variable; do so among the conditions", value)


def _variables(rule: Rule, node: Node, known: frozenset[Path]) -> Iterator[str]:
    """The variables of the rule's own in an expression."""
    for kind, content in visit(node, rule.file):
        names = (reference(kind, content) or ([], []))[0]
        if names and target(rule.scope, names[:1], known) is None:
            yield names[0]


def _indices(rule: Rule, node: Node, known: frozenset[Path]) -> Iterator[str]:
    """The variables of the rule's own that something in an expression is looked up by."""
    for kind, content in visit(node, rule.file):
        if kind in ("RefDot", "RefBrack"):
            _, parts = flatten({kind: content})
            for part in parts:
                if not isinstance(part, str):
                    yield from _variables(rule, part, known)


def _is_definite(rule: Rule, node: Node, known: frozenset[Path]) -> bool:
    """As certain, or made from such by operators and builtins, which answer or fail."""
    kind, content = expression(node, rule.file)
    if kind == "Call":
        builtin = target(rule.scope, callee(content, rule.file), known) is None
        return builtin and all(_is_definite(rule, part, known) for part in content["params"])
    if kind in ("Array", "Set", "Object", "UnaryExpr", "BinExpr", "BoolExpr", "ArithExpr", "Membership"):
        return all(_is_definite(rule, part, known) for part in children(kind, content))
    return _is_certain(rule, node, known)


def _check_order(rule: Rule, comparison: Node, known: frozenset[Path], sets: frozenset[Path]) -> None:
    """5."""
    for side in children("BoolExpr", comparison):
        kind, content = expression(side, rule.file)
        names = (reference(kind, content) or ([], []))[0]
        place = target(rule.scope, names, known) if names else None
        if kind in ("Set", "SetCompr") or (place is not None and place[1:] in sets):
            raise rule.refuse("a set is compared by order, which OPA does otherwise; compare count(...)", comparison)
