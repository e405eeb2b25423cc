"""The price list as a file: read strictly, to the last digit, and looked over for what is likely a slip."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from gateway import config
from gateway.assembly_prices import PriceFile, read_table
from gateway.ledger.price_lint import lint
from tests.ledger.pricing import NOW, prices

ROOT = Path(__file__).resolve().parent.parent
ROW = "models: [{model: m, input: 1, output: 2}]"


def refused(text: str) -> str:
    with pytest.raises(config.ConfigError) as caught:
        config.read_prices(text.encode(), "prices.yaml")
    return str(caught.value)


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("0.15", 150_000),
        ("'0.15'", 150_000),
        ("5", 5_000_000),
        ("0.000001", 1),
        ("0.100000000", 100_000),
        ("999999999", 999_999_999_000_000),
        ("0", 0),
        ("1.10", 1_100_000),
    ],
)
def test_a_price_is_read_from_its_very_digits(text: str, wanted: int) -> None:
    assert prices(f"models: [{{model: m, input: {text}, output: 1}}]").rows[0].levels[0].rates.input == wanted


@pytest.mark.parametrize(
    "text",
    ["1e-6", "-1", ".5", "'1,5'", "0.0000001", "true", "free", "1_000", "0x10", "1234567890", "[1]", "", "1.", "+1"],
)
def test_what_is_no_plain_price_is_refused(text: str) -> None:
    assert "models[0].input" in refused(f"currency: usd\nmodels: [{{model: m, input: {text}, output: 1}}]")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (ROW, "currency: the key is missing"),
        ("currency: eur\n" + ROW, "currency: not one of usd"),
        ("currency: usd\nmodels: [{model: m, input: 1}]", "models[0].output: the key is missing"),
        ("currency: usd\nmodels: [{model: m, input: 1, output: 2, price: 3}]", "models[0].price: unknown key"),
        ("currency: usd\ncurrency: usd", "twice"),
        ("currency: usd\nmodels: [{model: m, input: 1, output: 2, valid_from: 2026-02-30}]", "not a day"),
        (
            "currency: usd\nmodels: [{model: m, input: 1, output: 2, valid_from: 2026-02-02, valid_until: 2026-02-01}]",
            "before valid_from",
        ),
        ("currency: usd\nmodels: [{model: m, input: 1, output: 2, default_service: fast}]", "no service tier"),
        (
            "currency: usd\nmodels: [{model: m, input: 1, output: 2, tiers: [{above: 9, input: 1, output: 1}, "
            "{above: 9, input: 1, output: 1}]}]",
            "does not ascend",
        ),
        ("currency: usd\ntools: [{tool: a/*}]", "tools[0].per_call: the key is missing"),
        ("currency: usd\ntools: [{tool: a/*, per_call: 1}]\nfree: {tools: [a/*]}", "a/* has a price as well"),
        ("currency: usd\nmodels: [&a {model: m, input: 1, output: 2}]", "anchors are not read"),
    ],
)
def test_a_list_that_could_be_meant_otherwise_is_refused(text: str, said: str) -> None:
    assert said in refused(text)


def row(begins: str, ends: str, name: str = "m", more: str = "") -> str:
    dates = (f", valid_from: {begins}" if begins else "") + (f", valid_until: {ends}" if ends else "")
    return f"{{model: '{name}', input: 1, output: 2{dates}{more}}}"


@pytest.mark.parametrize(
    "others",
    [
        ("", ""), ("2026-01-01", ""), ("", "2026-06-30"), ("2026-06-30", "2026-12-31"), ("2026-03-01", "2026-04-01"),
    ],
)  # fmt: skip
def test_two_prices_for_one_day_are_refused(others: tuple[str, str]) -> None:
    text = f"currency: usd\nmodels: [{row('2026-01-01', '2026-06-30')}, {row(*others)}]"
    assert "has a price for the same days in models[0]" in refused(text)


def test_prices_may_follow_each_other_and_differ_by_upstream() -> None:
    follow = (
        f"models: [{row('2026-01-01', '2026-06-30')}, {row('2026-07-01', '')}, {row('', '', more=', upstream: b')}]"
    )
    assert len(prices(follow).rows) == 3


def test_the_example_is_as_its_schema_says_and_nothing_in_it_looks_wrong() -> None:
    path = ROOT / "config" / "prices.yaml"

    class Loader(yaml.SafeLoader):
        """Without YAML 1.1's dates."""

    jsonschema.validate(yaml.load(path.read_text(), Loader), config.prices_schema())
    jsonschema.Draft202012Validator.check_schema(config.prices_schema())
    assert lint(read_table(path).rows, NOW, {"openai"}) == []


