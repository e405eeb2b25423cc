"""`/api/v1/budgets` and `/api/v1/limits`: what may be used, how accounts stand, and what an administrator does to one.

1. An account is a budget and the values of its key. Values are callers' own and may be anything: they stand in the
query or the body as a JSON array, never in a path. 2. Balances are asked of whoever counts; what is closed, of the
book. 3. An act is a record before it counts: when it is answered the record is durable. 4. Acts on accounts come one
after the other; with If-Match, only on what was looked at. 5. Amounts are decimal strings in the budget's unit.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import Sequence
from datetime import UTC, datetime

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route as Way

from gateway.control.acts import Acts, document
from gateway.control.problem import answer, problem
from gateway.core.accounts import (
    Account,
    Adjustment,
    Balance,
    Budget,
    CountersUnavailable,
    Tally,
    amount,
    key_text,
    shown,
)
from gateway.core.canonical import Json
from gateway.core.ids import Ids
from gateway.core.ports import Clock
from gateway.core.reasons import Malformed
from gateway.core.usage import AccountDesk, Adjusted, Running, Usages

PAGE = 100
PAGE_MOST = 500
HISTORY = 50  # adjustments that an account shows
_WHY_CHARACTERS = 1000
_ACTS = ("top-up", "grant", "reset")
_ACCOUNT = "/api/v1/budgets/{name}/account"


class Budgets:
    """`book` is what the log says, `desk` who counts."""

    def __init__(self, desk: AccountDesk, book: Usages, acts: Acts, ids: Ids, clock: Clock) -> None:
        self._desk = desk
        self._book = book
        self._acts = acts
        self._ids = ids
        self._clock = clock
        self._one_act = asyncio.Lock()  # 4

    def ways(self) -> list[Way]:
        return [
            Way("/api/v1/limits", self.limits),
            Way("/api/v1/budgets", self.budgets),
            Way("/api/v1/budgets/{name}", self.accounts),
            Way(_ACCOUNT, self.account, methods=["GET"]),
            Way(_ACCOUNT, self.set_amount, methods=["PUT"]),
            Way(_ACCOUNT, self.act, methods=["POST"]),
        ]

    async def limits(self, request: Request) -> Response:
        if request.query_params:
            return problem(400, "There are no parameters")
        return answer(request, {"limits": list(self._desk.limits)})

    async def budgets(self, request: Request) -> Response:
        if request.query_params:
            return problem(400, "There are no parameters; /api/v1/budgets/{name} has the accounts of one")
        found: list[Json] = [self._settings(budget) for budget in self._desk.budgets]
        return answer(request, {"budgets": found, "shared": self._desk.shared})

    async def accounts(self, request: Request) -> Response:
        try:
            budget, given = self._budget(request, ("find", "cursor", "limit"))
            limit = _limit(given.get("limit"))
        except _Refused as refused:
            return refused.answer
        running = self._desk.running(budget)
        find, after = given.get("find", ""), given.get("cursor", "")
        keys = await self._book.keys(budget, running.period, find=find, after=after, limit=limit + 1)
        wanted = [(budget, Account(budget.name, key, running.period)) for key in keys[:limit]]
        try:
            balances = await self._desk.balances(wanted)
        except CountersUnavailable as away:
            return _away(away)
        found: dict[str, Json] = {"budget": self._settings(budget), "accounts": [_standing(one) for one in balances]}
        return answer(request, found | {"next": keys[limit - 1] if len(keys) > limit else None})

    async def account(self, request: Request) -> Response:
        try:
            budget, given = self._budget(request, ("key", "period"))
            key = _key(budget, _array(given.get("key", "")))
        except _Refused as refused:
            return refused.answer
        try:
            return await self._shown(request, budget, key, given.get("period"))
        except CountersUnavailable as away:
            return _away(away)

    async def set_amount(self, request: Request) -> Response:
        """`amount`: instead of the budget's, for this key from now on; null: the budget's again."""
        try:
            budget, _ = self._budget(request, ())
            found = await _body(request, ("key", "amount"))
            key = _key(budget, found["key"])
            most = None if found["amount"] is None else _amount(found["amount"], budget, least=0)
        except _Refused as refused:
            return refused.answer
        made = Adjustment("", budget, self._running_account(budget, key), 0, most=most, unset=most is None)
        return await self._adjusted(request, "budget.set", made, found)

    async def act(self, request: Request) -> Response:
        """A top-up of the running period, a grant until some time, or a reset of what was settled."""
        try:
            budget, _ = self._budget(request, ())
            found = await _body(request, ("key", "act"), ("amount", "until"))
            key = _key(budget, found["key"])
            act = found["act"]
            if act not in _ACTS:
                raise _Refused(400, f"act is one of {', '.join(_ACTS)}")
            needs = {"top-up": {"amount"}, "grant": {"amount", "until"}, "reset": set()}[str(act)]
            if {"amount", "until"} & set(found) != needs:
                raise _Refused(400, f"{act} needs {' and '.join(sorted(needs)) or 'no amount'}")
            granted = _amount(found["amount"], budget, least=1) if "amount" in needs else 0
            until = self._until(found["until"]) if "until" in needs else 0
        except _Refused as refused:
            return refused.answer
        account = self._running_account(budget, key)
        made = Adjustment("", budget, account, 0, granted=granted, until=until)
        return await self._adjusted(request, f"budget.{act}", made, found)

    async def _adjusted(self, request: Request, action: str, wanted: Adjustment, said: dict[str, Json]) -> Response:
        budget, account = wanted.budget, wanted.account
        async with self._one_act:
            try:
                [balance] = await self._desk.balances([(budget, account)])
                if (stale := await self._stale(request, budget, balance)) is not None:
                    return stale
                made = Adjustment(
                    self._ids.new(), budget, account, self._desk.running(budget).ends, wanted.most, wanted.unset,
                    wanted.granted, wanted.until, max(0, balance.settled) if action == "budget.reset" else 0,
                )  # fmt: skip
                await self._acts.record(request, action, _about(made, str(said.get("why", ""))))  # 3
                told = await self._desk.adjust(made)
                if told:
                    return await self._shown(request, budget, account.key, None)
            except CountersUnavailable as away:
                return _away(away)
        document: dict[str, Json] = {"recorded": made.id, "told": False}
        return Response(json.dumps(document) + "\n", 202, media_type="application/json")

    async def _stale(self, request: Request, budget: Budget, balance: Balance) -> Response | None:
        given = request.headers.get("if-match")
        if given is None or given.strip() == "*":
            return None
        history = await self._book.adjusted(budget, balance.account.key, 1)
        if _etag(balance, history) in [tag.strip() for tag in given.split(",")]:
            return None
        return problem(412, "The account is not what If-Match says any more; look at it again")

    async def _shown(self, request: Request, budget: Budget, key: str, period: str | None) -> Response:
        running = self._desk.running(budget)
        closed = period is not None and period != running.period
        account = Account(budget.name, key, period if period is not None else running.period)
        tally = await self._book.tally(budget, account.period, key)
        history = await self._book.adjusted(budget, key, HISTORY)
        if closed:
            granted = tally.granted + sum(amount for amount, _ in tally.grants)
            most = tally.most if tally.most is not None else budget.amount
            balance = Balance(account, budget.unit, most, granted, 0, tally.settled)
        else:
            [balance] = await self._desk.balances([(budget, account)])
        found = answer(request, self._account(budget, balance, tally, history, None if closed else running))
        found.headers["etag"] = _etag(balance, history)  # the one that If-Match is held against
        return found

    def _account(
        self, budget: Budget, balance: Balance, tally: Tally, history: Sequence[Adjusted], running: Running | None
    ) -> dict[str, Json]:
        unit = budget.unit
        granted = tally.granted + sum(amount for amount, _ in tally.grants)
        found: dict[str, Json] = {"budget": budget.name, "unit": unit, "period": balance.account.period}
        found |= _standing(balance)
        found["configured"] = shown(budget.amount, unit)
        if running is not None:
            found["handed_over"] = shown(max(0, balance.granted - granted), unit)
            if running.ends:
                found["ends"] = _moment(running.ends)
        found["grants"] = [{"amount": shown(much, unit), "until": _moment(until)} for much, until in tally.grants]
        found["adjustments"] = [_adjusted(one) for one in history]
        found["etag"] = _etag(balance, history)
        return found

    def _settings(self, budget: Budget) -> dict[str, Json]:
        running = self._desk.running(budget)
        found: dict[str, Json] = {
            "name": budget.name, "key": list(budget.key), "unit": budget.unit,
            "amount": shown(budget.amount, budget.unit), "period": budget.period, "unpriced": budget.unpriced,
            "warn_at": [f"{mark / 10:g}%" for mark in budget.warn_at], "zone": budget.zone, "anchor": budget.anchor,
            "carry": f"{budget.carry / 10:g}%",
        }  # fmt: skip
        if budget.window:
            found["window"] = budget.window
        if running.ends:
            found["begins"], found["ends"] = _moment(running.begins), _moment(running.ends)
        return found

    def _running_account(self, budget: Budget, key: str) -> Account:
        return Account(budget.name, key, self._desk.running(budget).period)

    def _budget(self, request: Request, names: Sequence[str]) -> tuple[Budget, dict[str, str]]:
        given: dict[str, str] = {}
        for name, value in request.query_params.multi_items():
            if name not in names or name in given:
                there = f"there are {', '.join(names)}" if names else "there is none"
                raise _Refused(400, f"The parameter {name!r} is not known, or there twice; {there}")
            given[name] = value
        wanted = str(request.path_params["name"])
        for budget in self._desk.budgets:
            if budget.name == wanted:
                return budget, given
        raise _Refused(404, "No budget has that name; /api/v1/budgets lists them")

    def _until(self, said: Json) -> int:
        try:
            found = datetime.fromisoformat(said) if isinstance(said, str) else None
        except ValueError:
            found = None
        if found is None or found.tzinfo is None:
            raise _Refused(400, "until is RFC 3339 with its offset, as in 2026-11-30T00:00:00Z")
        if found.timestamp() <= self._clock.time():
            raise _Refused(400, "until has passed already")
        return int(found.timestamp())


class _Refused(Exception):
    def __init__(self, status: int, detail: str) -> None:
        super().__init__(detail)
        self.answer = problem(status, detail)


async def _body(request: Request, needed: Sequence[str], more: Sequence[str] = ()) -> dict[str, Json]:
    try:
        found = await document(request)
    except Malformed as error:
        raise _Refused(400, str(error)) from None
    if not set(needed) <= set(found) <= {*needed, *more, "why"}:
        raise _Refused(400, f"It needs {' and '.join(needed)} and may have {', '.join([*more, 'why'])}")
    why = found.get("why", "")
    if not isinstance(why, str) or len(why) > _WHY_CHARACTERS:
        raise _Refused(400, f"why is a text of at most {_WHY_CHARACTERS} characters")
    return found


def _array(text: str) -> Json:
    try:
        found: Json = json.loads(text)
    except ValueError:
        found = None
    return found


def _key(budget: Budget, values: Json) -> str:
    if not isinstance(values, list) or len(values) != len(budget.key):
        raise _Refused(400, f'key is a JSON array of the values of {", ".join(budget.key)}, as in ["acme"]')
    parts: list[str | None] = []
    for value in values:
        if value is not None and not isinstance(value, str):
            raise _Refused(400, "A value of a key is a text, or null where the caller has none")
        parts.append(value)
    return key_text(tuple(parts))


def _amount(said: Json, budget: Budget, *, least: int) -> int:
    try:
        found = amount(said, budget.unit) if isinstance(said, str) else -1
    except ValueError as error:
        raise _Refused(400, f"amount: {error}") from None
    if found < least:
        raise _Refused(400, f'amount is a decimal string in {budget.unit}, as in "12.50", and not 0')
    return found


def _limit(text: str | None) -> int:
    if text is None:
        return PAGE
    if not text.isdecimal() or not text.isascii() or not 1 <= int(text[:6]) <= PAGE_MOST:
        raise _Refused(400, f"limit is a whole number from 1 to {PAGE_MOST}")
    return int(text)


def _standing(balance: Balance) -> dict[str, Json]:
    unit = balance.unit
    return {
        "key": json.loads(balance.account.key), "most": shown(balance.most, unit),
        "granted": shown(balance.granted, unit), "reserved": shown(balance.reserved, unit),
        "settled": shown(balance.settled, unit), "left": shown(balance.left, unit),
    }  # fmt: skip


def _adjusted(one: Adjusted) -> dict[str, Json]:
    found: dict[str, Json] = {"seq": one.seq, "id": one.id, "time": one.time, "action": one.action, "by": one.by}
    if one.period:
        found["period"] = one.period
    if one.most is not None:
        found["most"] = shown(one.most, one.unit)
    if one.granted:
        found["granted"] = shown(one.granted, one.unit)
    if one.until:
        found["until"] = _moment(one.until)
    if one.forgiven or one.action == "budget.reset":
        found["forgiven"] = shown(one.forgiven, one.unit)
    if one.why:
        found["why"] = one.why
    return found


def _about(made: Adjustment, why: str) -> dict[str, Json]:
    """The act as its record says it; the book reads it back (stores/settlements.py)."""
    account, unit = made.account, made.budget.unit
    said: dict[str, Json] = {"key": json.loads(account.key), "name": account.budget, "unit": unit}
    if account.period:
        said["period"] = account.period
    if made.most is not None:
        said["most"] = shown(made.most, unit)
    if made.unset:
        said["unset"] = True
    if made.granted:
        said["granted"] = shown(made.granted, unit)
    if made.until:
        said["until"] = made.until
    if made.forgiven:
        said["forgiven"] = shown(made.forgiven, unit)
    about: dict[str, Json] = {"id": made.id, "adjustment": said}
    if why:
        about["reason"] = why
    return about


def _etag(balance: Balance, history: Sequence[Adjusted]) -> str:
    """Of what an administrator decides about: it changes with the amount and with each act, not with what is used."""
    account = balance.account
    said = (account.budget, account.key, account.period, balance.unit, balance.most, history[0].id if history else "")
    return f'"{hashlib.sha256(json.dumps(said).encode()).hexdigest()[:32]}"'


def _moment(epoch: int) -> str:
    return datetime.fromtimestamp(epoch, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _away(away: CountersUnavailable) -> Response:
    return problem(503, f"The counters do not answer: {away}", {"retry-after": "2"})
