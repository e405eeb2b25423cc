"""Why a policy answered as it did: the rules that made it, what it looked for, what would have been allowed."""

from __future__ import annotations

import time
from typing import Any

import orjson
import pytest

from gateway.core.access import AccessRequest
from gateway.core.excerpt import Excerpts
from gateway.pdp.compiled import compile_source
from gateway.pdp.embedded import EmbeddedEngine
from gateway.pdp.nearest import Search
from gateway.pdp.sources import PolicySource, source_of
from gateway.pdp.why import Asked, why
from gateway.pdp.why_child import explained
from tests.pdp.asking import now, policy, request

TEXT = """\
default decision := {"decision": false, "context": {"rule": "nobody", "reason": "nobody said yes"}}

# a comment that belongs to no rule
decision := {"decision": false, "context": {"rule": "too much", "reason": limit}} if limit

else := {"decision": true, "context": {"rule": grant}} if grant

limit := sprintf("at most %v", [data.most[input.resource.id].amount]) if {
	input.context.arguments.amount > data.most[input.resource.id].amount
}

grant := concat(" ", ["role", role]) if {
	some role in array.concat(["all"], input.subject.properties.roles)
	input.resource.id in data.roles[role]
}
"""
DATA = {"most": {"weather/pay": {"amount": 500}}, "roles": {"payer": ["weather/pay"], "reader": ["weather/get"]}}


def never() -> bool:
    return False


def told(source: PolicySource, asked: AccessRequest, **said: Any) -> dict[str, Any]:
    compiled = compile_source(source)
    given = Excerpts(compiled.reads).of(asked)
    wanted = {"allow": None, "rule": None, "obligations": frozenset()} | said
    return why(compiled, Asked(given, **wanted), never)


def asking(resource: str = "weather/get", roles: tuple[str, ...] = ("reader",), arguments: Any = None) -> AccessRequest:
    document = orjson.loads(orjson.dumps(dict(request(arguments).document)))
    document["resource"]["id"], document["subject"]["properties"]["roles"] = resource, list(roles)
    return AccessRequest(document)


def test_the_rules_that_made_an_answer_are_shown_with_their_text() -> None:
    found = told(policy(TEXT, DATA), asking("weather/pay", ("payer",), {"amount": 900}))
    assert found["matched"] is True
    assert [(item["name"], item["line"]) for item in found["made_by"]] == [
        ("tollgate.decision", 6), ("tollgate.limit", 10),
    ]  # fmt: skip
    assert found["rule"]["label"] == "too much"
    assert found["rule"]["text"] == (
        'decision := {"decision": false, "context": {"rule": "too much", "reason": limit}} if limit'
    )
    allowed = told(policy(TEXT, DATA), asking())
    assert [item["name"] for item in allowed["made_by"]] == ["tollgate.decision", "tollgate.grant"]
    assert allowed["made_by"][0]["text"] == 'else := {"decision": true, "context": {"rule": grant}} if grant'
    assert allowed["rule"]["name"] == "tollgate.grant", "the label is made there: role reader"
    assert "nearest" not in allowed


def test_no_rule_matched_is_said_when_the_default_answered_or_nothing_did() -> None:
    found = told(policy(TEXT, DATA), asking("weather/other"))
    assert found["matched"] is False
    assert found["made_by"] == [found["made_by"][0]]
    assert found["made_by"][0]["default"] is True
    assert "undefined" not in found
    without = TEXT.split("\n", 1)[1]
    silent = told(policy(without, DATA), asking("weather/other"))
    assert (silent["matched"], silent["undefined"], silent["made_by"]) == (False, True, [])


