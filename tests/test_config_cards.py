"""The configuration of agent cards: the strict choice unless the file says otherwise, and only what makes sense."""

from __future__ import annotations

from pathlib import Path

import pytest

from gateway.config import Card, ConfigError, Settings, read

AGENT = """\
trust: {{signers: [{{name: acme, jku: ["https://acme.example"]}}]}}
upstreams:
  agent: {{url: "http://127.0.0.1:9001", protocol: {protocol}, card: {card}}}
routes:
  - {{name: agent, match: {{path: /agent}}, upstream: agent}}
"""


@pytest.fixture(autouse=True)
def _a_working_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "policies").mkdir()
    monkeypatch.chdir(tmp_path)


def settings(card: str, protocol: str = "a2a") -> Settings:
    return read(AGENT.format(card=card, protocol=protocol), "gateway.yaml", {})


def test_a_card_that_is_named_is_required_and_signed_anew() -> None:
    assert settings("{signers: [acme]}").upstreams["agent"].card == Card(
        signers=("acme",), required=True, mode="resign", refresh=300.0, stale=86400.0
    )
    whole = "{signers: [acme], required: false, mode: preserve, refresh: 10s, stale: 1h}"
    assert settings(whole).upstreams["agent"].card == Card(
        signers=("acme",), required=False, mode="preserve", refresh=10.0, stale=3600.0
    )


@pytest.mark.parametrize(
    ("card", "protocol", "wrong"),
    [
        ("{}", "a2a", "signers"),
        ("{signers: []}", "a2a", "signers"),
        ("{signers: [other]}", "a2a", "no signer is called other"),
        ("{signers: [acme], mode: verbatim}", "a2a", "mode"),
        ("{signers: [acme], refresh: 0s}", "a2a", "refresh"),
        ("{signers: [acme], stale: none}", "a2a", "stale"),
        ("{signers: [acme], required: maybe}", "a2a", "required"),
        ("{signers: [acme], url: https://elsewhere.example}", "a2a", "url"),
        ("{signers: [acme]}", "mcp", "it is for a2a"),
        ("{signers: [acme]}", "http", "it is for a2a"),
    ],
)
def test_a_card_that_makes_no_sense_is_an_error_that_names_the_key(card: str, protocol: str, wrong: str) -> None:
    with pytest.raises(ConfigError) as caught:
        settings(card, protocol)
    assert any("upstreams.agent.card" in str(problem) and wrong in str(problem) for problem in caught.value.problems)
