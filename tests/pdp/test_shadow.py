"""A second engine beside the one in force: it is compared, and changes nothing whatever it does."""

from __future__ import annotations

import asyncio
import json
import time
from dataclasses import replace
from typing import Any

import pytest

from gateway.core.access import AccessRequest, access_request
from gateway.core.capture import Capture
from gateway.core.excerpt import Excerpts
from gateway.core.exchange import Call, Decision, Obligation
from gateway.core.masking import Masker
from gateway.core.shadow import kinds_of
from gateway.pdp.embedded import EmbeddedEngine, EmbeddedSettings
from gateway.pdp.shadow import INPUT_BYTES, KEPT, NAME_CHARACTERS, Comparisons, Shadow
from tests.pdp.asking import now, policy, request, run, settled
from tests.pdp.shadowing import NO, YES, Saying, beside, listed
from tests.stages.exchanges import exchange


def of(subject: str, arguments: Any = None) -> AccessRequest:
    document = json.loads(json.dumps(request(arguments).document))
    document["subject"]["id"] = subject
    return AccessRequest(document)


async def counted(found: Comparisons, number: int) -> None:
    """Waits until so many questions were counted."""
    async with asyncio.timeout(10):
        while sum(found.totals().values()) < number:  # noqa: ASYNC110 (it has no event to wait on but its own)
            await asyncio.sleep(0)


def test_a_disagreement_is_counted_and_listed_and_the_answer_is_the_first_engines() -> None:
    shadow, found = beside(Saying(YES), Saying(NO))
    assert now(shadow.decide(request())) is YES
    run(found.drain())
    (item,) = listed(found)
    assert item.kinds == ("allow_to_deny", "rule", "reason")
    assert (item.asked.subject, item.asked.action) == ("agent:idp/planner", "mcp.tools/call")
    assert (item.asked.resource_type, item.asked.resource_id) == ("tool", "weather/get")
    assert (item.enforced["effect"], item.shadow["effect"], item.shadow["revision"]) == ("allow", "deny", "r2")
    assert item.asked.digest.startswith("sha256:")
    assert found.totals() == {"same": 0, "different": 1, "fault": 0, "dropped": 0, "skipped": 0}
    assert found.by_kind()["allow_to_deny"] == 1


def test_the_same_answer_of_another_engine_is_no_difference() -> None:
    shadow, found = beside(Saying(YES), Saying(replace(YES, engine="other", revision="r9", ms=7.0)))
    now(shadow.decide(request()))
    run(found.drain())
    assert (found.totals()["same"], listed(found)) == (1, [])


REDACT = Obligation("redact", {"paths": ["/a"]})


@pytest.mark.parametrize(
    ("one", "other", "kinds"),
    [
        (YES, YES, ()),
        (NO, replace(NO, allow=True), ("deny_to_allow",)),
        (YES, replace(YES, rule="b"), ("rule",)),
        (YES, replace(YES, reason="b"), ("reason",)),
        (YES, replace(YES, obligations=(REDACT,)), ("obligations",)),
        (replace(YES, obligations=(REDACT,)), replace(YES, obligations=(REDACT,)), ()),
        (
            replace(YES, obligations=(REDACT,)),
            replace(YES, obligations=(Obligation("redact", {"paths": ["/b"]}),)),
            ("obligations",),
        ),
    ],
)
def test_what_differs_is_named(one: Decision, other: Decision, kinds: tuple[str, ...]) -> None:
    assert kinds_of(one, other) == kinds


def test_a_shadow_that_hangs_delays_nobody_and_is_a_fault_in_the_count() -> None:
    never = asyncio.Event()

    async def hang(_: AccessRequest) -> Decision:
        await never.wait()
        return NO

    async def story() -> None:
        shadow, found = beside(Saying(YES), Saying(lambda asked: hang(asked)), timeout_s=0.02, queue=4)
        watching = asyncio.create_task(found.watch())
        started = time.monotonic()
        for _ in range(1000):
            assert now(shadow.decide(request())) is YES
        assert time.monotonic() - started < 1.0
        await counted(found, 1000)
        assert found.totals() == {"same": 0, "different": 0, "fault": 4, "dropped": 996, "skipped": 0}
        assert found.last_fault == "late"
        watching.cancel()

    run(story())


