"""The configuration of candidates: what is strict about it, and what it means when nothing is said."""

from __future__ import annotations

from pathlib import Path

import pytest

from gateway import config
from gateway.assembly_candidates import of_side
from gateway.config import ConfigError


def read(text: str) -> config.Policy:
    return config.read(text, "gateway.yaml", {}).policy


@pytest.fixture(autouse=True)
def folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("policies", "candidate"):
        (tmp_path / name).mkdir()
    (tmp_path / "gateway.tar.gz").write_bytes(b"")
    monkeypatch.chdir(tmp_path)


def test_nothing_is_beside_the_policy_unless_it_is_said() -> None:
    found = read("{}")
    assert (found.mode, found.shadow, found.rollout) == ("enforce", None, None)


def test_what_a_candidate_does_not_say_is_as_in_policy() -> None:
    found = read("policy: {timeout: 100ms, shadow: {bundle: candidate}, rollout: {percent: 10%, bundle: candidate}}")
    assert found.shadow is not None
    assert found.rollout is not None
    assert (found.shadow.sample, found.shadow.queue, found.rollout.percent, found.rollout.salt) == (1.0, 256, 0.1, "")
    for side in (found.shadow, found.rollout):
        made = of_side(found, side)
        assert (made.bundle, made.timeout, made.shadow, made.rollout) == (Path("candidate"), 0.1, None, None)


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ("{shadow: {}}", "policy.shadow.bundle"),
        ("{shadow: {bundle: nowhere}}", "policy.shadow.bundle"),
        ("{shadow: {bundle: gateway.tar.gz}}", "policy.shadow.bundle"),
        ("{shadow: {bundle: candidate, sample: 0%}}", "policy.shadow"),
        ("{shadow: {bundle: candidate, sample: 101%}}", "policy.shadow.sample"),
        ("{shadow: {bundle: candidate, queue: 0}}", "policy.shadow.queue"),
        ("{shadow: {bundle: candidate, mode: report}}", "policy.shadow.mode"),
        ("{shadow: {engine: cerbos, url: http://127.0.0.1:3593, cerbos: {jwt: {}}}}", "policy.shadow.cerbos.jwt"),
        ("{rollout: {bundle: candidate}}", "policy.rollout.percent"),
        ("{rollout: {percent: 10%}}", "policy.rollout.bundle"),
        ("{rollout: {percent: 10, bundle: candidate}}", "policy.rollout.percent"),
        ("{mode: log}", "policy.mode"),
    ],
)
def test_what_cannot_be_meant_is_an_error_that_names_the_key(text: str, key: str) -> None:
    with pytest.raises(ConfigError) as caught:
        read(f"policy: {text}\n")
    (problem,) = caught.value.problems
    assert problem.key == key
