"""The shipped policy and the worked ones in OPA, where there is one: `TOLLGATE_OPA` or `opa` on PATH names a binary."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from tests.pdp import engine_servers
from tests.pdp.test_fidelity import DIFFERENCES

POLICIES = Path(__file__).resolve().parents[2] / "policies"
FOLDERS = ["rego", *sorted(f"worked/{place.name}" for place in (POLICIES / "worked").iterdir())]


@pytest.fixture(scope="module")
def opa() -> str:
    return engine_servers.opa()


def said(*command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)


@pytest.mark.parametrize("folder", FOLDERS)
def test_a_policys_tests_pass_in_opa(opa: str, folder: str) -> None:
    done = said(opa, "test", str(POLICIES / folder), "--format", "json")
    results = json.loads(done.stdout)
    assert [item["name"] for item in results if item.get("fail") or item.get("error")] == []
    assert done.returncode == 0
    assert len(results) >= (50 if folder == "rego" else 10)


@pytest.mark.parametrize("folder", FOLDERS)
def test_opa_has_nothing_to_say_against_it(opa: str, folder: str) -> None:
    done = said(opa, "check", "--strict", str(POLICIES / folder))
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


@pytest.mark.parametrize(("text", "document", "wanted"), [(item[0], item[1], item[3]) for item in DIFFERENCES])
def test_opa_answers_as_was_written_down(opa: str, tmp_path: Path, text: str, document: object, wanted: object) -> None:
    (tmp_path / "t.rego").write_text("package t\n\n" + text + "\n")
    (tmp_path / "input.json").write_text(json.dumps(document))
    done = said(opa, "eval", "-d", str(tmp_path / "t.rego"), "-i", str(tmp_path / "input.json"), "data.t.r")
    result = json.loads(done.stdout).get("result")
    assert (result[0]["expressions"][0]["value"] if result else None) == wanted
