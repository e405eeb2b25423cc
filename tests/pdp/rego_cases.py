"""OPA's own Rego v1 cases, how each is loaded and asked here, and what came of it as the tables of the documentation.

Source: open-policy-agent/swift-opa, generated from OPA 1.14 (Apache-2.0), read from ../shared/vectors beside the
checkout when it is there. `python -m tests.pdp.rego_cases` prints the tables for docs/rego-conformance.md.
"""

from __future__ import annotations

import json
import tarfile
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import regorus

from gateway.pdp.compiled import engine_text, new_engine, understand
from gateway.pdp.sources import PolicySource, source_of
from gateway.pdp.syntax import PolicyRefused

VECTORS = Path(__file__).resolve().parents[3] / "shared" / "vectors" / "rego-v1.tar.xz"

LANGUAGE = frozenset({
    "assignments", "baseandvirtualdocs", "comparisonexpr", "completedoc", "compositebasedereference",
    "compositereferences", "comprehensions", "containskeyword", "dataderef", "defaultkeyword", "disjunction",
    "elsekeyword", "embeddedvirtualdoc", "eqexpr", "evaltermexpr", "every", "example", "fix1863", "functionerrors",
    "functions", "helloworld", "indexing", "indirectreferences", "inputvalues", "invalidkeyerror", "keywordrefs",
    "negation", "nestedreferences", "partialdocconstants", "partialiter", "partialobjectdoc", "partialsetdoc",
    "planner-ir", "refheads", "sets", "stringinterpolation", "topdowndynamicdispatch", "type", "undos", "varreferences",
    "virtualdocs", "withkeyword",
})  # fmt: skip
FAMILIES = (
    ("cryptography and tokens", ("crypto", "jwt")),
    ("texts and patterns", ("glob", "regex", "rendertemplate", "replacen", "sprintf", "strings", "trim")),
    ("networks, time, units", ("net", "time", "units", "url", "semver", "uuid", "rand")),
    ("GraphQL, AWS, metadata, schemas", ("graphql", "providers-aws", "regometadata", "regoparse", "jsonschema")),
)

Case = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Judged:
    """One case. `alone`: what the engine makes of it without the checks at load: "right", "wrong" (another answer, or
    one where an error is wanted) or "error". `served`: the same as it would be served, where "refused" may stand, with
    the `refusal`. An error where one is wanted is right. `source` is there where it is loaded."""

    group: str
    case: Case
    alone: str
    served: str
    refusal: str
    source: PolicySource | None

    @property
    def note(self) -> str:
        return str(self.case["note"])


@cache
def cases() -> tuple[tuple[str, Case], ...]:
    """Every case with the group (folder) that it stands in."""
    if not VECTORS.exists():
        pytest.skip(f"vectors are not here: {VECTORS.name} is expected in ../shared/vectors beside the checkout")
    found: list[tuple[str, Case]] = []
    with tarfile.open(VECTORS) as archive:
        for member in archive:
            stream = archive.extractfile(member) if member.name.endswith(".json") else None
            if stream is not None:
                group = Path(member.name).parent.name
                found.extend((group, case) for case in json.loads(stream.read())["cases"])
    return tuple(found)


@cache
def judged() -> tuple[Judged, ...]:
    return tuple(_judge(group, case) for group, case in cases())


def modules_of(case: Case) -> dict[str, str]:
    return {f"m{number}.rego": text for number, text in enumerate(case.get("modules") or ["package empty"])}


def input_of(case: Case) -> Any:
    if "input_term" in case:  # a Rego term: mostly JSON with commas to spare
        answer = json.loads(regorus.Engine().eval_query_as_json(case["input_term"]))
        return answer["result"][0]["expressions"][0]["value"]
    return case.get("input")


def asked(source: PolicySource, case: Case, document: Any) -> Any:
    """The bindings of the case's query, or the engine's error as a text."""
    return _bindings(new_engine(source.modules, source.data), case, document)


