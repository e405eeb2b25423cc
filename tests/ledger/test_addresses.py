"""Which address is asked, by the numbers of the rules; time is a number here."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field, replace

from hypothesis import given, settings
from hypothesis import strategies as st
from thorough import examples

from gateway.core.attempts import BalanceSettings, HealthSettings, Shift
from gateway.core.snapshot import Upstream
from gateway.ledger.addresses import AddressBook


def at(*ports: int, **balance: object) -> Upstream:
    found = [
        Upstream(
            "files", "http", "http", "127.0.0.1", port, f"127.0.0.1:{port}", "",
            balance=BalanceSettings(**balance),  # type: ignore[arg-type]
        )
        for port in ports
    ]  # fmt: skip
    return replace(found[0], members=tuple(found))


@dataclass
class Stage:
    upstream: Upstream
    now: float = 0.0
    told: list[Shift] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.book = AddressBook(lambda: self.now, self.told.append)
        self.book.adopt([self.upstream])

    def call(self, failed: bool = False, tried: tuple[str, ...] = ()) -> int:
        chosen = self.book.choose(self.upstream, tried)
        chosen.ended(failed)
        chosen.release()
        return chosen.upstream.port

    def fail(self, port: int, times: int) -> None:
        for _ in range(times):
            chosen = self.book.known(self.upstream, f"127.0.0.1:{port}")
            assert chosen is not None
            chosen.ended(True)
            chosen.release()

    def states(self) -> dict[int, str]:
        return {int(item.address.partition(":")[2]): item.state for item in self.book.standing()}


def test_one_after_the_other_where_that_is_wanted() -> None:
    stage = Stage(at(1, 2, 3, by="round_robin"))
    assert [stage.call() for _ in range(6)] == [1, 2, 3, 1, 2, 3]


def test_the_one_with_the_least_under_way_is_asked_and_equal_ones_in_turn() -> None:  # 4
    stage = Stage(at(1, 2, 3))
    held = [stage.book.choose(stage.upstream, ()) for _ in range(5)]
    assert Counter(item.upstream.port for item in held) == {1: 2, 2: 2, 3: 1}
    assert stage.call() == 3
    for item in held:
        item.release()
        item.release()
    assert [found.in_flight for found in stage.book.standing()] == [0, 0, 0]


def test_failures_in_a_row_eject_and_one_good_call_between_them_does_not_let_it() -> None:  # 1
    stage = Stage(at(1, 2, by="round_robin", failures=3, eject_s=10.0))
    for _ in range(5):
        stage.fail(1, 2)
        chosen = stage.book.known(stage.upstream, "127.0.0.1:1")
        assert chosen is not None
        chosen.ended(False)
        chosen.release()
    assert stage.states() == {1: "in", 2: "in"}
    stage.fail(1, 3)
    assert stage.states() == {1: "ejected", 2: "in"}
    assert [stage.call() for _ in range(4)] == [2, 2, 2, 2]
    stage.now = 10.0
    assert sorted([stage.call(), stage.call()]) == [1, 2]
    assert [(shift.out, shift.address) for shift in stage.told] == [(True, "127.0.0.1:1"), (False, "127.0.0.1:1")]


def test_an_address_that_fails_again_is_left_out_for_twice_as_long_up_to_the_most() -> None:  # 1
    stage = Stage(at(1, 2, failures=1, eject_s=10.0, eject_most_s=35.0))
    waits = []
    for _ in range(4):
        stage.fail(1, 1)
        waits.append(stage.book.standing()[0].wait)
        stage.now += waits[-1]
    assert waits == [10.0, 20.0, 35.0, 35.0]
    stage.now += 35.0
    stage.fail(1, 1)
    assert stage.book.standing()[0].wait == 10.0, "in again for as long as it was out: new again"


def test_the_last_one_is_never_ejected() -> None:  # 2
    stage = Stage(at(1, 2, 3, failures=1, eject_s=10.0))
    for port in (1, 2, 3, 3, 3):
        stage.fail(port, 1)
    assert sorted(stage.states().values()) == ["ejected", "ejected", "in"]


def test_where_all_are_unwell_all_are_asked() -> None:  # 2
    stage = Stage(at(1, 2, by="round_robin", health=HealthSettings("/")))
    [pool] = stage.book.pools()
    for port in (1, 2):
        for _ in range(2):
            pool.healthy(f"127.0.0.1:{port}", False, "status 500")
    assert stage.states() == {1: "unhealthy", 2: "unhealthy"}
    assert [stage.call(), stage.call()] == [1, 2]
    pool.healthy("127.0.0.1:2", True, "")
    assert [stage.call(), stage.call()] == [2, 2]


def test_another_one_than_those_that_were_tried_while_there_is_one() -> None:  # 3
    stage = Stage(at(1, 2, 3, by="round_robin"))
    assert stage.call(tried=("127.0.0.1:1",)) == 2
    assert stage.call(tried=("127.0.0.1:1", "127.0.0.1:3")) == 2
    assert stage.call(tried=("127.0.0.1:1", "127.0.0.1:2", "127.0.0.1:3")) in (1, 2, 3)


def test_a_reload_keeps_what_is_known_of_an_address_that_stays() -> None:
    stage = Stage(at(1, 2, failures=1, eject_s=10.0))
    stage.fail(1, 1)
    held = stage.book.choose(stage.upstream, ())
    changed = at(2, 1, 3, failures=1, eject_s=10.0)
    stage.book.adopt([changed])
    assert stage.states() == {2: "in", 1: "ejected", 3: "in"}
    held.release()
    assert [item.in_flight for item in stage.book.standing()] == [0, 0, 0]
    # An exchange that pinned the former snapshot goes by the addresses it knows, and by no others.
    assert stage.call() in (1, 2)
    stage.upstream = changed
    assert {stage.call() for _ in range(4)} == {2, 3}


@settings(max_examples=examples(200), deadline=None)
@given(
    story=st.lists(st.tuples(st.integers(0, 3), st.booleans(), st.integers(0, 12)), max_size=120),
    by=st.sampled_from(["round_robin", "least_loaded"]),
)
def test_a_call_always_has_an_address_and_every_place_comes_back(story: list[tuple[int, bool, int]], by: str) -> None:
    stage = Stage(at(1, 2, 3, by=by, failures=2, eject_s=4.0, eject_most_s=16.0))
    held = []
    for pause, failed, leaves in story:
        stage.now += pause
        chosen = stage.book.choose(stage.upstream, ())
        states = stage.states()
        assert states[chosen.upstream.port] == "in", "one that is in was there, and is the one"
        chosen.ended(failed)
        held.append(chosen)
        assert "in" in stage.states().values()
        while len(held) > leaves:
            held.pop(0).release()
    assert sum(item.in_flight for item in stage.book.standing()) == len(held)
    for chosen in held:
        chosen.release()
    assert sum(item.in_flight for item in stage.book.standing()) == 0