@pytest.mark.parametrize("answer", [None, True, "allow", [], RuntimeError("x"), MemoryError("y"), TypeError("z")])
def test_a_shadow_that_raises_or_answers_nonsense_changes_nothing(answer: Any) -> None:
    def wrong(_: AccessRequest) -> Any:
        if isinstance(answer, Exception):
            raise answer
        return answer

    shadow, found = beside(Saying(YES), Saying(wrong))
    assert now(shadow.decide(request())) is YES
    run(found.drain())
    assert (found.totals()["fault"], listed(found)) == (1, [])


def test_a_shadow_of_which_no_copy_can_be_made_changes_nothing() -> None:
    shadow, found = beside(Saying(YES), Saying(NO))
    unwritable: Any = {"subject": {"id": object()}, "action": {"name": "x"}, "resource": {}, "context": {}}
    assert now(shadow.decide(AccessRequest(unwritable))) is YES
    assert found.totals()["dropped"] == 1


def test_the_background_task_survives_what_a_shadow_does_to_it() -> None:
    answers: list[Any] = [RuntimeError("first"), NO]

    def fickle(_: AccessRequest) -> Any:
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    async def story() -> None:
        shadow, found = beside(Saying(YES), Saying(fickle))
        watching = asyncio.create_task(found.watch())
        for expected in (1, 2):
            now(shadow.decide(request()))
            await counted(found, expected)
        assert (found.totals()["fault"], found.totals()["different"]) == (1, 1)
        watching.cancel()

    run(story())


def test_a_flood_is_bounded_by_number_and_what_finds_no_room_is_counted() -> None:
    shadow, found = beside(Saying(YES), Saying(NO), queue=256)
    for _ in range(10_000):
        shadow.decide(request())
    assert (found.waiting, found.totals()["dropped"]) == (256, 9744)


def test_a_flood_of_large_questions_is_bounded_by_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.pdp.shadow.QUEUE_BYTES", 100_000)
    shadow, found = beside(Saying(YES), Saying(NO), queue=100_000)
    for _ in range(100):
        shadow.decide(request("x" * 10_000))
    assert found.waiting <= 10
    assert found.totals()["dropped"] == 100 - found.waiting
    run(found.drain())
    shadow.decide(request())
    assert found.waiting == 1, "room is given back"


def test_a_body_that_would_take_long_to_copy_is_not_copied() -> None:
    asked = exchange(asked=Call("http.POST", "endpoint", "/tools", arguments={"a": 1}, has_arguments=True))
    asked.body = b"x" * (INPUT_BYTES + 1)
    shadow, found = beside(Saying(YES), Saying(NO))
    assert now(shadow.decide(access_request(asked, asked.call))) is YES
    assert (found.waiting, found.totals()["dropped"]) == (0, 1)


def test_a_copy_that_turns_out_large_is_not_kept() -> None:
    shadow, found = beside(Saying(YES), Saying(NO))
    shadow.decide(request("x" * (INPUT_BYTES + 1)))
    assert (found.waiting, found.totals()["dropped"]) == (0, 1)


def test_what_the_exchange_does_later_is_not_in_the_copy() -> None:
    arguments: dict[str, Any] = {"city": "Oslo"}
    second = Saying(NO)
    shadow, found = beside(Saying(YES), second)
    shadow.decide(request(arguments))
    arguments["city"] = "Bergen"
    run(found.drain())
    assert second.asked[0]["context"]["arguments"] == {"city": "Oslo"}


def test_the_copy_is_made_before_an_engine_that_waits_is_waited_for() -> None:
    arguments: dict[str, Any] = {"city": "Oslo"}
    second = Saying(NO)

    async def story() -> None:
        async def later(_: AccessRequest) -> Decision:
            await asyncio.sleep(0)
            return YES

        shadow, found = beside(Saying(lambda asked: later(asked)), second)
        pending = shadow.decide(request(arguments))
        arguments["city"] = "Bergen"
        assert await settled(pending) is YES
        await found.drain()
        assert second.asked[0]["context"]["arguments"] == {"city": "Oslo"}
        assert found.totals()["different"] == 1

    run(story())


def test_only_what_the_second_engine_reads_is_copied() -> None:
    second = Saying(NO, reads=frozenset({("subject", "id")}))
    shadow, found = beside(Saying(YES), second)
    shadow.decide(request({"secret": "canary"}))
    run(found.drain())
    assert second.asked == [{"subject": {"id": "agent:idp/planner"}}]


