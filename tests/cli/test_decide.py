"""`tollgate decide`: the engine's answer as an exit code."""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tests.cli.rig_cli import Shell


def request(**members: Any) -> dict[str, Any]:
    return {
        "subject": {"type": "agent", "id": "agent:idp/a", "properties": {"roles": ["reader"]}},
        "action": {"name": "mcp.tools/call"},
        "resource": {"type": "tool", "id": "weather/get_forecast", "properties": {}},
        "context": {},
    } | members


def test_allow_is_0_and_deny_is_3_with_the_policys_reason(shell: Shell, folder: Path) -> None:
    Path("allow.json").write_text(json.dumps(request()))
    found = shell("decide", "--bundle", "policies", "--input", "allow.json")
    assert (found.code, found.out) == (0, "allow: readers may read (rule readers)\n")
    Path("deny.json").write_text(json.dumps(request(subject={"type": "agent", "id": "b", "properties": {"roles": []}})))
    found = shell("decide", "--config", "gateway.yaml", "--input", "deny.json", "--json")
    assert found.code == 3
    assert found.json["decision"] is False
    assert found.json["context"]["reason"] == "nobody said yes"
    assert found.json["revision"].startswith("sha256:")


def test_stdin_is_read_for_a_dash(shell: Shell, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = io.BytesIO(json.dumps(request()).encode())
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=data))
    assert shell("decide", "--bundle", "policies", "--input", "-").code == 0


def test_an_answer_that_is_no_decision_is_a_deny_that_says_so(shell: Shell, folder: Path) -> None:
    Path("in.json").write_text(json.dumps(request()))
    for answer in ('"yes"', '{"decision": true, "context": {"obligations": [{"type": "fly"}]}}', '{"allow": true}'):
        Path("policies/decision.rego").write_text(f"package tollgate\n\ndecision := {answer}\n")
        found = shell("decide", "--bundle", "policies", "--input", "in.json", "--json")
        assert (found.code, found.json["decision"]) == (3, False), answer
        assert found.json["context"]["reason"]


def test_why_is_told_when_it_is_asked_for(shell: Shell, folder: Path) -> None:
    Path("in.json").write_text(json.dumps(request(subject={"type": "agent", "id": "b", "properties": {"roles": []}})))
    found = shell("decide", "--bundle", "policies", "--input", "in.json", "--explain", "--json")
    assert found.code == 3
    why = found.json["why"]
    assert (why["matched"], why["revision"]) == (False, found.json["revision"])
    [nearest] = why["nearest"]
    assert (nearest["place"], nearest["change"], nearest["to"]) == ("input.subject.properties.roles", "add", "reader")
    text = shell("decide", "--config", "gateway.yaml", "--input", "in.json", "--explain").out
    assert text.startswith("deny: nobody said yes (rule default)\n\nPolicy (embedded, revision sha256:")
    assert "\n  No rule matched: what follows is the default\n" in text
    assert '\n    default decision := {"decision": false' in text
    Path("in.json").write_text(json.dumps(request()))
    allowed = shell("decide", "--bundle", "policies", "--input", "in.json", "--explain")
    assert allowed.code == 0
    assert "readers may read" in allowed.out
    assert "would have been allowed" not in allowed.out


def test_an_engines_fault_is_1(shell: Shell, folder: Path) -> None:
    Path("policies/decision.rego").write_text(
        "package tollgate\n\ndecision if {\n    some n in input.context.arguments.list\n    to_number(n) > 1\n}\n"
    )
    Path("in.json").write_text(json.dumps(request(context={"arguments": {"list": ["not a number"]}})))
    found = shell("decide", "--bundle", "policies", "--input", "in.json", "--json")
    assert (found.code, found.json["decision"], found.json["fault"]) == (1, False, True)
    assert shell("decide", "--bundle", "policies", "--input", "in.json").out.startswith("fault: ")


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"subject": {}, "subject": {}}', '{"subject": "a"}', "\xff"])
def test_an_input_that_is_no_access_request_is_2(shell: Shell, folder: Path, text: str) -> None:
    Path("in.json").write_bytes(text.encode("latin-1"))
    found = shell("decide", "--bundle", "policies", "--input", "in.json")
    assert (found.code, found.out) == (2, "")
    assert "in.json: " in found.err


def test_a_policy_that_is_not_there_is_2_and_a_file_that_is_not_there_is_1(shell: Shell, folder: Path) -> None:
    Path("in.json").write_text(json.dumps(request()))
    assert shell("decide", "--bundle", "nowhere", "--input", "in.json").code == 2
    assert shell("decide", "--bundle", "policies", "--input", "nowhere.json").code == 1
