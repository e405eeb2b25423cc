"""The breakers of upstreams: what counts as failed, per tool, held, and how many are kept."""

from __future__ import annotations

from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import pytest

from gateway.core.breaking import BreakerSettings, Hold, State, Turn
from gateway.core.exchange import Call, Exchange, Head
from gateway.core.reasons import Reason, Refusal
from gateway.core.snapshot import Route, Upstream
from gateway.ledger.breakers import TOOLS, Breakers

OFTEN = BreakerSettings(failures=2, open_s=10.0, jitter=0.2)


@dataclass
class Stage:
    settings: BreakerSettings | None = OFTEN
    now: float = 100.0
    told: list[Turn] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.upstream = Upstream("up", "mcp", "http", "h", 80, "h", "", breaker=self.settings)
        self.breakers = Breakers(lambda: self.now, lambda: 0.5, self.told.append)
        self.breakers.adopt([self.upstream])

    def exchange(self, tool: str = "") -> Exchange:
        head = Head("POST", "/", "/", "", "gw", "http", (), "127.0.0.1")
        route = Route("up", "/", "", "up", "anonymous", "json")
        unused: Any = None
        call = Call("mcp.tools/call", "tool", f"up/{tool}") if tool else Call("mcp.tools/list", "endpoint", "up")
        return Exchange("id", 0.0, 0.0, head, unused, route, self.upstream, unused, asked=call)

    def ends(self, given: Exchange, **said: Any) -> None:
        """What Forward and the front write on an exchange, and that it is over."""
        answer = said.pop("answer", None)
        for name, value in said.items():
            setattr(given, name, value)
        if answer is not None:
            stand_in: Any = SimpleNamespace(status=answer)
            given.answer = stand_in
            given.upstream_ms = said.get("upstream_ms", 1.0)
        while given.permits:
            given.permits.pop().release()
        assert given.trial is None

    def call(self, tool: str = "", **said: Any) -> Refusal | None:
        given = self.exchange(tool)
        refusal = self.breakers.admit(given)
        if refusal is None:
            self.ends(given, **said)
        return refusal

    def fails(self, tool: str = "") -> Refusal | None:
        return self.call(tool, answer=500)

    def states(self) -> dict[str, State]:
        return {item.tool: item.state for item in self.breakers.standing()}


NO_CONNECTION = Refusal(Reason.UPSTREAM_FAILED, "refused", rule="connection_refused")
FULL = Refusal(Reason.UPSTREAM_TIMEOUT, "full", rule="connection_limit_reached")


@pytest.mark.parametrize(
    ("said", "counts"),
    [
        ({"answer": 500}, "failed"),
        ({"answer": 503}, "failed"),
        ({"answer": 200, "result": "upstream_gone"}, "failed"),
        ({"answer": 200, "result": "timeout"}, "failed"),
        ({"result": "upstream_gone", "stopped": "forward", "refusal": NO_CONNECTION}, "failed"),
        ({"result": "timeout", "stopped": "forward"}, "failed"),
        ({"socket": SimpleNamespace(status=502)}, "failed"),
        ({"socket": SimpleNamespace(), "result": "upstream_gone"}, "failed"),
        ({"answer": 200}, "answered"),
        ({"answer": 404}, "answered"),
        ({"answer": 429}, "answered"),
        ({"answer": 200, "result": "client_gone"}, "answered"),
        ({"answer": 200, "result": "error", "stopped": "ledger"}, "answered"),
        ({"socket": SimpleNamespace()}, "answered"),
        ({"socket": SimpleNamespace(), "result": "timeout"}, "answered"),
        ({"result": "client_gone"}, "nothing"),
        ({"result": "error", "stopped": "forward"}, "nothing"),
        ({"result": "timeout", "stopped": "forward", "refusal": FULL}, "nothing"),
        ({"stopped": "credentials"}, "nothing"),
        ({"stopped": "record", "result": "timeout"}, "nothing"),
        ({}, "nothing"),
    ],
)
def test_what_became_of_a_call_counts_for_what_the_upstream_did(said: dict[str, Any], counts: str) -> None:  # 2
    stage = Stage()
    stage.fails()
    assert stage.call(**said) is None
    if counts == "failed":
        assert stage.states() == {"": State.OPEN}
        return
    assert stage.states() == {"": State.CLOSED}
    stage.fails()
    assert stage.states() == {"": State.OPEN if counts == "nothing" else State.CLOSED}


