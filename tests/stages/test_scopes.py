"""Scopes: what a credential must be good for on a route, and what one challenge says of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from gateway.core.exchange import Call, Exchange
from gateway.core.pipeline import CONTINUE
from gateway.core.reasons import Reason, Refusal
from gateway.core.snapshot import Route
from gateway.stages.scopes import Scopes
from tests.stages.exchanges import ANN, exchange

CALL = Call("mcp.tools/call", "tool", "shop/buy")
LIST = Call("mcp.tools/list", "endpoint", "shop")


class Authenticator:
    def insufficient(self, route: Route, text: str, scopes: Sequence[str] = ()) -> Refusal:
        return Refusal(Reason.SCOPE_INSUFFICIENT, text, rule=" ".join(scopes))


def judged(asked: Any, *held: str, actions: Any = (), scopes: tuple[str, ...] = ("shop.read",)) -> Any:
    found: Exchange = exchange(
        asked=asked, principal=replace(ANN, scopes=frozenset(held)), authenticator=Authenticator()
    )
    found.route = replace(found.route, scopes=scopes, action_scopes=actions)
    return Scopes()(found)


BUYING = (("mcp.tools/call", ("shop.buy", "shop.read")), ("mcp.prompts/get", ("shop.prompts",)))


def test_a_route_without_scopes_asks_for_none() -> None:
    assert judged(CALL, scopes=()) is CONTINUE


@pytest.mark.parametrize("held", [("shop.read",), ("shop.read", "more")])
def test_who_has_all_scopes_goes_on(held: tuple[str, ...]) -> None:
    assert judged(LIST, *held, actions=BUYING) is CONTINUE


@pytest.mark.parametrize("held", [(), ("shop",), ("shop.readx",), ("SHOP.READ",), ("shop.buy",)])
def test_a_scope_is_compared_whole(held: tuple[str, ...]) -> None:
    assert judged(LIST, *held, actions=BUYING).reason is Reason.SCOPE_INSUFFICIENT


def test_one_challenge_names_every_scope_of_the_operation_once_and_no_other() -> None:
    assert judged(CALL, "shop.read", actions=BUYING).rule == "shop.read shop.buy"
    assert judged(CALL, "shop.read", "shop.buy", actions=BUYING) is CONTINUE


def test_an_action_may_ask_for_scopes_where_the_route_asks_for_none() -> None:
    assert judged(CALL, actions=BUYING, scopes=()).rule == "shop.buy shop.read"
    assert judged(LIST, actions=BUYING, scopes=()) is CONTINUE


def test_what_could_not_be_read_needs_the_routes_scopes_all_the_same() -> None:
    unread = Refusal(Reason.MALFORMED, "no JSON")
    assert judged(unread, actions=BUYING).rule == "shop.read"
    assert judged(unread, "shop.read", actions=BUYING) is CONTINUE


def test_nobody_has_no_scopes() -> None:
    found = exchange(asked=LIST, principal=None, authenticator=Authenticator())
    found.route = replace(found.route, scopes=("shop.read",))
    verdict = Scopes()(found)
    assert isinstance(verdict, Refusal)
