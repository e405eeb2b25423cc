"""A policy that was read, checked and understood: what the engine is built from, and what is known of it.

The rule: nothing is served that did not pass here, and nothing passes whose meaning is in doubt. Loading is bounded:
the parser never sees brackets deep enough to hurt it, and no rule is evaluated.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import orjson
import regorus  # type: ignore[import-untyped]  # it ships no stubs

from gateway.pdp.advice import advice
from gateway.pdp.bounds import unbounded_because
from gateway.pdp.builtins import NONDETERMINISTIC
from gateway.pdp.checks import PACKAGE, check_entry, check_language
from gateway.pdp.clashes import check_clashes
from gateway.pdp.fidelity import check_fidelity
from gateway.pdp.reads import paths_read, unique_reads
from gateway.pdp.sources import Module, PolicySource
from gateway.pdp.syntax import Path, PolicyRefused, Rule, callee, read_tree, target, visit_rule

_WHERE = re.compile(r"--> ([^\n]+?):(\d+):(\d+)")
_WHAT = re.compile(r"error: ([^\n]*)")


@dataclass(frozen=True, slots=True)
class Compiled:
    """`isolate`: why it must be evaluated in a child process (empty: it need not be). `uncached`: why its decisions
    are not kept (empty: they are). `reads`: the input paths it can read, `()` among them for all."""

    source: PolicySource
    rules: tuple[Rule, ...]
    reads: frozenset[Path]
    isolate: tuple[str, ...]
    uncached: tuple[str, ...]


def compile_source(source: PolicySource) -> Compiled:
    """Checks a policy as it would be served. Raises PolicyRefused."""
    rules = understand(source)
    check_entry(rules, _packages(source.modules))
    if PACKAGE in source.data:
        raise PolicyRefused(f"the policy's data defines {PACKAGE}, which is the policy's own package")
    reads = paths_read(rules)
    return Compiled(source, rules, reads, unbounded_because(rules), _uncached(rules, reads))


def understand(source: PolicySource) -> tuple[Rule, ...]:
    """The rules of a policy that means here what it means to OPA, whatever it is for. Raises PolicyRefused."""
    engine = new_engine(source.modules, source.data)
    rules = read_tree(engine.get_ast_as_json())
    check_language(rules)
    check_clashes(rules)
    check_fidelity(rules)
    prepare(engine)
    return rules


def new_engine(modules: Iterable[Module], data: Mapping[str, object]) -> regorus.Engine:
    """A fresh engine, usable in this thread only. Raises PolicyRefused with file and line."""
    # The engine makes and drops errors inside as it looks things up. Where RUST_BACKTRACE is set, each would capture a
    # stack: decisions take three to six times as long. This variable goes before it.
    os.environ.setdefault("RUST_LIB_BACKTRACE", "0")
    engine = regorus.Engine()
    for module in modules:
        try:
            engine.add_policy(module.path, module.text)
        except RuntimeError as error:
            text = engine_text(error, module.path)
            raise PolicyRefused(text + advice(text, module.text)) from None
    try:
        engine.add_data_json(orjson.dumps(data).decode())
    except (RuntimeError, TypeError) as refused:
        raise PolicyRefused(f"the policy's data: {engine_text(refused)}") from None
    return engine


def prepare(engine: regorus.Engine) -> None:
    """Makes the engine schedule every statement, which finds unsafe variables, without evaluating a rule."""
    try:
        engine.eval_query("true")
    except RuntimeError as error:
        raise PolicyRefused(engine_text(error)) from None


def engine_text(error: BaseException, file: str = "") -> str:
    """One line of an engine's error: `file:line:column: what`, without its backtrace and drawing."""
    text = str(error).split("\n\nStack backtrace", 1)[0].strip()
    where, what = _WHERE.search(text), _WHAT.search(text)
    said = what.group(1) if what else text.replace("\n", " ")[:300]
    if where:
        return f"{where.group(1)}:{where.group(2)}:{where.group(3)}: {said}"
    return f"{file}: {said}" if file else said


def _packages(modules: Iterable[Module]) -> list[tuple[str, Path]]:
    found = []
    for module in modules:
        engine = regorus.Engine()
        name: str = engine.add_policy(module.path, module.text)
        found.append((module.path, tuple(name.split(".")[1:])))
    return found


def _uncached(rules: tuple[Rule, ...], reads: frozenset[Path]) -> tuple[str, ...]:
    causes = [f"it reads {place}, which no two requests have in common" for place in unique_reads(reads)]
    known = frozenset(rule.path for rule in rules)
    for rule in rules:
        for kind, content in visit_rule(rule):
            if kind == "Call" and target(rule.scope, names := callee(content, rule.file), known) is None:
                name = ".".join(names)
                if name in NONDETERMINISTIC:
                    causes.append(f"rule {rule.name} calls {name}")
    return tuple(dict.fromkeys(causes))