def test_no_argument_is_kept_of_a_difference() -> None:
    shadow, found = beside(Saying(YES), Saying(NO))
    shadow.decide(request({"secret": "canary-argument"}))
    run(found.drain())
    assert "canary-argument" not in repr(listed(found)) + repr(vars(found))


def kept(level: str, **arguments: Any) -> tuple[Any, Comparisons]:
    """The one difference of a call on a route that keeps so much of its inputs."""
    asked = exchange(asked=Call("http.POST", "endpoint", "/t", arguments=arguments, has_arguments=True))
    asked.route = replace(asked.route, capture=level)
    shadow, found = beside(Saying(YES), Saying(NO))
    found.keep = Capture(Masker(), b"k" * 32).of
    shadow.decide(access_request(asked, asked.call))
    run(found.drain())
    (item,) = listed(found)
    return item, found


def test_of_the_input_there_is_what_the_routes_records_hold_masked_like_theirs() -> None:
    assert kept("none", city="Oslo")[0].input is None
    full = kept("full", city="Oslo", password="canary")[0].input
    assert full["input"]["context"]["arguments"]["city"] == "Oslo"
    assert full["masked"]
    assert "canary" not in repr(full)
    shape = kept("shape", city="Oslo")[0].input
    assert (shape["level"], "Oslo" in repr(shape)) == ("shape", False)


def test_an_input_that_is_kept_is_bounded() -> None:
    item, _ = kept("full", text=["canary"] * 5000)
    assert "left_out" in item.input
    assert "canary" not in repr(item)


def test_an_input_that_cannot_be_kept_ends_nothing() -> None:
    def failing(level: str, document: Any, size: int) -> Any:
        raise ZeroDivisionError

    asked = exchange()
    asked.route = replace(asked.route, capture="full")
    shadow, found = beside(Saying(YES), Saying(NO))
    found.keep = failing
    shadow.decide(access_request(asked, asked.call))
    run(found.drain())
    assert found.totals() == {"same": 0, "different": 0, "fault": 1, "dropped": 0, "skipped": 0}


def test_the_items_of_a_list_are_compared_each() -> None:
    second = Saying(lambda asked: NO if asked.document["context"]["arguments"] == 2 else YES)
    shadow, found = beside(Saying(YES), second)
    assert shadow.decide_many([request(number) for number in (1, 2, 3)]) == [YES, YES, YES]
    run(found.drain())
    assert (found.totals()["same"], found.totals()["different"]) == (2, 1)


def test_a_list_takes_no_more_room_than_there_is() -> None:
    shadow, found = beside(Saying(YES), Saying(NO), queue=3)
    assert shadow.decide_many([request(number) for number in range(10)]) == [YES] * 10
    assert (found.waiting, found.totals()["dropped"]) == (3, 7)


def test_what_finds_no_room_is_not_copied_either(monkeypatch: pytest.MonkeyPatch) -> None:
    shadow, found = beside(Saying(YES), Saying(NO), queue=3)
    made: list[bytes] = []
    copying = shadow._excerpts.of
    monkeypatch.setattr(Excerpts, "of", lambda self, asked: made.append(copying(asked)) or made[-1])
    shadow.decide_many([request(number) for number in range(10)])
    shadow.decide(request())
    assert (len(made), found.waiting) == (3, 3)


def test_a_head_keeps_what_both_engines_read_of_it_apart() -> None:
    """Each writes what does not depend on the call once for a head: one place for both would be written each time."""
    given = exchange()
    own = Excerpts(frozenset({("subject", "id"), ("action",)}))
    shadow, _ = beside(Saying(YES), Saying(NO, reads=frozenset({("subject", "type"), ("action",)})))
    first = own.of(access_request(given, given.call))
    kept = given.head.facts["excerpt"]
    shadow.decide(access_request(given, given.call))
    assert own.of(access_request(given, given.call)) == first
    assert given.head.facts["excerpt"] is kept


def test_where_the_engine_in_force_failed_there_is_nothing_to_compare() -> None:
    fault = Decision(False, "late", "late", "first", "r1", fault=True)
    second = Saying(YES)
    shadow, found = beside(Saying(fault), second)
    assert now(shadow.decide(request())) is fault
    run(found.drain())
    assert (found.totals()["skipped"], second.asked) == (1, [])