@pytest.mark.parametrize(
    ("text", "roles", "line"),
    [
        ('default decision := false\n\ndecision if "a" in input.subject.properties.roles', ["a"], 5),
        ('default decision := false\n\ndecision if "a" in input.subject.properties.roles', ["b"], 3),
        ("decision if {\n\t1 == 2\n} else := false if {\n\tinput.subject\n}", [], 5),
        ("decision := true if input.nothing\n\ndecision := false if input.subject\n", [], 5),
        ("decision := true if input.subject\n\ndecision := true if input.action\n", [], 3),
        ('decision := {"decision": 1 < 2, "context": {"reason": "é \\u00fc"}}', [], 3),
    ],
)
def test_the_very_alternative_that_held_is_shown(text: str, roles: list[str], line: int) -> None:
    found = told(policy(text), asking(roles=tuple(roles)))
    assert [item["line"] for item in found["made_by"]] == [line]


def test_what_the_policy_read_is_told_without_the_values_of_arguments() -> None:
    found = told(policy(TEXT, DATA), asking("weather/pay", ("payer",), {"amount": 900, "to": "canary"}))
    reads = {item["place"]: item for item in found["reads"]}
    assert reads["input.context.arguments.amount"] == {"place": "input.context.arguments.amount", "type": "number"}
    assert reads["input.resource.id"]["value"] == "weather/pay"
    assert "900" not in str(found)
    whole = told(policy("decision if { some key, value in input.context.arguments; key == value }"), asking(arguments={
        "canary-name": "canary",
    }))  # fmt: skip
    assert [item["place"] for item in whole["reads"]] == ["input.context.arguments"]
    assert "canary" not in str(whole)


def test_what_was_looked_for_and_not_found_is_told_of_input_and_data() -> None:
    found = told(policy(TEXT, DATA), asking("weather/other", ("reader", "guest")))
    assert found["missing"] == [
        "input.context.arguments.amount",
        'data.most["weather/other"].amount',
        "data.roles.all",
        "data.roles.guest",
    ]
    present = told(policy(TEXT, DATA), asking("weather/pay", ("payer",), {"amount": 900}))
    assert present["missing"] == []


def test_only_lines_that_were_evaluated_count_as_looked_at() -> None:
    text = 'decision if {\n\tinput.subject.type == "robot"\n\tinput.context.arguments.secret == 1\n}'
    found = told(policy(text), asking(arguments={"secret": 1}))
    assert [item["place"] for item in found["reads"]] == ["input.subject.type"]


def decides(source: PolicySource, document: dict[str, Any]) -> bool:
    return now(EmbeddedEngine(source).decide(AccessRequest(document))).allow


def changed(asked: AccessRequest, change: dict[str, Any]) -> dict[str, Any]:
    """The request as a suggestion would have it, by this test's own hand."""
    document: dict[str, Any] = orjson.loads(orjson.dumps(dict(asked.document)))
    *way, last = change["place"].removeprefix("input.").split(".")
    at = document
    for name in way:
        at = at[name]
    if change["change"] == "add":
        at[last] = [*at[last], change["to"]]
    elif change["change"] == "remove":
        at[last] = [item for item in at[last] if item != change["to"]]
    else:
        at[last] = change["to"]
    return document


@pytest.mark.parametrize(
    ("asked", "nearest"),
    [
        (asking("weather/pay", ("payer",), {"amount": 900}), ("input.context.arguments.amount", "set", 500)),
        (asking("weather/pay", ("reader",), {"amount": 5}), ("input.subject.properties.roles", "add", "payer")),
        (asking("weather/other", ("payer",)), ("input.resource.id", "set", "weather/pay")),
    ],
)
def test_the_nearest_difference_is_one_that_the_policy_allows(
    asked: AccessRequest, nearest: tuple[str, str, Any]
) -> None:
    source = policy(TEXT, DATA)
    assert decides(source, dict(asked.document)) is False
    found = told(source, asked)["nearest"]
    assert (found[0]["place"], found[0]["change"], found[0]["to"]) == nearest
    for change in found:
        assert decides(source, changed(asked, change)) is True, change


