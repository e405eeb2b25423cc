"""Breakers, retries and several addresses in the configuration."""

from __future__ import annotations

from pathlib import Path

import pytest
from test_config import MINIMAL, problems, settings

from gateway.assembly_upstreams import make_upstream


@pytest.fixture(autouse=True)
def _a_working_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "policies").mkdir()
    monkeypatch.chdir(tmp_path)


def mcp(more: str) -> str:
    return MINIMAL.replace("protocol: mcp", f"protocol: mcp, {more}")


def several(*urls: str, more: str = "") -> str:
    listed = ", ".join(f"'{url}'" for url in urls)
    return MINIMAL.replace('url: "http://127.0.0.1:9001/mcp"', f"urls: [{listed}]{more}")


def test_without_a_word_of_it_nothing_is_retried_or_left_alone() -> None:
    found = settings(MINIMAL).upstreams["weather"]
    assert (found.breaker, found.retries, found.balance, found.urls) == (None, None, None, ())
    made = make_upstream("weather", found, None)
    assert (made.breaker, made.retries, made.members) == (None, None, ())


def test_the_contracts_example_is_read() -> None:
    text = mcp("retries: {attempts: 2, budget: 10%}, breaker: {failures: 5, window: 30s, open: 10s, half_open: 1}")
    made = make_upstream("weather", settings(text).upstreams["weather"], None)
    assert made.retries is not None
    assert made.breaker is not None
    assert (made.retries.attempts, made.retries.budget) == (2, 100)
    assert (made.breaker.failures, made.breaker.window_s, made.breaker.open_s, made.breaker.half_open) == (5, 30, 10, 1)
    assert (made.breaker.rate, made.breaker.slow_rate, made.breaker.per_tool) == (500, 0, False)


def test_several_addresses_are_one_upstream_at_each_of_them() -> None:
    found = settings(several("https://a.example/mcp", "https://b.example:8443/mcp")).upstreams["weather"]
    assert found.url == "https://a.example/mcp"
    made = make_upstream("weather", found, None)
    assert [(item.host, item.port, item.authority) for item in made.members] == [
        ("a.example", 443, "a.example"),
        ("b.example", 8443, "b.example:8443"),
    ]
    assert made == made.members[0]
    assert all(made.means(item) for item in made.members)
    assert make_upstream("weather", settings(several("http://a/mcp")).upstreams["weather"], None).members == ()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (MINIMAL.replace('url: "http://127.0.0.1:9001/mcp", ', ""), "exactly one of url, urls"),
        (mcp("urls: [http://b/mcp]"), "exactly one of url, urls"),
        (several("http://a/mcp", "http://A/mcp"), "the same address twice"),
        (several("http://a/mcp", "https://b/mcp"), "different schemes or paths"),
        (several("http://a/mcp", "http://b/other"), "different schemes or paths"),
        (several("http://a/mcp", more=", balance: {}"), "balance without several urls"),
        (several("http://a/mcp", "http://b/mcp", more=", auth: transparent"), "transparent with several urls"),
        (several(), "the list is empty"),
        (mcp("breaker: {per: tool}").replace("mcp,", "http,"), "tools of an upstream that speaks http"),
        (mcp("breaker: {rate: 0%}"), "0% would open it always"),
        (mcp("breaker: {open: 1m, open_most: 1s}"), "open_most is shorter than open"),
        (several("http://a/mcp", "http://b/mcp", more=", balance: {eject: 1h}"), "eject_most is shorter"),
        (mcp("breaker: {failures: 0}"), "out of range"),
        (mcp("retries: {attempts: 1}"), "out of range"),
        (mcp("retries: {budget: 10}"), "a share like"),
        (several("http://a/mcp", "http://b/mcp", more=", balance: {health: {path: healthz}}"), "a path like"),
        (several("http://a/mcp", "http://b/mcp", more=", balance: {health: {}}"), "the key is missing"),
    ],
)
def test_what_makes_no_sense_is_said(text: str, said: str) -> None:
    assert any(said in problem for problem in problems(text))


def test_a_breaker_per_tool_belongs_to_mcp() -> None:
    assert settings(mcp("breaker: {per: tool}")).upstreams["weather"].breaker is not None
