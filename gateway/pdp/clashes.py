"""Where two things of a policy have one name or one place, and which of them counts is not said.

OPA refuses most of these, or takes the other of the two, so they are refused when a policy is loaded:
1. A rule has one default, and it is a plain value: nothing in it is looked up, called or computed.
2. A rule does not have two values at once, each without a condition.
3. An import does not have the name of a rule of its package: OPA takes the import, the engine takes the rule.
4. No argument and no variable is called `input` or `data`.
5. An object's members have different names. One whose name is computed stands alone: OPA and the engine keep another of
   two that come out the same.
"""

from __future__ import annotations

import json
from collections.abc import Sequence

from gateway.pdp.syntax import Node, Path, Rule, children, expression, is_scalar, visit, visit_rule

_ROOTS = ("input", "data")


def check_clashes(rules: Sequence[Rule]) -> None:
    """Raises PolicyRefused."""
    known = frozenset(rule.path for rule in rules)
    defaults: dict[Path, Rule] = {}
    values: dict[Path, tuple[Rule, str]] = {}
    for rule in rules:
        _check_default(rule, defaults)
        _check_value(rule, values)
        _check_imports(rule, known)
        _check_variables(rule)
        for kind, content in visit_rule(rule):
            if kind == "Object":
                _check_members(rule, content)


def _check_default(rule: Rule, defaults: dict[Path, Rule]) -> None:
    """1."""
    if rule.kind != "default" or rule.value is None:
        return
    first = defaults.setdefault(rule.path, rule)
    if first is not rule:
        raise rule.refuse(f"has another default at {first.file}:{first.line}; take one of them out")
    for kind, _ in visit(rule.value, rule.file):
        if kind.endswith("Compr"):
            return
        if kind in ("Var", "RefDot", "RefBrack", "Call", "BinExpr", "BoolExpr", "ArithExpr", "Membership"):
            raise rule.refuse("a default is a plain value; give the rule an `else` for what has to be looked up")


def _check_value(rule: Rule, values: dict[Path, tuple[Rule, str]]) -> None:
    """2."""
    if rule.kind != "complete" or rule.params or rule.dynamic or any(body.statements for body in rule.bodies):
        return
    value = rule.bodies[0].value if rule.bodies and rule.bodies[0].value is not None else rule.value
    kind, content = expression(value, rule.file) if value is not None else ("Bool", {"value": True})
    if not is_scalar(kind):
        return
    first, text = values.setdefault(rule.path, (rule, json.dumps(content["value"])))
    if text != json.dumps(content["value"]):
        raise rule.refuse(
            f"has another value at {first.file}:{first.line}, and neither has a condition; give them one (if ...)"
        )


def _check_imports(rule: Rule, known: frozenset[Path]) -> None:
    """3."""
    for name, path in rule.scope.aliases.items():
        place = (*rule.scope.package, name)
        if path != ("data", *place) and any(other[: len(place)] == place for other in known):
            raise rule.refuse(
                f"this file imports {'.'.join(path)} under the name of a rule, {name}; import it `as` another"
            )


def _check_variables(rule: Rule) -> None:
    """4. What the engine refuses itself (`:=`, comprehensions) is not asked again."""
    for param in rule.params:
        for kind, content in visit(param, rule.file):
            if kind == "Var" and content["value"] in _ROOTS:
                raise rule.refuse(f"an argument is called {content['value']}; give it another name", param)
    for kind, content in visit_rule(rule):
        if kind == "Every":
            for part in (content.get("key"), content.get("value")):
                name = rule.scope.spanned(part) if part else ""
                if name in _ROOTS:
                    raise rule.refuse(f"a variable is called {name}; give it another name", content["domain"])


def _check_members(rule: Rule, literal: Node) -> None:
    """5."""
    seen: set[str] = set()
    for _, key, _ in literal["fields"]:
        name = _constant(rule, key)
        if name is None:
            if len(literal["fields"]) > 1:
                raise rule.refuse(
                    "an object has a computed name beside others, and OPA keeps another of two that come out the same; "
                    "join two objects (object.union)",
                    key,
                )
            continue
        if name in seen:
            raise rule.refuse(f"an object has the member {name} twice", key)
        seen.add(name)


def _constant(rule: Rule, node: Node) -> str | None:
    """A text that only the same value has, None for what is not written out."""
    kind, content = expression(node, rule.file)
    if is_scalar(kind):
        return json.dumps(content["value"])
    if kind not in ("Array", "Set", "Object"):
        return None
    parts = [_constant(rule, part) for part in children(kind, content)]
    return None if None in parts else f"{kind}({', '.join(str(part) for part in parts)})"