def found(text: str, upstreams: Any = None) -> list[str]:
    return lint(prices(text).rows, NOW, upstreams)


def test_days_without_a_price_are_told() -> None:
    gap = f"models: [{row('2026-01-01', '2026-06-30')}, {row('2026-07-11', '')}]"
    assert found(gap) == ["models m: without a price for 10 days before its last one begins"]
    over = f"models: [{row('2026-01-01', '2026-06-30')}]"
    assert found(over) == ["models m: no price is in force today"]


def test_wildcards_of_which_the_order_decides_are_told() -> None:
    [said] = found(f"models: [{row('', '', 'gpt-*')}, {row('', '', '*mini')}]")
    assert "as specific" in said
    assert found(f"models: [{row('', '', 'gpt-*')}, {row('', '', 'gpt-5*')}]") == []  # the longer one is meant
    assert found(f"models: [{row('', '', 'gpt*')}, {row('', '', 'abc*')}]") == []  # they never meet


def test_a_row_for_an_upstream_that_is_not_there_is_told() -> None:
    text = f"models: [{row('', '', more=', upstream: azure')}]"
    assert found(text, {"openai"}) == ["models m at azure: no upstream is called azure"]
    assert found(text) == []


@pytest.mark.parametrize("price", ["0.0012", "2500", "0.000002"])
def test_a_price_for_the_wrong_number_of_tokens_is_told(price: str) -> None:
    rows = ", ".join(f"{{model: {name}, input: 2, output: 8}}" for name in "abcd")
    said = found(f"models: [{rows}, {{model: e, input: {price}, output: 8}}]")
    assert said == ["models e: input is more than 1000 times off the others: for how many tokens is it?"]


def test_what_is_cheaper_where_it_should_be_dearer_is_told() -> None:
    said = found(
        "models: [{model: m, input: 2, output: 8, cached: 1, tiers: [{above: 9, input: 1, output: 8, cached: 1}], "
        "services: {flex: {input: 1, output: 4}}}, {model: n, input: 2, output: 8, cached: 3}]"
    )
    assert said == [
        "models m: above 9 it is cheaper",
        "models m: above 9 there is no price for cached input: it counts as input",
        "models m: flex has no price for cached input: it counts as input",
        "models n: cached input is dearer than input",
    ]


def test_a_file_that_changed_is_told_of_once(tmp_path: Path) -> None:
    path = tmp_path / "prices.yaml"
    path.write_text("currency: usd\n" + ROW)
    file = PriceFile(path)
    assert not file.changed()
    path.write_text("currency: usd\n" + ROW + " # dearer soon")
    assert file.changed()
    assert not file.changed()
    path.unlink()
    assert not file.changed()  # it is being replaced
    assert not PriceFile(None).changed()


def test_a_file_beyond_all_measure_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "prices.yaml"
    path.write_bytes(b"#" * (config.FILE_LIMIT_BYTES + 1))
    with pytest.raises(config.ConfigError, match="larger than"):
        read_table(path)


def test_the_revision_is_that_of_the_very_bytes(tmp_path: Path) -> None:
    one, other = tmp_path / "a.yaml", tmp_path / "b.yaml"
    one.write_text("currency: usd\n" + ROW)
    other.write_text("currency: usd\n" + ROW + "\n")
    assert read_table(one).revision != read_table(other).revision
