"""The lines that the demo prints to be pasted do what is written beside them."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from gateway.demo.started import upstreams
from gateway.demo.story import curl_lines
from tests.rig import ROOT, gateway, routes_to


def test_each_printed_line_does_what_it_says(tmp_path: Path) -> None:
    if shutil.which("curl") is None:
        pytest.skip("curl is not installed: the demo's lines are not run")
    demo = yaml.safe_load((ROOT / "config" / "demo.yaml").read_text())
    paid = {"budgets": demo["budgets"], "prices": str(ROOT / demo["prices"])}
    with upstreams() as bases, gateway(tmp_path, **routes_to(bases), **paid) as running:
        lines = curl_lines(running.url, running.issuer.token())
        said = {
            name: subprocess.run(["sh", "-c", line], capture_output=True, text=True, timeout=30, check=True).stdout
            for name, line in lines.items()
        }
    assert list(said) == ["allowed", "denied", "streamed", "stopped"]
    allowed = json.loads(said["allowed"].partition("\n\n")[2])
    assert "Oslo" in allowed["result"]["content"][0]["text"]
    denied = json.loads(said["denied"].partition("\n\n")[2])
    assert denied["error"]["code"] == -31403
    assert "measurements" in denied["error"]["message"]
    assert said["streamed"].rstrip().endswith("data: [DONE]")
    assert "budget_exhausted" not in said["streamed"]
    *story, error, done = said["stopped"].rstrip().split("\n\n")
    assert len(story) > 50
    assert json.loads(error.removeprefix("data: "))["error"]["code"] == "budget_exhausted"
    assert done == "data: [DONE]"
