"""Where two things of a policy have one name or place: refused, as OPA refuses it or answers otherwise."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
import regorus

from gateway.pdp.compiled import compile_source
from gateway.pdp.sources import source_of
from gateway.pdp.syntax import PolicyRefused
from tests.pdp.asking import policy
from tests.pdp.engine_servers import opa

ENTRY = "decision := true\n\n"

REFUSED = [
    ("default decision := false\n\ndefault decision := true", "5: rule decision: has another default at policy.rego:3"),
    ("default f(x) := 1\n\ndefault f(x) := 2\n\nf(x) := x if x > 1\n\ndecision := f(1)", "rule f: has another default"),
    ("default decision := input.x", "a default is a plain value"),
    ("default decision := count([1])", "a default is a plain value"),
    ("default decision := [input.x]", "a default is a plain value"),
    ("decision := true\n\ndecision := false", "policy.rego:5: rule decision: has another value at policy.rego:3"),
    ("decision := 1\n\ndecision := true", "has another value at"),
    ("decision := a == 1\n\na := 1\n\na := 2", "rule a: has another value at"),
    ("import data.a.x\nimport data.b.x\n\ndecision if x", "policy.rego:4: the name x is taken"),
    ("import data.a as input\n\ndecision if input.x", "policy.rego:3: the name input is taken"),
    ("import data.input\n\ndecision if input.x", "the name input is taken"),
    ("import input.data\n\ndecision if data.x", "the name data is taken"),
    ("import data.a as allowed\n\nallowed if true\n\ndecision if allowed", "under the name of a rule, allowed"),
    ("import future.keywords.not\n\ndecision := true", "policy.rego:3: there is no future.keywords.not to import"),
    ("import rego.v2\n\ndecision := true", "there is no rego.v2 to import"),
    ("import rego\n\ndecision := true", "there is no rego to import"),
    ("f(input) := input\n\ndecision := f(true)", "rule f: an argument is called input"),
    ("decision if { every input in [1] { input == 1 } }", "a variable is called input"),
    ("decision if { every data, x in [1] { x == 1 } }", "a variable is called data"),
    ('decision := {"decision": false, "decision": true}', 'an object has the member "decision" twice'),
    ('decision := {k: false, "decision": true} if k := "decision"', "an object has a computed name beside others"),
    (ENTRY + "a := [{1: 2, 1: 3}]", "an object has the member 1 twice"),
]  # fmt: skip

SERVED = [
    "default decision := false\n\ndecision if input.x",
    'default decision := {"decision": false, "context": {"reason": "no", "obligations": [-1, null, {1}]}}',
    "default decision := [x | x := input.y]",
    "decision := true\n\ndecision := true if input.x",
    "decision := false if input.x\n\ndecision := true if input.y",
    "import rego.v1\n\ndecision := true",
    "import future.keywords.if\nimport future.keywords.every\n\ndecision := true",
    "import input\n\ndecision if input.x",
    "import data.a.x\nimport data.b.x as y\n\ndecision if x == y",
    "import data.tollgate.lib\n\ndecision if lib.x",
    "f(inputs) := inputs\n\ndecision := f(true)",
    'decision := {input.action.name: true} == {"x": true}',
    'decision := {"decision": true, "context": {"rule": "decision"}}',
    "decision if { every x in [1] { x == 1 } }",
]


@pytest.mark.parametrize(("text", "words"), REFUSED, ids=[text for text, _ in REFUSED])
def test_what_has_two_meanings_is_refused(text: str, words: str) -> None:
    with pytest.raises(PolicyRefused, match=r"^policy\.rego:\d+: ") as raised:
        compile_source(policy(text))
    assert words in str(raised.value)


@pytest.mark.parametrize("text", SERVED)
def test_what_has_one_meaning_is_served(text: str) -> None:
    compile_source(policy(text, {"a": {"x": 1}, "b": {"x": 1}}))


def test_an_import_may_have_the_name_of_the_package_it_leads_to() -> None:
    lib = "package tollgate.lib\n\nx if true\n"
    compile_source(policy("import data.tollgate.lib\n\ndecision if lib.x", None, lib=lib))


def test_an_import_in_one_file_and_a_rule_in_another_clash_too() -> None:
    with pytest.raises(PolicyRefused, match="under the name of a rule, allowed"):
        compile_source(
            policy("import data.a as allowed\n\ndecision if allowed", None, lib="package tollgate\n\nallowed if true\n")
        )


def test_two_defaults_in_two_files_are_refused_with_both_places() -> None:
    with pytest.raises(PolicyRefused, match=r"^policy\.rego:3: rule decision: has another default at lib\.rego:3"):
        compile_source(policy("default decision := false", None, lib="package tollgate\n\ndefault decision := true\n"))


DENIED_BEHIND = "package tollgate\n\ndefault decision := true\n#\x00\ndecision := false if input.x\n"


def test_nothing_can_hide_behind_a_control_character() -> None:
    """To the engine the file ends at a NUL: the rule behind it, here a denial, would not be there."""
    engine = regorus.Engine()
    engine.add_policy("a.rego", DENIED_BEHIND)
    engine.set_input_json('{"x": 1}')
    assert engine.eval_rule_as_json("data.tollgate.decision") == "true", "the engine no longer stops at a NUL"
    with pytest.raises(PolicyRefused, match=r"^a\.rego:4: has the control character U\+0000"):
        source_of({"a.rego": DENIED_BEHIND})
    for mark in "\x01\x08\x0b\x0c\x1b\x7f":
        with pytest.raises(PolicyRefused, match="control character"):
            source_of({"a_test.rego": f"package t\n\n# {mark}\n"})
    source_of({"a.rego": "package tollgate\r\n\r\n\tdecision := true\r\n"})


@pytest.mark.parametrize("text", [text for text, words in REFUSED if "twice" not in words])
def test_opa_refuses_it_too_or_answers_otherwise(text: str, tmp_path: Path) -> None:
    (tmp_path / "policy.rego").write_text("package tollgate\n\n" + text + "\n")
    document: dict[str, Any] = {"x": 1, "data": {"x": 1}}
    command = [opa(), "eval", "-d", str(tmp_path / "policy.rego"), "-I", "data.tollgate.decision"]
    done = subprocess.run(command, input=json.dumps(document), capture_output=True, text=True, timeout=60, check=False)
    answer = json.loads(done.stdout)
    if answer.get("errors"):
        return
    asked = regorus.Engine()
    asked.add_policy("policy.rego", "package tollgate\n\n" + text)
    asked.set_input_json(json.dumps(document))
    theirs = answer["result"][0]["expressions"][0]["value"] if answer.get("result") else "<undefined>"
    assert json.loads(asked.eval_rule_as_json("data.tollgate.decision")) != theirs