def _bindings(engine: regorus.Engine, case: Case, document: Any) -> Any:
    try:
        if document is not None:
            engine.set_input_json(json.dumps(document))
        answer = json.loads(engine.eval_query_as_json(case["query"]))
    except RuntimeError as error:
        return f"error: {engine_text(error)}"
    except BaseException as panic:  # the engine's panics are no subclass of Exception
        if type(panic).__name__ != "PanicException":
            raise
        return f"error: {engine_text(panic)}"
    return [result.get("bindings") or {} for result in answer.get("result", [])]


def _judge(group: str, case: Case) -> Judged:
    document = input_of(case)
    try:
        source = source_of(modules_of(case), case.get("data") or {})
        understand(source)
    except PolicyRefused as error:
        return Judged(group, case, _verdict(case, _unchecked(case, document)), "refused", str(error), None)
    verdict = _verdict(case, asked(source, case, document))
    return Judged(group, case, verdict, verdict, "", source)


def _unchecked(case: Case, document: Any) -> Any:
    """What the engine itself answers, or its error, when nothing stands before it."""
    engine = regorus.Engine()
    try:
        for path, text in modules_of(case).items():
            engine.add_policy(path, text)
        engine.add_data_json(json.dumps(case.get("data") or {}))
    except RuntimeError as error:
        return f"error: {engine_text(error)}"
    return _bindings(engine, case, document)


def _verdict(case: Case, answer: Any) -> str:
    wants_error = bool(case.get("want_error") or case.get("want_error_code"))
    if isinstance(answer, str):
        return "right" if wants_error else "error"
    return "right" if not wants_error and same(case, answer) else "wrong"


def settled(value: Any, deep: bool) -> Any:
    """In an order that means nothing: results are a set, and what `sort_bindings` marks is one inside as well."""
    if isinstance(value, dict):
        return {key: settled(item, deep) for key, item in value.items()}
    if isinstance(value, list):
        items = [settled(item, deep) for item in value]
        return sorted(items, key=lambda item: json.dumps(item, sort_keys=True)) if deep else items
    return value


def same(case: Case, answer: list[Any]) -> bool:
    deep = bool(case.get("sort_bindings"))
    given = sorted(json.dumps(settled(item, deep), sort_keys=True) for item in answer)
    return given == sorted(json.dumps(settled(item, deep), sort_keys=True) for item in case.get("want_result") or [])


def family(group: str) -> str:
    if group in LANGUAGE:
        return "language"
    return next((name for name, begins in FAMILIES if group.startswith(begins)), "data")


_HEAD = (
    "cases | passed | share | error | wrong | served: as OPA | error | refused | otherwise |\n"
    "|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|"
)


def by_family() -> Iterator[str]:
    """The lines of the table of families, with all at the end."""
    rows: dict[str, list[Judged]] = defaultdict(list)
    for item in judged():
        rows[family(item.group)].append(item)
    yield from f"| family | {_HEAD}".split("\n")
    for name in sorted(rows, key=lambda name: (-len(rows[name]), name)):
        yield _row(name, rows[name])
    yield _row("**all**", judged())


def by_group() -> Iterator[str]:
    rows: dict[str, list[Judged]] = defaultdict(list)
    for item in judged():
        rows[item.group].append(item)
    yield from f"| group | {_HEAD}".split("\n")
    for name in sorted(rows):
        yield _row(name, rows[name])


def wrong_answers() -> Iterator[str]:
    yield from ("| case | refused when it is loaded, because |", "|---|---|")
    for item in judged():
        if item.alone == "wrong":
            because = item.refusal.partition(": ")[2].replace("|", "\\|") if item.refusal else "not refused, see below"
            yield f"| `{item.note}` | {because} |"


def _row(name: str, found: list[Judged] | tuple[Judged, ...]) -> str:
    alone, served = Counter(item.alone for item in found), Counter(item.served for item in found)
    share = f"{100 * alone['right'] / len(found):.1f}%"
    counts = (len(found), alone["right"], share, alone["error"], alone["wrong"])
    ours = (served["right"], served["error"], served["refused"], served["wrong"])
    return "| " + " | ".join(str(item) for item in (name, *counts, *ours)) + " |"


if __name__ == "__main__":
    for table in (by_family, wrong_answers, by_group):
        print("\n".join(table()), end="\n\n")
