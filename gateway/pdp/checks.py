"""What is refused when a policy is loaded, so that nothing surprising is left for the first request.

1. Every file's package is `tollgate` or below it: a rule under a misspelt package would silently not apply.
2. `data.tollgate.decision` is one complete rule.
3. Every builtin is allowed (builtins.py), every other called name is a function of the policy with as many arguments.
4. No rule takes a builtin's name. 5. A set rule's head has no variable part: the engine answers references into such
sets otherwise than OPA. 6. `walk` is called with a pattern: its one-argument form answers otherwise than OPA.
7. Nothing is recursive: a recursive function overflows the stack and ends the process.
8. A rule has one kind: complete, set or function.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence

from gateway.pdp.builtins import ALLOWED, REFUSED, why_refused
from gateway.pdp.patterns import wrong_with
from gateway.pdp.syntax import Node, Path, PolicyRefused, Rule, callee, reference, target, visit_rule

PACKAGE = "tollgate"
ENTRY: Path = (PACKAGE, "decision")


def check_language(rules: Sequence[Rule]) -> None:
    """Rules 3 to 8: whatever the package, this policy means here what it means to OPA. Raises PolicyRefused."""
    known = frozenset(rule.path for rule in rules)
    arity: dict[Path, int] = {rule.path: len(rule.params) for rule in rules if rule.kind == "function"}
    kinds: dict[Path, str] = {}
    for rule in rules:
        _check_head(rule, kinds)
        for kind, content in visit_rule(rule):
            if kind == "Call":
                _check_call(rule, content, known, arity)
    _check_recursion(rules, known)


def check_entry(rules: Sequence[Rule], files: Iterable[tuple[str, Path]]) -> None:
    """Rules 1 and 2. `files` are all modules with their packages, those without rules too."""
    for file, package in files:
        if package[:1] != (PACKAGE,):
            raise PolicyRefused(
                f"{file}:1: package {'.'.join(package)} is never asked; call it {PACKAGE} or {PACKAGE}.<something>"
            )
    entries = [rule for rule in rules if rule.path == ENTRY]
    if not entries:
        raise PolicyRefused(
            f"no file has the rule {ENTRY[1]} in package {PACKAGE}: nothing would answer{_instead(rules)}"
        )
    for rule in entries:
        function = bool(rule.params)
        if rule.kind not in ("complete", "default") or rule.dynamic or function:
            raise rule.refuse("the decision must be a complete rule, neither a set nor a function")


def _instead(rules: Sequence[Rule]) -> str:
    """What there is that may have been meant for the decision."""
    for rule in rules:
        place = f"{rule.file}:{rule.line}"
        if rule.path[:2] == ENTRY:
            return f"; {'.'.join(rule.path)} ({place}) is a member of it: write one rule with the whole object"
        if rule.path[-1] == ENTRY[1]:
            return f"; {'.'.join(rule.path)} ({place}) is in a package below: nobody asks it but rules of yours"
        if rule.path[-1] in ("allow", "authz", "main"):
            return f"; there is {rule.name} ({place}): call it {ENTRY[1]}, or add `{ENTRY[1]} := {rule.name}`"
    return ""


def _check_head(rule: Rule, kinds: dict[Path, str]) -> None:
    if rule.name in ALLOWED or rule.name in REFUSED:
        raise rule.refuse("has the name of a builtin; call it something else")  # 4
    if rule.kind == "set" and rule.dynamic:
        raise rule.refuse(
            "a set rule with a variable in its name answers otherwise than in OPA; use an object rule"
        )  # 5
    kind = "function" if rule.params else ("complete" if rule.kind == "default" else rule.kind)
    first = kinds.setdefault(rule.path, kind)
    if first != kind:
        raise rule.refuse(f"is a {kind} rule here and a {first} rule elsewhere")  # 8


def _check_call(rule: Rule, call: Node, known: frozenset[Path], arity: Mapping[Path, int]) -> None:
    names = callee(call, rule.file)
    dotted, given = ".".join(names), len(call["params"])
    place = target(rule.scope, names, known)
    if place is None:
        reason = why_refused(dotted)
        if reason is not None:
            raise rule.refuse(f"builtin {dotted}: {reason}", call)  # 3
        wrong = wrong_with(dotted, call["params"])
        if wrong is not None:
            raise rule.refuse(f"builtin {dotted}: {wrong}", call)  # 3
        if dotted == "walk" and given < 2:
            raise rule.refuse(
                "builtin walk: call it as walk(x, [path, value]); the other form answers otherwise", call
            )  # 6
        return
    wanted = arity.get(place[1:])
    if place[0] != "data" or wanted is None:
        raise rule.refuse(f"{dotted} is called but is no function of this policy", call)
    if given not in (wanted, wanted + 1):  # one more: the answer is unified with the last
        raise rule.refuse(f"{dotted} takes {wanted} arguments, {given} are given", call)


def _check_recursion(rules: Sequence[Rule], known: frozenset[Path]) -> None:
    edges: dict[Path, set[Path]] = defaultdict(set)
    first: dict[Path, Rule] = {}
    for rule in rules:
        first.setdefault(rule.path, rule)
        for place in used(rule, known):
            edges[rule.path].update(touched(place, known))
    done: set[Path] = set()
    for start in first:
        _walk(start, edges, done, [], first)


def _walk(
    at: Path, edges: Mapping[Path, set[Path]], done: set[Path], trail: list[Path], first: Mapping[Path, Rule]
) -> None:
    if at in done:
        return
    if at in trail:
        names = " -> ".join(".".join(path) for path in (*trail[trail.index(at) :], at))
        raise first[at].refuse(f"is recursive ({names})")  # 7
    if len(trail) > 200:
        raise first[at].refuse("rules call rules more than 200 levels deep")
    trail.append(at)
    for following in sorted(edges.get(at, ())):
        _walk(following, edges, done, trail, first)
    trail.pop()
    done.add(at)


def used(rule: Rule, known: frozenset[Path]) -> set[Path]:
    """The static places below `data` that a rule refers to or calls."""
    found: set[Path] = set()
    for kind, content in visit_rule(rule):
        names = callee(content, rule.file) if kind == "Call" else (reference(kind, content) or ([], []))[0]
        place = target(rule.scope, names, known) if names else None
        if place is not None and place[0] == "data":
            found.add(place[1:])
    return found


def touched(place: Path, known: frozenset[Path]) -> set[Path]:
    """The rules that a reference to `place` may evaluate: those on its way and those below it."""
    return {path for path in known if path[: len(place)] == place or place[: len(path)] == path}
