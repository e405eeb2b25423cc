"""What calls cost by a price list, before and after: exact, by the most specific row, at the worst level reachable."""

from __future__ import annotations

from decimal import ROUND_CEILING, Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.assembly_prices import read_table
from gateway.core.accounts import STEP_TOKENS, Worst
from gateway.core.exchange import Call, Exchange
from gateway.ledger.prices import KNOWN_NAMES, PriceTable
from gateway.protocols.http import Http
from tests.ledger.pricing import exchange, model, prices

ASK = {"messages": [{"role": "user", "content": "Snow in Oslo?"}]}
LONG = {"messages": [{"role": "user", "content": "x " * 450_000}]}  # 300,000 tokens by the estimate


def used(found: Exchange, **counts: Any) -> int | None:
    for name, count in counts.items():
        setattr(found.usage, name, count)
    return found.snapshot.prices.cost(found)


def worst(found: Exchange) -> Worst:
    return found.snapshot.prices.worst(found)


def tool(name: str, listed: PriceTable, upstream: str = "weather") -> Exchange:
    call = Call("mcp.tools/call", "tool", name)
    return exchange(Http(), "/x", b"{}", upstream=upstream, listed=listed, asked=call)


def test_a_call_is_summed_up_exactly_and_rounded_up_once() -> None:
    listed = prices("models: [{model: m, input: 0.15, output: 0.6, cached: 0.075, per_call: 0.000000000001}]")
    found = model("chat", ASK, listed=listed)
    # 1 token of input is 0.15 micro-dollars: with 7 cached and 3 of output 0.15 * 4 + 0.075 * 7 + 0.6 * 3 and a speck
    assert used(found, input_tokens=11, cached_tokens=7, output_tokens=3) == 3
    assert used(found, input_tokens=0, cached_tokens=0, output_tokens=0) == 1


def test_two_kinds_of_calls_of_one_name_have_each_their_price() -> None:
    listed = prices("tools: [{tool: x, per_call: 0.01}]\nagents: [{agent: x, per_call: 0.02}]")
    for action, usd in (("mcp.tools/call", 10_000), ("a2a.SendMessage", 20_000)) * 2:
        found = exchange(Http(), "/x", b"{}", listed=listed, asked=Call(action, "tool", "x"))
        assert (worst(found).usd, used(found)) == (usd, usd)


@settings(deadline=None)
@given(
    rates=st.lists(st.integers(0, 10**9), min_size=4, max_size=4),
    counts=st.lists(st.integers(0, 10**7), min_size=4, max_size=4),
)
def test_no_token_is_lost_or_paid_twice(rates: list[int], counts: list[int]) -> None:
    """Against the sum as one would do it by hand, in decimals."""
    names = ("input", "cached", "output", "reasoning")
    shown = [f"{Decimal(rate).scaleb(-6):f}" for rate in rates]
    row = ", ".join(f"{name}: {price}" for name, price in zip(names, shown, strict=True))
    listed = prices(f"models: [{{model: m, {row}}}]")
    read, cached, said, thought = counts
    found = used(
        model("chat", ASK, listed=listed),
        input_tokens=read + cached, cached_tokens=cached, output_tokens=said + thought, reasoning_tokens=thought,
    )  # fmt: skip
    dollars = sum(Decimal(price) * count for price, count in zip(shown, counts, strict=True)) / 10**6
    assert found == int((dollars * 10**6).to_integral_value(ROUND_CEILING))


EVERY_KIND = """
models:
  - {model: m, input: 1, output: 10, cached: 0.1, cache_write: 2, cache_write_1h: 4, reasoning: 20, image: 5,
     image_output: 50, audio: 7, audio_output: 70}
"""


