"""Where a call is sent and how often, over scripts of what addresses do: every rule of attempts.py as a property."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from thorough import examples

from gateway.core.attempts import BalanceSettings, RetrySettings, lives_at, place
from gateway.core.exchange import Call, Exchange, Handle, Head
from gateway.core.reasons import UpstreamFailed
from gateway.core.snapshot import Route, Timeouts, Upstream
from gateway.ledger.addresses import AddressBook
from gateway.ledger.retrying import Retrying
from gateway.stages.attempts import Attempts
from gateway.stores.memory import MemoryHandles

REFUSED = UpstreamFailed("refused", error="connection_refused", sent=False)
NO_TIME = UpstreamFailed("no connection", error="connection_timeout", sent=False, timeout=True)
NOT_TRUSTED = UpstreamFailed("certificate", error="tls_certificate_error", sent=False)
NO_REQUEST = UpstreamFailed("not one", error="http_request_error", sent=False)
DROPPED = UpstreamFailed("dropped", error="connection_terminated", sent=True)
LATE = UpstreamFailed("late", error="http_response_timeout", sent=True, timeout=True)
GARBAGE = UpstreamFailed("garbage", error="http_protocol_error", sent=True)
FAILURES = (REFUSED, NO_TIME, NOT_TRUSTED, NO_REQUEST, DROPPED, LATE, GARBAGE)
STATUSES = (200, 404, 500, 502, 503, 504)


@dataclass
class Answer:
    status: int
    headers: list[tuple[bytes, bytes]] = field(default_factory=list)
    closed: bool = False
    complete: bytes | None = None
    address: str = ""

    async def aclose(self) -> None:
        self.closed = True


@dataclass
class Stage:
    script: list[Any]
    upstream: Upstream
    call: Call
    streamed: bool = False
    now: float = 100.0
    sends: list[tuple[str, Any]] = field(default_factory=list)
    answers: list[Answer] = field(default_factory=list)
    pauses: list[float] = field(default_factory=list)

    def time(self) -> float:
        return self.now

    def monotonic(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        self.pauses.append(seconds)
        self.now += seconds

    def run(self, bound: dict[str, str] | None = None) -> tuple[Exchange, Answer | UpstreamFailed]:
        unused: Any = None
        head = Head("GET", "/", "/", "", "gw", "http", (), "127.0.0.1")
        route = Route("r", "/", "", "up", "anonymous", "opaque")
        exchange = Exchange("id", 0.0, 0.0, head, unused, route, self.upstream, unused, asked=self.call)
        exchange.body_stream = unused if not self.streamed else self._stream()
        return exchange, asyncio.run(self._run(exchange, bound or {}))

    async def _run(self, exchange: Exchange, bound: dict[str, str]) -> Answer | UpstreamFailed:
        handles = MemoryHandles(self)
        for ident, authority in bound.items():
            home = lives_at(Handle("mcp-session", ident))
            await handles.bind(home, route="r", subject=place(authority, "agent:a"), upstream="up")
        book, again = AddressBook(self.monotonic, lambda shift: None), Retrying(self.monotonic, lambda: 0.5)
        book.adopt([self.upstream])
        self.book = book
        again.adopt([self.upstream])
        try:
            found = await Attempts(book, again, handles, self, self.sleep).run(exchange, self._once)
        except UpstreamFailed as failure:
            found = failure  # type: ignore[assignment]
        while exchange.permits:
            exchange.permits.pop().release()
        assert all(item.in_flight == 0 for item in book.standing())
        assert isinstance(found, Answer | UpstreamFailed)
        return found

    async def _once(self, exchange: Exchange) -> Any:
        said = self.script[len(self.sends) % len(self.script)]
        self.sends.append((exchange.upstream.authority, said))
        assert sum(item.in_flight for item in self.book.standing()) <= 1, "a former attempt has let go of its address"
        if isinstance(said, UpstreamFailed):
            raise said
        answer = Answer(said) if isinstance(said, int) else replace(said)
        self.answers.append(answer)
        return answer

    async def _stream(self) -> Any:
        yield b"x"

    @property
    def arrived(self) -> int:
        return sum(1 for _, said in self.sends if not isinstance(said, UpstreamFailed) or said.sent)


def upstream(members: int = 1, retries: RetrySettings | None = None, response: float = 30.0) -> Upstream:
    found = [
        Upstream("up", "http", "http", "h", port, f"h:{port}", "", retries=retries,
                 balance=BalanceSettings("round_robin"), timeouts=Timeouts(response=response))
        for port in range(1, members + 1)
    ]  # fmt: skip
    return replace(found[0], members=tuple(found)) if members > 1 else found[0]


GET = Call("http.GET", "endpoint", "/", idempotent=True)
POST = Call("http.POST", "endpoint", "/")
OFTEN = RetrySettings(attempts=3, budget=1000, least=100)


@settings(max_examples=examples(400), deadline=None)
@given(
    script=st.lists(st.sampled_from(FAILURES + STATUSES), min_size=1, max_size=6),
    members=st.integers(1, 4),
    idempotent=st.booleans(),
    streamed=st.booleans(),
    retries=st.sampled_from([None, OFTEN, RetrySettings(attempts=2, least=0)]),
)
def test_what_may_have_arrived_is_sent_again_only_where_that_is_safe(
    script: list[Any], members: int, idempotent: bool, streamed: bool, retries: RetrySettings | None
) -> None:
    stage = Stage(script, upstream(members, retries), GET if idempotent else POST, streamed)
    exchange, found = stage.run()
    once = not idempotent or streamed or retries is None or retries.least == 0
    if once:
        assert stage.arrived <= 1
    for _, said in stage.sends[:-1]:  # every attempt that was not the last could go better
        assert said in (502, 503, 504) or said in (REFUSED, NO_TIME, NOT_TRUSTED, DROPPED)
    assert exchange.attempts == len(stage.sends)
    assert len(stage.sends) <= members + (retries.attempts if retries is not None else 1)
    assert exchange.sent == (stage.arrived > 0)
    assert all(answer.closed for answer in stage.answers if answer is not found)
    if isinstance(found, Answer):
        assert not found.closed
    elsewhere = [authority for authority, said in stage.sends if said in (REFUSED, NO_TIME)]
    if members > 1 and len(elsewhere) <= members:
        assert len(set(elsewhere)) == len(elsewhere) or retries is not None


def test_without_a_connection_every_address_is_tried_at_once_and_it_costs_no_repeat() -> None:  # 2
    stage = Stage([REFUSED], upstream(3), POST, streamed=True)
    exchange, found = stage.run()
    assert found is REFUSED
    assert sorted(authority for authority, _ in stage.sends) == ["h:1", "h:2", "h:3"]
    assert (stage.pauses, exchange.attempts, exchange.sent) == ([], 3, False)


def test_a_repeat_waits_and_goes_to_another_address() -> None:  # 3
    stage = Stage([DROPPED, 200], upstream(2, OFTEN), GET)
    exchange, found = stage.run()
    assert isinstance(found, Answer)
    assert [authority for authority, _ in stage.sends] == ["h:1", "h:2"]
    assert stage.pauses == [OFTEN.pause_s]
    assert (exchange.upstream.authority, exchange.address) == ("h:2", "h:2")


@pytest.mark.parametrize(("said", "sends"), [(b"1", 1), (b"0", 3), (b"Mon, 23 Nov 2026 02:00:00 GMT", 1)])
def test_an_upstream_that_says_when_to_come_back_is_not_asked_before(said: bytes, sends: int) -> None:  # 3
    stage = Stage([Answer(503, [(b"retry-after", said)])], upstream(1, OFTEN), GET)
    stage.run()
    assert len(stage.sends) == sends


def test_nothing_is_sent_again_when_the_time_of_an_answer_has_passed() -> None:  # 4
    stage = Stage([REFUSED], upstream(1, replace(OFTEN, attempts=10, pause_s=0.6), response=2.0), GET)
    _, found = stage.run()
    assert found is REFUSED
    assert stage.pauses == [0.6, 1.2], "another 2.4 s would be too late"
    assert len(stage.sends) == 3


def test_an_attempt_has_only_what_is_left_of_the_time() -> None:  # 4
    class Hanging(Stage):
        async def _once(self, exchange: Exchange) -> Any:
            if self.sends:
                self.sends.append(("", LATE))
                await asyncio.Event().wait()
            return await super()._once(exchange)

    stage = Hanging([REFUSED], upstream(1, OFTEN, response=0.05), GET)
    exchange, found = stage.run()
    assert isinstance(found, UpstreamFailed)
    assert (found.timeout, found.error, exchange.sent) == (True, "http_response_timeout", True)


def test_what_lives_at_an_address_goes_there_also_when_that_fails() -> None:  # 1
    asks = Call("mcp.tools/call", "tool", "up/x", handles=(Handle("mcp-session", "s"),), idempotent=True)
    stage = Stage([REFUSED, REFUSED, 200], upstream(3, OFTEN), asks)
    exchange, found = stage.run({"s": "h:3"})
    assert isinstance(found, Answer)
    assert [authority for authority, _ in stage.sends] == ["h:3"] * 3
    assert (exchange.attempts, len(stage.pauses)) == (3, 2)
    stage = Stage([REFUSED], upstream(3, OFTEN), asks.but(idempotent=False))
    _, found = stage.run({"s": "h:3"})
    assert (found, len(stage.sends)) == (REFUSED, 1)


def test_where_nobody_knows_where_it_lives_the_first_address_is_asked_and_made_up_names_go_anywhere() -> None:  # 1
    for chosen, expected in ((False, {"h:1"}), (True, {"h:1", "h:2", "h:3"})):
        asks = Call("a2a.SendMessage", "agent", "up", handles=(Handle("a2a-context", "c", chosen=chosen),))
        found = set()
        for number in range(3):
            stage = Stage([200], upstream(3), asks)
            stage.upstream = replace(stage.upstream, balance=BalanceSettings("round_robin"))
            members = stage.upstream.members
            turned = members[number:] + members[:number]
            stage.upstream = replace(stage.upstream, members=turned) if chosen else stage.upstream
            stage.run()
            found.add(stage.sends[0][0])
        assert found == expected


def test_an_address_that_left_the_configuration_is_not_asked() -> None:
    asks = Call("mcp.tools/call", "tool", "up/x", handles=(Handle("mcp-session", "s"),))
    stage = Stage([200], upstream(2), asks)
    stage.run({"s": "h:9"})
    assert stage.sends[0][0] in ("h:1", "h:2")
