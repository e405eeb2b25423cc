"""`tollgate check`: problems with their places, the starter, the schema, the policy and the key file."""

from __future__ import annotations

from pathlib import Path

import orjson
import pytest

from gateway.config import reference
from tests.cli.rig_cli import Shell


def test_a_right_configuration_is_0_and_says_what_it_has(shell: Shell, folder: Path) -> None:
    found = shell("check", "gateway.yaml")
    assert found.code == 0
    assert found.out.startswith("gateway.yaml: ok (routes 1, upstreams 1, policy sha256:")
    document = shell("check", "gateway.yaml", "--json").json
    assert (document["ok"], document["routes"], document["evaluated"]) == (True, 1, "in process")


def test_every_problem_is_told_with_its_place_and_the_code_is_2(shell: Shell, folder: Path) -> None:
    Path("bad.yaml").write_text("listen: 8080\nrouts: []\nsso: {}\n")
    found = shell("check", "bad.yaml")
    assert (found.code, found.out) == (2, "")
    assert [line.split(": ")[0] for line in found.err.splitlines()] == ["bad.yaml:1", "bad.yaml:2", "bad.yaml:3"]
    document = shell("check", "bad.yaml", "--json").json
    assert document["ok"] is False
    assert [(item["line"], item["key"]) for item in document["problems"]] == [
        (1, "listen"),
        (2, "routs"),
        (3, "sso"),
    ]


def test_a_policy_that_would_not_be_served_is_a_problem(shell: Shell, folder: Path) -> None:
    Path("policies/decision.rego").write_text("package tollgate\n\ndecision := http.send({}).body\n")
    found = shell("check", "gateway.yaml")
    assert found.code == 2
    assert "policy.bundle: " in found.err
    Path("policies/decision.rego").unlink()
    assert shell("check", "gateway.yaml").code == 2


def test_what_a_policy_can_hardly_mean_is_told_and_served(shell: Shell, folder: Path) -> None:
    Path("policies/decision.rego").write_text('package tollgate\n\ndecision if "reader" in input.subject.roles\n')
    found = shell("check", "gateway.yaml")
    assert found.code == 0
    assert found.out.startswith("gateway.yaml: ok")
    assert "policy: decision.rego:3: no request has input.subject.roles" in found.err


def test_a_key_file_that_would_not_be_read_is_a_problem(shell: Shell, folder: Path) -> None:
    text = Path("gateway.yaml").read_text()
    Path("gateway.yaml").write_text(text + "trust: {api_keys: {file: keys.yaml}}\n")
    Path("keys.yaml").write_text("- {id: ci, sha256: 12}\n")
    found = shell("check", "gateway.yaml")
    assert found.code == 2
    assert "trust.api_keys.file: " in found.err


def test_secrets_need_not_be_there_where_one_says_so(shell: Shell, folder: Path) -> None:
    text = Path("gateway.yaml").read_text()
    credentials = "protocol: http, credentials: {header: authorization, value: {env: NOT_SET_HERE}}"
    Path("gateway.yaml").write_text(text.replace("protocol: http", credentials))
    assert shell("check", "gateway.yaml").code == 2
    assert shell("check", "gateway.yaml", "--without-secrets").code == 0


def test_the_example_passes_check_as_it_stands(shell: Shell, folder: Path) -> None:
    example = shell("check", "--example")
    assert example.code == 0
    Path("example.yaml").write_text(example.out)
    assert shell("check", "example.yaml").code == 0
    assert example.out.count("#") > 10


def test_the_reference_is_the_one_in_the_repository(shell: Shell, folder: Path) -> None:
    assert shell("check", "--reference").out == reference()


def test_the_schema_takes_the_example_and_refuses_what_check_refuses(shell: Shell, folder: Path) -> None:
    schema = orjson.loads(shell("check", "--schema").out)
    assert schema["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    validator = pytest.importorskip("jsonschema").Draft202012Validator
    yaml = pytest.importorskip("yaml")
    validator.check_schema(schema)
    judge = validator(schema)
    assert list(judge.iter_errors(yaml.safe_load(shell("check", "--example").out))) == []
    assert list(judge.iter_errors(yaml.safe_load(reference()))) == []
    for wrong in ({"routs": []}, {"listen": 8080}, {"front": {"body_bytes": "4MB"}}, {"sso": {}}):
        assert list(judge.iter_errors(wrong)), wrong


def test_a_file_that_is_not_there_says_how_to_get_one(shell: Shell, folder: Path) -> None:
    found = shell("check", "nowhere.yaml")
    assert found.code == 2
    assert "tollgate check --example > nowhere.yaml" in found.err
    assert shell("check").code == 2


def test_the_price_list_is_read_and_looked_over(shell: Shell, folder: Path) -> None:
    Path("gateway.yaml").write_text(Path("gateway.yaml").read_text() + "\nprices: prices.yaml\n")
    row = "{model: m, input: 1, output: 2, valid_until: 2020-01-01}"
    Path("prices.yaml").write_text(f"currency: usd\nmodels: [{row}]\n")
    found = shell("check", "gateway.yaml")
    assert found.code == 0
    assert "prices.yaml: models m: no price is in force today" in found.err
    assert shell("check", "gateway.yaml", "--json").json["prices"] == 1
    Path("prices.yaml").write_text("currency: usd\nmodels: [{model: m, input: 1}]\n")
    found = shell("check", "gateway.yaml")
    assert (found.code, found.err) == (2, "prices.yaml:2: models[0].output: the key is missing\n")
    Path("prices.yaml").unlink()
    assert shell("check", "gateway.yaml").code == 2
    assert shell("check", "--price-schema").json["title"] == "Tollgate price list"


def test_a_route_on_which_reasoning_can_go_unsaid_is_told(shell: Shell, folder: Path) -> None:
    text = Path("gateway.yaml").read_text().replace("protocol: http", "protocol: openai")
    budget = "budgets: [{name: b, key: [route], unit: usd, amount: 1, period: day}]"
    Path("prices.yaml").write_text("currency: usd\nmodels: [{model: m, input: 1, output: 2, reasoning: true}]\n")
    Path("gateway.yaml").write_text(f"{text}\nprices: prices.yaml\n{budget}\n")
    found = shell("check", "gateway.yaml")
    assert (found.code, "set include_usage: inject" in found.err) == (0, True)
    Path("prices.yaml").write_text("currency: usd\nmodels: [{model: m, input: 1, output: 2}]\n")
    assert "include_usage" not in shell("check", "gateway.yaml").err
