"""The rules by which what was reserved is settled, one by one, through Meter as an exchange meets them."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from gateway.core.accounts import Account, Budget, Charge, Fee, Worst
from gateway.core.exchange import Call, Exchange
from gateway.core.settlement import charged, settled
from gateway.stages.meter import Meter
from tests.stages.exchanges import exchange


class Prices:
    """1 micro-dollar for each token that was used."""

    listed = True

    def worst(self, found: Exchange, output: int = 0) -> Worst:
        return Worst(usd=900, tokens=900)

    def reads(self, found: Exchange) -> bool:
        return False

    def cost(self, found: Exchange) -> int | None:
        return (found.usage.input_tokens or 0) + (found.usage.output_tokens or 0)


class Closing:
    """A ledger that settles by the rules and counts nothing."""

    def settle(self, found: Exchange) -> None:
        for charge in found.charges:
            assert charge.settled is None
            charge.settled = settled(found, charge)


class Nobody:
    def finished(self, found: Exchange) -> None: ...


def over(
    action: str = "llm.chat",
    *,
    sent: bool = True,
    status: int | None = 200,
    usage: dict[str, Any] | None = None,
    fees: tuple[Fee, ...] = (),
) -> dict[str, int]:
    """What the four budgets of a call come to; each had 1,000 reserved. `status` None: no answer came."""
    found = exchange(prices=Prices(), ledger=Closing())
    found.asked = Call(action, "model", "m", metered=True)
    found.body = b"12345"
    found.sent, found.fees, found.worst = sent, fees, Worst(usd=900, tokens=900)
    if status is not None:
        answer: Any = SimpleNamespace(status=status)
        found.answer = answer
        found.usage.bytes_out = 45
    for name, value in (usage or {}).items():
        setattr(found.usage, name, value)
    for unit in ("usd", "tokens", "calls", "bytes"):
        of = Budget(unit, ("route",), unit, 5000, "total")
        found.charges.append(Charge(of, Account(unit, "[]", ""), 1000))
    Meter(Nobody())(found)
    come = {charge.budget.unit: charge.settled or 0 for charge in found.charges}
    return come | {"estimated": int(found.usage.estimated)}


SAID = {"input_tokens": 7, "output_tokens": 3}


def test_what_was_never_sent_comes_to_nothing() -> None:
    assert over(sent=False, status=None) == {"usd": 0, "tokens": 0, "calls": 0, "bytes": 0, "estimated": 0}
    assert over(sent=False, status=None, fees=(Fee("usd", 5),))["usd"] == 0


def test_what_was_sent_and_never_answered_comes_to_all_that_was_reserved() -> None:
    assert over(status=None) == {"usd": 1000, "tokens": 1000, "calls": 1000, "bytes": 1000, "estimated": 1}


@pytest.mark.parametrize("status", [400, 429, 500, 503])
def test_an_error_without_usage_comes_to_a_call_and_its_bytes(status: int) -> None:
    expected = {"usd": 0, "tokens": 0, "calls": 1, "bytes": 50, "estimated": 0}
    assert over(status=status) == over(status=status, fees=(Fee("usd", 5), Fee("calls", 2))) == expected


def test_an_error_that_says_its_usage_is_paid() -> None:
    assert over(status=500, usage=SAID)["usd"] == 10


def test_an_answer_comes_to_what_it_says() -> None:
    assert over(usage=SAID) == {"usd": 10, "tokens": 10, "calls": 1, "bytes": 50, "estimated": 0}


def test_an_answer_of_a_model_that_says_nothing_comes_to_what_was_reckoned_with() -> None:
    come = over()
    assert (come["tokens"], come["estimated"]) == (900, 1)


def test_what_policy_charges_comes_besides() -> None:
    fees = (Fee("usd", 5), Fee("usd", 1), Fee("tokens", 2), Fee("calls", 3), Fee("bytes", 4))
    assert over(usage=SAID, fees=fees) == {"usd": 16, "tokens": 12, "calls": 4, "bytes": 54, "estimated": 0}


def test_what_is_not_charged_comes_to_what_policy_charges_for_it() -> None:
    assert over("mcp.tools/list", fees=(Fee("usd", 5),)) == {
        "usd": 5, "tokens": 0, "calls": 0, "bytes": 0, "estimated": 0,
    }  # fmt: skip


def test_an_open_socket_comes_to_its_bytes() -> None:
    come = over("ws.open")
    assert (come["calls"], come["tokens"], come["usd"], come["bytes"]) == (0, 0, 0, 50)


def test_what_was_used_beyond_the_reservation_is_taken_as_it_is() -> None:
    assert over(usage={"input_tokens": 4000, "output_tokens": 1})["tokens"] == 4001


@pytest.mark.parametrize(
    "action", ["mcp.tools/list", "mcp.initialize", "mcp.stream.open", "a2a.GetTask", "llm.models", "llm.count_tokens",
               "ws.open", "mcp.ping", "a2a.GetAgentCard", "mcp.notifications/initialized"],
)  # fmt: skip
def test_lists_sessions_and_questions_about_things_are_not_charged(action: str) -> None:
    assert not charged(action)


@pytest.mark.parametrize(
    "action", ["mcp.tools/call", "mcp.resources/read", "mcp.prompts/get", "a2a.SendMessage", "a2a.SendStreamingMessage",
               "llm.chat", "llm.embeddings", "http.GET", "http.POST", "ws.message"],
)  # fmt: skip
def test_calls_are_charged(action: str) -> None:
    assert charged(action)
