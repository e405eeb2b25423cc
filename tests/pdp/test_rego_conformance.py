"""OPA's own Rego v1 cases: what passes the checks at load answers as OPA does, or with an error, never otherwise.

Source: open-policy-agent/swift-opa, generated from OPA 1.14 (Apache-2.0), read from ../shared/vectors beside the
checkout when it is there. Each case is loaded as a policy would be; the projection of its input is tried besides.
"""

from __future__ import annotations

import json
import tarfile
from collections import Counter
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import regorus

from gateway.pdp.builtins import ALLOWED
from gateway.pdp.compiled import new_engine, understand
from gateway.pdp.reads import paths_read, projector
from gateway.pdp.sources import PolicySource, source_of
from gateway.pdp.syntax import PolicyRefused, callee, target, visit_rule

VECTORS = Path(__file__).resolve().parents[3] / "shared" / "vectors" / "rego-v1.tar.xz"

# Answers that differ without an error, each with why no request can meet it.
NOT_OURS = {"inputvalues/input set": "its input holds a set, which JSON cannot; a request is JSON"}

Case = dict[str, Any]


@cache
def cases() -> list[Case]:
    if not VECTORS.exists():
        pytest.skip(f"vectors are not here: {VECTORS.name} is expected in ../shared/vectors beside the checkout")
    found: list[Case] = []
    with tarfile.open(VECTORS) as archive:
        for member in archive:
            stream = archive.extractfile(member) if member.name.endswith(".json") else None
            if stream is not None:
                found.extend(json.loads(stream.read())["cases"])
    return found


def loaded(case: Case) -> PolicySource | None:
    """The case as a policy that would be served, None where loading refuses it."""
    modules = {f"m{number}.rego": text for number, text in enumerate(case.get("modules") or ["package empty"])}
    try:
        source = source_of(modules, case.get("data") or {})
        understand(source)
    except PolicyRefused:
        return None
    return source


def input_of(case: Case) -> Any:
    if "input_term" in case:  # a Rego term: mostly JSON with commas to spare
        answer = json.loads(regorus.Engine().eval_query_as_json(case["input_term"]))
        return answer["result"][0]["expressions"][0]["value"]
    return case.get("input")


def asked(source: PolicySource, case: Case, document: Any) -> Any:
    """The bindings of the case's query, or the engine's error as a text."""
    engine = new_engine(source.modules, source.data)
    if document is not None:
        engine.set_input_json(json.dumps(document))
    try:
        answer = json.loads(engine.eval_query_as_json(case["query"]))
    except RuntimeError as error:
        return f"error: {error}"
    return [result.get("bindings") or {} for result in answer.get("result", [])]


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
    wanted = sorted(json.dumps(settled(item, deep), sort_keys=True) for item in case.get("want_result") or [])
    return given == wanted and not (case.get("want_error") or case.get("want_error_code"))


def judged() -> Iterator[tuple[str, Case, PolicySource | None]]:
    for case in cases():
        source = loaded(case)
        if source is None:
            yield "refused", case, None
            continue
        answer = asked(source, case, input_of(case))
        if isinstance(answer, str):
            yield "error", case, source
        else:
            yield ("same" if same(case, answer) else "other"), case, source


def test_what_is_loaded_answers_as_opa_does_or_with_an_error() -> None:
    counted: Counter[str] = Counter()
    other = set()
    for verdict, case, _ in judged():
        counted[verdict] += 1
        if verdict == "other":
            other.add(case["note"])
    assert other == set(NOT_OURS), other ^ set(NOT_OURS)
    assert sum(counted.values()) == 2067
    assert counted["same"] >= 1020, counted  # a check that refuses everything would pass the line above
    assert counted["refused"] <= 920, counted


def test_every_allowed_builtin_is_proved_by_a_case() -> None:
    proved: set[str] = set()
    for verdict, _, source in judged():
        if verdict == "same" and source is not None:
            rules = understand(source)
            known = frozenset(rule.path for rule in rules)
            for rule in rules:
                for kind, content in visit_rule(rule):
                    if kind == "Call" and target(rule.scope, names := callee(content, rule.file), known) is None:
                        proved.add(".".join(names))
    assert ALLOWED - proved == set()


def test_what_is_not_read_does_not_change_the_answer() -> None:
    """The analysis of reads against the engine: the projection of an input gives what the whole input gives."""
    tried = 0
    for case in cases():
        document = input_of(case) if "input" in case or "input_term" in case else None
        source = loaded(case) if isinstance(document, dict) and case["query"].startswith("data.") else None
        reads = paths_read(understand(source)) if source is not None else frozenset()
        if source is None or () in reads:
            continue
        tried += 1
        noisy = {**document, "beside": {"the": ["point"]}}
        assert projector(reads)(noisy) == projector(reads)(document)
        assert asked(source, case, projector(reads)(noisy)) == asked(source, case, document), case["note"]
    assert tried >= 60