@pytest.mark.parametrize(
    ("counts", "wanted"),
    [
        ({"cached_tokens": 40}, 60 + 4),
        ({"cache_write_tokens": 40}, 60 + 80),
        ({"cache_write_tokens": 40, "cache_write_1h_tokens": 30}, 60 + 20 + 120),
        ({"image_tokens": 40}, 60 + 200),
        ({"audio_tokens": 40}, 60 + 280),
        ({"reasoning_tokens": 5}, 100 + 50 + 100),
        ({"image_output_tokens": 5}, 100 + 50 + 250),
        ({"audio_output_tokens": 5}, 100 + 50 + 350),
    ],
)
def test_each_kind_of_token_has_its_price_and_is_taken_out_of_what_it_is_part_of(
    counts: dict[str, int], wanted: int
) -> None:
    found = model("chat", ASK, listed=prices(EVERY_KIND))
    output = (
        10 if any(name in counts for name in ("reasoning_tokens", "image_output_tokens", "audio_output_tokens")) else 0
    )
    assert used(found, input_tokens=100, output_tokens=output, **counts) == wanted


def test_a_kind_without_a_price_of_its_own_costs_as_what_it_is_part_of() -> None:
    found = model("chat", ASK, listed=prices("models: [{model: m, input: 1, output: 10}]"))
    parts = dict.fromkeys(("cached_tokens", "cache_write_tokens", "image_tokens", "audio_tokens"), 20)
    said = dict.fromkeys(("reasoning_tokens", "image_output_tokens", "audio_output_tokens"), 2)
    assert used(found, input_tokens=100, output_tokens=10, **parts, **said) == 200


SPECIFIC = """
models:
  - {model: "*", input: 9, output: 9}
  - {model: gpt-5*, input: 1, output: 1}
  - {model: gpt-5-mini*, input: 2, output: 2}
  - {model: gpt-5-mini, input: 3, output: 3}
  - {model: gpt-5*, upstream: azure, input: 4, output: 4}
"""


@pytest.mark.parametrize(
    ("name", "upstream", "wanted"),
    [
        ("gpt-5", "openai", 1),
        ("gpt-5-nano", "openai", 1),
        ("gpt-5-mini-2026-08-07", "openai", 2),
        ("gpt-5-mini", "openai", 3),
        ("gpt-5-mini", "azure", 4),
        ("llama", "azure", 9),
        ("gpt-5\nmini", "openai", 1),
        ("GPT-5", "openai", 9),
    ],
)
def test_the_most_specific_row_decides(name: str, upstream: str, wanted: int) -> None:
    found = model("chat", {**ASK, "model": name}, listed=prices(SPECIFIC), upstream=upstream)
    assert used(found, input_tokens=1, output_tokens=0) == wanted


DATED = """
models:
  - {model: "*", input: 9, output: 9}
  - {model: m, input: 1, output: 1, valid_until: 2026-08-31}
  - {model: m, input: 2, output: 2, valid_from: 2026-09-01, valid_until: 2026-09-30}
"""
SEPTEMBER = 1_788_220_800  # 2026-09-01T00:00:00Z


@pytest.mark.parametrize(
    ("time", "wanted"),
    [(SEPTEMBER - 1, 1), (SEPTEMBER, 2), (SEPTEMBER + 30 * 86400 - 1, 2), (SEPTEMBER + 30 * 86400, None)],
)
def test_a_price_holds_from_its_first_day_to_the_end_of_its_last_and_nothing_general_replaces_it(
    time: int, wanted: int | None
) -> None:
    found = model("chat", ASK, listed=prices(DATED), time=float(time))
    assert used(found, input_tokens=1, output_tokens=0) == wanted
    assert (worst(found).usd is None) == (wanted is None)


def test_what_is_not_listed_has_no_price_and_what_is_free_is_said_to_be() -> None:
    listed = prices("free: {models: [llama-*], tools: [weather/*]}")
    assert used(model("chat", ASK, listed=listed), input_tokens=5, output_tokens=5) is None
    assert worst(model("chat", ASK, listed=listed)).usd is None
    llama = model("chat", {**ASK, "model": "llama-4"}, listed=listed)
    assert (worst(llama).usd, used(llama, input_tokens=5, output_tokens=5)) == (0, 0)
    assert used(tool("weather/get", listed)) == 0
    assert used(tool("mail/send", listed, "mail")) is None


def test_without_a_list_nothing_has_a_price_and_tokens_are_reckoned_all_the_same() -> None:
    found = model("chat", {**ASK, "max_tokens": 100})
    assert worst(found).usd is None
    assert worst(found).tokens == worst(found).input + 100
    assert not PriceTable().listed


