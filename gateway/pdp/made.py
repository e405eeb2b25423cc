"""Which of a policy's rules made an answer: the very alternatives that held, with their text.

The rule it keeps: nothing is guessed. Whether an alternative held is found by asking the engine a policy in which that
alternative alone has another value: if the rule's answer is that value now, or two answers are in conflict, it held.
For people only: it compiles a policy for each question, in a process of its own (why_child.py).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

import orjson

from gateway.core.canonical import Json
from gateway.pdp.checks import ENTRY, used
from gateway.pdp.compiled import Compiled, new_engine
from gateway.pdp.sources import Module
from gateway.pdp.syntax import Body, Node, Path, PolicyRefused, Rule

_MARK = "\u0001 held"  # no policy answers this
UNDEFINED = '"<undefined>"'
RULES = 8  # shown of those that made an answer, from the decision inwards
PROBES = 80  # policies compiled to find them


@dataclass(frozen=True, slots=True)
class Maker:
    """One alternative that held. `default`: none did, and this is the rule's default. `text` is as it stands."""

    name: str
    file: str
    line: int
    text: str
    default: bool


class Makers:
    """Finds them. `values` are the answers of all rules without arguments, by path; a rule that is undefined is none of
    them. `late` tells when to stop."""

    def __init__(self, policy: Compiled, document: str, values: Mapping[Path, Json], late: Callable[[], bool]) -> None:
        self._policy = policy
        self._document = document
        self._values = values
        self._late = late
        self._probes = 0
        self._known = frozenset(rule.path for rule in policy.rules)

    def of(self, answer: Json) -> list[Maker]:
        """From the decision inwards: the rules whose answers are in the decision's."""
        wanted, found, path = _parts(answer), list[Maker](), [ENTRY]
        seen: set[Path] = set()
        while path and len(found) < RULES and not self._late():
            place = path.pop(0)
            if place in seen:
                continue
            seen.add(place)
            rules = [rule for rule in self._policy.rules if rule.path == place]
            maker = self._held(rules)
            if maker is not None:
                found.append(maker)
                wanted += _parts(self._values.get(place))
            for rule in rules:
                path += [place for place in sorted(used(rule, self._known)) if self._values.get(place) in wanted]
        return found

    def _held(self, rules: Iterable[Rule]) -> Maker | None:
        default: Rule | None = None
        for rule in rules:
            if rule.kind == "default":
                default = rule
            elif rule.kind == "complete" and not rule.params and not rule.dynamic:
                for body in rule.bodies or (Body(None, (), rule.span),):
                    if self._holds(rule, body):
                        return _maker(rule, body, default=False)
        return _maker(default, None, default=True) if default is not None else None

    def _holds(self, rule: Rule, body: Body) -> bool:
        if self._probes >= PROBES or self._late():
            return False
        self._probes += 1
        text = _marked(rule, body)
        try:
            modules = [Module(item.path, text if item.path == rule.file else item.text) for item in self._modules]
            engine = new_engine(modules, self._policy.source.data)
            engine.set_input_json(self._document)
            answer: str = engine.eval_rule_as_json("data." + ".".join(rule.path))
        except PolicyRefused:
            return False  # the marker is not understood there: nothing is said of this alternative
        except RuntimeError as error:
            return "conflict" in str(error)  # another one holds as well
        return answer != UNDEFINED and bool(orjson.loads(answer) == _MARK)

    @property
    def _modules(self) -> tuple[Module, ...]:
        return self._policy.source.modules


def _marked(rule: Rule, body: Body) -> str:
    """The file in which this alternative has the marker for its value."""
    text = rule.scope.text
    start, end = body.assigned if body.value is not None else rule.assigned
    if body.value is None and _is_else(rule, body):
        start = end = body.span[0] + len(b"else")
    return (text[:start] + b" := " + orjson.dumps(_MARK) + text[end:]).decode("utf-8")


def _is_else(rule: Rule, body: Body) -> bool:
    return bool(rule.bodies) and body is not rule.bodies[0] and rule.scope.text[body.span[0] :].startswith(b"else")


def _maker(rule: Rule, body: Body | None, *, default: bool) -> Maker:
    text = rule.scope.text
    start, end = rule.span
    if body is not None and body.span != rule.span:
        start, end = (body.span[0] if _is_else(rule, body) else start), body.span[1]
    line = text.count(b"\n", 0, start) + 1
    return Maker(".".join(rule.path), rule.file, line, text[start:end].decode("utf-8").rstrip(), default)


def _parts(value: Json) -> list[Json]:
    """The value and what it is made of, without what every answer has: true, false, nothing."""
    found: list[Json] = []
    if isinstance(value, dict):
        for item in value.values():
            found += _parts(item)
    return [*found, value] if value not in (None, True, False, "", 0, 1) else found


def literals(rules: Iterable[Rule], wanted: Callable[[int], bool], file: str) -> list[Json]:
    """The texts, numbers and truths that stand in the lines of a file that are wanted, in order."""
    found: list[Json] = []
    for rule in rules:
        if rule.file == file:
            nodes: list[Node] = [node for node in (rule.value, rule.key) if node is not None]
            nodes += [node for body in rule.bodies for node in (body.value, *body.statements) if node is not None]
            for node in nodes:
                found += _scalars(node, wanted)
    return found


def _scalars(node: object, wanted: Callable[[int], bool]) -> list[Json]:
    found: list[Json] = []
    if isinstance(node, list):
        for item in node:
            found += _scalars(item, wanted)
    elif isinstance(node, dict):
        for kind, content in node.items():
            if kind in ("String", "RawString", "Number", "Bool") and isinstance(content, dict):
                if wanted(content["span"]["line"]):
                    found.append(content["value"])
            else:
                found += _scalars(content, wanted)
    return found
