"""What an author is told of a file that cannot be read: where, what, and what to do."""

from __future__ import annotations

import pytest

from gateway.pdp.advice import advice
from gateway.pdp.compiled import compile_source
from gateway.pdp.sources import source_of
from gateway.pdp.syntax import PolicyRefused

MISTAKES = [
    ("", "p.rego:1:1:", "begin the file with `package tollgate`"),
    ("# nothing yet\n", "p.rego:2:1:", "begin the file with `package tollgate`"),
    ("\ufeffpackage tollgate\n\ndecision := true\n", "p.rego:1:", "save it as UTF-8 without"),
    ("package tollgate\n\ndecision { input.x }\n", "p.rego:3:10:", "`opa fmt --v0-v1 --write`"),
    ("package tollgate\n\ndeny[msg] { msg := 1 }\n", "p.rego:3:11:", "`opa fmt --v0-v1 --write`"),
    ("package tollgate\n\ndecision if input.x == \u201ca\u201d\n", "p.rego:3:24:", "LEFT DOUBLE QUOTATION MARK: use"),
    ("package tollgate\n\ndecision\u00a0:= true\n", "p.rego:3:9:", "NO-BREAK SPACE"),
    ('package tollgate\n\nreason := $"hello {input.x}"\n', "p.rego:3:11:", "use sprintf"),
    ("package tollgate\n\ndecision if input.x && input.y\n", "p.rego:3:22:", "Rego has no `and` and `or`"),
    ("package tollgate\n\ndecision if input.x or input.y\n", "p.rego:3:", "Rego has no `and` and `or`"),
    ("package tollgate\n\nallow if input.x\n", "no file has the rule decision", "there is allow (p.rego:3): call it"),
    ("package tollgate.main\n\ndecision := true\n", "no file has", "tollgate.main.decision (p.rego:3) is in"),
    ("package tollgate\n\ndecision.decision := true\n", "no file has", "write one rule with the whole object"),
    ("package authz\n\nallow := true\n", "p.rego:1: package authz is never asked", "call it tollgate or tollgate."),
    ("package tollgate\n\ndecision if lib.f(1)\n", "p.rego:3: rule decision: builtin", "a function of yours: import"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "begins", "holds"), MISTAKES, ids=[ascii(item[0]) for item in MISTAKES])
def test_a_mistake_is_told_with_its_place_and_what_to_do(text: str, begins: str, holds: str) -> None:
    with pytest.raises(PolicyRefused) as raised:
        compile_source(source_of({"p.rego": text}))
    assert str(raised.value).startswith(begins), raised.value
    assert holds in str(raised.value)
    assert "\n" not in str(raised.value)


def test_nothing_is_added_where_the_parser_says_enough() -> None:
    assert advice("p.rego:3:13: unexpected keyword `if`", "package tollgate\n\ndecision := if {\n") == ""
    assert advice("p.rego:9:1: what", "one line") == ""
    assert advice("no place at all", "x && y") == ""
    assert advice("p.rego:1:3: invalid character in string", 'x "a\tb"') == ""