def test_a_refusal_says_when_to_come_back_and_the_record_why() -> None:
    stage = Stage()
    stage.fails()
    stage.fails()
    refusal = stage.call()
    assert refusal is not None
    assert (refusal.reason, refusal.rule) == (Reason.BREAKER_OPEN, "2 failures in a row")
    assert refusal.retry_after == 9, "ten seconds, less half of a fifth"
    assert [(turn.before, turn.after) for turn in stage.told] == [(State.CLOSED, State.OPEN)]


def test_an_upstream_without_a_breaker_is_let_through_and_holds_nothing() -> None:  # 1
    stage = Stage(None)
    given = stage.exchange()
    assert stage.breakers.admit(given) is None
    assert (given.permits, given.trial, stage.breakers.standing()) == ([], None, [])
    assert stage.breakers.hold("up", Hold.OPEN) is False


def test_a_probe_is_over_when_its_head_is_here_and_its_stream_may_last() -> None:  # 3
    stage = Stage()
    stage.fails()
    stage.fails()
    stage.now += 10.0
    probe = stage.exchange()
    assert stage.breakers.admit(probe) is None
    assert stage.breakers.admit(stage.exchange()) is not None
    stand_in: Any = SimpleNamespace(status=200)
    probe.answer, probe.upstream_ms = stand_in, 3.0
    assert probe.trial is not None
    probe.trial.arrived()
    assert stage.states() == {"": State.CLOSED}
    stage.ends(probe, result="upstream_gone")
    assert stage.states() == {"": State.CLOSED}


def test_an_ordinary_call_is_not_over_when_its_head_is_here() -> None:
    stage = Stage()
    stage.fails()
    given = stage.exchange()
    assert stage.breakers.admit(given) is None
    assert given.trial is not None
    given.trial.arrived()
    stage.ends(given, answer=200, result="upstream_gone")
    assert stage.states() == {"": State.OPEN}


def test_slow_answers_open_it() -> None:
    stage = Stage(BreakerSettings(failures=100, calls=4, slow_s=0.5, slow_rate=500))
    for ms in (600.0, 100.0, 100.0):
        stage.call(answer=200, upstream_ms=ms)
    assert stage.states() == {"": State.CLOSED}
    stage.call(answer=200, upstream_ms=600.0)
    assert stage.states() == {"": State.OPEN}
    assert stage.told[-1].why == "2 of 4 calls within 30 s took longer than 0.5 s"


def test_tools_fail_apart_and_what_names_none_goes_by_the_upstreams_own() -> None:  # 4
    stage = Stage(BreakerSettings(failures=2, open_s=10.0, per_tool=True))
    stage.fails("bad")
    stage.fails("bad")
    assert stage.call("bad") is not None
    assert stage.call("good", answer=200) is None
    assert stage.call(answer=200) is None
    assert stage.states() == {"": State.CLOSED, "bad": State.OPEN}
    assert [(turn.upstream, turn.tool) for turn in stage.told] == [("up", "bad")]


def test_names_that_callers_make_up_fill_no_memory() -> None:  # 4
    stage = Stage(BreakerSettings(failures=2, open_s=10.0, per_tool=True))
    for number in range(TOOLS + 100):
        stage.call(f"made-up-{number}", answer=200)
    assert len(stage.breakers._kept["up"].tools) <= TOOLS
    for number in range(TOOLS + 100):
        stage.fails(f"failing-{number}")
    assert len(stage.breakers._kept["up"].tools) <= TOOLS
    assert stage.states()[""] is State.OPEN, "those beyond count against the upstream"


def test_what_is_held_stays_so_over_reloads_for_all_tools() -> None:  # 5
    stage = Stage(BreakerSettings(failures=2, per_tool=True))
    assert stage.breakers.hold("up", Hold.OPEN) is True
    refusal = stage.call("new")
    assert refusal is not None
    assert refusal.text == "Upstream up is switched off for now"
    changed = Upstream("up", "mcp", "http", "h", 80, "h", "", breaker=BreakerSettings(failures=3, per_tool=True))
    stage.breakers.adopt([changed])
    assert stage.call("another") is not None
    assert stage.breakers.held() == {"up": Hold.OPEN}
    assert len(stage.told) == 1, "a reload is no change of state"
    stage.breakers.hold("up", Hold.AUTO)
    assert (stage.call("new", answer=200), stage.breakers.held()) == (None, {})


def test_a_reload_that_changes_nothing_forgets_nothing() -> None:
    stage = Stage()
    stage.fails()
    stage.breakers.adopt([Upstream("up", "mcp", "http", "other", 80, "other", "", breaker=OFTEN)])
    stage.fails()
    assert stage.states() == {"": State.OPEN}
    stage.breakers.adopt([])
    assert stage.call() is None
