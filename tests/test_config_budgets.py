"""What the configuration says of limits and budgets, and what it may not say."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path

import pytest

from gateway import config
from gateway.assembly_ledger import budget_of
from gateway.core.accounts import MICRO

PLAIN = "name: a, key: [subject.org], unit: tokens, amount: 100, period: month"


@pytest.fixture(autouse=True)
def _a_working_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "policies").mkdir()
    monkeypatch.chdir(tmp_path)


def settings(text: str) -> config.Settings:
    return config.read(text, "gateway.yaml", {})


def budget(text: str) -> config.Budget:
    [found] = settings(f"budgets:\n  - {{{text}}}\n").budgets
    return found


def problem(text: str) -> str:
    with pytest.raises(config.ConfigError) as caught:
        settings(text)
    return str(caught.value)


def wrong(text: str) -> str:
    return problem(f"budgets:\n  - {{{text}}}\n")


def test_a_budget_is_read_with_everything_it_may_say() -> None:
    found = budget_of(
        budget(
            "name: org-month, key: [subject.org, team, run], unit: usd, amount: 41.50, period: month, "
            "zone: Europe/Oslo, anchor: 14, warn_at: [50%, 80%, 99.5%], unpriced: allow, carry: 20%"
        )
    )
    assert (found.amount, found.warn_at, found.carry) == (41_500_000, (500, 800, 995), 200)
    assert (found.zone, found.anchor, found.unpriced) == ("Europe/Oslo", 14, "allow")
    rolling = budget_of(budget("name: r, key: [agent], unit: calls, amount: 5, period: rolling, window: 30d"))
    assert (rolling.window, rolling.zone, rolling.unpriced) == (30 * 86400, "UTC", "deny")


@pytest.mark.parametrize(("written", "micro"), [("0.1", 100_000), ("0.000001", 1), ("1234567.89", 1_234_567_890_000)])
def test_money_is_read_from_its_digits_and_never_from_a_float(written: str, micro: int) -> None:
    found = budget(f"name: a, key: [agent], unit: usd, amount: {written}, period: day")
    assert found.amount == Decimal(written)
    assert budget_of(found).amount == micro
    assert MICRO == 1_000_000


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ("unit: usd, amount: 0.0000001", "amount is finer than usd are counted"),
        ("unit: tokens, amount: 1.5", "amount is finer than tokens are counted"),
        ("unit: usd, amount: 1e3", "not a decimal number"),
        ("unit: usd, amount: -1", "not a decimal number"),
        ("unit: usd, amount: true", "not a decimal number"),
        ("unit: usd, amount: 9999999999", "is not from 0 to"),
        ("unit: euro, amount: 1", "not one of usd, tokens, calls, bytes"),
        ("unit: tokens, amount: 1, unpriced: allow", "unpriced belongs to usd"),
        ("unit: tokens, amount: 1, window: 1h", "window belongs to period: rolling"),
        ("unit: tokens, amount: 1, zone: Mars/Olympus", "no time zone that is known here"),
        ("unit: tokens, amount: 1, zone: ../../etc/passwd", "write a time zone"),
        ("unit: tokens, amount: 1, anchor: 28", "write 0 to 27"),
        ("unit: tokens, amount: 1, warn_at: [80%, 50%]", "warn_at is not ascending"),
        ("unit: tokens, amount: 1, warn_at: [50%, 50%]", "warn_at is not ascending"),
        ("unit: tokens, amount: 1, warn_at: [101%]", "at most 100%"),
        ("unit: tokens, amount: 1, warn_at: [0%]", "not more than 0%"),
        ("unit: tokens, amount: 1, carry: 150%", "at most 100%"),
    ],
)
def test_what_makes_no_sense_is_an_error_that_names_it(changed: str, said: str) -> None:
    assert said in wrong(f"name: a, key: [subject.org], {changed}, period: month")


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ("period: week", "not one of hour, day, month, rolling, total"),
        ("period: rolling", "window belongs to period: rolling"),
        ("period: rolling, window: 30s", "not from 60s"),
        ("period: rolling, window: 60500ms", "in whole seconds"),
        ("period: hour, zone: Europe/Oslo", "zone belongs to a day or a month"),
        ("period: total, anchor: 1", "anchor belongs to a day or a month"),
        ("period: day, anchor: 24", "anchor of a day is 0 to 23 hours"),
        ("period: total, carry: 10%", "carry belongs to a period that ends"),
        ("period: rolling, window: 1h, carry: 10%", "carry belongs to a period that ends"),
    ],
)
def test_a_period_has_only_what_belongs_to_it(changed: str, said: str) -> None:
    assert said in wrong(f"name: a, key: [subject.org], unit: calls, amount: 1, {changed}")


def test_keys_are_known_fields_each_at_most_once() -> None:
    assert "budgets.a.key[0]" in wrong("name: a, key: [subject.name], unit: calls, amount: 1, period: day")
    assert "key names something twice" in wrong("name: a, key: [run, run], unit: calls, amount: 1, period: day")
    assert "the list is empty" in wrong("name: a, key: [], unit: calls, amount: 1, period: day")


def test_a_limit_and_a_budget_cannot_share_a_name() -> None:
    text = f"limits:\n  - {{name: a, key: [agent], rate: 1/second}}\nbudgets:\n  - {{{PLAIN}}}\n"
    assert "a limit has this name" in problem(text)


def test_a_limit_may_be_sliding_or_in_shadow() -> None:
    text = "limits:\n  - {name: a, key: [team], rate: 5/minute, window: sliding, shadow: true}\n"
    [found] = settings(text).limits
    assert (found.window, found.shadow, found.key) == ("sliding", True, ("team",))
    head = "limits:\n  - {name: a, key: [team], window: sliding, "
    for more in ("rate: 5/minute, burst: 2", "concurrent: 2"):
        assert "sliding belongs to a rate without burst" in problem(f"{head}{more}}}\n")


def test_a_team_is_taken_from_where_the_issuer_has_it(tmp_path: Path) -> None:
    jwks = tmp_path / "keys.json"
    jwks.write_text('{"keys": []}')
    text = (
        "trust:\n  issuers:\n    - {name: idp, issuer: https://idp.example, audience: t, "
        f"jwks: {{file: {jwks}}}, team: {{claim: squad, of: [red, blue]}}}}\n"
    )
    [issuer] = settings(text).trust.issuers
    assert issuer.team is not None
    assert (issuer.team.claim, issuer.team.of) == ("squad", ("red", "blue"))