@pytest.mark.parametrize("action", ["mcp.tools/list", "mcp.initialize", "llm.count_tokens", "llm.models", "ws.open"])
def test_what_is_not_charged_costs_nothing(action: str) -> None:
    asked = Call(action, "endpoint", "x")
    found = exchange(Http(), "/x", b"{}", listed=prices("tools: [{tool: '*', per_call: 1}]"), asked=asked)
    assert (worst(found).usd, worst(found).tokens, used(found)) == (0, 0, 0)


def test_tools_agents_and_paths_cost_by_the_call() -> None:
    listed = prices(
        "tools: [{tool: search/*, per_call: 0.005}]\nagents: [{agent: concierge, per_call: 0.02}]\n"
        "http: [{path: /v2/*, upstream: maps, per_call: 0.0000005}]"
    )
    assert used(tool("search/web", listed, "search")) == 5000
    agent = Call("a2a.SendMessage", "agent", "concierge")
    assert used(exchange(Http(), "/c", b"{}", upstream="concierge", listed=listed, asked=agent)) == 20_000
    path = Call("http.GET", "endpoint", "/v2/tiles")
    assert used(exchange(Http(), "/v2/tiles", None, upstream="maps", listed=listed, asked=path)) == 1
    assert used(exchange(Http(), "/v2/tiles", None, upstream="other", listed=listed, asked=path)) is None


REPORTING = "tools: [{tool: render/*, per_call: 0.10, reported_up_to: 2}]"


@pytest.mark.parametrize(
    ("reported", "estimated", "wanted"),
    [(None, False, 100_000), (50_000, False, 50_000), (0, False, 0), (2_500_000, False, 2_000_000),
     (None, True, 2_000_000)],
)  # fmt: skip
def test_what_a_tool_says_it_cost_counts_up_to_the_cap_and_unread_it_is_the_cap(
    reported: int | None, estimated: bool, wanted: int
) -> None:
    found = tool("render/video", prices(REPORTING), "render")
    assert worst(found).usd == 2_000_000
    assert found.snapshot.prices.reads(found)
    assert used(found, reported=reported, estimated=estimated) == wanted


def test_a_tools_word_counts_nowhere_else() -> None:
    listed = prices("tools: [{tool: render/*, per_call: 0.10}]")
    assert not listed.reads(tool("render/video", listed, "render"))
    assert used(tool("render/video", listed, "render"), reported=5) == 100_000


TIERED = """
models:
  - model: m
    input: 5
    cached: 0.5
    output: 30
    tiers: [{above: 272000, input: 10, cached: 1, output: 45}]
    services:
      flex: {input: 2.5, output: 15}
      priority: {input: 12.5, output: 75, tiers: [{above: 272000, input: 25, output: 100}]}
"""


def test_a_long_call_is_billed_at_its_level_whole() -> None:
    found = model("chat", ASK, listed=prices(TIERED))
    assert used(found, input_tokens=272_000, output_tokens=1000) == 272_000 * 5 + 1000 * 30
    assert used(found, input_tokens=272_001, output_tokens=1000) == 272_001 * 10 + 1000 * 45


def test_a_long_call_is_reserved_at_the_level_that_it_will_be_billed_at() -> None:
    """As LiteLLM #40002: a reservation at the plain price let a long call through for half of what it was billed."""
    found = model("chat", {**LONG, "max_tokens": 1000}, listed=prices(TIERED))
    reserved = worst(found)
    assert reserved.input > 272_000
    assert reserved.usd == reserved.input * 10 + 1000 * 45
    billed = used(found, input_tokens=reserved.input, output_tokens=1000)
    assert billed is not None
    assert reserved.usd >= billed


