"""Clocks that jump: limits do not notice, tokens get no more than their leeway (limits and tokens' part of the row)."""

from __future__ import annotations

import pytest

from gateway.identity.bearer import LEEWAY_LIMIT_SECONDS
from gateway.identity.caller import REMEMBER_SECONDS
from gateway.ledger.limits import LimitSettings
from tests.identity.issuer import HandClock, Issuer, ask, bearer, caller, known, refused
from tests.ledger.exchanges import Limits, exchange

ROW = 74
HOUR = 3600.0


@pytest.mark.parametrize("jump", [HOUR, -HOUR, 86_400 * 365.0, -86_400 * 365.0])
def test_a_jump_of_the_wall_clock_neither_frees_nor_doubles_a_window(jump: float) -> None:
    clock = HandClock()
    limits = Limits([LimitSettings("l", ("route",), rate=10, window=60)], clock)
    assert sum(limits.take(exchange()) is None for _ in range(20)) == 10
    clock.wall += jump
    assert sum(limits.take(exchange()) is None for _ in range(20)) == 0
    clock.pass_(6)
    assert sum(limits.take(exchange()) is None for _ in range(20)) == 1


def test_the_leeway_is_never_more_than_a_minute() -> None:
    assert LEEWAY_LIMIT_SECONDS == 60
    for leeway in (60.001, 300.0, float("inf"), float("nan"), -1.0):
        with pytest.raises(ValueError, match="leeway"):
            caller(Issuer(), leeway=leeway)


@pytest.mark.parametrize("leeway", [0.0, 30.0, 60.0])
def test_a_token_lives_its_leeway_longer_and_no_second_more(leeway: float) -> None:
    idp = Issuer()
    who = caller(idp, leeway=leeway)
    token = idp.token(exp=idp.clock.time())
    idp.clock.wall += leeway
    refused(ask(who, bearer(token)))
    idp.clock.wall -= 0.5
    known(ask(who, bearer(token)))


@pytest.mark.parametrize("back", [1.0, HOUR, 86_400.0])
def test_turning_the_clock_back_revives_no_remembered_token_for_longer(back: float) -> None:
    """Verified once; the wall clock goes back; it is judged again after a minute of real time all the same."""
    idp = Issuer()
    who = caller(idp)
    token = idp.token()
    first = known(ask(who, bearer(token)))
    idp.clock.wall -= back
    idp.clock.mono += REMEMBER_SECONDS
    assert known(ask(who, bearer(token))) is not first


def test_turning_the_clock_forward_ends_tokens_within_a_minute_and_streams_at_once() -> None:
    idp = Issuer()
    who = caller(idp)
    token = idp.token()
    found = known(ask(who, bearer(token)))
    idp.clock.wall += HOUR
    assert not who.alive(found)
    idp.clock.mono += REMEMBER_SECONDS
    assert refused(ask(who, bearer(token))).rule == "token_expired"


def test_a_token_from_a_clock_ahead_is_refused_beyond_the_leeway() -> None:
    idp = Issuer()
    who = caller(idp, leeway=60.0)
    known(ask(who, bearer(idp.token(iat=idp.clock.time() + 60))))
    refused(ask(who, bearer(idp.token(iat=idp.clock.time() + 61))))
    refused(ask(who, bearer(idp.token(nbf=idp.clock.time() + HOUR))))
