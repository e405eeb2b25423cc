"""The question that policy gets: only what is certain, nothing remembered that belongs to another."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

from gateway.core.access import access_request, ask
from gateway.core.exchange import Call, Decision, Exchange, Head, Obligation, Principal
from tests.stages.exchanges import exchange

CALL = Call("mcp.tools/call", "tool", "shop/buy", arguments={"n": 1}, has_arguments=True)


def document(given: Exchange, call: Call = CALL) -> Any:
    return access_request(given, call).document


def with_headers(given: Exchange, *headers: tuple[bytes, bytes]) -> Exchange:
    given.head = Head("POST", "/tools", "/tools", "", "gw.test", "http", headers, "192.0.2.7")
    return given


def test_what_is_absent_is_left_out() -> None:
    found = document(with_headers(exchange()), Call("http.GET", "endpoint", "/x"))
    assert found["context"].keys() == {"time", "listing", "request"}
    assert "query" not in found["context"]["request"]
    assert found["subject"]["properties"].keys() == {"roles", "delegated_by", "issuer"}


def test_arguments_that_are_null_are_arguments() -> None:
    assert document(exchange(), CALL.but(arguments=None))["context"]["arguments"] is None


def test_only_listed_headers_are_seen_and_repeated_ones_stay_apart() -> None:
    given = with_headers(
        exchange(), (b"x-tenant", b"a"), (b"authorization", b"Bearer secret"), (b"x-tenant", b"b"), (b"cookie", b"s=1")
    )
    given.snapshot.policy_headers = (b"x-tenant",)  # type: ignore[misc]
    assert document(given)["context"]["request"]["headers"] == {"x-tenant": ["a", "b"]}
    assert "secret" not in str(document(given))


def test_what_a_head_remembers_is_not_used_when_other_headers_are_allowed() -> None:
    given = with_headers(exchange(), (b"a", b"1"), (b"b", b"2"))
    given.snapshot.policy_headers = (b"a",)  # type: ignore[misc]
    assert document(given)["context"]["request"]["headers"] == {"a": ["1"]}
    given.snapshot.policy_headers = (b"b",)  # type: ignore[misc]
    assert document(given)["context"]["request"]["headers"] == {"b": ["2"]}


def test_the_subject_is_the_exchanges_own_also_where_a_head_is_said_again() -> None:
    one, other = with_headers(exchange()), exchange(principal=Principal(id="user:idp/bob", type="user"))
    other.head = one.head
    assert [document(given)["subject"]["id"] for given in (one, other)] == ["user:idp/ann", "user:idp/bob"]


def test_a_calls_own_words_win_over_none_of_ours_but_those_it_may_set() -> None:
    found = document(exchange(), CALL.but(context={"listing": True}, resource={"digest": "sha256:x"}))
    assert found["context"]["listing"] is True
    assert found["resource"]["properties"] == {"route": "tools", "upstream": "shop", "digest": "sha256:x"}


def test_nobody_is_asked_about_who_was_not_identified() -> None:
    with pytest.raises(RuntimeError):
        document(exchange(principal=None))


def test_further_calls_are_decided_in_order_by_the_pinned_engine() -> None:
    asked: list[int] = []

    def decide_many(requests: Any) -> list[Decision]:
        asked.append(len(requests))
        ids = [request.document["resource"]["id"] for request in requests]
        return [Decision(ident != "shop/b", "", ident, "test", "r1") for ident in ids]

    async def later(requests: Any) -> list[Decision]:
        await asyncio.sleep(0)
        return decide_many(requests)

    calls = [CALL.but(resource_id=f"shop/{name}") for name in "abc"]
    for engine in (decide_many, later):
        found = asyncio.run(ask(exchange(engine=SimpleNamespace(decide_many=engine)), calls))
        assert [(one.allow, one.rule) for one in found] == [(True, "shop/a"), (False, "shop/b"), (True, "shop/c")]
    assert asked == [3, 3], "once for all of them"


@pytest.mark.parametrize("count", [0, 1, 3])
def test_as_many_answers_as_questions_or_none_counts(count: int) -> None:
    answers = [Decision(True, "", "", "test", "r1")] * count
    given = exchange(engine=SimpleNamespace(decide_many=lambda requests: answers))
    with pytest.raises(ValueError, match=r"shorter|longer"):
        asyncio.run(ask(given, [CALL, CALL]))


def test_nothing_to_ask_asks_nobody() -> None:
    assert asyncio.run(ask(exchange(engine=None), [])) == []


def test_an_item_is_shown_where_its_call_would_pass_with_what_policy_asks_for_then() -> None:
    listed = CALL.but(context={"listing": True})
    redact, tokens = Obligation("redact", {"paths": ["/a"]}), Obligation("max_tokens", {"n": 5})
    approval, vague = Obligation("require_approval"), Obligation("redact", {"paths": ["a"]})
    for obligations, call, shown in (
        ((redact,), listed, True),
        ((redact,), CALL, False),  # what the upstream asks of the caller: nobody would do it there
        ((redact,), CALL.but(context={"listing": "true"}), False),
        ((approval,), listed, False),
        ((redact, approval), listed, False),
        ((vague,), listed, False),
        ((tokens,), listed, False),
        ((tokens,), listed.but(action="llm.chat"), True),
    ):
        answer = Decision(True, "", "all", "test", "r1", obligations=obligations)
        given = exchange(engine=SimpleNamespace(decide_many=lambda requests, answer=answer: [answer]))
        (found,) = asyncio.run(ask(given, [call]))
        assert found.allow is shown, (obligations, call)
        assert not shown or found.obligations == ()


@pytest.mark.parametrize(
    "doubtful",
    [
        Decision(True, "", "all", "test", "r1", obligations=(Obligation("redact"),)),
        Decision(True, "", "all", "test", "r1", fault=True),
        Decision("true", "", "all", "test", "r1"),  # type: ignore[arg-type]
    ],
    ids=["obligation", "fault", "text"],
)
def test_an_allow_with_a_doubt_shows_no_item(doubtful: Decision) -> None:
    given = exchange(engine=SimpleNamespace(decide_many=lambda requests: [doubtful]))
    assert [found.allow for found in asyncio.run(ask(given, [CALL]))] == [False]