def test_a_sample_is_a_stable_share_of_the_exchanges_with_all_their_questions() -> None:
    shadow, found = beside(Saying(YES), Saying(NO), sample=0.25, queue=100_000)
    taken: list[bool] = []
    for number in range(4000):
        asked = exchange()
        asked.id = f"exchange-{number}"
        before = found.waiting
        shadow.decide_many([access_request(asked, asked.call)] * 2)
        assert found.waiting - before in (0, 2), "all questions of an exchange, or none"
        taken.append(found.waiting > before)
    assert 0.22 < sum(taken) / len(taken) < 0.28


def test_equal_differences_are_one_with_a_count_and_the_latest_exchange() -> None:
    shadow, found = beside(Saying(YES), Saying(NO))
    for number in range(5):
        asked = exchange()
        asked.id = f"exchange-{number}"
        shadow.decide(access_request(asked, asked.call))
    run(found.drain())
    (item,) = listed(found)
    assert (item.count, item.asked.exchange, item.number) == (5, "exchange-4", 1)


def test_the_list_is_bounded_and_so_is_each_of_its_lines() -> None:
    large = replace(NO, rule="r" * 10_000, reason="t" * 10_000, obligations=(Obligation("o", {"x": "y" * 100_000}),))
    shadow, found = beside(Saying(YES), Saying(replace(large, allow=True)), queue=10_000)
    for number in range(KEPT + 5):
        shadow.decide(of(f"agent:idp/{number}/" + "s" * 1000))
    run(found.drain())
    items = listed(found, limit=KEPT * 2)
    assert len(items) == KEPT
    assert items[0].number == KEPT + 5
    assert max(len(repr(item)) for item in items) < 8000
    assert len(items[0].asked.subject) == NAME_CHARACTERS
    assert items[0].shadow["obligations"] == [{"type": "o", "cut": True}]


def test_pages_follow_one_another_while_differences_arrive() -> None:
    shadow, found = beside(Saying(YES), Saying(NO))

    def more(*subjects: str) -> None:
        for subject in subjects:
            shadow.decide(of(subject))
        run(found.drain())

    more("a", "b", "c", "d", "e")
    first = found.page(before=None, limit=2, kind=None, subject=None)
    more("f", "a")
    second = found.page(before=first.cursor, limit=2, kind=None, subject=None)
    third = found.page(before=second.cursor, limit=2, kind=None, subject=None)
    assert [item.asked.subject for page in (first, second, third) for item in page.differences] == [*"edcba"]
    assert third.cursor is None
    assert [item.asked.subject for item in listed(found, subject="c")] == ["c"]
    assert listed(found, kind="deny_to_allow") == []


def test_questions_for_an_engine_that_was_ended_are_not_asked() -> None:
    second = Saying(NO)
    shadow, found = beside(Saying(YES), second)
    shadow.decide(request())
    shadow.closed = True
    run(found.drain())
    assert (second.asked, found.totals()["dropped"]) == ([], 1)


def test_readiness_is_that_of_the_engine_in_force_alone() -> None:
    class Broken(Saying):
        async def check(self) -> None:
            raise RuntimeError("not ready")

    run(beside(Saying(YES), Broken(NO))[0].check())
    with pytest.raises(RuntimeError):
        run(beside(Broken(YES), Saying(NO))[0].check())


def test_a_candidate_policy_is_asked_in_a_process_of_its_own_and_what_it_is_given_is_what_it_reads() -> None:
    async def story() -> None:
        first = EmbeddedEngine(policy("decision if input.context.arguments.n > 1"))
        second = EmbeddedEngine(
            policy("decision if input.context.arguments.n > 2"), EmbeddedSettings(deadline_s=20.0, in_process_bytes=0)
        )
        shadow, found = beside(first, second, timeout_s=20.0)
        for number in (1, 2, 3):
            asked = exchange(asked=Call("http.POST", "endpoint", "/t", arguments={"n": number}, has_arguments=True))
            assert now(shadow.decide(access_request(asked, asked.call))).allow is (number > 1)
        await found.drain()
        try:
            assert (found.totals()["same"], found.totals()["different"]) == (2, 1)
            assert "in process" in first.evaluation().where
        finally:
            await second.aclose()
            await first.aclose()

    run(story())


def test_a_shadow_reads_and_is_called_as_the_engine_in_force() -> None:
    first = Saying(YES, "one", frozenset({("action",)}))
    shadow = beside(first, Saying(NO, "two"))[0]
    assert isinstance(shadow, Shadow)
    assert (shadow.name, shadow.revision, shadow.reads) == ("one", "of one", first.reads)
