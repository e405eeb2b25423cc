"""Identify: who calls, on which routes its key is good, and whose session it names."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Sequence
from dataclasses import replace
from typing import Any

import pytest

from gateway.core.exchange import Call, Exchange, Handle, Principal
from gateway.core.pipeline import CONTINUE
from gateway.core.reasons import Reason, Refusal, StoreFailed
from gateway.stages.identify import Identify
from gateway.stores.memory import MemoryHandles
from tests.stages.exchanges import ANN, Clock, exchange

SESSION = Handle("mcp-session", "s-1")
IN_SESSION = Call("mcp.ping", "endpoint", "shop", handles=(SESSION,))


class Callers:
    def __init__(self, answer: Any) -> None:
        self.answer = answer

    def authenticate(self, head: object, route: object) -> Any:
        return self.answer

    def insufficient(self, route: object, text: str, scopes: Sequence[str] = ()) -> Refusal:
        return Refusal(Reason.SCOPE_INSUFFICIENT, text)


async def later(answer: Any) -> Any:
    await asyncio.sleep(0)
    return answer


def verdict(given: Exchange, handles: Any = None) -> Any:
    async def tell() -> Any:
        found = Identify(handles or MemoryHandles(Clock()))(given)
        return await found if isinstance(found, Awaitable) else found

    return asyncio.run(tell())


@pytest.mark.parametrize("wrap", [lambda answer: answer, later], ids=["at once", "later"])
def test_the_caller_stands_on_the_exchange(wrap: Any) -> None:
    given = exchange(principal=None, authenticator=Callers(wrap(ANN)))
    assert verdict(given) is CONTINUE
    assert given.principal is ANN


@pytest.mark.parametrize("wrap", [lambda answer: answer, later], ids=["at once", "later"])
def test_a_stranger_is_refused_and_stands_nowhere(wrap: Any) -> None:
    no = Refusal(Reason.UNAUTHENTICATED, "who are you")
    given = exchange(principal=None, authenticator=Callers(wrap(no)))
    assert verdict(given) is no
    assert given.principal is None


def test_a_key_that_is_bound_to_other_routes_is_refused_here_and_known_to_the_record() -> None:
    bound = replace(ANN, routes=frozenset({"other"}))
    given = exchange(principal=None, authenticator=Callers(bound))
    found = verdict(given)
    assert (found.reason, given.principal) == (Reason.SCOPE_INSUFFICIENT, bound)
    here = exchange(principal=None, authenticator=Callers(replace(ANN, routes=frozenset({"tools"}))))
    assert verdict(here) is CONTINUE


def test_a_session_is_its_owners_alone() -> None:
    handles = MemoryHandles(Clock())
    asyncio.run(handles.bind(SESSION, route="tools", subject=ANN.id, upstream="shop"))
    mine = exchange(asked=IN_SESSION, authenticator=Callers(ANN))
    assert verdict(mine, handles) is CONTINUE
    bob = Principal(id="user:idp/bob", type="user")
    assert verdict(exchange(asked=IN_SESSION, authenticator=Callers(bob)), handles).reason is Reason.SESSION_FOREIGN


def test_a_session_nobody_began_is_not_known() -> None:
    assert verdict(exchange(asked=IN_SESSION, authenticator=Callers(ANN))).reason is Reason.SESSION_UNKNOWN


def test_one_handle_of_another_among_ones_own_is_enough() -> None:
    handles, other = MemoryHandles(Clock()), Handle("a2a-task", "t-1")
    asyncio.run(handles.bind(SESSION, route="tools", subject=ANN.id, upstream="shop"))
    asyncio.run(handles.bind(other, route="tools", subject="user:idp/bob", upstream="shop"))
    both = IN_SESSION.but(handles=(SESSION, other))
    assert verdict(exchange(asked=both, authenticator=Callers(ANN)), handles).reason is Reason.SESSION_FOREIGN


class Broken:
    async def owner(self, handle: Handle, *, route: str, upstream: str) -> str | None:
        raise StoreFailed("/var/handles.sqlite cannot be read")


def test_when_nobody_can_say_whose_session_it_is_the_call_waits() -> None:
    found = verdict(exchange(principal=None, authenticator=Callers(ANN), asked=IN_SESSION), Broken())
    assert (found.reason, found.retry_after) == (Reason.AUDIT_UNAVAILABLE, 1)
    assert "sqlite" not in found.text


def test_what_a_caller_may_name_itself_is_nobodys_until_somebody_has_it() -> None:
    chosen = Handle("a2a-context", "c", chosen=True)
    asked = IN_SESSION.but(handles=(chosen,))
    handles = MemoryHandles(Clock())
    assert verdict(exchange(asked=asked, authenticator=Callers(ANN)), handles) is CONTINUE
    asyncio.run(handles.bind(chosen, route="tools", subject="user:idp/bob", upstream="shop"))
    assert verdict(exchange(asked=asked, authenticator=Callers(ANN)), handles).reason is Reason.SESSION_FOREIGN
