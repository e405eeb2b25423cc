"""Why a policy answered as it did: which rules made the answer, what they looked for, and what would have been allowed.

1. The policy is evaluated on the very input that was decided; where it answers otherwise than it did then, that is
said, and nothing else. 2. Of the input only what records have anyway is shown with its value; of arguments, headers and
queries only their types. 3. For people: it evaluates many times, in a process of its own (why_child.py), and never on
the way of a request.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

import orjson
import regorus  # type: ignore[import-untyped]  # it ships no stubs

from gateway.core.canonical import Json
from gateway.core.exchange import Decision
from gateway.pdp.answer import Reader
from gateway.pdp.checks import ENTRY
from gateway.pdp.compiled import Compiled, engine_text, new_engine
from gateway.pdp.looked import Look, Looked
from gateway.pdp.made import UNDEFINED, Maker, Makers
from gateway.pdp.nearest import Change, Nearest, Search
from gateway.pdp.shown import Names, hides, shown
from gateway.pdp.syntax import Path

_QUERY = "data." + ".".join(ENTRY)
TEXT_CHARACTERS = 4000  # of one rule


@dataclass(frozen=True, slots=True)
class Asked:
    """What was decided: the engine's input, and what came of it. `rule` None: whatever it was. `obligations`: those
    that this gateway fulfils."""

    given: bytes
    allow: bool | None
    rule: str | None
    obligations: frozenset[str]


def why(policy: Compiled, asked: Asked, late: Callable[[], bool]) -> dict[str, Json]:
    """The explanation as a document. Raises RuntimeError and ValueError for an input that is none."""
    document: dict[str, Json] = orjson.loads(asked.given)
    engine = new_engine(policy.source.modules, policy.source.data)
    engine.set_input_json(asked.given.decode())
    engine.set_enable_coverage(True)
    answer, error = _answer(engine, _QUERY)
    covered = _covered(engine.get_coverage_report_as_json())
    engine.set_enable_coverage(False)
    reader = Reader("embedded", policy.source.revision, asked.obligations)
    decision = _decision(reader, answer, error)
    if asked.allow not in (None, decision.allow) or asked.rule not in (None, decision.rule):  # 1
        return {"note": "The policy answers otherwise now than it did then: it depends on more than its input"}
    values = _values(engine, policy)
    makers = [] if error or answer == UNDEFINED else Makers(policy, asked.given.decode(), values, late).of(
        orjson.loads(answer)
    )  # fmt: skip
    look = Look(policy, document, values, covered)
    names = Names(document, "\n".join((orjson.dumps(policy.source.data).decode(), *_texts(policy))))
    looked = look.all()
    found: dict[str, Json] = {
        "made_by": [_maker(item) for item in makers],
        "reads": _once(_read(item, document, names) for item in looked if item.found and item.place[0] == "input"),
        "missing": list(dict.fromkeys(item.text(names.shows) for item in looked if not item.found)),
    }
    if error:
        found["error"] = error
    else:
        found["matched"] = bool(makers) and not makers[0].default
    if answer == UNDEFINED:
        found["undefined"] = True
    rule = _rule(decision, makers)
    if rule is not None:
        found["rule"] = rule
    if not decision.allow and not error:

        def allows(candidate: bytes) -> bool:
            engine.set_input_json(candidate.decode())
            return _decision(reader, *_answer(engine, _QUERY)).allow

        nearest = Search(policy, document, look, allows, late).nearest()
        found["nearest"] = [_change(item, policy, names) for item in nearest.changes]
        found["nearest_tried"] = nearest.tried
        found["nearest_note"] = _note(nearest)
    return found


def _answer(engine: regorus.Engine, rule: str) -> tuple[str, str]:
    try:
        return engine.eval_rule_as_json(rule), ""
    except RuntimeError as error:
        return "", engine_text(error)


def _decision(reader: Reader, answer: str, error: str) -> Decision:
    if error:
        return reader.fault("The policy could not be evaluated", f"error: {error}", 0.0)
    return reader.undefined(0.0) if answer == UNDEFINED else reader.read(orjson.loads(answer), 0.0)


def _values(engine: regorus.Engine, policy: Compiled) -> dict[Path, Json]:
    found: dict[Path, Json] = {}
    for path in dict.fromkeys(rule.path for rule in policy.rules if not rule.params and not rule.dynamic):
        answer, error = _answer(engine, "data." + ".".join(path))
        if not error and answer != UNDEFINED:
            found[path] = orjson.loads(answer)
    return found


def _covered(report: str) -> dict[str, frozenset[int]]:
    return {file["path"]: frozenset(file["covered"]) for file in orjson.loads(report)["files"]}


def _rule(decision: Decision, makers: list[Maker]) -> Json:
    """The rule that the decision names, where it stands: the innermost alternative that has its name in its text."""
    if not makers:
        return None
    named = [item for item in makers if decision.rule and f'"{decision.rule}"' in item.text]
    chosen = (named or [item for item in makers if item.name != makers[0].name] or makers)[0]
    return {"label": decision.rule, **_maker(chosen)} if decision.rule else _maker(chosen)


def _maker(item: Maker) -> dict[str, Json]:
    found: dict[str, Json] = {
        "name": item.name, "file": item.file, "line": item.line, "text": item.text[:TEXT_CHARACTERS],
    }  # fmt: skip
    return found | {"default": True} if item.default else found


def _texts(policy: Compiled) -> list[str]:
    return [module.text for module in policy.source.modules]


def _once(items: Iterable[dict[str, Json]]) -> list[Json]:
    """Places whose names are not shown may look alike."""
    return list({orjson.dumps(item): item for item in items}.values())


def _read(item: Looked, document: Mapping[str, Json], names: Names) -> dict[str, Json]:
    value: Json = dict(document)
    for name in item.place[1:]:
        value = value[name] if isinstance(value, dict) else value[int(name)] if isinstance(value, list) else None
    return {"place": item.text(names.shows), **shown(item.place[1:], value)}


def _change(item: Change, policy: Compiled, names: Names) -> Json:
    named = max(len(path) for path in policy.reads if item.place[: len(path)] == path)
    place = Looked(("input", *item.place), True, 1 + named).text(names.shows)
    removed = item.kind == "remove" and hides(item.place)
    to: Json = "one member" if removed else item.value  # what is put there is the policy's own (nearest.py, 1)
    found: dict[str, Json] = {"place": place, "change": item.kind, "to": to}
    found["from"] = "nothing" if item.absent else shown(item.place, item.before)
    words = {"add": f"{place} also had {_word(to)}", "remove": f"{place} were without {_word(to)}"}
    found["text"] = "It would have been allowed if " + words.get(item.kind, f"{place} were {_word(to)}")
    return found


def _word(value: Json) -> str:
    return orjson.dumps(value).decode()


def _note(nearest: Nearest) -> str:
    if nearest.changes:
        return "Each was evaluated by this policy and allowed; what limits, credentials and upstreams say is not in it"
    if not nearest.whole:
        return f"The time ran out after {nearest.tried} single changes, none of which would have been allowed"
    return f"No single change to what the policy itself names would have been allowed ({nearest.tried} were tried)"