def test_a_member_too_many_is_found_and_one_of_the_arguments_is_not_named() -> None:
    text = 'default decision := true\n\ndecision := false if "banned" in input.subject.properties.roles'
    found = told(policy(text), asking(roles=("reader", "banned")))["nearest"][0]
    assert (found["change"], found["to"]) == ("remove", "banned")
    text = 'default decision := true\n\ndecision := false if "canary" in input.context.arguments.tags'
    hidden = told(policy(text), asking(arguments={"tags": ["a", "canary"]}))["nearest"][0]
    assert (hidden["change"], hidden["to"]) == ("remove", "one member")


def test_nothing_is_suggested_that_was_not_evaluated_and_allowed(monkeypatch: pytest.MonkeyPatch) -> None:
    evaluated: list[tuple[bytes, bool]] = []
    plain = Search.nearest

    def watched(self: Search) -> Any:
        allows = self._allows

        def noted(candidate: bytes) -> bool:
            evaluated.append((candidate, allows(candidate)))
            return evaluated[-1][1]

        self._allows = noted
        return plain(self)

    monkeypatch.setattr(Search, "nearest", watched)
    found = told(policy(TEXT, DATA), asking("weather/pay", ("reader",)))
    allowed = [candidate for candidate, allowed in evaluated if allowed]
    assert len(found["nearest"]) == len(allowed) > 0
    assert found["nearest_tried"] == len(evaluated) > len(allowed)
    never_so = policy('decision := {"decision": false, "context": {"reason": "no"}}')
    none = told(never_so, asking())
    assert none["nearest"] == []
    assert "No single change" in none["nearest_note"]


def test_the_search_ends_with_its_time() -> None:
    names = {f"name{number}": number for number in range(500)}
    ends = iter([False] * 10 + [True] * 10_000)
    compiled = compile_source(policy("decision if input.subject.properties.org == data.nothing", {"names": names}))
    given = Excerpts(compiled.reads).of(asking())
    found = why(compiled, Asked(given, False, None, frozenset()), lambda: next(ends))
    assert found["nearest"] == []
    assert "time ran out" in str(found["nearest_note"])


def test_an_answer_that_is_another_now_is_not_explained() -> None:
    source = policy(TEXT, DATA)
    for said in ({"allow": False}, {"allow": True, "rule": "other"}):
        found = told(source, asking(), **said)
        assert list(found) == ["note"]
        assert "otherwise" in found["note"]


def test_a_failing_policy_is_explained_as_far_as_it_came() -> None:
    found = told(policy("decision := 1 / input.context.arguments.n"), asking(arguments={"n": 0}), allow=False)
    assert (found["made_by"], "matched" in found) == ([], False)
    assert "divide by zero" in found["error"]
    assert found["reads"] == [{"place": "input.context.arguments.n", "type": "number"}]
    assert "nearest" not in found


def test_an_obligation_that_nobody_fulfils_is_a_deny_here_too() -> None:
    text = 'decision := {"decision": true, "context": {"rule": "r", "obligations": [{"type": "fly"}]}}'
    assert "nearest" in told(policy(text), asking(), allow=False, rule="r")
    assert "nearest" not in told(policy(text), asking(), allow=True, rule="r", obligations=frozenset({"fly"}))


def test_it_is_told_by_a_process_of_its_own_that_is_killed_when_it_is_late() -> None:
    source = source_of({"policy.rego": "package tollgate\n\n" + TEXT}, DATA)
    compiled = compile_source(source)
    given = Excerpts(compiled.reads).of(asking("weather/pay", ("payer",), {"amount": 900}))
    found = explained(source, Asked(given, False, "too much", frozenset()))
    assert found["rule"]["label"] == "too much"  # type: ignore[index, call-overload]
    endless = (
        "decision if {\n\tsome a in numbers.range(1, input.n)\n\tsome b in numbers.range(1, input.n)\n\ta + b < 0\n}"
    )
    started = time.monotonic()
    late = explained(policy(endless), Asked(b'{"n": 100000}', None, None, frozenset()), seconds=2.0)
    assert "within 2 s" in str(late["note"])
    assert time.monotonic() - started < 10
    broken = explained(policy(TEXT, DATA), Asked(b"{", None, None, frozenset()))
    assert "ended early" in str(broken["note"])
