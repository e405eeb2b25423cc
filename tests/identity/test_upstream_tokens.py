"""Tokens for upstreams: fetched once, used to their end, fetched again ahead of it, and never anybody else's."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Awaitable, Sequence
from dataclasses import replace
from typing import Any
from urllib.parse import parse_qs

import pytest

from gateway.core.exchange import Exchange, Header, Principal
from gateway.core.fetching import Fetched, FetchFailed
from gateway.core.reasons import Reason, Refusal
from gateway.identity.grants import ACCESS_TOKEN, Client
from gateway.identity.upstream_tokens import (
    FRESH_SECONDS,
    HOLD_SECONDS,
    KEPT_TOKENS,
    ClientGrant,
    ExchangedToken,
    ExchangeGrant,
    OwnToken,
    Tokens,
)
from tests.identity.issuer import HandClock, bearer
from tests.stages.exchanges import exchange

CLIENT = Client("https://idp.example/token", "tollgate", "the-client-secret", audience="weather")
ANN = Principal("agent:idp/ann", "agent", issuer="idp", credential="digest-ann", key="thumb")
BOB = replace(ANN, id="agent:idp/bob", credential="digest-bob")


class Endpoint:
    """A fetcher whose one server issues token after token; `gate` holds answers back, `fails` replaces them."""

    def __init__(self, seconds: float | None = 600) -> None:
        self.seconds = seconds
        self.forms: list[dict[str, str]] = []
        self.fails: Any = None
        self.gate: asyncio.Event | None = None

    async def post(
        self, url: str, body: bytes, *, content_type: str, max_bytes: int, deadline_s: float,
        headers: Sequence[tuple[str, str]] = (), configured: bool = False,
    ) -> Fetched:  # fmt: skip
        assert (url, content_type, configured) == (CLIENT.token_url, "application/x-www-form-urlencoded", True)
        assert deadline_s <= 10
        assert max_bytes <= 65536
        self.forms.append({name: value for name, [value] in parse_qs(body.decode()).items()})
        number = len(self.forms)
        if self.gate is not None:
            await self.gate.wait()
        if isinstance(self.fails, Exception):
            raise self.fails
        if self.fails is not None:
            return Fetched(400, (("content-type", "application/json"),), json.dumps(self.fails).encode())
        said = {"access_token": f"token-{number}", "token_type": "Bearer", "issued_token_type": ACCESS_TOKEN}
        if self.seconds is not None:
            said["expires_in"] = self.seconds  # type: ignore[assignment]
        return Fetched(200, (("content-type", "application/json"),), json.dumps(said).encode())

    async def get(self, *_: Any, **__: Any) -> Fetched:
        raise AssertionError("a token endpoint is posted to")


def own(endpoint: Endpoint, clock: HandClock) -> OwnToken:
    return OwnToken(Tokens("weather", "Authorization", ClientGrant(CLIENT, endpoint), clock))


def exchanged(endpoint: Endpoint, clock: HandClock, actor: Any = None) -> ExchangedToken:
    if actor == "own":
        actor = Tokens("weather", "Authorization", ClientGrant(CLIENT, endpoint), clock)
    return ExchangedToken(Tokens("weather", "Authorization", ExchangeGrant(CLIENT, endpoint, actor), clock))


def calling(principal: Principal | None = ANN, *headers: Header) -> Exchange:
    found = exchange(principal=principal)
    found.head = replace(found.head, headers=headers or (bearer(b"callers.own.token"),))
    return found


async def given(source: Any, found: Exchange | None = None) -> Any:
    answer = source.headers(found or calling())
    return await answer if isinstance(answer, Awaitable) else answer


def token(found: Any) -> str:
    assert isinstance(found, tuple), found
    [(name, value)] = found
    assert name == b"authorization"
    return str(value.decode().removeprefix("Bearer "))


async def settled() -> None:
    """Lets background tasks run until none moves."""
    for _ in range(10):
        await asyncio.sleep(0)


def test_a_token_is_fetched_once_for_all_who_wait_and_then_is_at_hand() -> None:
    async def story() -> None:
        endpoint, clock = Endpoint(), HandClock()
        endpoint.gate = asyncio.Event()
        source = own(endpoint, clock)
        waiting = [asyncio.create_task(given(source)) for _ in range(20)]
        await settled()
        waiting[0].cancel()  # a caller that goes away does not take the fetch with it
        await settled()
        endpoint.gate.set()
        assert {token(await one) for one in waiting[1:]} == {"token-1"}
        assert len(endpoint.forms) == 1
        assert not isinstance(source.headers(calling()), Awaitable)
        assert token(source.headers(calling())) == "token-1"

    asyncio.run(story())


def test_the_next_token_is_fetched_beside_the_calls_before_the_first_one_ends() -> None:
    async def story() -> None:
        endpoint, clock = Endpoint(1000), HandClock()
        source = own(endpoint, clock)
        assert token(await given(source)) == "token-1"
        clock.pass_(727)
        assert token(source.headers(calling())) == "token-1"
        await settled()
        assert len(endpoint.forms) == 1
        clock.pass_(1)  # three quarters of what is left of it when 30 s are set aside
        assert token(source.headers(calling())) == "token-1"
        await settled()
        assert len(endpoint.forms) == 2
        assert token(source.headers(calling())) == "token-2"

    asyncio.run(story())


@pytest.mark.parametrize(("seconds", "good"), [(1000, 969.9), (100, 79.9), (10, 7.9), (None, 47.9)])
def test_a_token_is_not_used_in_the_last_moments_of_its_life(seconds: float | None, good: float) -> None:
    async def story() -> None:
        endpoint, clock = Endpoint(seconds), HandClock()
        source = own(endpoint, clock)
        await given(source)
        clock.pass_(good)
        assert token(source.headers(calling())) == "token-1"
        endpoint.gate = asyncio.Event()  # the fetch ahead hangs
        clock.pass_(0.2)
        late = source.headers(calling())
        assert isinstance(late, Awaitable)
        endpoint.gate.set()
        assert token(await late) == "token-2"

    asyncio.run(story())


def test_a_fetch_ahead_that_fails_leaves_the_former_token_to_its_end_and_not_longer() -> None:
    async def story() -> None:
        endpoint, clock = Endpoint(1000), HandClock()
        source = own(endpoint, clock)
        await given(source)
        endpoint.fails = {"error": "server_error"}
        clock.pass_(800)
        for _ in range(3):  # not at every call: only after a pause
            assert token(source.headers(calling())) == "token-1"
            await settled()
        assert len(endpoint.forms) == 2
        clock.pass_(HOLD_SECONDS)
        assert token(source.headers(calling())) == "token-1"
        await settled()
        assert len(endpoint.forms) == 3
        clock.pass_(200)
        found = await given(source)
        assert isinstance(found, Refusal)

    asyncio.run(story())


def test_without_a_token_the_call_is_refused_and_the_server_is_left_alone_for_a_moment() -> None:
    async def story() -> None:
        endpoint, clock = Endpoint(), HandClock()
        endpoint.fails = {"error": "invalid_client", "error_description": "the-client-secret is wrong"}
        source = own(endpoint, clock)
        found = await given(source)
        assert isinstance(found, Refusal)
        assert (found.reason, found.http_status) == (Reason.UPSTREAM_FAILED, 502)
        assert found.text == (
            "Upstream weather: the gateway has no token for it: the authorization server answered 400 invalid_client"
        )
        assert isinstance(source.headers(calling()), Refusal)
        assert len(endpoint.forms) == 1
        endpoint.fails = None
        clock.pass_(HOLD_SECONDS)
        assert token(await given(source)) == "token-2"

    asyncio.run(story())


@pytest.mark.parametrize(
    "error", [FetchFailed("https://idp.example: refused"), RuntimeError("token the-client-secret")]
)
def test_a_failure_tells_no_caller_where_the_server_is_and_logs_no_secret(
    error: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    endpoint = Endpoint()
    endpoint.fails = error
    with caplog.at_level(logging.DEBUG):
        found = asyncio.run(given(own(endpoint, HandClock())))
    assert isinstance(found, Refusal)
    assert "idp.example" not in found.text
    assert "the-client-secret" not in found.text
    assert "the-client-secret" not in caplog.text


def test_a_token_that_the_upstream_refused_is_dropped_unless_it_is_fresh() -> None:
    async def story() -> None:
        endpoint, clock = Endpoint(), HandClock()
        source = own(endpoint, clock)
        await given(source)
        source.rejected(calling())
        assert token(await given(source)) == "token-1"
        clock.pass_(FRESH_SECONDS)
        source.rejected(calling())
        assert token(await given(source)) == "token-2"

    asyncio.run(story())


def test_each_callers_token_is_exchanged_for_its_own_and_nobody_gets_anothers() -> None:
    async def story() -> None:
        endpoint, clock = Endpoint(), HandClock()
        source = exchanged(endpoint, clock)
        for _ in range(2):
            assert token(await given(source, calling(ANN))) == "token-1"
            assert token(await given(source, calling(BOB, bearer(b"bobs.own.token")))) == "token-2"
        assert [form["subject_token"] for form in endpoint.forms] == ["callers.own.token", "bobs.own.token"]

    asyncio.run(story())


def test_another_token_of_the_same_caller_is_exchanged_anew() -> None:
    """It may be good for less: what the first was exchanged for must not be had with the second."""

    async def story() -> None:
        source = exchanged(Endpoint(), HandClock())
        assert token(await given(source, calling(ANN))) == "token-1"
        assert token(await given(source, calling(replace(ANN, credential="digest-2")))) == "token-2"

    asyncio.run(story())


def test_what_was_exchanged_is_not_used_longer_than_the_callers_token_lives() -> None:
    async def story() -> None:
        endpoint, clock = Endpoint(100_000), HandClock()
        source = exchanged(endpoint, clock)
        caller = calling(replace(ANN, expires=clock.time() + 60))
        await given(source, caller)
        clock.pass_(59)
        endpoint.gate = asyncio.Event()
        assert token(source.headers(caller)) == "token-1"
        clock.pass_(2)
        late = source.headers(caller)
        assert isinstance(late, Awaitable)
        endpoint.gate.set()
        await late

    asyncio.run(story())


def test_the_gateway_acts_with_a_token_of_its_own_where_it_should() -> None:
    async def story() -> None:
        endpoint, clock = Endpoint(), HandClock()
        source = exchanged(endpoint, clock, "own")
        assert token(await given(source, calling(ANN))) == "token-2"
        assert token(await given(source, calling(BOB))) == "token-3"
        assert [form["grant_type"].rpartition(":")[2] for form in endpoint.forms] == [
            "client_credentials", "token-exchange", "token-exchange"
        ]  # fmt: skip
        assert {form["actor_token"] for form in endpoint.forms[1:]} == {"token-1"}
        fixed = exchanged(Endpoint(), clock, "a.fixed.actor")
        assert token(await given(fixed)) == "token-1"

    asyncio.run(story())


def test_no_exchange_without_the_actor() -> None:
    async def story() -> None:
        endpoint = Endpoint()
        endpoint.fails = {"error": "invalid_client"}
        found = await given(exchanged(endpoint, HandClock(), "own"))
        assert isinstance(found, Refusal)
        assert all("subject_token" not in form for form in endpoint.forms)

    asyncio.run(story())


@pytest.mark.parametrize(
    "caller",
    [
        calling(None), calling(replace(ANN, key="", id="key:ci"), (b"x-api-key", b"tg_ci_" + b"k" * 43)),
        calling(ANN, (b"accept", b"*/*")), calling(Principal("anonymous", "anonymous")),
    ],
)  # fmt: skip
def test_a_caller_without_a_token_of_an_issuer_has_nothing_to_exchange(caller: Exchange) -> None:
    async def story() -> None:
        endpoint = Endpoint()
        found = await given(exchanged(endpoint, HandClock()), caller)
        assert isinstance(found, Refusal)
        assert (found.reason, found.rule) == (Reason.DENIED, "no_subject_token")
        assert endpoint.forms == []

    asyncio.run(story())


def test_a_server_that_hands_the_callers_token_back_is_not_obeyed() -> None:
    class Echo(Endpoint):
        async def post(self, url: str, body: bytes, **asked: Any) -> Fetched:
            found = parse_qs(body.decode())["subject_token"][0]
            said = {"access_token": found, "token_type": "Bearer", "issued_token_type": ACCESS_TOKEN}
            return Fetched(200, (("content-type", "application/json"),), json.dumps(said).encode())

    assert isinstance(asyncio.run(given(exchanged(Echo(), HandClock()))), Refusal)


def test_the_tokens_that_are_kept_are_bounded() -> None:
    async def story() -> None:
        endpoint, clock = Endpoint(), HandClock()
        tokens = Tokens("weather", "Authorization", ExchangeGrant(CLIENT, endpoint, None), clock)
        for number in range(KEPT_TOKENS + 5):
            found = tokens.given(str(number), "t", None)
            assert isinstance(found, Awaitable)
            await found
        assert len(tokens._held) == KEPT_TOKENS

    asyncio.run(story())


def test_closing_ends_what_is_under_way_and_whoever_waits_is_told() -> None:
    async def story() -> None:
        endpoint = Endpoint()
        endpoint.gate = asyncio.Event()
        source = exchanged(endpoint, HandClock(), "own")
        waiting = asyncio.create_task(given(source))
        await settled()
        source.close()
        assert isinstance(await waiting, Refusal)

    asyncio.run(story())
