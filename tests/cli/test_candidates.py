"""What the command line says of candidates before anything runs: `check`, `doctor`, `decide`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import yaml

from gateway.core.sharing import among
from tests.cli.conftest import CONFIGURATION, POLICY
from tests.cli.rig_cli import Shell
from tests.trust.bundle_rig import KEY, OTHER, good

CLOSED = 'package tollgate\n\ndecision := {"decision": false, "context": {"reason": "shut", "rule": "closed"}}\n'


def configured(policy: str, candidate: str = CLOSED) -> None:
    Path("candidate").mkdir(exist_ok=True)
    Path("candidate/decision.rego").write_text(candidate)
    text = Path("gateway.yaml").read_text()
    Path("gateway.yaml").write_text(text + f"policy: {policy}\n")


def test_check_reads_a_candidate_as_serve_would(shell: Shell, folder: Path) -> None:
    configured("{shadow: {bundle: candidate}, rollout: {percent: 10%, bundle: candidate}}")
    found = shell("check", "gateway.yaml", "--json").json
    assert found["ok"] is True
    assert found["policy.shadow"] == found["policy.rollout"] != found["policy"]
    Path("candidate/decision.rego").write_text("package tollgate\n\ndecision := (\n")
    found = shell("check", "gateway.yaml", "--json")
    assert found.code == 2
    assert [problem["key"] for problem in found.json["problems"]] == ["policy.shadow.bundle", "policy.rollout.bundle"]


def test_doctor_warns_of_report_mode_and_names_the_candidates(shell: Shell, folder: Path) -> None:
    configured("{mode: report, shadow: {bundle: candidate}, rollout: {percent: 10%, bundle: candidate}}")
    document = shell("doctor", "--config", "gateway.yaml", "--json").json
    checks = {check["name"]: (check["state"], check["detail"]) for check in document["checks"]}
    assert checks["policy mode"][0] == "warn"
    assert "policy.mode: enforce" in checks["policy mode"][1]
    assert checks["policy roll-out"][0] == checks["policy shadow"][0] == "ok"
    assert "0.1 of the subjects" in checks["policy roll-out"][1]
    Path("candidate/decision.rego").write_text("package tollgate\n\ndecision := (\n")
    document = shell("doctor", "--config", "gateway.yaml", "--json").json
    assert {check["state"] for check in document["checks"] if check["name"] == "policy shadow"} == {"fail"}


def test_doctor_says_nothing_of_candidates_that_there_are_not(shell: Shell, folder: Path) -> None:
    document = shell("doctor", "--config", "gateway.yaml", "--json").json
    assert not {"policy mode", "policy roll-out", "policy shadow"} & {check["name"] for check in document["checks"]}


def test_decide_answers_as_the_gateway_would_for_that_subject(shell: Shell, folder: Path) -> None:
    configured("{rollout: {percent: 50%, bundle: candidate}, shadow: {bundle: candidate}}")
    revisions = set()
    for number in range(8):
        subject = f"agent:idp/{number}"
        asked = {
            "subject": {"type": "agent", "id": subject, "properties": {"roles": ["reader"]}},
            "action": {"name": "mcp.tools/call"},
            "resource": {"type": "tool", "id": "weather/get_forecast", "properties": {}},
            "context": {},
        }
        Path("asked.json").write_text(json.dumps(asked))
        found = shell("decide", "--config", "gateway.yaml", "--input", "asked.json", "--json")
        assert found.code == (3 if among(subject, "", 0.5) else 0)
        revisions.add(found.json["revision"])
        named = shell("decide", "--config", "gateway.yaml", "--bundle", "policies", "--input", "asked.json")
        assert named.code == 0, "the folder that was named, for everybody"
    assert len(revisions) == 2


def test_a_reload_looks_at_the_candidates_files_too(folder: Path) -> None:
    from gateway.cli.serve import fingerprint

    configured("{}", POLICY)
    file, own, candidate = Path("gateway.yaml"), Path("policies"), Path("candidate")
    before = fingerprint(file, own, candidate)
    Path("candidate/decision.rego").write_text(CLOSED)
    assert fingerprint(file, own, candidate) != before
    packed = Path("candidate.tar.gz")
    packed.write_bytes(b"one")
    before = fingerprint(file, own, packed)
    packed.write_bytes(b"another")
    assert fingerprint(file, own, packed) != before


def test_a_signed_candidate_is_verified_by_check_and_doctor_as_by_serve(shell: Shell, folder: Path) -> None:
    for name, key in (("mine", KEY), ("other", OTHER)):
        Path(f"{name}.jwks.json").write_text(json.dumps({"keys": [key.jwk()]}))
    Path("candidate.tar.gz").write_bytes(good())
    signed = {"bundle": "candidate.tar.gz"}
    believed(signed, "mine")
    found = shell("check", "gateway.yaml", "--json")
    assert found.code == 0, found.out
    assert found.json["policy.shadow"] == found.json["policy.rollout"] != found.json["policy"]
    document = shell("doctor", "--config", "gateway.yaml", "--json").json
    assert {item["state"] for item in document["checks"] if item["name"].startswith("policy ")} == {"ok"}
    believed(signed, "other")
    found = shell("check", "gateway.yaml", "--json")
    assert found.code == 2
    assert [item["key"] for item in found.json["problems"]] == ["policy.shadow.bundle", "policy.rollout.bundle"]
    document = shell("doctor", "--config", "gateway.yaml", "--json").json
    assert {item["state"] for item in document["checks"] if item["name"] == "policy shadow"} == {"fail"}


def test_a_signed_policy_is_verified_by_check_and_doctor_too(shell: Shell, folder: Path) -> None:
    Path("mine.jwks.json").write_text(json.dumps({"keys": [KEY.jwk()]}))
    Path("own.tar.gz").write_bytes(good())
    believed({"bundle": "own.tar.gz"}, "mine", beside=False)
    found = shell("check", "gateway.yaml", "--json")
    assert (found.code, found.json["policy"][:7]) == (0, "sha256:")
    document = shell("doctor", "--config", "gateway.yaml", "--json").json
    assert {item["state"] for item in document["checks"] if item["name"].startswith("policy")} == {"ok"}
    Path("own.tar.gz").write_bytes(good()[:-20])
    assert shell("check", "gateway.yaml", "--json").code == 2


def believed(side: dict[str, Any], who: str, *, beside: bool = True) -> None:
    signers = [{"name": who, "jwks": {"file": f"{who}.jwks.json"}}]
    policy: dict[str, Any] = {"signers": [who], **({} if beside else side)}
    if beside:
        policy |= {"shadow": side, "rollout": {"percent": "10%", **side}}
    settings = yaml.safe_load(CONFIGURATION) | {"policy": policy, "trust": {"signers": signers}}
    Path("gateway.yaml").write_text(yaml.safe_dump(settings))