@pytest.mark.parametrize(
    ("said", "reserved", "billed"),
    [
        ({}, (5, 30), (5, 30)),
        ({"service_tier": "auto"}, (5, 30), (5, 30)),
        ({"service_tier": "default"}, (5, 30), (5, 30)),
        ({"service_tier": "flex"}, (5, 30), (2.5, 15)),  # the vendor may serve it at the plain price
        ({"service_tier": "priority"}, (12.5, 75), (12.5, 75)),
    ],
)
def test_a_service_tier_is_reserved_at_its_price_and_never_below_the_plain_one(
    said: dict[str, str], reserved: tuple[float, float], billed: tuple[float, float]
) -> None:
    """The other half of #40002."""
    found = model("chat", {**ASK, "max_tokens": 1000, **said}, listed=prices(TIERED))
    held = worst(found)
    assert held.usd == -(-int(held.input * reserved[0] * 10) // 10) + 1000 * reserved[1]
    assert used(found, input_tokens=1000, output_tokens=1000) == 1000 * billed[0] + 1000 * billed[1]


@pytest.mark.parametrize("name", ["m", "other"])
def test_a_priority_call_that_is_long_is_the_dearest(name: str) -> None:
    listed = prices(TIERED.replace("model: m", f"model: {name}"))
    found = model("chat", {**LONG, "model": name, "max_tokens": 10, "service_tier": "priority"}, listed=listed)
    assert worst(found).usd == worst(found).input * 25 + 10 * 100


def test_a_service_tier_without_a_price_has_none() -> None:
    found = model("chat", {**ASK, "max_tokens": 10, "service_tier": "turbo"}, listed=prices(TIERED))
    assert worst(found).usd is None
    fast = model("messages", {**ASK, "max_tokens": 10, "speed": "fast"}, listed=prices(TIERED))
    assert worst(fast).usd is None


def test_billed_is_the_tier_that_the_vendor_said() -> None:
    found = model("chat", {**ASK, "service_tier": "priority"}, listed=prices(TIERED))
    assert used(found, input_tokens=1000, output_tokens=0, tier="default") == 5000
    assert used(found, input_tokens=1000, output_tokens=0, tier="priority") == 12_500
    assert used(found, input_tokens=1000, output_tokens=0, tier="unheard-of") == 12_500  # the dearest there is


def test_a_tier_that_is_meant_without_being_named_is_said_in_the_list() -> None:
    listed = prices(TIERED + "    default_service: priority\n")
    found = model("chat", {**ASK, "max_tokens": 0}, listed=listed)
    assert used(found, input_tokens=1000, output_tokens=0) == 12_500
    plain = model("chat", {**ASK, "service_tier": "default"}, listed=listed)
    assert used(plain, input_tokens=1000, output_tokens=0) == 5000


def test_a_level_that_is_cheaper_does_not_lower_what_is_reserved() -> None:
    listed = prices("models: [{model: m, input: 10, output: 10, tiers: [{above: 1000, input: 1, output: 1}]}]")
    found = model("chat", {"messages": [{"role": "user", "content": "x" * 4000}], "max_tokens": 10}, listed=listed)
    assert worst(found).input > 1000
    assert worst(found).usd == 1000 * 10 + 10 * 10


CACHED = "models: [{model: m, input: 1, output: 1, cached: 0.1, cache_write: 2, cache_write_1h: 4, audio: 8, image: 6}]"


@pytest.mark.parametrize(
    ("api", "content", "dearest"),
    [
        ("messages", [{"type": "text", "text": "x"}], 1),
        ("messages", [{"type": "text", "text": "x", "cache_control": {"type": "ephemeral"}}], 2),
        ("messages", [{"type": "text", "text": "x", "cache_control": {"type": "ephemeral", "ttl": "1h"}}], 4),
        ("chat", [{"type": "text", "text": "x"}], 2),  # this vendor writes to its cache unasked
        ("chat", [{"type": "input_audio", "input_audio": {"data": "AAAA", "format": "wav"}}], 8),
        ("chat", [{"type": "image_url", "image_url": {"url": "https://x/p.png"}}], 6),
    ],
)
def test_input_is_reserved_at_the_dearest_kind_that_the_body_can_have(api: str, content: Any, dearest: int) -> None:
    body = {"messages": [{"role": "user", "content": content}], "max_tokens": 5}
    found = model(api, body, listed=prices(CACHED))
    assert worst(found).usd == worst(found).input * dearest + 5


STEPS = "models: [{model: m, input: 1, output: 10}, {model: thinks, input: 1, output: 10, reasoning: true}]"


def test_a_stream_that_is_all_seen_is_reserved_step_by_step_up_to_its_bound() -> None:
    found = model("chat", {**ASK, "stream": True, "max_tokens": 2500}, listed=prices(STEPS))
    held = found.worst = worst(found)
    assert held.stepwise
    assert (held.usd, held.tokens) == (held.input + STEP_TOKENS * 10, held.input + STEP_TOKENS)
    seen = (-STEP_TOKENS, 1, 1000, 2400, 9000)
    steps = [found.snapshot.prices.worst(found, count).tokens - held.input for count in seen]
    assert steps == [0, 1 + STEP_TOKENS, 1000 + STEP_TOKENS, 2500, 2500]


def test_a_stream_without_any_bound_grows_on() -> None:
    found = model("chat", {**ASK, "stream": True}, listed=prices(STEPS))
    found.worst = worst(found)
    assert found.worst.assumed
    assert found.snapshot.prices.worst(found, 100_000).tokens == found.worst.input + 100_000 + STEP_TOKENS


def test_what_is_not_all_seen_is_reserved_whole() -> None:
    thinking = model("chat", {**ASK, "model": "thinks", "stream": True, "max_tokens": 2500}, listed=prices(STEPS))
    assert not worst(thinking).stepwise
    assert worst(thinking).usd == worst(thinking).input + 25_000
    answer = model("chat", {**ASK, "max_tokens": 2500}, listed=prices(STEPS))
    assert not worst(answer).stepwise
    unknown = model("chat", {**ASK, "model": "x", "stream": True, "max_tokens": 2500}, listed=prices(STEPS))
    assert not worst(unknown).stepwise


def test_a_model_that_is_asked_to_think_shows_a_summary_of_what_is_paid_for() -> None:
    for said, hidden in (({"type": "enabled", "budget_tokens": 2048}, True), ({"type": "disabled"}, False)):
        body = {**ASK, "stream": True, "max_tokens": 4000, "thinking": said}
        found = worst(model("messages", body, listed=prices(STEPS)))
        assert (found.hidden, found.stepwise) == (hidden, not hidden)
        assert found.output == 4000
    assert worst(model("chat", {**ASK, "model": "thinks", "stream": True}, listed=prices(STEPS))).hidden


def test_an_error_that_says_nothing_of_usage_costs_nothing() -> None:
    assert used(model("chat", ASK, listed=prices("models: [{model: m, input: 1, output: 1, per_call: 1}]"))) == 0


def test_names_that_callers_make_up_fill_no_memory() -> None:
    listed = prices(SPECIFIC)
    for number in range(2 * KNOWN_NAMES + 5):
        [row] = listed._best("models", "openai", f"gpt-5-{number}")
        assert row.pattern == "gpt-5*"
        assert len(listed._known) <= KNOWN_NAMES


@settings(deadline=None)
@given(
    content=st.integers(0, 1_200_000),
    bound=st.integers(1, 50_000),
    tier=st.sampled_from([None, "auto", "default", "flex", "priority"]),
    share=st.floats(0, 1),
    billed=st.sampled_from(["", "default", "flex", "priority"]),
)
def test_a_call_within_its_estimates_never_costs_more_than_was_reserved(
    content: int, bound: int, tier: str | None, share: float, billed: str
) -> None:
    """Whatever tier the vendor bills of those that the caller let it choose from."""
    body = {"messages": [{"role": "user", "content": "x" * content}], "max_tokens": bound, "service_tier": tier}
    found = model("chat", body, listed=prices(TIERED))
    held = worst(found)
    if billed not in ("", "default", tier):
        billed = "default"
    cost = used(found, input_tokens=int(held.input * share), output_tokens=bound, tier=billed)
    assert held.usd is not None
    assert cost is not None
    assert cost <= held.usd


def test_the_example_list_prices_what_it_shows() -> None:
    listed = read_table(Path(__file__).resolve().parents[2] / "config" / "prices.yaml")
    for name in ("gpt-5.5", "gpt-5-mini-2026-08-07", "claude-sonnet-4-5-20250929", "gpt-4o"):
        found = model("chat", {**ASK, "model": name, "max_tokens": 100}, listed=listed)
        assert (worst(found).usd or 0) > 0, name
