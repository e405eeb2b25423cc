"""The only loop: who says nothing, or breaks, has said no; and settling reaches every stage."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from gateway.core.pipeline import CONTINUE, Pipeline
from gateway.core.reasons import Reason, Refusal

NO = Refusal(Reason.DENIED, "no", rule="test")


class Step:
    """A stage that does `what` and notes in `seen` that it was asked."""

    def __init__(self, name: str, what: Callable[[Any], Any], seen: list[str]) -> None:
        self.name = name
        self._what = what
        self._seen = seen

    def __call__(self, exchange: Any) -> Any:
        self._seen.append(self.name)
        return self._what(exchange)


async def _later(value: Any) -> Any:
    await asyncio.sleep(0)
    return value


def _raise(error: BaseException) -> Any:
    raise error


def admit(*steps: Callable[[Any], Any]) -> tuple[Refusal | None, list[str], Any]:
    seen: list[str] = []
    exchange: Any = SimpleNamespace(id="x", fault="", refusal=None, result="ok")
    pipeline = Pipeline([Step(f"s{n}", step, seen) for n, step in enumerate(steps)], [])
    return asyncio.run(pipeline.admit(exchange)), seen, exchange


def test_stages_are_asked_in_order_whether_they_wait_or_not() -> None:
    refusal, seen, exchange = admit(lambda x: CONTINUE, lambda x: _later(CONTINUE), lambda x: CONTINUE)
    assert refusal is None
    assert seen == ["s0", "s1", "s2"]
    assert exchange.fault == ""


@pytest.mark.parametrize("step", [lambda x: NO, lambda x: _later(NO)], ids=["at once", "later"])
def test_a_refusal_ends_it_and_nobody_behind_is_asked(step: Callable[[Any], Any]) -> None:
    refusal, seen, exchange = admit(lambda x: CONTINUE, step, lambda x: CONTINUE)
    assert refusal is NO
    assert exchange.refusal is NO
    assert seen == ["s0", "s1"]


@pytest.mark.parametrize(
    "step",
    [
        lambda x: None,
        lambda x: True,
        lambda x: "continue",
        lambda x: _later(None),
        lambda x: _later(True),
        lambda x: _raise(ValueError("ours")),
        lambda x: _raise(RecursionError()),
    ],
    ids=["nothing", "true", "a word", "nothing later", "true later", "an error", "a deep one"],
)
def test_whatever_is_no_verdict_is_a_fault_and_refuses(step: Callable[[Any], Any]) -> None:
    refusal, seen, exchange = admit(step, lambda x: CONTINUE)
    assert refusal is not None
    assert (refusal.reason, refusal.rule) == (Reason.FAULT, "s0")
    assert "ours" not in refusal.text
    assert exchange.fault.startswith("s0: ")
    assert seen == ["s0"]


def test_a_caller_that_goes_away_is_no_refusal() -> None:
    seen: list[str] = []
    exchange: Any = SimpleNamespace(id="x", fault="", refusal=None, result="ok")
    pipeline = Pipeline([Step("s0", lambda x: _raise(asyncio.CancelledError()), seen)], [])
    with pytest.raises(asyncio.CancelledError):
        asyncio.run(pipeline.admit(exchange))
    assert (exchange.result, exchange.refusal) == ("client_gone", None)


def test_settling_reaches_every_stage_whatever_one_of_them_does() -> None:
    seen: list[str] = []
    steps = [Step("s0", lambda x: None, seen), Step("s1", lambda x: _raise(ValueError()), seen), Step("s2", id, seen)]
    Pipeline([], steps).settle(SimpleNamespace(id="x"))  # type: ignore[arg-type]
    assert seen == ["s0", "s1", "s2"]
